"""The page of failures in a real browser: predictions beside the page, charts that open their cases, files to take."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from explainers.cases.filters import Filter
from tests.conftest import open_page

#: The tests of the digits: few milliseconds each.
DIGITS = "failures?model=digits&source=All+test+pictures"


@pytest.fixture
def page(open_app: Callable[..., Page]) -> Page:
    page = open_app(DIGITS)
    expect(page.get_by_role("heading", name=re.compile("The model is right in"))).to_be_visible()
    expect(page.get_by_role("button", name="Export cases")).to_be_enabled()
    return page


def choose(page: Page, label: str, option: str | re.Pattern[str]) -> None:
    """Choose from a list by keyboard alone."""
    box = page.get_by_role("combobox", name=label).first
    box.focus()
    box.press("ArrowDown")
    page.get_by_role("option", name=option).first.click()


def test_the_answer_stands_first_and_a_cell_opens_just_its_pictures(page: Page):
    heading = page.get_by_role("heading", name=re.compile("The model is right in")).inner_text()
    found = re.search(r"right in ([\d.]+) % of 397 pictures \(([\d.]+) to ([\d.]+) %\)", heading)
    assert found, heading
    assert float(found[2]) < float(found[1]) < float(found[3])
    expect(page.locator(".lightbox-figures")).to_contain_text("AUROC")
    choose(page, "Pictures of a cell", re.compile("called"))
    part = page.locator(".st-key-part_matrix")
    expect(part).to_contain_text(re.compile(r"\d+ picture"))
    count = int(re.search(r"(\d+) picture", part.inner_text())[1])  # type: ignore[index]
    part.get_by_role("button", name="Where did it look?").click()
    expect(page.locator(".heatmaplayer image").first).to_be_visible()
    expect(page.locator(".st-key-strip")).to_contain_text(f"1 of {count}")
    expect(page).to_have_url(re.compile("cases="))
    asked = Filter.read(re.search(r"cases=([^&]*)", page.url)[1].replace("%3D", "=").replace("%26", "&"))  # type: ignore[index]
    assert {column for column, _ in asked.chosen} == {"truth", "decision"}


def test_a_click_on_a_bar_shows_its_pictures(page: Page):
    page.locator(".st-key-slices .barlayer .point path").first.click(force=True)
    expect(page.locator(".st-key-part_slices figure")).to_have_count(8)
    chosen = page.get_by_role("combobox", name="Pictures of a slice").input_value()
    assert chosen.startswith("label is")


def test_a_sure_mistake_is_opened_with_the_other_mistakes_behind_it(page: Page):
    count = re.search(r"(\d+) pictures", page.get_by_text("those it is surest of first").inner_text())
    page.locator(".st-key-error_0").get_by_role("button").click()
    expect(page.locator(".st-key-strip")).to_contain_text(f"of {count and count[1]}")
    open_page(page, "Where does it fail?")
    expect(page.get_by_role("heading", name=re.compile("397 pictures"))).to_be_visible()


def test_all_cases_can_be_taken_along(page: Page, tmp_path: Path):
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Export cases").click()
    waiting.value.save_as(tmp_path / "cases.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "cases.csv").read_text())))
    assert len(rows) == 397
    assert {row["right"] for row in rows} == {"yes", "no"}


def test_pictures_without_labels_say_what_to_do(open_app: Callable[..., Page]):
    page = open_app("failures?model=efficientnet-lite0")
    expect(page.get_by_text("so nobody can say where the model is wrong")).to_be_visible()
    expect(page.get_by_test_id("stAlertContentError")).to_have_count(0)
