"""What a browser session brought: its own alone, and gone when the session has ended or was idle for long.

Streamlit keeps the state of a session whose browser has gone until another one goes, so a thread of our own looks after
all sessions that ran or sent something.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.runtime.app_session import AppSession
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.scriptrunner_utils.script_run_context import ThreadState

from components import browser_sessions, holdings, sharing
from components.telling_errors import tell_error
from explainers import asking, held, labels, owners
from explainers.cache import Job
from explainers.folders import PrivateFolder
from explainers.images import Attachment
from explainers.settings import settings

#: For how long a browser may be away before its session has ended, and how often that is looked at, in seconds.
GRACE = 10.0
BEAT = 2.0

#: For how long what was removed is removed again, in seconds: a computation that was stopped may keep it once more.
ECHO = 20.0

#: For how long after somebody with uploads worked here garbage is looked for, in seconds.
WAKE = 20.0

#: What a session's state holds that follows from its model and pictures, and is made anew at the next run.
DERIVED = (
    *("arranged", "asked_about_all", "dataset", "evaluation", "filtered", "followed", "known", "labels_told"),
    *("material", "read_otherwise", "thumbnails", "tiles", "workspace"),
)

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Belongings:
    """What one session brought: ``contents`` are the digests of its models and pictures; times are monotonic.

    ``used`` is inf where nobody has worked since the session was emptied. ``awake`` is when it last ran while it held
    uploads.
    """

    session: str
    app: AppSession | None
    used: float
    seen: float
    awake: float = -inf
    contents: set[str] = field(default_factory=set)


@dataclass(eq=False)
class Remains:
    """What is left to be removed of a session or an upload, until a time."""

    until: float
    contents: set[str]
    jobs: list[Job[Any]] = field(default_factory=list)
    folder: PrivateFolder | None = None


_sessions: dict[str, Belongings] = {}
_remains: list[Remains] = []
_lock = threading.RLock()
_watched = threading.Lock()
_garbage = threading.Event()


def register(session: str) -> Belongings:
    """Look after a session from now on, and count this moment as one in which it was used."""
    app, now = browser_sessions.find_session(session), time.monotonic()
    with _lock:
        known = _sessions.setdefault(session, Belongings(session, app, now, now))
        known.app, known.used = app or known.app, now
    if _watched.acquire(blocking=False):
        threading.Thread(target=_watch, name="belongings", daemon=True).start()
    return known


def own(*contents: Any) -> None:
    """Count pictures, tables and models as this session's, to be forgotten with it; raises LimitError."""
    if known := _current():
        known.awake = time.monotonic()
        known.contents.update(sharing.digest_of(one) for one in contents if not isinstance(one, Attachment))
        for content in contents:
            holdings.hold(content, known.session)


def disown(*contents: str) -> None:
    """Forget, by their digests, pictures and models that this session has removed, and all that follows from them."""
    if known := _current():
        known.awake = time.monotonic()
        sharing.take_back(contents, known.session)
        with _lock:
            known.contents.difference_update(contents)
            _remains.append(Remains(time.monotonic() + ECHO, set(contents)))
    forget_derived()


def forget_derived() -> None:
    """Have this run make anew all that follows from models and pictures, for some of them are gone."""
    for job in find_followed(st.session_state):
        job.cancel()
    for key in DERIVED:
        st.session_state.pop(key, None)


def work_for_session() -> None:
    """Have what this run computes counted as this session's."""
    if context := get_script_run_ctx():
        owners.owner.set(context.session_id)


def use() -> None:
    """Note that somebody works in this session, and say what happened to its uploads meanwhile."""
    emptied = st.session_state.pop("emptied", False)
    if known := _current():
        if known.contents:
            known.awake = known.used
        if emptied:  # the page is drawn anew, which nobody asked for
            known.used = inf
        if ThreadState.get().fragment_id is None and sharing.lost_something(known.session):
            known.awake = time.monotonic()
            forget_derived()
        for sentence in holdings.refusals(known.session):
            tell_error(sentence, "upload_file")
    if emptied:
        st.info(
            "Your uploads were removed, for nobody worked here for a while. Add them anew.", icon=":material/timer:"
        )


def private_folder() -> Path:
    """A folder that nobody else may read and that goes with the session."""
    if "private_folder" not in st.session_state:
        _current()
        st.session_state["private_folder"] = PrivateFolder()
    folder: PrivateFolder = st.session_state["private_folder"]
    return Path(folder.name)


