"""Who works here: told by a proxy in front of the server, by a login, or nobody knows."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn
from urllib.request import urlopen

import streamlit as st
from streamlit.errors import StreamlitAuthError

from components.plain_text import plain
from components.telling_errors import tell_error
from explainers.notes import LONGEST
from explainers.settings import settings

#: How long the login service may take to answer, in seconds.
PATIENCE = 10


def require_user() -> None:
    """Let only known people in, where the server is set up to know them; their notes are signed by their names."""
    header = settings().user_header
    if header:
        name = _read_header(header)
    elif _has_login():
        name = _log_in()
    else:
        return
    st.session_state.setdefault("author", name[:LONGEST])


def _read_header(header: str) -> str:
    name = (st.context.headers.get(header) or "").strip()
    if not name:
        _refuse("This server is entered through a proxy that says who you are. Ask for its address and open that.")
    return name


def _has_login() -> bool:
    """Tell whether a login is set up; nobody gets in if the file that would say so cannot be read."""
    if st.secrets.load_if_toml_exists():
        return "auth" in st.secrets
    if any(Path(file).exists() for file in st.get_option("secrets.files")):
        _refuse("The file of this server's login cannot be read. Ask those who run it to mend the TOML.")
    return False


def _log_in() -> str:
    """Give the name of who has logged in, with a way out; everybody else is asked to."""
    if not st.user.get("is_logged_in"):
        st.markdown("Lightbox on this server is for people who are known here.")
        if st.button("Log in", type="primary", icon=":material/login:"):
            _send_to_login()
        st.stop()
    name = str(next(filter(None, map(st.user.get, ("name", "email", "sub"))), ""))
    st.sidebar.button(f"Log out {plain(name)}", type="tertiary", icon=":material/logout:", on_click=st.logout)
    return name


def _send_to_login() -> None:
    """Go to the login service, unless it is not set up right or does not answer: the browser would be lost there."""
    try:
        if place := st.secrets["auth"].get("server_metadata_url"):
            urlopen(place, timeout=PATIENCE).close()
        st.login()
    except (StreamlitAuthError, OSError, ValueError) as error:
        _refuse(f"The login of this server does not work: {' '.join(str(error).split())} Ask those who run it.")


def _refuse(sentence: str) -> NoReturn:
    tell_error(sentence)
    st.stop()
