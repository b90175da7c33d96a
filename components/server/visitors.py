"""Who asks: told by a proxy's header, by the signed cookie of a login, or nobody knows."""

from __future__ import annotations

import enum
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.auth_util import get_origin_from_redirect_uri
from streamlit.web.server.server_util import get_cookie_secret
from streamlit.web.server.starlette import starlette_websocket
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME

from explainers.settings import settings


class Entrance(enum.Enum):
    """How people get in."""

    OPEN = enum.auto()  # whoever reaches the server
    PROXY = enum.auto()  # whom a proxy names in a header
    LOGIN = enum.auto()  # who has logged in
    SHUT = enum.auto()  # nobody: the file that would say so cannot be read


@dataclass(frozen=True)
class Visitor:
    """A person whom the server knows: what tells people apart, and what they are called."""

    identity: str
    name: str


#: Of how many sessions it is remembered whose they are; one that is forgotten is not come back to.
REMEMBERED = 10_000

_owners: dict[str, Visitor] = {}
_lock = threading.Lock()


def remember(session: str, visitor: Visitor) -> bool:
    """Note whose session it is that runs; tells whether that is new."""
    with _lock:
        new = session not in _owners
        _owners[session] = visitor
        while len(_owners) > REMEMBERED:
            del _owners[next(iter(_owners))]
    return new


def owner_of(session: str) -> Visitor | None:
    """Tell whose a session is that has run, also while no browser is connected to it."""
    return _owners.get(session)


def find_entrance() -> Entrance:
    """Tell how this server is set up to let people in."""
    if settings().user_header:
        return Entrance.PROXY
    if st.secrets.load_if_toml_exists():
        return Entrance.LOGIN if "auth" in st.secrets else Entrance.OPEN
    return Entrance.SHUT if any(Path(file).exists() for file in st.get_option("secrets.files")) else Entrance.OPEN


def recognise(headers: Sequence[tuple[str, str]], cookies: Mapping[str, str]) -> Visitor | None:
    """Tell who sent a request, by its headers and cookies; None for nobody known."""
    match find_entrance():
        case Entrance.PROXY:
            return _read_header(headers)
        case Entrance.LOGIN:
            return _read_login(cookies)
    return None


def _read_header(headers: Sequence[tuple[str, str]]) -> Visitor | None:
    """Read the proxy's header; two of them mean that the browser has sent one of its own."""
    wanted = settings().user_header.lower()
    values = [value.strip() for name, value in headers if name.lower() == wanted]
    if len(values) != 1 or not values[0]:
        return None
    try:
        name = values[0].encode("latin-1").decode()
    except UnicodeError:
        name = values[0]
    return Visitor(name, name)


def _read_login(cookies: Mapping[str, str]) -> Visitor | None:
    """Read the cookie that Streamlit signs at a login, by its own functions."""
    if not get_cookie_secret():
        return None
    cookie = starlette_websocket._get_signed_cookie_with_chunks(dict(cookies), USER_COOKIE_NAME)
    claims: dict[str, Any] = {}
    if cookie:
        claims = starlette_websocket._parse_decoded_user_cookie(cookie, get_origin_from_redirect_uri() or "")
    if claims.get("is_logged_in") is not True:
        return None
    name = next((str(claims[claim]) for claim in ("name", "email", "sub") if claims.get(claim)), "")
    identity = " ".join(str(claims[claim]) for claim in ("iss", "sub") if claims.get(claim)) or name
    return Visitor(identity, name) if name else None
