"""What a browser that shows the app may load, and who may show the app: this server alone, whatever a page holds."""

from __future__ import annotations

import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Streamlit and Plotly write styles into the page, and a script of a line or two; what is made in the page has
#: addresses with data: or blob:, such as thumbnails.
RULES = {
    "default-src": "'self'",
    "script-src": "'self' 'unsafe-inline'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "media-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "worker-src": "'self' blob:",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'self'",
}

#: Who may show the pages in a frame, hold their window, or show their pictures: this server alone. (The first line is
#: for browsers that do not know ``frame-ancestors``.)
APART = {
    "X-Frame-Options": "SAMEORIGIN",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

#: To look up the host of a link before it is pressed, and to tell another host which page was left, are requests, too.
QUIET = {"Referrer-Policy": "same-origin", "X-DNS-Prefetch-Control": "off", "X-Content-Type-Options": "nosniff"}


class Policy:
    """Adds to every answer of the server the policy that browsers keep (Content-Security-Policy)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, with the policy."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        policy = write_policy(Headers(scope=scope).get("host", ""))

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update({"Content-Security-Policy": policy, **APART, **QUIET})
            await send(message)

        await self.app(scope, receive, send_with_policy)


def write_policy(host: str) -> str:
    """Write the policy for the host by which a browser knows this server.

    Streamlit talks through a web socket. Older browsers do not take one to the same host for 'self'.
    """
    sockets = f" ws://{host} wss://{host}" if re.fullmatch(r"[\w.\-]+(:\d+)?|\[[\da-fA-F:.]+\](:\d+)?", host) else ""
    rules = {**RULES, "connect-src": f"'self' data: blob:{sockets}"}
    return "; ".join(f"{kind} {places}" for kind, places in rules.items())
