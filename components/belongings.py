"""What a browser session brought: its own alone, and gone when the session has ended or was idle for long.

Streamlit keeps the state of a session whose browser has gone until another one goes, so a thread of our own looks after
those that brought something.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st
from filelock import FileLock, Timeout
from streamlit.runtime import get_instance
from streamlit.runtime.scriptrunner import get_script_run_ctx

from components import sharing
from explainers import asking, owners
from explainers.cache import Job
from explainers.settings import settings

#: For how long a browser may be away before its session has ended, and how often that is looked at, in seconds.
GRACE = 10.0
BEAT = 2.0

#: Where folders of sessions lie, in memory if the system has a place for that, and how their names begin.
PLACE = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())
PREFIX = "lightbox-"


@dataclass(eq=False)
class Belongings:
    """What one session brought: ``contents`` are the digests of its models and pictures; times are monotonic."""

    context: Any
    used: float
    seen: float
    contents: set[str] = field(default_factory=set)


_sessions: dict[str, Belongings] = {}
_lock = threading.Lock()


def own(*contents: str) -> None:
    """Note the digests of models and pictures that this session brought, to be forgotten with it."""
    context, now = get_script_run_ctx(), time.monotonic()
    if context is None:  # a page that is run without a server
        return
    with _lock:
        if not _sessions:
            threading.Thread(target=_watch, name="belongings", daemon=True).start()
        known = _sessions.setdefault(context.session_id, Belongings(context, now, now))
        known.contents.update(contents)


def work_for_session() -> None:
    """Have what this run computes counted as this session's."""
    if context := get_script_run_ctx():
        owners.owner.set(context.session_id)


def use() -> None:
    """Note that somebody works in this session; says so if it was idle for so long that its uploads are gone."""
    context = get_script_run_ctx()
    with _lock:
        known = _sessions.get(context.session_id) if context else None
        if known:
            known.context, known.used = context, time.monotonic()
    if st.session_state.pop("emptied", False):
        st.info(
            "Your uploads were removed, for nobody worked here for a while. Add them anew.", icon=":material/timer:"
        )


def private_folder() -> Path:
    """A folder that nobody else may read and that goes with the session."""
    if "private_folder" not in st.session_state:
        own()
        st.session_state["private_folder"] = PrivateFolder()
    folder: PrivateFolder = st.session_state["private_folder"]
    return Path(folder.name)


class PrivateFolder(tempfile.TemporaryDirectory[str]):
    """A folder of mode 0700 that is held as long as this process lives, see ``remove_leftovers``."""

    def __init__(self) -> None:
        super().__init__(prefix=PREFIX, dir=PLACE)
        self.holder = FileLock(Path(self.name) / "held", thread_local=False)  # another thread will let it go
        self.holder.acquire()


@cache
def remove_leftovers() -> None:
    """Remove, once, the private folders that servers of this user left when they were killed: nobody holds them."""
    for folder in PLACE.glob(f"{PREFIX}*"):
        with suppress(OSError, Timeout):
            if folder.lstat().st_uid == os.getuid():
                with FileLock(folder / "held", timeout=0):
                    shutil.rmtree(folder)


def _watch() -> None:
    """Empty the sessions that have ended or were idle, until there are none left to look after."""
    while True:
        time.sleep(BEAT)
        with _lock:
            over = {name for name, known in _sessions.items() if _is_over(name, known)}
            ended = [_sessions.pop(name) for name in over]
            last = not _sessions
        for known in ended:
            _empty(known)
        if last:
            return


def _is_over(session: str, known: Belongings) -> bool:
    now = time.monotonic()
    if get_instance().is_active_session(session):
        known.seen = now
    return now - known.seen > GRACE or now - known.used > settings().idle


def _empty(known: Belongings) -> None:
    """Stop what a session computes, and drop its files, its state and every result about what it brought."""
    state, session, runtime = known.context.session_state, known.context.session_id, get_instance()
    kept = state.filtered_state
    sharing.withdraw(session)
    jobs: list[Job[Any]] = [job for view in kept.get("followed", {}).values() for job in view.values()]
    for job in (*jobs, *kept.get("builds", {}).values()):
        job.cancel()
        job.wait(GRACE)
    for key in kept:
        with suppress(KeyError):
            del state[key]
    state["emptied"] = True
    runtime.uploaded_file_mgr.remove_session_files(session)
    runtime.media_file_mgr.clear_session_refs(session)
    runtime.media_file_mgr.remove_orphaned_files()
    if "private_folder" in kept:
        kept["private_folder"].cleanup()
    for content in known.contents:
        asking.forget(content)
