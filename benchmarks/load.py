"""Twenty people at once: the real server with an empty cache, clicked through by sessions like a browser's.

The sessions speak a browser's protocol without its drawing (see ``browser_session``); one real Chromium works beside
them. People are patient here: they look at a view until all of it is there, so no computation is stopped half-way, and
what was asked for can be counted. ``python -m benchmarks.load`` ends with 1 if anything went wrong, or if a view was
computed more than once.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Page
from websockets.exceptions import WebSocketException

import sample_models
from benchmarks.browser_session import PATIENCE, Session, opened
from benchmarks.views import picture_shown
from explainers.questions import questions
from explainers.results import restore
from tests.conftest import find_errors, running_app, running_browser

METHODS = {
    "gradcam": "Grad-CAM",
    "gradient": "Gradient",
    "integrated-gradients": "Integrated gradients",
    "lrp": "Relevance (LRP)",
    "occlusion": "Occlusion",
    "smoothgrad": "SmoothGrad",
}
INDEXED = "lesions-biased"

#: Where the page says that a method cannot explain a model.
UNABLE = {("lesions-prototypes", "lrp")}


@dataclass(frozen=True)
class View:
    """One picture on one page; ``methods`` are those of the page of heatmaps."""

    page: str
    model: str
    index: int
    methods: tuple[str, ...] = ()

    @property
    def parts(self) -> set[View]:
        """What the server keeps apart: one view for each method."""
        return {replace(self, methods=(method,)) for method in self.methods} or {self}

    @property
    def following(self) -> View:
        """The view that the server computes ahead."""
        return replace(self, index=(self.index + 1) % len(sample_models.models()[self.model].pictures))

    @property
    def marks(self) -> list[str]:
        """What has come when the view is complete."""
        return {"concepts": ["lightbox-tiles"], "prototypes": ["lightbox-verdict"]}.get(
            self.page, [f"heatmap-{method}" for method in self.methods]
        )


@dataclass
class Book:
    """What all sessions asked for, what has come, and how long it took by the place and the kind of the view."""

    asked: set[View] = field(default_factory=set)
    shown: set[View] = field(default_factory=set)
    seconds: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, view: View) -> str:
        """Note a view that is asked for, and the one computed ahead then; returns its kind."""
        with self.lock:
            kind = "cold"
            if view.parts <= self.asked:
                kind = "seen before" if view.parts <= self.shown else "under way or ahead"
            self.asked |= view.parts | (view.following.parts if view.page == "attribution" else set())
        return kind

    def end(self, view: View, place: str, kind: str, seconds: float) -> None:
        """Note that it has come, and the time from the click to its picture."""
        with self.lock:
            self.shown |= view.parts
            self.seconds[place, kind].append(seconds)

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Note what goes wrong between a browser and the server."""
        try:
            yield
        except (WebSocketException, PlaywrightError, OSError, RuntimeError, KeyError) as error:
            self.errors.append(f"{type(error).__name__}: {error}")


@dataclass
class Person:
    """Somebody who clicks through the sample models, thinking in between, until the time is over."""

    book: Book
    address: str
    until: float
    think: float
    chance: random.Random

    def work(self) -> None:
        """Open link after link; an error ends it and is noted."""
        time.sleep(self.chance.uniform(0, self.think))
        with self.book.noting():
            while time.monotonic() < self.until:
                self.visit(self.chance.choice([*sample_models.models(), INDEXED]))

    def visit(self, model: str) -> None:
        """Look at a model: some pictures by some methods, then, where there is an index, concepts and prototypes."""
        able = [method for method in METHODS if (model, method) not in UNABLE]
        methods = tuple(self.chance.sample(able, self.chance.randint(1, 4)))
        view, start = View("attribution", model, 0, methods), time.perf_counter()
        kind = self.book.begin(view)
        with opened(self.address, model=model, methods=[METHODS[method] for method in methods]) as session:
            self.look(session, view, "a link opened", kind, start)
            self.click_on(session, view)
            for page in ("concepts", "prototypes") if model == INDEXED else ():
                view, start = View(page, model, session.position[0]), time.perf_counter()
                kind = self.book.begin(view)
                session.go(page)
                self.look(session, view, page, kind, start)
                self.click_on(session, view)

    def click_on(self, session: Session, view: View) -> None:
        """Click some pictures of the strip, mostly the next one."""
        for _ in range(self.chance.randint(2, 6)):
            if time.monotonic() >= self.until:
                return
            thumbnails = [key for key in session.widgets if key.startswith("thumbnail-")]
            key = "next" if self.chance.random() < 0.7 else self.chance.choice(thumbnails)
            view = view.following if key == "next" else replace(view, index=int(key.rpartition("-")[2]))
            kind, start = self.book.begin(view), time.perf_counter()
            session.click(key)
            self.look(session, view, view.page, kind, start)

    def look(self, session: Session, view: View, place: str, kind: str, start: float) -> None:
        """Wait for a view, note how long its picture took, and look at it."""
        session.settle()
        if missing := [mark for mark in view.marks if mark not in session.marks]:
            raise RuntimeError(f"{', '.join(missing)} did not come at {session.query}")
        if session.position[0] != view.index:
            raise RuntimeError(f"picture {view.index + 1} was asked for, {session.position[0] + 1} came")
        self.book.end(view, place, kind, max(session.marks[mark] for mark in view.marks) - start)
        time.sleep(self.chance.uniform(0.5, 1.5) * self.think)


