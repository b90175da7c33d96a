"""Who gets in: names of the server, pages of others, people who are not known, and all before a byte is read."""

from __future__ import annotations

import ast
import asyncio
import http.client
import json
import socket
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, expect
from streamlit.proto.BackMsg_pb2 import BackMsg
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from components.policy import Policy
from components.server.door import Door
from components.server.serving import serve
from explainers import events
from tests.conftest import ROOT, running_app
from tests.test_privacy import Session, finished

R = TypeVar("R")

#: One path of each route that the server has, with a method that it takes.
ROUTES = (
    ("GET", "/"),
    ("GET", "/attribution"),
    ("GET", "/static/js/index.js"),
    ("GET", "/favicon.png"),
    ("GET", "/healthz"),
    ("GET", "/_stcore/health"),
    ("GET", "/metrics"),
    ("GET", "/_stcore/metrics"),
    ("GET", "/_stcore/host-config"),
    ("GET", "/media/0000.png"),
    ("GET", "/component/one/index.html"),
    ("GET", "/_stcore/agent/openapi.json"),
    ("POST", "/_stcore/agent/interact"),
    ("POST", "/_stcore/agent/mcp"),
    ("PUT", "/_stcore/upload_file/session/file"),
    ("DELETE", "/_stcore/upload_file/session/file"),
    ("OPTIONS", "/_stcore/upload_file/session/file"),
    ("GET", "/auth/login"),
    ("GET", "/oauth2callback"),
    ("GET", "/login"),
)

FOREIGN = (
    "evil.example",
    "localhost.evil.example",
    "evil.example:8501",
    "localhost@evil.example",
    "evil.example#localhost",
    "localhost, evil.example",
    "localhost evil.example",
    "0.0.0.0",
    "127.0.0.2",
    "127.1",
    "2130706433",
    "localhost..",
    "[::2]",
    "::1",
    "[::1].",
    "[::ffff:7f00:1]",
    "localhost:port",
    "localhost:",
    "",
)

KNOWN = ("localhost", "LOCALHOST:8501", "localhost.:80", "127.0.0.1:9", "[::1]:8501", "[0:0:0:0:0:0:0:1]")


