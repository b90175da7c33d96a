"""What tests share: tiny models with known weights, the real app on a port of its own, a real browser."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache as remember
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from playwright.sync_api import TimeoutError as PlaywrightTimeout

import sample_models
from components.navigation import GROUPS
from explainers.cache import _open_cache
from explainers.settings import settings

ROOT = Path(__file__).parent.parent

#: Where sample models are kept between runs of tests, under names that say by which code they were traced.
MODELS = ROOT / ".pytest_cache" / "models"

expect.set_options(timeout=60_000)  # opening a model takes seconds, more on a busy machine


#: The files of tests that take longest, longest first.
LONGEST = (
    "test_privacy",
    "test_accessibility",
    "test_journeys",
    "test_browser",
    "test_families",
    "test_journeys_of_engineers",
    "test_shared_uploads",
    "test_prototypes_page",
    "test_every_page",
    "test_contributing",
    "test_concepts_page",
    "test_sharing",
    "test_lifetime",
    "test_arrivals",
    "test_login",
    "test_door",
    "test_life",
    "test_kills",
    "test_index_command",
    "test_onnx_models",
    "test_sandbox",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run the long files first where several processes share them, so that all end at once; else the fast ones."""
    places = {name: place for place, name in enumerate(LONGEST)}
    direction = 1 if hasattr(config, "workerinput") else -1
    items.sort(key=lambda item: direction * places.get(item.path.stem, len(places)))


def release() -> None:
    """Give back the memory of what nobody holds any more: graphs are cycles, and the system's allocator keeps holes."""
    gc.collect()
    with suppress(AttributeError, OSError):  # elsewhere than on Linux
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def resident() -> int:
    """The memory of this process in MiB, 0 where the system does not tell."""
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20
    return 0


@pytest.fixture(autouse=True)
def lean() -> Iterator[None]:
    """What a test has left behind is given back before it gets much."""
    before = resident()
    yield
    if resident() > before + 64:
        release()


@pytest.fixture(autouse=True)
def main_module() -> Iterator[None]:
    """A page that a test runs in this process is its main module only then: processes that are spawned run that."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


@pytest.fixture(scope="module", autouse=True)
def forgotten(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a file of tests caches, such as opened models, is forgotten at its end."""
    yield
    for value in vars(request.module).values():
        place = str(getattr(value, "__module__", ""))
        if hasattr(value, "cache_clear") and (place == request.module.__name__ or place.startswith("tests.")):
            value.cache_clear()
    release()


@pytest.fixture
def bounds(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Sets settings until the end of the test."""

    def change(**values: object) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"LIGHTBOX_{name.upper()}", str(value))
        settings.cache_clear()

    yield change
    monkeypatch.undo()
    settings.cache_clear()


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps what commands compute out of the user's cache, and loads a model once for all commands of a file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIGHTBOX_CACHE", str(make_cache(tmp_path_factory.mktemp("cache"))))
        patch.setattr(sample_models, "load", remember(sample_models.load))
        settings.cache_clear()
        _open_cache.cache_clear()
        yield
    settings.cache_clear()
    _open_cache.cache_clear()


def make_cache(folder: Path) -> Path:
    """Make a cache that is empty but for the sample models, which are traced once for all tests and runs of them."""
    for place in (folder, MODELS):
        place.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        (folder / "models").symlink_to(MODELS)
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_app(folder: Path, script: str = "app.py", *, traced: bool = True, **settings: str) -> Iterator[str]:
    """Run the real app, or another script, with its cache and log in a folder; gives its address.

    The cache is empty, but for the sample models where they are ``traced``.
    """
    cache = make_cache(folder / "cache") if traced else folder / "cache"
    environment = os.environ | {"LIGHTBOX_CACHE": str(cache)} | settings
    address, server = start_app(folder / "log", environment, script)
    try:
        yield address
    finally:
        server.terminate()
        server.wait(60)
    assert not find_errors((folder / "log").read_text())


def start_app(log: Path, environment: dict[str, str], script: str = "app.py") -> tuple[str, subprocess.Popen[bytes]]:
    """Start the app on a free port, on the next one if another process was faster to take it."""
    while True:
        port = free_port()
        command = [sys.executable, "-m", "streamlit", "run", script, "--server.headless=true"]
        with log.open("w") as file:
            server = subprocess.Popen(
                [*command, f"--server.port={port}"], cwd=ROOT, env=environment, stdout=file, stderr=file
            )
        address = f"http://localhost:{port}"
        while server.poll() is None:
            if address in log.read_text() and answers(f"{address}/_stcore/health"):
                return address, server
            time.sleep(0.1)
        assert "is not available" in log.read_text(), f"the server ended before it answered: {log.read_text()}"


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address):
            return True
    except OSError:
        return False


def find_errors(log: str) -> list[str]:
    """The tracebacks in a log, without Streamlit's own when a browser leaves in the middle of an answer."""
    chains = re.split(r"(?<!another exception occurred:\n\n)Traceback \(most recent call last\)", log)[1:]
    return [chain for chain in chains if 'Cannot call "send" once a close message has been sent' not in chain]


#: What Chromium draws beside the page, in a process for each tab, though nobody sees it.
UNUSED = ("WebUIOmniboxPopup", "WebUIOmniboxAimPopup", "WebUIOmniboxFullPopup")


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Debian's Chromium where there is one, else Playwright's own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-features=" + ",".join(UNUSED)]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def app_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an app of its own for each file of tests, so that none finds what another has built."""
    with running_app(tmp_path_factory.mktemp("app")) as address:
        yield address


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


def open_page(page: Page, title: str) -> None:
    """Go to another page: in the row of those beside this one, else by its group in the bar."""
    beside = page.locator(".st-key-group").get_by_role("link", name=title)
    if beside.count():
        beside.click()
        return
    group = next(name for name, pages in GROUPS.items() if title in {one[1] for one in pages})
    page.get_by_test_id("stTopNavSection").filter(has_text=group).click()
    page.get_by_test_id("stTopNavDropdownLink").filter(has_text=title).click()


def press_until(press: Callable[[], None], place: Locator) -> None:
    """Press on what hears presses only some time after it is seen, until something shows that it did."""
    for _ in range(60):
        press()
        with suppress(PlaywrightTimeout):
            return place.wait_for(timeout=1000)
    raise AssertionError(f"no press leads to {place}")


def expect_verdict(page: Page) -> None:
    """Wait for the verdict on a decision, in one of its wordings."""
    words = re.compile("Ordinary|Unusual|Unlike anything seen for this class")
    expect(page.locator(".lightbox-verdict .word")).to_have_text(words)


@pytest.fixture(scope="module")
def indexed(app_address: str, browser: Browser) -> None:
    """The index of the digits, built with the button on the page."""
    page = browser.new_page()
    page.set_default_timeout(120_000)
    page.goto(f"{app_address}/prototypes?model=digits")
    button = page.get_by_role("button", name="Build the index")
    expect(button.or_(page.locator(".lightbox-verdict")).first).to_be_visible()
    if button.is_visible():  # unless another test of the file has built it
        button.click()
    expect_verdict(page)
    expect(page.get_by_text("Building the index")).to_have_count(0)
    page.close()


@pytest.fixture
def open_app(app_address: str, browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open the app at a link in a browser session of its own; sessions end with the test."""
    contexts = []

    def go(link: str = "", **options: object) -> Page:
        context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.goto(f"{app_address}/{link}")
        return page

    yield go
    for context in contexts:
        context.close()