def browse(book: Book, address: str, until: float, think: float) -> None:
    """Go through the first model's pictures by key in a real Chromium, until the time is over."""
    model, sample = next(iter(sample_models.models().items()))
    view = View("attribution", model, 0, ("gradcam",))
    with book.noting(), running_browser() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(1000 * PATIENCE)
        kind, start, place = book.begin(view), time.perf_counter(), "a link opened in Chromium"
        page.goto(address)
        while True:
            wait_for_picture(page, sample.pictures[view.index].name)
            book.end(view, place, kind, time.perf_counter() - start)
            page.wait_for_timeout(1000 * think)
            alerts = page.locator("[data-testid=stAlertContentError], [data-testid=stException]").all_inner_texts()
            book.errors += [f"Chromium: {alert}" for alert in alerts]
            if time.monotonic() >= until:
                return
            view = view.following
            kind, start, place = book.begin(view), time.perf_counter(), "attribution in Chromium"
            page.keyboard.press("ArrowRight")


def wait_for_picture(page: Page, name: str) -> None:
    """Wait for a picture as a person would; raises RuntimeError that says what was on the screen instead."""
    try:
        picture_shown(page, name)
    except PlaywrightError as error:
        state = page.locator("[data-testid=stApp]").get_attribute("data-test-script-state")
        drawn = page.locator(".js-plotly-plot .heatmaplayer image").count()
        words = " · ".join(page.locator("[data-testid=stMain]").inner_text().split("\n"))
        raise RuntimeError(
            f"{name} did not come at {page.url}: script {state}, {drawn} heatmaps, on the screen: {words}"
        ) from error


def build_index(book: Book, address: str) -> None:
    """Click for the index of the reference pictures and wait for it."""
    with book.noting(), opened(address, "concepts", model=INDEXED) as session:
        book.begin(View("concepts", INDEXED, 0))
        session.settle()
        session.click("build_index")
        session.settle(5 * PATIENCE)


