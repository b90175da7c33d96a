"""How the app is put where others reach it: a user without rights, a read-only tree, and real proxies with TLS."""

from __future__ import annotations

import datetime
import http.client
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from playwright.sync_api import Browser, expect
from pydicom.data import get_testdata_file

from tests.conftest import ROOT, answers, find_errors, free_port, running_app
from tests.test_browser import expect_heatmap
from tests.test_privacy import has_heatmap, open_session

DEPLOY = ROOT / "deploy"
HEADER, PASSWORD, NOBODY = "X-Remote-User", "correct horse", 65534
ME = {"Authorization": "Basic " + b64encode(f"anna:{PASSWORD}".encode()).decode()}

# Proxies


def write_certificate(folder: Path) -> None:
    """A certificate for localhost that only its own key has signed."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def edit(text: str, changes: dict[str, str]) -> str:
    """What an administrator puts in of their own."""
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text


def nginx(folder: Path, port: int, behind: int) -> list[str]:
    """Set up nginx as deploy/nginx.conf says; gives the command that runs it."""
    (folder / "users").write_text(f"anna:{{PLAIN}}{PASSWORD}\n")
    changes = {"lightbox.example.org": "localhost", "/etc/ssl/lightbox": str(folder), "8501": str(behind)}
    changes |= {"/etc/nginx/lightbox.users": f"{folder}/users", "listen 443": f"listen 127.0.0.1:{port}"}
    changes |= {"listen 80": f"listen 127.0.0.1:{free_port()}"}
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{kind}_temp_path {folder}/temporary/{kind};" for kind in kinds)
    (folder / "temporary").mkdir()
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user} daemon off; pid {folder}/pid; error_log {folder}/log; events {{}}\n"
        f"http {{ access_log off; {places}\n{edit((DEPLOY / 'nginx.conf').read_text(), changes)} }}"
    )
    return ["nginx", "-e", f"{folder}/log", "-c", f"{folder}/nginx.conf"]


def caddy(folder: Path, port: int, behind: int) -> list[str]:
    """Set up Caddy as deploy/Caddyfile says; gives the command that runs it."""
    hashed = subprocess.check_output(["caddy", "hash-password", "--plaintext", PASSWORD], text=True).strip()
    own = f"https://localhost:{port} {{\n\ttls {folder}/certificate.pem {folder}/key.pem"
    changes = {"\nlightbox.example.org {": f"\n{own}", "8501": str(behind)}
    changes |= {"$2a$14$put.what.caddy.hash-password.prints.here": hashed}
    bounds = "{\n\tadmin off\n\tauto_https disable_redirects\n\tskip_install_trust\n}\n"
    (folder / "Caddyfile").write_text(bounds + edit((DEPLOY / "Caddyfile").read_text(), changes))
    return ["caddy", "run", "--adapter", "caddyfile", "--config", f"{folder}/Caddyfile"]


PROXIES: dict[str, Callable[[Path, int, int], list[str]]] = {"nginx": nginx, "caddy": caddy}


@contextmanager
def running_proxy(name: str, folder: Path, behind: int) -> Iterator[int]:
    """Run a proxy on a free port, before a server on this machine; gives the proxy's port."""
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")
    folder.mkdir()
    write_certificate(folder)
    port = free_port()
    command, home = PROXIES[name](folder, port, behind), {"XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with (folder / "output").open("w") as output:
        proxy = subprocess.Popen(command, env=os.environ | home, stdout=output, stderr=output)
    try:
        while not is_open(port):
            assert proxy.poll() is None, (folder / "output").read_text()
            time.sleep(0.05)
        yield port
    finally:
        proxy.terminate()
        proxy.wait(20)


def is_open(port: int) -> bool:
    with suppress(OSError):
        ask(port, {})
        return True
    return False


def ask(port: int, headers: dict[str, str] | list[tuple[str, str]], body: bytes = b"") -> tuple[int, bytes]:
    """Ask for a page over TLS, with just these headers."""
    trusting = ssl._create_unverified_context()
    connection = http.client.HTTPSConnection("localhost", port, context=trusting, timeout=60)
    connection.putrequest("PUT" if body else "GET", "/page")
    given = list(headers.items()) if isinstance(headers, dict) else headers
    for name, value in [*given, *([("Content-Length", str(len(body)))] if body else [])]:
        connection.putheader(name, value)
    connection.endheaders(body or None)
    answer = connection.getresponse()
    told = answer.status, answer.read()
    connection.close()
    return told


class Upstream(BaseHTTPRequestHandler):
    """A server that notes what reaches it."""

    heard: list[list[tuple[str, str]]] = []  # noqa: RUF012  # of all requests, whatever handles them
    received: list[int] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.heard.append([(name.lower(), value) for name, value in self.headers.items()])
        self.received.append(len(self.rfile.read(int(self.headers.get("Content-Length") or 0))))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_PUT = do_GET  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def upstream() -> Iterator[int]:
    Upstream.heard.clear()
    Upstream.received.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize("name", PROXIES)
def test_a_proxy_says_who_somebody_is_whatever_the_browser_says(name: str, tmp_path: Path, upstream: int) -> None:
    with running_proxy(name, tmp_path / name, upstream) as port:
        for forged in ([], [(HEADER, "eve")], [(HEADER.lower(), "eve"), (HEADER, "mallory")], [(HEADER, "")]):
            Upstream.heard.clear()
            assert ask(port, [*ME.items(), *forged])[0] == 200
            told = [value for key, value in Upstream.heard[0] if key == HEADER.lower()]
            assert told == ["anna"]
            assert ("host", f"localhost:{port}") in Upstream.heard[0]
            assert not any(key == "authorization" for key, _ in Upstream.heard[0])
        Upstream.heard.clear()
        assert ask(port, {HEADER: "eve"})[0] == 401
        assert Upstream.heard == []


@pytest.mark.parametrize("name", PROXIES)
def test_an_upload_goes_through_a_proxy_without_reaching_its_disk(name: str, tmp_path: Path, upstream: int) -> None:
    with running_proxy(name, tmp_path / name, upstream) as port:
        before = {file for file in (tmp_path / name).rglob("*") if file.is_file()}
        assert ask(port, ME, bytes(8 * 1024**2))[0] == 200
        assert Upstream.received == [8 * 1024**2]
        assert {file for file in (tmp_path / name).rglob("*") if file.is_file()} == before
        written = re.findall("buffered to a temporary file", (tmp_path / name / "output").read_text())
        assert not written


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an app that is told by a proxy who people are."""
    if not any(map(shutil.which, PROXIES)):
        pytest.skip("no proxy is installed")
    with running_app(tmp_path_factory.mktemp("app"), LIGHTBOX_USER_HEADER=HEADER) as address:
        yield int(address.rsplit(":")[-1])


@pytest.mark.parametrize("name", ["nginx", pytest.param("caddy", marks=pytest.mark.exhaustive)])
def test_the_app_opens_and_takes_uploads_behind_a_proxy_with_tls(
    name: str, tmp_path: Path, behind: int, browser: Browser
) -> None:
    with running_proxy(name, tmp_path / name, behind) as port:
        login = {"username": "anna", "password": PASSWORD}
        context = browser.new_context(http_credentials=login, ignore_https_errors=True)
        page = context.new_page()
        page.goto(f"https://localhost:{port}/?model=digits")
        expect_heatmap(page)
        page.locator("input[type=file]").first.set_input_files(get_testdata_file("CT_small.dcm", download=False))
        expect(page.get_by_text("CT_small").first).to_be_visible()
        context.close()


# A user without rights


def copied_paths() -> list[str]:
    """What the last stage of the Dockerfile copies out of this folder."""
    last = (ROOT / "Dockerfile").read_text().rsplit("\nFROM", 1)[-1]
    return [path for path, _ in re.findall(r"^COPY (?!--)(\S+) (\S+)$", last, re.MULTILINE)]


def test_the_image_holds_all_folders_that_the_app_is_made_of() -> None:
    made = {"app.py", ".streamlit", "components", "explainers", "pages", "sample_models"}
    assert set(copied_paths()) == made


def as_nobody() -> list[str]:
    """What goes before a command to run it without rights, but for reading an environment inside root's own folders."""
    found = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"]
    bare = [*found, "--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all"]
    again = "import subprocess, sys; subprocess.run([sys.executable, '-c', ''], check=True)"
    if subprocess.run([*bare, sys.executable, "-c", again], capture_output=True).returncode == 0:
        return bare
    return [*found, *(f"--{kind}=-all,+dac_read_search" for kind in ("inh-caps", "ambient-caps", "bounding-set"))]


@pytest.fixture
def tree() -> Iterator[Path]:
    """What the image would hold, owned by another than who runs it, with an empty folder for its state beside it."""
    if os.geteuid() or not shutil.which("setpriv"):
        pytest.skip("only root can run something as another user")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        place.chmod(0o755)
        for path in copied_paths():
            copy = shutil.copytree if (ROOT / path).is_dir() else shutil.copy
            copy(ROOT / path, place / path)
        (place / "state").mkdir()
        os.chown(place / "state", NOBODY, NOBODY)
        yield place


def written_by(user: int, *places: Path) -> list[Path]:
    return [path for place in places for path in place.rglob("*") if path.lstat().st_uid == user]


@pytest.mark.exhaustive
def test_the_app_works_as_a_user_without_rights_who_can_write_its_state_alone(tree: Path) -> None:
    port, state = free_port(), tree / "state"
    environment = {"PATH": os.environ["PATH"], "HOME": str(state), "LIGHTBOX_CACHE": str(state / "cache")}
    command = [*as_nobody(), sys.executable, "-B", "-m", "streamlit", "run", "app.py"]
    command += ["--server.headless=true", f"--server.port={port}"]
    with (tree / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=tree, env=environment, stdout=log, stderr=log)
    try:
        while not answers(f"http://localhost:{port}/_stcore/health"):
            assert server.poll() is None, (tree / "log").read_text()
            time.sleep(0.1)
        with open_session(f"http://localhost:{port}") as session:
            session.run(has_heatmap)
            session.upload("scan.dcm", Path(get_testdata_file("CT_small.dcm", download=False)).read_bytes())
    finally:
        server.terminate()
        server.wait(60)
    assert not find_errors((tree / "log").read_text())
    written = written_by(NOBODY, tree)
    assert (state / "cache") in written
    assert all(path.is_relative_to(state) for path in written)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_the_unit_is_one_that_systemd_reads_without_a_complaint(tmp_path: Path) -> None:
    unit = tmp_path / "lightbox.service"
    unit.write_text(
        (DEPLOY / "lightbox.service").read_text().replace("/opt/lightbox/.venv/bin/streamlit", sys.executable)
    )
    found = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert found.returncode == 0
    assert unit.name not in found.stderr
