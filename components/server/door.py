"""The door of the server: a request is looked at before a byte of its body is read, and turned away if it must be.

Asked for by a name that is not this server's: 421. Sent by a page of another server, by nobody who is known here, or to
another's session: 403. About to stop: 503 for what would begin something.
"""

from __future__ import annotations

import hmac
import logging
import re
import time
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit import config
from streamlit.runtime import get_instance

from components.server import hosts, visitors
from components.server.login import draw_entrance
from components.server.visitors import Entrance, Visitor
from explainers import under_way
from explainers.events import tell
from explainers.settings import settings

#: What everybody may ask for: whether the server lives. With a login, also what logs in and out.
OPEN = frozenset({"/healthz", "/_stcore/health"})
LOGIN = frozenset({"/login", "/auth/login", "/auth/logout", "/oauth2callback"})

METRICS = "/metrics"

#: What nobody gets, for we give our own: Streamlit's metrics.
CLOSED = frozenset({"/_stcore/metrics"})

UPLOAD = re.compile(r"/_stcore/upload_file/(?P<session>[^/]+)/.*", re.DOTALL)

#: What only reads.
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

#: Tells a session that it began instead of another person's; nobody outside can set it.
INSTEAD = "x-lightbox-instead"

SENTENCES = {
    "host": "This server is not known by that name. Ask those who run it to add the name to LIGHTBOX_HOSTS.",
    "origin": "This came from a page of another server, or a proxy changes the Host header. Open the pages here.",
    "proxy": "This server is entered through a proxy that says who you are. Ask for its address and open that.",
    "login": "Lightbox on this server is for people who are known here. Log in first.",
    "shut": "The file of this server's login cannot be read. Ask those who run it to mend the TOML.",
    "owner": "This belongs to a session of somebody else. Load the page again.",
    "closed": "Nobody may ask for this here.",
    "ending": "This server is about to stop. Open it again in a minute.",
}

STATUS = {"host": 421, "ending": 503}


@dataclass(frozen=True)
class Request:
    """What the door looks at: never the body."""

    kind: str
    method: str
    path: str
    headers: Headers
    visitor: Visitor | None
    entrance: Entrance


class Door:
    """Lets requests through to the app, or answers them itself."""

    #: How many browsers are connected at this moment.
    connected = 0

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let the app do so."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        reason = check_names(scope["type"], scope.get("method", ""), headers)
        request = None if reason else look_at(scope, headers)
        reason = reason or (check_visitor(request) if request else "")
        if reason:
            await turn_away(reason, request, scope, receive, send)
        elif request and scope["type"] == "websocket":
            await self._connect(request, scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _connect(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a browser connect, for as long as it stays."""
        start = time.monotonic()
        Door.connected += 1
        tell("session begins")
        try:
            await self.app(begin_own_session(request, scope), receive, send)
        finally:
            Door.connected -= 1
            tell("session ends", seconds=time.monotonic() - start)


def check_names(kind: str, method: str, headers: Headers) -> str:
    """Tell why a request is not for this server or not from its pages, "" if it is."""
    asked, sent = headers.getlist("host"), headers.getlist("origin")
    if len(asked) != 1 or not hosts.is_known(asked[0]):
        return "host"
    if (kind == "websocket" or method not in SAFE) and not all(hosts.is_own(origin, asked[0]) for origin in sent):
        return "origin"
    return ""


def look_at(scope: Scope, headers: Headers) -> Request:
    """Find out who asks for what."""
    base = "/" + str(config.get_option("server.baseUrlPath") or "").strip("/")
    path = scope["path"]
    if base != "/" and (path == base or path.startswith(f"{base}/")):
        path = path[len(base) :] or "/"
    visitor = visitors.recognise(headers.items(), HTTPConnection(scope).cookies)
    kind, method = scope["type"], scope.get("method", "")
    return Request(kind, method, path, headers, visitor, visitors.find_entrance())


def check_visitor(request: Request) -> str:
    """Tell why somebody may not have what was asked for, "" if they may."""
    if request.path.rstrip("/\n") in CLOSED:  # Starlette takes a line's end after a path for nothing
        return "closed"
    if request.path in OPEN and request.method in SAFE:
        return ""
    if under_way.is_ending() and (request.kind == "websocket" or request.method not in SAFE):
        return "ending"
    if request.entrance is Entrance.OPEN or (request.path == METRICS and bears_token(request.headers)):
        return ""
    if request.entrance is Entrance.LOGIN and request.path in LOGIN and request.method in SAFE:
        return ""
    if request.visitor is None:
        return request.entrance.name.lower()
    upload = UPLOAD.fullmatch(request.path)
    return "owner" if upload and not owns(request.visitor, upload["session"]) else ""


def bears_token(headers: Headers) -> bool:
    """Tell whether a request bears the token of whoever reads the metrics."""
    token, given = settings().metrics_token, headers.get("authorization", "")
    return bool(token) and hmac.compare_digest(given.encode(), f"Bearer {token}".encode())


def owns(visitor: Visitor, session: str) -> bool:
    """Tell whether a session that is connected is a visitor's."""
    client = get_instance().get_client(session)
    connection = client.client_context if client else None
    if connection is None:
        return False
    owner = visitors.recognise(list(connection.headers), connection.cookies)
    return owner is not None and owner.identity == visitor.identity


def begin_own_session(request: Request, scope: Scope) -> Scope:
    """Begin another session where a browser comes back to one as somebody else, so that it finds nothing of that."""
    headers = [(name, value) for name, value in scope["headers"] if name.lower() != INSTEAD.encode()]
    protocols = [part.strip() for part in request.headers.get("sec-websocket-protocol", "").split(",")]
    if request.visitor is not None and len(protocols) > 2 and protocols[2]:
        owner = visitors.owner_of(protocols[2])
        if owner is None or owner.identity != request.visitor.identity:
            headers = [(name, value) for name, value in headers if name.lower() != b"sec-websocket-protocol"]
            headers.append((b"sec-websocket-protocol", ", ".join(protocols[:2]).encode("latin-1")))
            if owner is not None:
                headers.append((INSTEAD.encode(), b"1"))
    return {**scope, "headers": headers}


async def turn_away(reason: str, request: Request | None, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with why, and close the connection: what else is sent through it is not read."""
    upload = request is not None and UPLOAD.fullmatch(request.path) is not None
    tell("upload refused" if upload else "request refused", reason, logging.INFO if upload else logging.DEBUG)
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": ""})
        return
    words, status, given = (
        SENTENCES[reason],
        STATUS.get(reason, 403),
        {"Connection": "close", "Cache-Control": "no-store"},
    )
    page = request is not None and request.method == "GET" and "text/html" in request.headers.get("accept", "")
    if page and reason in ("login", "proxy", "shut"):
        await HTMLResponse(draw_entrance(words, reason == "login"), status, given)(scope, receive, send)
    else:
        await PlainTextResponse(words + "\n", status, given)(scope, receive, send)
