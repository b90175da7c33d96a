"""For whom a thread works, and how much of what is scarce each may hold. Free of torch."""

from __future__ import annotations

import threading
from collections import Counter
from contextvars import ContextVar
from typing import ClassVar
from weakref import WeakSet

from explainers.errors import LimitError

#: The session for which this thread works; "" where there is none, as on the command line.
owner: ContextVar[str] = ContextVar("owner", default="")


class Budget:
    """An amount that all owners share, of which each may hold a part: bytes of uploads, pixels, processes.

    ``what`` names it in a sentence that follows "Lightbox holds at most 4,096", such as "MiB of uploads"; ``scale``
    is how much of the amount makes one of these.
    """

    #: All budgets of this process.
    every: ClassVar[WeakSet[Budget]] = WeakSet()

    def __init__(self, what: str, total: int, each: int, scale: int = 1) -> None:
        self.what, self.total, self.each, self.scale = what, total, each, scale
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.every.add(self)

    def claim(self, amount: int, of: str | None = None) -> None:
        """Take an amount for an owner, by default whoever this thread works for; raises LimitError."""
        of = owner.get() if of is None else of
        with self._lock:
            if self._held[of] + amount > self.each:
                raise LimitError(
                    f"You would hold more than {self.each // self.scale:,} {self.what}, which is what one person may. "
                    "Remove something that you no longer need, and try again."
                )
            if self._held.total() + amount > self.total:
                raise LimitError(
                    f"This server holds at most {self.total // self.scale:,} {self.what}, and others hold the rest. "
                    "Try again later, or ask who runs it."
                )
            self._held[of] += amount

    def release(self, amount: int, of: str | None = None) -> None:
        """Give an amount back."""
        of = owner.get() if of is None else of
        with self._lock:
            self._held[of] -= amount
            if self._held[of] <= 0:
                del self._held[of]

    def held(self, of: str | None = None) -> int:
        """How much an owner holds, or None for all together."""
        with self._lock:
            return self._held.total() if of is None else self._held[of]
