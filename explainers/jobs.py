"""Work that runs beside the page: progress to look at, a cancel that is heard, a few worker threads for all."""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass

from explainers.errors import CancelledError
from explainers.owners import owner


@dataclass
class Passes:
    """Counts of passes: ``forward`` and ``backward`` calls of the network, and the ``images`` that went forward."""

    forward: int = 0
    backward: int = 0
    images: int = 0


#: What is told to whoever still waits for a computation that was stopped.
STOPPED = "The computation was stopped. Start it again when you need it."

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
            raise CancelledError(STOPPED)

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


#: The progress of the computation for which this thread works; None where it computes nothing.
at_hand: ContextVar[Progress | None] = ContextVar("at_hand", default=None)


def check() -> None:
    """Raise CancelledError once the computation for which this thread works was stopped; called within passes."""
    if (progress := at_hand.get()) is not None:
        progress.check()


#: For how many seconds what may be asked for next lets all else go first; then it takes its turn, or it never would.
YIELD = 20.0

#: By how much the threads that compute, and those that they start, let others of this machine go first (Linux).
NICE = 5

#: How many owners are remembered with the turn that they had last.
REMEMBERED = 1000


@dataclass(eq=False)
class Task:
    """Work for one owner: ``later`` is what may be asked for next, ``upload`` what is about somebody's own data.

    ``run`` must keep its own errors; a task that is ``over`` needs no run any more.
    """

    run: Callable[[], None]
    owner: str = ""
    later: bool = False
    upload: bool = False
    over: Callable[[], bool] = lambda: False
    due: float = 0.0


class Workers:
    """Threads that take tasks: what a person waits for first, and of several people each in turn.

    Of ``count`` threads one owner, work about uploads, and what may be asked for next have all but one at most, each:
    so whoever comes next waits for none of these. Work without an owner, as on the command line, takes what there is.
    """

    def __init__(self, count: int = 2) -> None:
        self.limit = max(1, count - 1)
        self._waiting: list[Task] = []
        self._running: list[Task] = []
        self._turns: OrderedDict[str, int] = OrderedDict()
        self._serial = itertools.count(1)
        self._change = threading.Condition()
        for number in range(count):
            threading.Thread(target=self._work, name=f"worker-{number}", daemon=True).start()

    def add(self, task: Task) -> None:
        """Queue a task."""
        task.due = time.monotonic() + YIELD * task.later
        with self._change:
            self._waiting.append(task)
            self._change.notify()

    def _work(self) -> None:
        yield_to_others()
        while True:
            task = self._take()
            token = owner.set(task.owner)
            try:
                task.run()
            finally:
                owner.reset(token)
                self._end(task)
                del task  # which knows a picture that may go now

    def _take(self) -> Task:
        with self._change:
            while (task := self._choose()) is None:
                self._change.wait()
            self._waiting.remove(task)
            self._running.append(task)
            self._turns[task.owner] = next(self._serial)
            self._turns.move_to_end(task.owner)
            if len(self._turns) > REMEMBERED:
                self._turns.popitem(last=False)
            return task

    def _end(self, task: Task) -> None:
        with self._change:
            self._running.remove(task)
            self._change.notify_all()

    def _choose(self) -> Task | None:
        """The task whose turn it is: what is due, of whoever was served longest ago, the oldest."""
        self._waiting = [task for task in self._waiting if not task.over()]
        now = time.monotonic()
        return min(
            (task for task in self._waiting if self._may_run(task)),
            key=lambda task: (now < task.due, self._turns.get(task.owner, 0), task.due),
            default=None,
        )

    def _may_run(self, task: Task) -> bool:
        own = sum(other.owner == task.owner for other in self._running) if task.owner else 0
        later = sum(other.later for other in self._running) if task.later else 0
        uploads = sum(other.upload for other in self._running) if task.upload else 0
        return max(own, later, uploads) < self.limit


def yield_to_others() -> None:
    """Let threads that answer people go before this one and those that it starts, where the system knows how."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
