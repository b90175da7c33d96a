"""How long a view that was computed before takes to the screen, in the real browser and on the server.

Run: python -m benchmarks.views
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page
from streamlit.testing.v1 import AppTest

import sample_models
from tests.conftest import ROOT, running_app, running_browser

REPEATS = 21


def picture_shown(page: Page, name: str) -> None:
    """Wait until the heatmap of a picture is drawn, and no other."""
    page.wait_for_function(
        """name => {
            const drawn = [...document.querySelectorAll('.js-plotly-plot .heatmaplayer image')]
            return drawn.length == 1 && drawn[0].closest('[role=figure]').ariaLabel.includes(` for ${name}. `)
        }""",
        arg=name,
        polling="raf",
    )


def measure_browser(address: str) -> list[float]:
    """Seconds from the key press to the picture on the screen, all views seen before."""
    names = [picture.name for picture in next(iter(sample_models.models().values())).pictures]
    with running_browser() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(address)
        seconds = []
        picture_shown(page, names[0])
        for step in range(1, 1 + len(names) + REPEATS):
            start = time.perf_counter()
            page.keyboard.press("ArrowRight")
            picture_shown(page, names[step % len(names)])
            if step > len(names):
                seconds.append(time.perf_counter() - start)
            page.wait_for_timeout(700)
    return seconds


def measure_server() -> list[float]:
    """Seconds of one run of the page's script for a view seen before, everything but the browser."""
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120).run()
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        app.run()
        seconds.append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Print both medians."""
    with tempfile.TemporaryDirectory() as folder, running_app(Path(folder)) as address:
        seconds = measure_browser(address)
    print(f"browser: median {statistics.median(seconds) * 1000:.0f} ms, largest {max(seconds) * 1000:.0f} ms")
    seconds = measure_server()
    print(f"server:  median {statistics.median(seconds) * 1000:.0f} ms, largest {max(seconds) * 1000:.0f} ms")


if __name__ == "__main__":
    main()
