"""The computations under way: how each ended is told, and all end together when the server does. Free of torch."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from explainers.errors import CancelledError
from explainers.events import tell
from explainers.jobs import Progress

#: How often an end is looked for, and how long one that was asked to stop may take to hear it, in seconds.
BEAT, HEARING = 0.05, 2.0

_under_way: dict[int, tuple[str, Progress]] = {}
_lock = threading.Lock()
_ending = threading.Event()

#: Whether this thread computes what another computation needs: how that ends is told by that one.
_within: ContextVar[bool] = ContextVar("within", default=False)


@contextmanager
def computing(kind: str, progress: Progress) -> Iterator[None]:
    """Count what is done within as a computation of a kind; raises CancelledError if the server is about to end."""
    if _ending.is_set():
        raise CancelledError("This server is about to stop and computes no more. Open it again in a minute.")
    if _within.get():
        yield
        return
    token, start = _within.set(True), time.monotonic()
    with _lock:
        _under_way[id(progress)] = (kind, progress)
    try:
        yield
    except CancelledError:
        tell("computation stopped", kind, seconds=time.monotonic() - start)
        raise
    except BaseException as error:
        tell("computation failed", type(error).__name__, logging.WARNING, seconds=time.monotonic() - start)
        raise
    finally:
        _within.reset(token)
        with _lock:
            del _under_way[id(progress)]


def count() -> int:
    """How many computations are under way."""
    with _lock:
        return len(_under_way)


def is_ending() -> bool:
    """Tell whether the server is about to end."""
    return _ending.is_set()


def begin_to_end() -> None:
    """Begin no computation any more."""
    _ending.set()


def end(patience: float) -> int:
    """Begin no computation any more, wait for those under way, and stop those that take longer than ``patience``.

    Returns how many were asked to stop and have not, which is told.
    """
    begin_to_end()
    _wait(patience)
    with _lock:
        late = list(_under_way.values())
    for _, progress in late:
        progress.cancel()
    _wait(HEARING)
    with _lock:
        deaf = [kind for kind, _ in _under_way.values()]
    for kind in deaf:
        tell("computation abandoned", kind, logging.WARNING)
    return len(deaf)


def _wait(seconds: float) -> None:
    until = time.monotonic() + seconds
    while count() and time.monotonic() < until:
        time.sleep(BEAT)
