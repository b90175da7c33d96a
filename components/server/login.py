"""The page before a login, of which nothing but the way in is sent, and the way to the login service."""

from __future__ import annotations

from html import escape
from urllib.parse import urlencode
from urllib.request import urlopen

import streamlit as st
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from streamlit import config
from streamlit.auth_util import encode_provider_token, validate_auth_credentials
from streamlit.errors import StreamlitAuthError
from streamlit.url_util import make_url_path

#: How long the login service may take to answer, in seconds.
PATIENCE = 10

#: What Streamlit calls a login service of which there is one.
PROVIDER = "default"

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Lightbox</title>
<style>
:root {{color-scheme: light dark; --accent: light-dark(#0b6e75, #4fc3c9); --page: light-dark(#fcfcfa, #14181b);}}
body {{font: 1rem/1.5 "Source Sans", sans-serif; background: var(--page); display: grid; place-items: center;
    min-height: 90vh; margin: 0 1rem;}}
a {{display: inline-block; padding: .5rem 1rem; border-radius: .5rem; background: var(--accent); color: var(--page);
    text-decoration: none;}}
</style></head>
<body><main><h1>Lightbox</h1><p>{sentence}</p>{way}</main></body></html>
"""


def draw_entrance(sentence: str, login: bool) -> str:
    """Write the page that says why somebody does not get in, with a way to log in if there is one."""
    way = f'<p><a href="{escape(find_place("login"))}">Log in</a></p>' if login else ""
    return PAGE.format(sentence=escape(sentence), way=way)


async def log_in(request: Request) -> Response:
    """Go to the login service, unless it is not set up right or does not answer: the browser would be lost there."""
    try:
        token = await run_in_threadpool(_reach_service)
    except (StreamlitAuthError, OSError, ValueError) as error:
        words = f"The login of this server does not work: {' '.join(str(error).split())} Ask those who run it."
        return HTMLResponse(draw_entrance(words, False), 503)
    return RedirectResponse(f"{find_place('auth/login')}?{urlencode({'provider': token})}", 302)


def _reach_service() -> str:
    """Ask the login service whether it is there; returns what Streamlit's way to it wants to be told."""
    if place := st.secrets["auth"].get("server_metadata_url"):
        urlopen(place, timeout=PATIENCE).close()
    validate_auth_credentials(PROVIDER)
    return encode_provider_token(PROVIDER)


def find_place(path: str) -> str:
    """The path under which something is served, below the prefix that Streamlit is told to serve under."""
    return make_url_path(config.get_option("server.baseUrlPath") or "", path)
