"""What the journeys share: steps that wait until the app is quiet, each kept as a picture if somebody wants to see it.

Pictures of the whole page go to the folder that the environment names in ``LIGHTBOX_SCREENSHOTS``, one folder in it for
each journey; none are taken without it:

    LIGHTBOX_SCREENSHOTS=screenshots python -m pytest tests/test_journeys.py
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

#: What shows that the app is at work, or has failed to draw something.
BUSY = ", ".join(
    [
        '[data-testid="stApp"]:not([data-test-script-state="notRunning"])',
        '[data-testid="stSpinner"]',
        '[data-testid="stSkeleton"]',
        '[data-testid="stProgress"]',
        '[data-stale="true"]',
    ]
)

#: How long nothing may change before the app counts as quiet, in milliseconds: parts that wait look every second.
QUIET = 1600

#: How long to wait for that, in milliseconds.
PATIENCE = 180_000

#: Resolves once nothing has changed on the page for a while and nothing is at work; to false if that never comes.
SETTLED = """([busy, quiet, patience]) => new Promise(resolve => {
    const begin = performance.now();
    let last = begin;
    const watch = new MutationObserver(() => { last = performance.now(); });
    watch.observe(document.body, {subtree: true, childList: true, characterData: true, attributes: true});
    const timer = setInterval(() => {
        const loading = [...document.images].some(image => image.src && !image.complete);
        if (loading || document.querySelector(busy)) last = performance.now();
        const settled = performance.now() - last >= quiet;
        if (!settled && performance.now() - begin < patience) return;
        clearInterval(timer);
        watch.disconnect();
        resolve(settled);
    }, 50);
})"""

#: How high the window must be for all that a page holds, which otherwise scrolls within it.
HEIGHT = """() => Math.max(...[...document.querySelectorAll('[data-testid="stMain"], [data-testid="stSidebarContent"]')]
    .map(part => part.scrollHeight))"""


class Journey:
    """What one person does, step by step, with a picture of the whole page of each step if that is wanted."""

    def __init__(self, page: Page, name: str) -> None:
        self.page, self.steps = page, 0
        self.folder = Path(os.environ["LIGHTBOX_SCREENSHOTS"]) / name if "LIGHTBOX_SCREENSHOTS" in os.environ else None

    def step(self, name: str) -> None:
        """Wait until the app is quiet and keep the picture, numbered and named by what the person does."""
        settle(self.page)
        self.steps += 1
        if self.folder:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = re.sub(r"[^a-z0-9]+", "-", name.casefold()).strip("-")
            self.photograph(self.folder / f"{self.steps:02}-{file}.png")

    def photograph(self, file: Path) -> None:
        """Take a picture of all that a page holds."""
        window = self.page.viewport_size or {}
        self.page.set_viewport_size({**window, "height": max(window["height"], self.page.evaluate(HEIGHT))})
        self.page.evaluate(SETTLED, [BUSY, QUIET // 4, PATIENCE])
        self.page.screenshot(path=file)
        self.page.set_viewport_size(window)


def settle(page: Page) -> None:
    """Wait until the app is quiet, with nothing waited for and no error on the page."""
    assert page.evaluate(SETTLED, [BUSY, QUIET, PATIENCE]), "the page does not come to rest"
    expect(page.get_by_test_id("stException")).to_have_count(0)


def build_index(page: Page, keyboard: bool = False) -> None:
    """Press the button that builds the index, unless it is there, and wait until it is."""
    settle(page)
    button = page.get_by_test_id("stMain").get_by_role("button", name=re.compile("(Build|Go on with) the index"))
    if button.count() == 0:
        return
    if keyboard:  # the button is the last thing on the page
        go_to(page, button, "Shift+Tab")
        page.keyboard.press("Enter")
    else:
        button.click()
    expect(button).to_have_count(0)
    settle(page)


def go_to(page: Page, place: Locator, key: str) -> int:
    """Press a key until something has the focus; returns how often."""
    for presses in range(100):
        if place.evaluate("place => place === document.activeElement"):
            return presses
        page.keyboard.press(key)
    raise AssertionError(f"{key} does not lead to {place}")


def read_screen(page: Page) -> dict[str, object]:
    """Read what a person sees of a quiet page: its words and figures, its pictures, and what its charts show."""
    return {
        "words": [part.inner_text() for part in page.locator("[data-testid=stMain], [data-testid=stSidebar]").all()],
        "values": page.locator("input:visible").evaluate_all("all => all.map(one => one.value)"),
        "pictures": page.locator("[data-testid=stMain] img").evaluate_all("all => all.map(one => one.src)"),
        "charts": page.locator(".js-plotly-plot").evaluate_all(
            "all => all.map(one => JSON.stringify([one.data, one.layout.images, one.layout.shapes]))"
        ),
    }
