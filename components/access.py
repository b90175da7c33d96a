"""Who works here: told by a proxy in front of the server, by a login, or nobody knows."""

from __future__ import annotations

import streamlit as st

from explainers.notes import LONGEST
from explainers.settings import settings


def require_user() -> None:
    """Let only known people in, where the server is set up to know them; their notes are signed by their names."""
    header = settings().user_header
    if header:
        name = _read_header(header)
    elif st.secrets.load_if_toml_exists() and "auth" in st.secrets:
        name = _log_in()
    else:
        return
    st.session_state.setdefault("author", name[:LONGEST])


def _read_header(header: str) -> str:
    name = (st.context.headers.get(header) or "").strip()
    if not name:
        st.error("This server is entered through a proxy that says who you are. Ask for its address and open that.")
        st.stop()
    return name


def _log_in() -> str:
    if not st.user.is_logged_in:
        st.markdown("Lightbox on this server is for people who are known here.")
        st.button("Log in", type="primary", icon=":material/login:", on_click=st.login)
        st.stop()
    return str(st.user.get("name") or st.user.get("email") or "")
