"""Make the README's screenshot from the real app.

Run: python -m tests.screenshot
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.conftest import ROOT, running_app, running_browser

LINK = "?image=chelsea&methods=Grad-CAM&versus=Next+best+class&region=40,40,115,40,115,115,40,115"


def main() -> None:
    """Open a link, wait for the heatmap, keep the picture."""
    with tempfile.TemporaryDirectory() as folder, running_app(Path(folder)) as address, running_browser() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        page.goto(f"{address}/{LINK}")
        page.get_by_text("In the region:").wait_for()
        page.wait_for_timeout(1500)
        page.screenshot(path=ROOT / "screenshot.png")


if __name__ == "__main__":
    main()
