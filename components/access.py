"""Who works in this session, as the server knows it, and how notes are signed.

The door has let in nobody who is not known; what stands here holds if a request should come by another way.
"""

from __future__ import annotations

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from components.plain_text import plain
from components.server.door import INSTEAD
from components.server.visitors import Entrance, Visitor, find_entrance, recognise, remember
from components.telling_errors import tell_error
from explainers.errors import NotesError
from explainers.notes import LONGEST

UNKNOWN = "The server does not know who you are. Load the page again."


def require_user() -> None:
    """Let only known people in, where the server is set up to know them."""
    entrance, visitor = find_entrance(), current_visitor()
    if entrance is Entrance.OPEN:
        return
    if visitor is None:
        tell_error(UNKNOWN)
        st.stop()
    _note_owner(visitor)
    if entrance is Entrance.LOGIN:
        words = f"Log out {plain(visitor.name)}"
        st.sidebar.button(words, type="tertiary", icon=":material/logout:", on_click=st.logout)


def current_visitor() -> Visitor | None:
    """Who is connected to this session at this moment, None for nobody known."""
    return recognise(list(st.context.headers.items()), st.context.cookies)


def _note_owner(visitor: Visitor) -> None:
    """Note whose session this is, and say so to somebody who came in a tab of another person."""
    context = get_script_run_ctx()
    if context is not None and remember(context.session_id, visitor) and INSTEAD in st.context.headers:
        st.info(
            "Somebody else worked in this tab before. What they uploaded is theirs alone and is removed.",
            icon=":material/person:",
        )


def known_author() -> str:
    """The name of who works here, as the server knows it; "" where people say it themselves. Raises NotesError."""
    if find_entrance() is Entrance.OPEN:
        return ""
    visitor = current_visitor()
    if visitor is None:
        raise NotesError(UNKNOWN)
    return visitor.name[:LONGEST]


def ask_author() -> str:
    """Say by whom a note will be signed, or draw the field that asks; returns what was typed, else "".

    Raises NotesError.
    """
    if author := known_author():
        st.caption(f"Signed by {plain(author)}")
        return ""
    return str(st.text_input("Your name", st.session_state.get("author", ""), max_chars=LONGEST))


def sign(typed: str) -> str:
    """The name under a note that is written now: as the server knows it, else as it was typed. Raises NotesError."""
    return known_author() or typed
