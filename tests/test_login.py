"""Logging in by OpenID Connect: a provider of the test's own, the real server, a real browser."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import Request, urlopen

import pytest
from itsdangerous import URLSafeTimedSerializer
from joserfc import jwt
from joserfc.jwk import RSAKey
from playwright.sync_api import Browser, expect
from starlette.requests import Request as Asked
from streamlit.runtime.secrets import secrets_singleton
from websockets.exceptions import InvalidStatus

from components.navigation import GROUPS
from components.server.login import log_in
from tests.conftest import running_app
from tests.test_door import run_apart
from tests.test_privacy import open_session

KEY = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})
CLIENT, SECRET = "lightbox", "a secret that only the provider and the server know"
COOKIE_SECRET = "x" * 32


class Provider(BaseHTTPRequestHandler):
    """An OpenID Connect provider that knows Ada: discovery, a page to log in, tokens by code, and its key."""

    nonces: dict[str, str] = {}  # noqa: RUF012  # one for the server, as each request has a handler of its own

    @property
    def place(self) -> str:
        return f"http://localhost:{self.server.server_address[1]}"

    def do_GET(self) -> None:
        asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        if self.path == "/.well-known/openid-configuration":
            ends = {"authorization_endpoint": "page", "token_endpoint": "token", "jwks_uri": "keys"}
            self.answer({"issuer": self.place} | {end: f"{self.place}/{path}" for end, path in ends.items()})
        elif self.path == "/keys":
            self.answer({"keys": [KEY.as_dict(private=False)]})
        elif asked:
            assert asked["client_id"] == CLIENT
            assert {"openid", "profile"} <= set(asked["scope"].split())
            self.nonces["code of Ada"] = asked["nonce"]
            back = urlencode({"code": "code of Ada", "state": asked["state"]})
            self.answer(f'<a href="{asked["redirect_uri"]}?{back}">I am Ada</a>')
        else:
            self.answer("")  # the browser asks for an icon

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        now = int(time.time())
        claims = {"iss": self.place, "aud": CLIENT, "sub": "4711", "name": "Ada *Lovelace*", "iat": now}
        claims |= {"exp": now + 600, "nonce": self.nonces.pop(form["code"][0])}
        token = jwt.encode({"alg": "RS256", "kid": "one"}, claims, KEY)
        self.answer({"access_token": "access", "token_type": "Bearer", "expires_in": 600, "id_token": token})

    def answer(self, content: object) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if isinstance(content, str) else "application/json")
        self.end_headers()
        self.wfile.write((content if isinstance(content, str) else json.dumps(content)).encode())

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Provider) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_address[1]}/.well-known/openid-configuration"
        server.shutdown()


def write_secrets(folder: Path, provider: str) -> str:
    settings = {"redirect_uri": "http://localhost:{port}/oauth2callback", "cookie_secret": COOKIE_SECRET}
    settings |= {"client_id": CLIENT, "client_secret": SECRET, "server_metadata_url": provider}
    file = folder / "secrets.toml"
    file.write_text("[auth]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()))
    return str(file)


def ask(address: str, **headers: str) -> tuple[int, str]:
    """Ask for the first page, as a browser does; returns the status and what was sent."""
    try:
        with urlopen(Request(address, headers={"Accept": "text/html", **headers})) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def forge(secret: str, origin: str, **claims: object) -> str:
    """A cookie as Streamlit signs it at a login."""
    content = json.dumps({"origin": origin, "is_logged_in": True, "name": "Eve"} | claims)
    return f"_streamlit_user={URLSafeTimedSerializer(secret, salt='_streamlit_user').dumps(content)}"


def test_nobody_gets_in_without_a_login_and_notes_bear_the_name_of_who_has(
    tmp_path: Path, provider: str, browser: Browser
) -> None:
    with running_app(tmp_path, STREAMLIT_SECRETS_FILES=write_secrets(tmp_path, provider)) as address:
        assert ask(address, Cookie=forge(COOKIE_SECRET, address))[0] == 200
        for cookie in (
            "",
            '_streamlit_user={"name": "Eve", "is_logged_in": true, "origin": "http://localhost"}',
            forge("y" * 32, address),
            forge("", address),
            forge(COOKIE_SECRET, "http://evil.example"),
            forge(COOKIE_SECRET, address, is_logged_in=False),
            forge(COOKIE_SECRET, address, is_logged_in="yes"),
        ):
            status, page = ask(address, Cookie=cookie)
            assert (status, "for people who are known here" in page) == (403, True)
            for group in GROUPS.values():
                assert not any(title in page for _, title, _ in group)
            with pytest.raises(InvalidStatus), open_session(address, Cookie=cookie):
                pass
        with browser.new_context() as context:
            page = context.new_page()
            page.set_default_timeout(60_000)
            page.goto(f"{address}/activity")
            page.get_by_role("link", name="Log in").click()
            page.get_by_role("link", name="I am Ada").click()
            expect(page.get_by_role("button", name="Log out Ada *Lovelace*")).to_be_visible()
            page.goto(f"{address}/concepts?model=digits")
            page.locator("[class*=st-key-card-]").first.get_by_role("button", name="Name").click()
            dialog = page.get_by_role("dialog")
            expect(dialog.get_by_text("Signed by Ada *Lovelace*")).to_be_visible()
            expect(dialog.get_by_role("textbox")).to_have_count(1)
            dialog.get_by_role("textbox", name="Name").fill("loop")
            dialog.get_by_role("button", name="Keep").click()
            expect(dialog).to_be_hidden()
            page.get_by_role("button", name="Log out").click()
            expect(page.get_by_role("link", name="Log in")).to_be_visible()
        (note,) = read_all_names(tmp_path / "cache" / "notes.sqlite")
        assert note == ("loop", "Ada *Lovelace*")


def read_all_names(file: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(file)) as base:
        return base.execute("SELECT name, author FROM names").fetchall()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "credentials"),
        ({"server_metadata_url": "http://localhost:9/"}, "refused"),
        ({"server_metadata_url": "nowhere"}, "unknown url type"),
    ],
)
def test_a_login_that_does_not_work_is_told_in_a_sentence_and_nobody_gets_in(
    settings: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets_singleton, "_secrets", {"auth": {"client_id": CLIENT, **settings}})
    answer = run_apart(log_in(Asked({"type": "http", "method": "GET", "path": "/login", "headers": []})))
    assert answer.status_code == 503
    assert told in answer.body.decode()


def test_nobody_gets_in_while_the_file_of_the_login_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "secrets.toml"
    file.write_text("[auth\n")
    with running_app(tmp_path, STREAMLIT_SECRETS_FILES=str(file)) as address:
        status, page = ask(address)
        assert (status, "login cannot be read" in page) == (403, True)
        with pytest.raises(InvalidStatus), open_session(address):
            pass