def run_apart(coroutine: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine in a thread of its own, for a browser may have a loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


class Visit:
    """A request to the door alone; ``read`` counts how often its body was asked for."""

    def __init__(self, method: str, path: str, *headers: tuple[str, str], kind: str = "http") -> None:
        self.read, self.sent, self.inside = 0, list[Any](), list[Any]()
        raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
        scope = {"type": kind, "path": path, "headers": raw, "query_string": b"", "client": ("127.0.0.1", 1)}
        scope |= {"method": method} if kind == "http" else {}
        run_apart(Policy(Door(self.app))(scope, self.receive, self.send))

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        self.inside.append(scope)

    async def receive(self) -> Any:
        self.read += 1
        return {"type": "http.request", "body": b"x" * 65536, "more_body": True}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        """What was answered, 200 for a request that the app got, 403 for a web socket that was closed unopened."""
        if self.inside:
            return 200
        return int(self.sent[0].get("status", 403))


HERE = ("Host", "localhost:8501")


@pytest.mark.parametrize("host", FOREIGN)
def test_a_foreign_host_is_refused_on_every_route_before_anything_is_read(host: str) -> None:
    for method, path in ROUTES:
        visit = Visit(method, path, ("Host", host), ("X-Forwarded-Host", "localhost"), ("Forwarded", "host=localhost"))
        assert (visit.status, visit.read) == (421, 0), path
    assert Visit("", "/_stcore/stream", ("Host", host), ("Origin", f"http://{host}"), kind="websocket").status == 403


def test_no_host_and_two_hosts_are_refused() -> None:
    assert Visit("GET", "/").status == 421
    assert Visit("GET", "/", HERE, ("Host", "evil.example")).status == 421


@pytest.mark.parametrize("host", KNOWN)
def test_the_server_is_known_on_its_own_machine(host: str) -> None:
    assert Visit("GET", "/", ("Host", host)).status == 200
    assert Visit("", "/_stcore/stream", ("Host", host), ("Origin", f"http://{host}"), kind="websocket").status == 200


def test_names_that_are_set_are_known_however_they_are_written(bounds: Callable[..., None]) -> None:
    bounds(hosts="Lightbox.example.org., bücher.example ,[2001:DB8::0:1],10.1.2.3")
    for host in ("lightbox.EXAMPLE.org:443", "xn--bcher-kva.example", "[2001:db8::1]:80", "10.1.2.3", "localhost"):
        assert Visit("GET", "/", ("Host", host)).status == 200, host
    for host in ("example.org", "a.lightbox.example.org", "10.1.2.30"):
        assert Visit("GET", "/", ("Host", host)).status == 421, host


@pytest.mark.parametrize("name", ["https://a.example", "a.example:8443", "*", "a b", "a/b", "ü" * 80])
def test_a_setting_that_is_no_name_ends_the_server_with_a_sentence(
    name: str, bounds: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events._log, "handlers", events._log.handlers)
    bounds(hosts=name)
    with pytest.raises(SystemExit, match=r"error: The setting 'hosts' (names|is) "):
        serve()


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "http://evil.example",
        "https://app.streamlit.app",
        "http://localhost",
        "http://localhost:8502",
        "https://localhost",
        "http://127.0.0.1:8501",
        "http://localhost:8501@evil.example",
        "http://localhost:8501/",
        "file://localhost:8501",
        "localhost:8501",
        "http://localhost:8501.evil.example",
    ],
)
def test_pages_of_others_can_neither_connect_nor_change_anything(origin: str) -> None:
    assert Visit("", "/_stcore/stream", HERE, ("Origin", origin), kind="websocket").status == 403
    assert (
        Visit(
            "", "/_stcore/stream", HERE, ("Origin", "http://localhost:8501"), ("Origin", origin), kind="websocket"
        ).status
        == 403
    )
    for method in ("PUT", "POST", "DELETE", "PATCH", "put", "BREW"):
        visit = Visit(method, "/_stcore/upload_file/session/file", HERE, ("Origin", origin))
        assert (visit.status, visit.read) == (403, 0)


def test_own_pages_may_also_behind_a_proxy_that_ends_encryption(bounds: Callable[..., None]) -> None:
    bounds(hosts="lightbox.example.org")
    for origin, host in (
        ("http://localhost:8501", "localhost:8501"),
        ("http://LOCALHOST:8501", "localhost.:8501"),
        ("https://lightbox.example.org", "lightbox.example.org"),
        ("https://lightbox.example.org", "lightbox.example.org:443"),
        ("https://lightbox.example.org:8443", "lightbox.example.org:8443"),
        ("http://[::1]:8501", "[0::1]:8501"),
    ):
        assert Visit("PUT", "/_stcore/upload_file/a/b", ("Host", host), ("Origin", origin)).status == 200, origin


def test_every_answer_says_that_no_other_page_may_frame_it() -> None:
    for visit in (Visit("GET", "/healthz", ("Host", "evil.example")), Visit("GET", "/_stcore/metrics", HERE)):
        headers = {name.decode().lower(): value.decode() for name, value in visit.sent[0]["headers"]}
        assert headers["x-frame-options"] == "SAMEORIGIN"
        assert "frame-ancestors 'self'" in headers["content-security-policy"]


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("X-Remote-User", ""),),
        (("X-Remote-User", "  "),),
        (("X-Remote-User", "Ada"), ("X-Remote-User", "Eve")),
        (("X_Remote_User", "Ada"),),
        (("Authorization", "Bearer "),),
        (("Authorization", "Bearer guessed"),),
    ],
)
def test_who_is_not_let_in_gets_nothing_but_health_and_nothing_of_theirs_is_read(
    headers: tuple[tuple[str, str], ...], bounds: Callable[..., None]
) -> None:
    bounds(user_header="X-Remote-User", metrics_token="a token")
    for method, path in ROUTES:
        visit = Visit(method, path, HERE, *headers)
        assert (visit.status, visit.read) == (200 if path in ("/healthz", "/_stcore/health") else 403, 0), path
    for path in ("/healthz/", "/healthz/../metrics", "//healthz", "/_stcore/health/x", "/HEALTHZ", "/healthz%2f"):
        assert Visit("GET", path, HERE, *headers).status == 403, path
    assert Visit("PUT", "/healthz", HERE, *headers).status == 403
    assert Visit("", "/_stcore/stream", HERE, *headers, kind="websocket").status == 403


