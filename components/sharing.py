"""What people share by an explicit act: uploads that everybody on this server then sees in the pickers.

A shared upload stays its owner's: in memory alone, and gone when the owner takes it back, leaves or is idle for long.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from components import browser_sessions
from explainers.images import Picture
from explainers.info import ModelInfo

MEANING = (
    "Everybody who can open this server finds {what} in the lists at the left, marked as shared, until you take {it} "
    "back, close this page or do nothing here for a while."
)

#: Models and pictures by the session that shares them and their digests.
_shares: dict[tuple[str, str], Any] = {}
#: The sessions that have chosen what others share, and those of them that have lost some of it since.
_guests: set[str] = set()
_losers: set[str] = set()
_lock = threading.Lock()


def digest_of(content: Any) -> str:
    """The digest of a picture or model."""
    return str(content.digest if isinstance(content, Picture) else content.info.digest)


def shared_models() -> Mapping[str, Any]:
    """The models that are shared, by what links call them."""
    return {name_in_links(one.info.digest): one for one in _contents() if not isinstance(one, Picture)}


def shared_pictures() -> Sequence[Picture]:
    """The pictures that are shared, each once."""
    return list({one.digest: one for one in _contents() if isinstance(one, Picture)}.values())


def name_in_links(digest: str) -> str:
    """Call a shared model in a link, by its digest."""
    return f"shared-{digest[:16]}"


def may_be_in_links(info: ModelInfo) -> bool:
    """Whether a link may say how a model's layers are called: not those of an upload, unless it is shared."""
    return not info.private or name_in_links(info.digest) in shared_models()


def withdraw(session: str) -> None:
    """Share nothing of a session any more."""
    take_back([digest for owner, digest in list(_shares) if owner == session], session)
    with _lock:
        _guests.discard(session)
        _losers.discard(session)


def be_guest() -> None:
    """Note that this session works with what others share."""
    with _lock:
        _guests.add(_session())


def lost_something(session: str) -> bool:
    """Tell once whether what a session works with was taken back."""
    with _lock:
        lost = session in _losers
        _losers.discard(session)
    return lost


def take_back(digests: Collection[str], session: str) -> None:
    """Share something no more; the pages of all that work with it are drawn anew, without it."""
    with _lock:
        taken = [_shares.pop((session, digest)) for digest in digests if (session, digest) in _shares]
        losers = _guests - {session} if taken else set[str]()
        _losers.update(losers)
        _guests.difference_update(losers)
    for loser in losers:
        if app := browser_sessions.find_session(loser):
            browser_sessions.redraw(app)


def draw_sharing_of_model(model: Any) -> None:
    """Let the owner of an uploaded model share it, or take it back."""
    _draw({model.info.digest: model}, "this model under its name", "it", "share_model")


def draw_sharing_of_pictures(pictures: Sequence[Picture]) -> None:
    """Let the owner of uploaded pictures share them, or take them back; a picture that is removed is taken back."""
    contents, own = {picture.digest: picture for picture in pictures}, _session()
    with _lock:
        shared = [digest for (owner, digest), one in _shares.items() if owner == own and isinstance(one, Picture)]
    take_back(set(shared) - set(contents), own)
    if contents:
        _draw(contents, "these pictures with the names of their files", "them", "share_pictures")


def _draw(contents: Mapping[str, Any], what: str, it: str, key: str) -> None:
    meaning, own = MEANING.format(what=what, it=it), _session()
    if all((own, digest) in _shares for digest in contents):
        st.caption(f":material/group: {meaning}")
        st.button("Take back", icon=":material/group_off:", key=key, on_click=take_back, args=(list(contents), own))
    else:
        st.button(
            "Share with everybody on this server", icon=":material/group_add:", key=key, help=meaning,
            on_click=_share, args=(contents, own),
        )  # fmt: skip


def _share(contents: Mapping[str, Any], session: str) -> None:
    with _lock:
        _shares.update({(session, digest): content for digest, content in contents.items()})


def _contents() -> list[Any]:
    with _lock:
        return list(_shares.values())


def _session() -> str:
    context = get_script_run_ctx()
    return context.session_id if context else ""
