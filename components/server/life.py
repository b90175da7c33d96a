"""The server's life: it hears the signal to stop, and leaves nothing behind."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import uvicorn

from components.server.processes import end_children
from explainers import under_way
from explainers.errors import NotesError
from explainers.events import tell
from explainers.notes import shared_notes
from explainers.settings import settings

#: How long pages have to show what became of their computations, and how long the rest of the end may take, in seconds.
SHOWING, CLOSING = 1.0, 3.0

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@asynccontextmanager
async def live(app: Any) -> AsyncIterator[None]:
    """Be there for as long as the server runs."""
    _hear_signals()
    tell("server starts")
    started = time.monotonic()
    yield
    leave_nothing()
    tell("server stops", seconds=time.monotonic() - started)


def _hear_signals() -> None:
    """End with the computations under way where uvicorn, which has the signals now, would end beside them."""
    if threading.current_thread() is not threading.main_thread():
        return
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    if isinstance(server, uvicorn.Server):
        ending = threading.Thread(target=end, args=(server,), name="end", daemon=True)
        atexit.register(leave)
        for number in SIGNALS:
            signal.signal(number, lambda number, _: _hear(number, ending))


def _hear(number: int, ending: threading.Thread) -> None:
    """Begin to end at the first signal; at a second one from the keyboard, end at once."""
    if not under_way.is_ending():
        under_way.begin_to_end()
        ending.start()
    elif number == signal.SIGINT:
        os._exit(1)


def end(server: uvicorn.Server) -> None:
    """Let computations end, then the server; whatever hangs then is left behind."""
    computations = under_way.count()
    tell("server is told to stop", computations=computations)
    under_way.end(settings().stop_seconds)
    time.sleep(SHOWING if computations else 0)
    server.should_exit = True
    time.sleep(CLOSING)
    tell("server stops by force")
    leave_nothing()
    threading.Timer(CLOSING, os._exit, (0,)).start()
    leave()


def leave() -> None:
    """End the process with all that is left to do at its exit, such as to remove folders.

    To take apart a million objects of models one by one, as Python does at its end, takes seconds and serves nobody.
    """
    if under_way.is_ending():
        atexit.unregister(leave)
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def leave_nothing() -> None:
    """Close the notes and end the processes that the server started."""
    with suppress(NotesError):
        shared_notes().close()
    end_children()