def test_who_is_known_gets_in_and_whoever_has_the_token_gets_the_metrics_alone(bounds: Callable[..., None]) -> None:
    bounds(user_header="X-Remote-User", metrics_token="a token")
    known, token = ("x-remote-user", "Ada"), ("Authorization", "Bearer a token")
    assert Visit("GET", "/", HERE, known).status == 200
    assert Visit("GET", "/metrics", HERE, token).status == 200
    assert Visit("GET", "/", HERE, token).status == 403
    assert Visit("GET", "/_stcore/metrics", HERE, known, token).status == 403


def test_streamlits_own_metrics_are_closed_where_everybody_may_come() -> None:
    for path in ("/_stcore/metrics", "/_stcore/metrics/", "/_stcore/metrics\n"):
        assert Visit("GET", path, HERE).status == 403
    assert Visit("GET", "/metrics", HERE).status == 200


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server behind a proxy that names its users, and its log."""
    folder = tmp_path_factory.mktemp("guarded")
    with running_app(folder, LIGHTBOX_USER_HEADER="X-Remote-User", LIGHTBOX_METRICS_TOKEN="a token") as address:
        yield address, folder / "log"


def ask(address: str, method: str, path: str, **headers: str) -> tuple[int, str]:
    """Send a request as it stands, also with a Host of one's own."""
    with closing(http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)) as connection:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        with connection.getresponse() as answer:
            return answer.status, answer.read().decode(errors="replace")


def is_refused(address: str, origin: str, **headers: str) -> bool:
    """Tell whether a web socket is answered with 403 before it opens."""
    place = f"{address.replace('http', 'ws')}/_stcore/stream"
    with pytest.raises(InvalidStatus) as refused, connect(place, origin=origin, additional_headers=headers):  # type: ignore[arg-type]
        pass
    return refused.value.response.status_code == 403


def test_the_real_server_has_the_door_before_every_route(guarded: tuple[str, Path]) -> None:
    address, _ = guarded
    for method, path in ROUTES:
        assert ask(address, method, path, Host="evil.example", X_Remote_User="Ada")[0] == 421, path
        free = path in ("/healthz", "/_stcore/health")
        assert ask(address, method, path)[0] == (200 if free else 403), path
    assert is_refused(address, "http://evil.example", **{"X-Remote-User": "Ada"})
    assert is_refused(address, address)


def test_who_is_not_let_in_reads_a_sentence(guarded: tuple[str, Path]) -> None:
    status, page = ask(guarded[0], "GET", "/concepts", Accept="text/html")
    assert status == 403
    assert "through a proxy that says who you are" in page
    assert "Where did it look" not in page


def figures_of(address: str) -> dict[str, float]:
    status, text = ask(address, "GET", "/metrics", Authorization="Bearer a token")
    assert status == 200
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def test_an_endless_upload_of_somebody_unknown_is_refused_at_once_and_fills_no_memory(
    guarded: tuple[str, Path],
) -> None:
    address, sent = guarded[0], 0
    before = figures_of(address)["lightbox_memory_bytes"]
    with socket.create_connection(tuple(urlsplit(address).netloc.split(":")), timeout=60) as line:  # type: ignore[arg-type]
        host = urlsplit(address).netloc
        line.sendall(
            f"PUT /_stcore/upload_file/a/b HTTP/1.1\r\nHost: {host}\r\nContent-Length: 999999999\r\n\r\n".encode()
        )
        answer = line.recv(12)
        with suppress(ConnectionError):
            while sent < 2**30:
                sent += line.send(b"x" * 65536)
    assert answer == b"HTTP/1.1 403"
    assert sent < 16 * 2**20  # what lies in the buffers of the line
    assert figures_of(address)["lightbox_memory_bytes"] < before + 16 * 2**20
    assert figures_of(address)["lightbox_uploads"] == 0


