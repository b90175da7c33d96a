"""Journeys of a newcomer and of a clinician through the real app."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Page, expect

from tests.conftest import open_page
from tests.journeys import Journey, build_index, go_to, read_screen, settle

VERDICT = ".lightbox-verdict .word"

#: What the clinician looks at, and which of these cases get a tag.
CASES, TAGGED = 20, (1, 16, 18)

#: Counts what a mouse or a finger does on the page.
COUNT_POINTERS = """window.pointers = 0;
for (const kind of ["mousemove", "mousedown", "pointerdown", "touchstart", "wheel"])
    addEventListener(kind, () => { window.pointers += 1; }, true);"""


def test_a_newcomer_looks_around_and_sends_a_link_that_shows_the_same(open_app: Callable[..., Page]):
    page = open_app()
    journey = Journey(page, "newcomer")
    journey.step("opens the app")
    for number, says in enumerate(("espresso", "tiger cat", "cheetah", "tripod", "palace"), 2):
        page.get_by_role("button", name="Next").click()
        expect(page.get_by_text(f"{number} of 12")).to_be_visible()
        expect(page.get_by_role("heading", name=says)).to_be_visible()
        journey.step(f"clicks to picture {number}")
    page.get_by_role("combobox", name="Model").click()
    page.get_by_role("option", name="Skin lesions, a network").click()
    expect(page.get_by_role("heading", name="The model says benign")).to_be_visible()
    journey.step("reads where it looked")
    links = [page.url]
    open_page(page, "What did it use?")
    expect(page.locator("[class*=st-key-card-]").first).to_be_visible()
    build_index(page)
    journey.step("reads what it used")
    links.append(page.url)
    open_page(page, "Is it ordinary?")
    expect(page.locator(VERDICT)).to_have_text("Ordinary")
    journey.step("reads whether it is ordinary")
    page.get_by_role("link", name="How does it decide?").click()
    expect(page.get_by_role("heading", name=re.compile("The model decides for"))).to_be_visible()
    journey.step("reads the strategies")
    links.append(page.url)
    for number, link in enumerate(links):
        page.goto(link)
        other = open_app(link.split("/")[-1])
        settle(page)
        Journey(other, f"newcomer/another-browser/{number}").step("opens the link")
        assert read_screen(other) == read_screen(page)


def test_a_clinician_goes_through_twenty_cases_by_keyboard_alone(open_app: Callable[..., Page]):
    page = open_app("prototypes?model=lesions-biased")
    page.add_init_script(COUNT_POINTERS)
    page.reload()
    journey, press, presses = Journey(page, "clinician"), page.keyboard.press, 0
    build_index(page, keyboard=True)
    seen: dict[str, str] = {}
    for number in range(CASES):
        expect(page.get_by_text(f"{number + 1} of 32")).to_be_visible()
        expect(page.get_by_text(f"Seen so far: {number + 1} case")).to_be_visible()
        verdict = page.locator(VERDICT)
        expect(verdict).to_have_text(re.compile("^(Ordinary|Unusual|Unlike anything seen for this class)$"))
        expect(verdict).to_be_in_viewport(ratio=1)
        name = parse_qs(urlsplit(page.url).query)["image"][0]
        seen[name] = verdict.inner_text().casefold()
        if number in TAGGED:
            press("t")
            presses += 1
            if number == TAGGED[0]:
                expect(page.get_by_role("dialog")).to_be_visible()
                journey.step("is asked for a tag")
                presses += go_to(page, page.get_by_label("Tag", exact=True), "Tab")
                page.keyboard.type("look again")
                press("Tab")
                page.keyboard.type("Dr. Reed")
                press("Enter")
            expect(page.get_by_text(f"{TAGGED.index(number) + 1} tagged")).to_be_visible()
            journey.step(f"tags {name}")
        if number in (0, CASES - 1):
            journey.step(f"reads the verdict on {name}")
        if number < CASES - 1:
            press("ArrowRight")
            presses += 1
    with page.expect_download() as download:
        press("e")
    presses += 1
    rows = list(csv.DictReader(Path(download.value.path()).read_text().splitlines()))
    assert {row["name"]: row["verdict"] for row in rows} == seen
    tagged = [(row["name"], row["tags"], row["tagged by"]) for row in rows if row["tags"]]
    assert tagged == [(list(seen)[number], "look again", "Dr. Reed") for number in TAGGED]
    assert len(set(seen.values())) > 1
    assert presses <= (CASES - 1) + len(TAGGED) + 1 + 2  # to go on, to tag, to export, and to the field of the tag
    assert page.evaluate("window.pointers") == 0


def test_a_page_comes_to_rest_under_a_dialog_that_was_opened_while_it_waited(open_app: Callable[..., Page]):
    page = open_app("prototypes?model=lesions-biased&image=moved-test-0009")
    build_index(page)
    page.get_by_role("button", name="Next").click()
    expect(page).to_have_url(re.compile("moved-test-0010"))
    expect(page.locator("[class*=st-key-deviation-]").first).to_be_visible()
    page.keyboard.press("t")
    expect(page.get_by_role("dialog")).to_be_visible()
    settle(page)
