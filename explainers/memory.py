"""What the values of the passes under way take in memory, within what the server allows for all of them. Free of torch.

A pass takes its bytes before it begins and waits in turn while others hold them. It holds nothing while it waits, and
what runs within a pass is counted with it, so nobody waits for ever.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from explainers.errors import ComputationError
from explainers.jobs import check
from explainers.settings import settings

#: How often a pass that waits looks whether it was stopped, in seconds.
BEAT = 0.2

#: How many images go through the network at once; more costs memory and gains no time on a CPU.
IMAGES_PER_PASS = 16

MIB = 2**20


class PassMemory:
    """Bytes that passes hold together, given out in the order in which they were asked for."""

    def __init__(self) -> None:
        self.held = 0
        self.most = 0
        self._turns: deque[object] = deque()
        self._change = threading.Condition()

    @property
    def limit(self) -> int:
        """How many bytes all passes together may hold."""
        return settings().pass_memory

    @property
    def share(self) -> int:
        """How many bytes a pass of several images is cut to, so that two find place beside each other."""
        return self.limit // 2

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Hold bytes for a pass, once others have given back enough.

        Raises ComputationError for more than there is, CancelledError if the computation is stopped meanwhile.
        """
        if _within.get():
            yield
            return
        if size > self.limit:
            raise ComputationError(
                f"One pass of this model takes {size // MIB:,} MiB, and all passes together may take "
                f"{self.limit // MIB:,} MiB here. Choose a smaller model, or ask who runs the server for a greater "
                "LIGHTBOX_PASS_MEMORY."
            )
        self._take(size)
        token = _within.set(True)
        try:
            yield
        finally:
            _within.reset(token)
            with self._change:
                self.held -= size
                self._change.notify_all()

    def _take(self, size: int) -> None:
        turn = object()
        with self._change:
            self._turns.append(turn)
            try:
                while self._turns[0] is not turn or self.held + size > self.limit:
                    self._change.wait(BEAT)
                    check()
                self.held += size
                self.most = max(self.most, self.held)
            finally:
                self._turns.remove(turn)
                self._change.notify_all()


#: Whether this thread is within a pass that holds its memory already.
_within: ContextVar[bool] = ContextVar("within", default=False)

#: What the passes of this process hold.
PASS_MEMORY = PassMemory()