@contextmanager
def coming(address: str, user: str, session: str = "") -> Iterator[tuple[Session, str]]:
    """Connect as somebody, as a tab does that comes back to a session; gives the session that is had, with its id."""
    with connect(
        f"{address.replace('http', 'ws')}/_stcore/stream",
        subprotocols=["streamlit", "no-token", session] if session else ["streamlit"],  # type: ignore[list-item]
        max_size=None,
        origin=address,  # type: ignore[arg-type]
        additional_headers={"X-Remote-User": user},
    ) as line:
        one = Session(address, line)
        one.wish.rerun_script.query_string = "model=digits"
        one.run(finished)
        (name,) = {m.new_session.initialize.session_id for m in one.messages if m.HasField("new_session")}
        yield one, name


def place_for_upload(one: Session, session: str) -> str:
    ask = BackMsg()
    ask.file_urls_request.session_id, ask.file_urls_request.request_id = session, "1"
    ask.file_urls_request.file_names.append("Doe-Jane.png")
    one.socket.send(ask.SerializeToString())
    while True:
        message = one.messages[-1].FromString(one.socket.recv(timeout=60))
        if message.HasField("file_urls_response"):
            return str(message.file_urls_response.file_urls[0].upload_url)


def test_another_person_in_the_same_tab_begins_another_session_and_none_uploads_to_others(
    guarded: tuple[str, Path],
) -> None:
    address, log = guarded
    with coming(address, "Ada-Lovelace") as (ada, session):
        place = place_for_upload(ada, session)
        assert ask(address, "PUT", place, X_Remote_User="Eve")[0] == 403
        assert "session of somebody else" in ask(address, "DELETE", place, X_Remote_User="Eve")[1]
        assert "XSRF" in ask(address, "DELETE", place, X_Remote_User="Ada-Lovelace")[1]
    with coming(address, "Eve", session) as (eve, hers):
        assert hers != session
        assert "Somebody else worked in this tab before" in eve.told
    with coming(address, "Ada-Lovelace", session) as (_, again):
        assert again == session
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    assert {"server starts", "session begins", "session ends", "upload refused"} <= {line["event"] for line in lines}
    assert not any(name in log.read_text() for name in ("Ada", "Eve", "Doe-Jane", "digits"))


class Foreign(BaseHTTPRequestHandler):
    """A page of another server that frames the app."""

    app = ""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(f'<iframe src="{self.app}"></iframe><img src="{self.app}/favicon.png">'.encode())

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def test_a_page_of_another_server_cannot_frame_the_app_nor_show_its_pictures(
    guarded: tuple[str, Path], browser: Browser
) -> None:
    Foreign.app = guarded[0]
    with ThreadingHTTPServer(("127.0.0.1", 0), Foreign) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        context = browser.new_context(extra_http_headers={"X-Remote-User": "Ada"})
        page, said = context.new_page(), list[str]()
        page.on("console", lambda message: said.append(message.text))
        page.goto(f"http://127.0.0.1:{server.server_address[1]}/")
        expect(page.locator("img")).to_have_js_property("naturalWidth", 0)
        page.wait_for_function("document.querySelector('iframe').contentDocument === null")
        for frame in page.frames[1:]:
            assert "Lightbox" not in frame.content()
            assert frame.locator("#root").count() == 0
        assert any("frame-ancestors" in line or "X-Frame-Options" in line for line in said)
        context.close()
        server.shutdown()


def calls_that_sign() -> list[ast.Call]:
    files = [*(ROOT / "components").rglob("*.py"), *(ROOT / "pages").rglob("*.py")]
    calls = [node for file in files for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    return [
        call
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr in ("name_concept", "tag_samples")
    ]


def test_every_note_is_signed_at_the_moment_of_writing_by_whom_the_server_knows() -> None:
    calls = calls_that_sign()
    assert len(calls) >= 4
    for call in calls:
        signed = [one for one in call.args if isinstance(one, ast.Call) and getattr(one.func, "id", "") == "sign"]
        assert len(signed) == 1, ast.unparse(call)
