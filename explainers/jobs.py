"""Work that runs beside the page: progress to look at, a cancel that is heard, a few worker threads for all."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable

from explainers.errors import CancelledError


class Progress:
    """How far a computation is, and the wish to stop it; safe to share between threads."""

    def __init__(self) -> None:
        self.done = 0
        self.total = 0
        self._stop = threading.Event()

    def __call__(self, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` steps are done; raises CancelledError once a cancel was asked for."""
        self.done, self.total = done, total
        if self._stop.is_set():
            raise CancelledError("The computation was stopped. Start it again when you need it.")

    def cancel(self) -> None:
        """Ask the computation to stop at its next report."""
        self._stop.set()

    @property
    def fraction(self) -> float:
        """How much is done, from 0 to 1."""
        return self.done / self.total if self.total else 0.0


class Workers:
    """Threads that take tasks by urgency: 0 for what a person waits for, 1 for what may be asked for next."""

    def __init__(self, count: int = 2) -> None:
        self._tasks: queue.PriorityQueue[tuple[int, int, Callable[[], None]]] = queue.PriorityQueue()
        self._order = itertools.count()
        for number in range(count):
            threading.Thread(target=self._work, name=f"worker-{number}", daemon=True).start()

    def add(self, task: Callable[[], None], urgency: int = 0) -> None:
        """Queue a task; it must keep its own errors."""
        self._tasks.put((urgency, next(self._order), task))

    def _work(self) -> None:
        while True:
            self._tasks.get()[2]()
