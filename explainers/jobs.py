"""Work that runs beside the page: progress to look at, a cancel that is heard, and two worker threads for all."""

from __future__ import annotations

import threading

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