def sample_memory(server: psutil.Process, samples: list[float], over: threading.Event) -> None:
    """Note twice a second what the server and its children hold, in MB."""
    while not over.wait(0.5):
        held = 0
        for process in (server, *server.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                held += process.memory_info().rss
        samples.append(held / 1e6)


def read_activity(address: str) -> dict[str, int]:
    """Read the page Activity once what is computed ahead has come to its end."""
    before: dict[str, int] = {}
    while True:
        with opened(address, "activity") as session:
            session.settle(timers=False)
            if session.metrics == before:
                return before
            before = session.metrics
        time.sleep(3)


def check(book: Book, activity: dict[str, int], cache: Path) -> list[tuple[str, range, int]]:
    """Say what the server should have computed, each distinct view once, and what it did.

    Every result is on disk once under the name of its content, with the passes that it took.
    """
    heatmaps = {view for view in book.asked if view.page == "attribution"}
    pictures = {(view.model, view.index) for one in book.asked for view in (one, one.following)}
    questions()  # a result is restored by the name of its class
    made = [restore(file.read_bytes()).provenance["passes"] for file in cache.glob("*/*.npz")]
    forward, backward = (sum(passes[kind] for passes in made) for kind in ("forward", "backward"))
    return [  # what is computed ahead is left when a person leaves first
        ("pictures asked about or next, predictions", range(len(pictures) + 1), activity["Predictions computed"]),
        ("heatmaps asked for or next, computed", range(len(heatmaps) + 1), activity["Heatmaps computed"]),
        ("forward passes of distinct results, counted", range(forward, forward + 1), activity["Forward passes"]),
        ("backward passes of distinct results, counted", range(backward, backward + 1), activity["Backward passes"]),
        ("stopped or failed", range(1), activity["Stopped or failed"]),
    ]


def tell_work(cache: Path) -> None:
    """Print which questions took how long, on the workers' clock, of all that was computed."""
    questions()
    made = [restore(file.read_bytes()).provenance for file in cache.glob("*/*.npz")]
    seconds = defaultdict[str, list[float]](list)
    for one in made:
        seconds[one["question"]].append(one["seconds"])
    print("\n| question | answered | seconds together | longest s |\n|---|---|---|---|")
    for question, each in sorted(seconds.items(), key=lambda item: -sum(item[1])):
        print(f"| {question} | {len(each)} | {sum(each):.1f} | {max(each):.1f} |")


def report(book: Book, memory: list[float], activity: dict[str, int]) -> None:
    """Print what came out."""
    print("| page | view | clicks | median s | 95 % within s | longest s |\n|---|---|---|---|---|---|")
    together = defaultdict[tuple[str, str], list[float]](list)
    for (_, kind), each in book.seconds.items():
        together["all of these", kind] += each
    for (place, kind), seconds in (*sorted(book.seconds.items()), *sorted(together.items())):
        seconds.sort()
        median, late = statistics.median(seconds), seconds[min(len(seconds) - 1, int(0.95 * len(seconds)))]
        print(f"| {place} | {kind} | {len(seconds)} | {median:.2f} | {late:.2f} | {seconds[-1]:.2f} |")
    half = max(memory[: len(memory) // 2])
    print("\n| memory of the server in MB | |\n|---|---|")
    print(f"| before the sessions came | {memory[0]:.0f} |\n| peak of the first half | {half:.0f} |")
    print(f"| peak of all | {max(memory):.0f} |\n| end | {memory[-1]:.0f} |")
    print(f"| of which results in the cache | {activity['Memory used (MB)']} |")
    print(f"\n{len(book.errors)} errors")
    for error in book.errors[:20]:
        print(f"- {error[-2000:]}")


def main() -> None:
    """Run everything and end with 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--think", type=float, default=2.0, help="mean seconds between a picture and the next click")
    parser.add_argument("--seed", type=int, default=0, help="of what the people choose")
    given = parser.parse_args()
    book, memory, over = Book(), list[float](), threading.Event()
    with tempfile.TemporaryDirectory() as name, running_app(Path(name), traced=False) as address:
        server = next(child for child in psutil.Process().children() if "streamlit" in child.cmdline())
        build_index(book, address)
        sampler = threading.Thread(target=sample_memory, args=(server, memory, over))
        end = time.monotonic() + given.seconds
        workers = [threading.Thread(target=browse, args=(book, address, end, given.think))]
        for number in range(given.sessions):
            person = Person(book, address, end, given.think, random.Random(1000 * given.seed + number))
            workers.append(threading.Thread(target=person.work))
        for thread in (sampler, *workers):
            thread.start()
        for thread in workers:
            thread.join()
        activity = read_activity(address)
        over.set()
        sampler.join()
        book.errors += find_errors((Path(name) / "log").read_text())
        report(book, memory, activity)
        tell_work(Path(name) / "cache")
        checks = check(book, activity, Path(name) / "cache")
        print("\n| each distinct view once | expected | counted |\n|---|---|---|")
        for what, expected, found in checks:
            print(f"| {what} | {'at most ' * (len(expected) > 1)}{expected[-1]} | {found} |")
    sys.exit(bool(book.errors) or any(found not in expected for _, expected, found in checks))


if __name__ == "__main__":
    main()