def settle_samples() -> None:
    """Spare what everybody shares from the search for garbage, unless an upload would be spared with it."""
    with _lock:
        alone = not _remains and not any(known.contents for known in _sessions.values())
    if alone:
        held.settle()


def find_jobs(state: Mapping[Any, Any]) -> list[Job[Any]]:
    """List what a session computes: what it looks at, and the indexes that it builds."""
    return [*find_followed(state), *state.get("builds", {}).values()]


def find_followed(state: Mapping[Any, Any]) -> list[Job[Any]]:
    """List the computations that a session looks at."""
    return [job for view in state.get("followed", {}).values() for job in view.values()]


def _current() -> Belongings | None:
    """The belongings of the session that runs in this thread; None for a page that is run without a server."""
    context = get_script_run_ctx()
    return register(context.session_id) if context and browser_sessions.is_served() else None


def _watch() -> None:
    """Look after the sessions as long as the server runs."""
    while True:
        time.sleep(BEAT)
        _attempt(_look_after)


def _look_after() -> None:
    with _lock:
        known, remains = list(_sessions.values()), list(_remains)
    for one in known:
        _attempt(partial(_end, one) if _is_over(one) else partial(_tidy, one))
    for left in remains:
        _attempt(partial(_remove, left))
    if remains or any(time.monotonic() - one.awake < WAKE for one in known):
        _garbage.set()
    if _garbage.is_set() and held.collect():
        _garbage.clear()
    holdings.settle()
    _tell_refusals()


def _attempt(act: Callable[[], object]) -> None:
    """Do something, and go on with what others left if that fails.

    The log says where it failed but not the error's own words, which may name what somebody uploaded.
    """
    try:
        act()
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        _log.critical("%s at %s:%s while looking after sessions", type(error).__name__, place.filename, place.lineno)


def _is_over(known: Belongings) -> bool:
    now = time.monotonic()
    if browser_sessions.is_connected(known.session):
        known.seen = now
    return now - known.seen > GRACE or now - known.used > settings().idle


def _end(known: Belongings) -> None:
    """Stop what a session runs and computes; once it has stopped, drop its files and its state."""
    sharing.withdraw(known.session)
    if known.app is None:
        _take(known, {})
        return
    state = browser_sessions.read_state(known.app)
    for job in find_jobs(state):
        job.cancel()

    def act(app: AppSession) -> None:
        browser_sessions.empty(app)
        _take(known, state)

    if not browser_sessions.at_rest(known.app, act):
        browser_sessions.stop(known.app)
    elif browser_sessions.is_connected(known.session):
        browser_sessions.redraw(known.app)


def _take(known: Belongings, state: Mapping[str, Any]) -> None:
    """Let a session begin anew if its browser is there, and note what is left to be removed."""
    now, session = time.monotonic(), known.session
    browser_sessions.drop_files(session)
    holdings.release_files(session)
    with _lock:
        del _sessions[session]
        if browser_sessions.is_connected(session):
            _sessions[session] = Belongings(session, known.app, inf, now)
        _remains.append(Remains(now + ECHO, known.contents, find_jobs(state), state.get("private_folder")))


def _tidy(known: Belongings) -> None:
    """Drop what a session at rest keeps of the last run but one, where it holds uploads."""
    now = time.monotonic()
    if known.app is None or not (known.contents or now - known.awake < WAKE):
        return
    if not browser_sessions.at_rest(known.app, browser_sessions.tidy):
        known.awake = now
    holdings.release_files(known.session)


def _tell_refusals() -> None:
    """Have pages say what was refused: once for all files of a moment, for a run that begins may swallow answers."""
    for session in holdings.untold():
        if app := browser_sessions.find_session(session):
            browser_sessions.redraw(app)


def _remove(left: Remains) -> None:
    """Forget all results about what is gone, and remove its folder once nothing writes there any more."""
    with _lock:
        others: Iterable[str] = {one for known in _sessions.values() for one in known.contents}
    for content in left.contents.difference(others):
        asking.forget(content)
    labels.forget()
    left.jobs = [job for job in left.jobs if not job.done]
    if not left.jobs and time.monotonic() > left.until:
        _remains.remove(left)
    if not left.jobs and left.folder is not None:
        folder, left.folder = left.folder, None
        folder.cleanup()
