"""Finding a picture among many, and looking at it otherwise: the real server and a folder on it, a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.conftest import running_app
from tests.test_browser import expect_heatmap

CASES = Path(__file__).parent / "cases"

#: How many pictures the folder on the server holds.
COUNT = 30


@pytest.fixture(scope="module")
def app_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An app with a folder of pictures, the digits 0 to 9 by their colours."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(COUNT):
        place = folder / str(number % 3)
        place.mkdir(exist_ok=True)
        Image.new("L", (28, 28), 8 * number).save(place / f"scan {number}.png")
    with running_app(tmp_path_factory.mktemp("app"), LIGHTBOX_DATA=str(folder)) as address:
        yield address


def place(page: Page, words: str) -> None:
    """Wait until the strip says where it is."""
    expect(page.locator(".st-key-strip").get_by_text(words, exact=True)).to_be_visible()


def jump(page: Page, text: str) -> None:
    page.get_by_role("textbox", name="Go to picture").fill(text)
    page.keyboard.press("Enter")


def test_a_picture_is_found_by_number_and_by_name_and_the_filter_goes_with_the_link(open_app: Callable[..., Page]):
    page = open_app("?model=digits&source=Folder")
    expect_heatmap(page)
    page.keyboard.press("/")
    page.keyboard.type("17")
    page.keyboard.press("Enter")
    place(page, "17 of 30")
    jump(page, "scan 2")
    place(page, "18 of 30")  # the next one behind that has both in its name
    page.keyboard.press("Enter")
    place(page, "19 of 30")
    jump(page, "nowhere")
    expect(page.get_by_text("None of the 30 pictures here is called “nowhere”.")).to_be_visible()

    page.get_by_role("button", name="Filter").click()
    page.get_by_role("button", name="Ask the model about all 30 pictures").click()
    body = page.get_by_test_id("stPopoverBody")
    body.get_by_text("wrong", exact=True).click()
    expect(page.get_by_text(re.compile(r"\d+ of 30 pictures: wrong"))).to_be_visible()
    body.get_by_role("textbox", name="Name has").fill("2/scan")
    page.keyboard.press("Enter")
    said = page.get_by_text(re.compile(r"\d+ of 30 pictures: name has “2/scan”, wrong"))
    expect(said).to_be_visible()
    expect(page).to_have_url(re.compile("cases="))

    other = open_app(page.url.split("/")[-1])
    expect(other.get_by_text(said.inner_text())).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Show all").click()
    expect(said).to_have_count(0)
    page.go_back()
    expect(said).to_be_visible()


def test_a_filter_that_nothing_meets_says_so_and_can_be_taken_off(open_app: Callable[..., Page]):
    page = open_app("?model=digits&source=Folder&cases=is.label%3Dcat%26is.data.age%3D7")
    expect(page.get_by_text("0 of 30 pictures: label cat.")).to_be_visible()
    expect(page.get_by_text("No picture meets all of this.")).to_be_visible()
    expect(page.get_by_text("Nothing is known here of “age”")).to_be_visible()
    page.get_by_role("button", name="Show all").click()
    place(page, "1 of 30")


def seen(page: Page) -> bytes:
    """What is drawn as the picture."""
    expect_heatmap(page)
    return page.locator(".js-plotly-plot .nsewdrag").first.screenshot()


def test_the_frame_of_a_clip_in_a_zip_changes_the_picture_also_in_another_session(open_app: Callable[..., Page]):
    owner = open_app("?model=digits")
    expect_heatmap(owner)
    files = owner.get_by_test_id("stSidebar").locator("input[type=file]").first
    files.set_input_files(CASES / "u1_clip_and_ct_in_zip.zip")
    place(owner, "1 of 2")
    owner.get_by_role("button", name="Share with everybody on this server").click()
    expect(owner.get_by_text("Everybody who can open this server finds these pictures")).to_be_visible()
    guest = open_app("?model=digits&source=Shared")
    place(guest, "1 of 2")
    for page in (owner, guest):
        before = seen(page)
        page.get_by_role("slider", name="Frame").press("End")
        expect(page.get_by_text(re.compile("Frame 30 of 30"))).to_be_visible()
        assert seen(page) != before
