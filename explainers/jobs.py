"""Work that runs beside the page: progress to look at, a cancel that is heard, a few worker threads for all."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

from explainers.errors import CancelledError


@dataclass
class Passes:
    """Counts of passes: ``forward`` and ``backward`` calls of the network, and the ``images`` that went forward."""

    forward: int = 0
    backward: int = 0
    images: int = 0


#: Where the passes of the computation at hand are counted.
passes: ContextVar[Passes] = ContextVar("passes")


class Progress:
    """How far a computation is, and the wish to stop it; safe to share between threads."""

    def __init__(self) -> None:
        self.done = 0
        self.total = 0
        self._stop = threading.Event()
        self._reports: deque[tuple[float, int]] = deque(maxlen=32)
        self._needs: list[Callable[[], None]] = []

    def __call__(self, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` steps are done; raises CancelledError once a cancel was asked for."""
        self.done, self.total = done, total
        if total:
            self._reports.append((time.monotonic(), done))
        self.check()

    def check(self) -> None:
        """Raise CancelledError once a cancel was asked for."""
        if self._stop.is_set():
            raise CancelledError("The computation was stopped. Start it again when you need it.")

    def cancel(self) -> None:
        """Ask the computation to stop at its next report, and no longer to wait for what it needs."""
        self._stop.set()
        for leave in list(self._needs):
            leave()

    def need(self, leave: Callable[[], None]) -> None:
        """Note how to leave a computation that this one needs, for when this one is cancelled."""
        self._needs.append(leave)
        if self._stop.is_set():
            leave()

    @property
    def fraction(self) -> float:
        """How much is done, from 0 to 1."""
        return self.done / self.total if self.total else 0.0

    @property
    def rate(self) -> float:
        """Steps per second over the latest reports; 0 before there are two."""
        if not self._reports:
            return 0.0
        (start, first), (end, last) = self._reports[0], self._reports[-1]
        return (last - first) / (end - start) if end > start else 0.0

    @property
    def seconds_left(self) -> float | None:
        """How long the rest will take at this rate; None as long as that is not known."""
        return (self.total - self.done) / self.rate if self.rate > 0 else None


#: For how many seconds what may be asked for next lets all else go first; then it takes its turn, or it never would.
YIELD = 20.0


class Workers:
    """Threads that take tasks by urgency: 0 for what a person waits for, 1 for what may be asked for next."""

    def __init__(self, count: int = 2) -> None:
        self._tasks: queue.PriorityQueue[tuple[float, int, Callable[[], None]]] = queue.PriorityQueue()
        self._order = itertools.count()
        for number in range(count):
            threading.Thread(target=self._work, name=f"worker-{number}", daemon=True).start()

    def add(self, task: Callable[[], None], urgency: int = 0) -> None:
        """Queue a task; it must keep its own errors."""
        self._tasks.put((time.monotonic() + YIELD * urgency, next(self._order), task))

    def _work(self) -> None:
        while True:
            self._tasks.get()[2]()
