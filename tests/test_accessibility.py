"""For everybody: no violation that axe-core finds, all by keyboard, and colours told apart with any colour vision."""

from __future__ import annotations

import io
import re
import tomllib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
from axe_playwright_python.sync_playwright import Axe
from jaxtyping import Float
from playwright.sync_api import Page, expect
from skimage.color import deltaE_cie76, rgb2lab

from components.concepts.bars import AGAINST, FOR
from components.heatmap import DIVERGING, View, colour_table
from components.prototypes.verdict import GREY, LOOKS
from components.theme import ACCENT
from tests.conftest import ROOT
from tests.journeys import BUSY, PATIENCE, QUIET, SETTLED

THEMES = ("light", "dark")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

#: What Streamlit's own widgets violate: the rule, the element, and why it cannot be mended here.
EXCLUDED = {
    # The place to drop a file on has a label though its role says that it means nothing; the button in it is sound.
    ("presentation-role-conflict", "stFileUploaderDropzone"),
}

#: The pages and views, each with what is there when it is complete.
PAGES = {
    "attribution": ("?methods=Gradient&methods=Grad-CAM&region=20,20,100,20,100,100", ".heatmaplayer image"),
    "concepts": ("concepts?model=digits&count=4&factors=conv3.1!1x0", "[class*=st-key-card-] figure:nth-child(9)"),
    "concept": ("concepts?model=digits&concept=1", ".barlayer path"),
    "origin": ("concepts?model=digits&origin=1", ".scatterlayer .point"),
    "decision": ("prototypes?model=digits", "[class*=st-key-deviation-] figure:nth-child(6)"),
    "failures": ("failures?model=lesions-biased", ".st-key-crossing .heatmaplayer image"),
    "strategies": ("prototypes?model=digits&view=Strategies", "[class*=st-key-strategy-] figure:nth-child(4)"),
    "map": ("prototypes?model=digits&view=Map", ".scatterlayer .point"),
    "suspects": ("prototypes?model=digits&view=Outliers+and+suspects", "[data-testid=stDataFrame] canvas"),
    "parts": ("prototypes?model=lesions-prototypes&reject=1", "[class*=st-key-part-] figure"),
    "model": ("model", "[data-testid=stMain] input[type=file]"),
    "activity": ("activity", "[data-testid=stMetric]"),
}


def settle(page: Page, selector: str) -> None:
    """Wait until an element is there and nothing is being computed, which takes minutes on a busy machine."""
    page.locator(selector).first.wait_for(state="attached", timeout=180_000)
    for busy in ("[data-testid=stProgress]", "[data-stale=true]"):
        expect(page.locator(busy)).to_have_count(0, timeout=180_000)


def violations(page: Page) -> list[str]:
    """What axe-core finds: rule and element, and what is wrong with it."""
    options = {"runOnly": RULES, "resultTypes": ["violations"]}
    return [
        f"{rule['id']}: {node['html'][:200]} {node['failureSummary']}"
        for rule in Axe().run(page, options=options).response["violations"]
        for node in rule["nodes"]
        if not any(rule["id"] == excluded and element in node["html"] for excluded, element in EXCLUDED)
    ]


#: Contrast of each text in a chart, which axe-core leaves open, to the page behind it.
CHART_TEXTS = """() => {
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const texts = [...document.querySelectorAll('.stPlotlyChart svg text')].filter(text => text.textContent.trim());
  return texts.map(text => [text.textContent, numbers(getComputedStyle(text).fill),
    numbers(getComputedStyle(document.querySelector('.stApp')).backgroundColor)]);
}"""


def put_on(page: Page, theme: Any) -> None:
    """Let the browser ask for a light or a dark page, and wait until it has drawn it."""
    page.emulate_media(color_scheme=theme)
    red, green, blue = parse(ground_of(theme))
    expect(page.locator(".stApp")).to_have_css("background-color", f"rgb({red}, {green}, {blue})")
    assert page.evaluate(SETTLED, [BUSY, QUIET // 4, PATIENCE])


#: Pages that take half a minute to come.
LONG = ("parts",)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.exhaustive if name in LONG else ()) for name in PAGES]
)
def test_a_page_violates_no_rule_of_accessibility(name: str, indexed: None, open_app: Callable[..., Page]):
    link, complete = PAGES[name]
    page = open_app(link)
    settle(page, complete)
    for theme in THEMES:
        put_on(page, theme)
        assert violations(page) == []
        assert [text for text, ink, ground in page.evaluate(CHART_TEXTS) if contrast(ink, ground) < 4.5] == []
        expect(page.get_by_role("heading", level=1)).to_have_count(1)


def test_the_form_of_an_uploaded_model_violates_no_rule(open_app: Callable[..., Page]):
    file = io.BytesIO()
    torch.save(timm.create_model("mobilenetv3_small_050", num_classes=3).state_dict(), file)
    page = open_app("model")
    settle(page, PAGES["model"][1])
    upload = {"name": "pets.pt", "mimeType": "application/octet-stream", "buffer": file.getvalue()}
    page.locator("[data-testid=stMain] input[type=file]").first.set_input_files(upload)
    page.get_by_role("button", name="Test this model").click()
    settle(page, "[data-testid=stMain] .lightbox-bars")
    for theme in THEMES:
        put_on(page, theme)
        assert violations(page) == []


def active(page: Page) -> str:
    """The name of the element that has the keyboard's focus."""
    return str(page.evaluate("(e => e.ariaLabel || e.innerText || e.tagName)(document.activeElement)"))


def tab_to(page: Page, name: str) -> None:
    """Press Tab until an element of that name has the focus."""
    for _ in range(100):
        page.keyboard.press("Tab")
        if re.search(name, active(page)):
            return
    raise AssertionError(f"Tab does not reach {name}")


def test_the_page_of_heatmaps_is_used_by_keyboard_only(open_app: Callable[..., Page]):
    page = open_app()
    settle(page, ".heatmaplayer image")
    tab_to(page, "^Skip to main content$")
    page.keyboard.press("Enter")
    tab_to(page, r"Next\s+→$")
    page.keyboard.press("Enter")
    expect(page.get_by_text("2 of 12")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_text("3 of 12")).to_be_visible()
    tab_to(page, "^Model$")
    page.keyboard.press("Control+A")
    page.keyboard.type("digits")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_text("1 of 40")).to_be_visible()
    settle(page, ".heatmaplayer image")  # a list that is open closes when its page is drawn anew
    tab_to(page, "^Methods$")
    page.keyboard.type("Occl")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator(".heatmaplayer image")).to_have_count(2)
    page.keyboard.press("Escape")
    tab_to(page, "PNG$")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.suggested_filename.endswith("-gradcam.png")


def test_arrow_keys_in_a_control_do_not_go_to_another_picture(open_app: Callable[..., Page]):
    page = open_app()
    settle(page, ".heatmaplayer image")
    for name in ("^Opacity", "^Model$", "^Methods$"):
        tab_to(page, name)
        page.keyboard.press("ArrowLeft")
    expect(page).to_have_url(re.compile("opacity=70"))
    expect(page.get_by_text("1 of 12")).to_be_visible()


def test_every_stop_of_the_tab_key_is_seen(open_app: Callable[..., Page]):
    page = open_app("?methods=Gradient")
    settle(page, ".heatmaplayer image")
    stops, unseen = [], []
    page.keyboard.press("Tab")
    while page.evaluate("document.activeElement !== document.body"):
        stops.append(active(page))
        with_focus = photograph(page)
        page.evaluate("window.last = document.activeElement; window.last.blur()")
        if photograph(page) == with_focus:
            unseen.append(stops[-1])
        page.evaluate("window.last.focus({focusVisible: true})")
        page.keyboard.press("Tab")
    assert len(stops) > 40
    assert unseen == []


def photograph(page: Page) -> bytes:
    """Take the picture of a page with what fades in as it is in the end."""
    return page.screenshot(animations="disabled")


def contrast(first: Any, second: Any) -> float:
    """The contrast of two colours (0..255), from 1 to 21, by WCAG 2.2."""
    lighter, darker = sorted((linear(np.array([first[:3], second[:3]])) @ [0.2126, 0.7152, 0.0722]), reverse=True)
    return float((lighter + 0.05) / (darker + 0.05))


def linear(colours: Float[np.ndarray, "colour 3"]) -> Float[np.ndarray, "colour 3"]:
    """From sRGB (0..255) to linear light (0..1)."""
    shares = np.asarray(colours, float) / 255
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)


def parse(colour: str) -> list[int]:
    return [int(colour[place : place + 2], 16) for place in (1, 3, 5)]


def ground_of(theme: str) -> str:
    """The colour of the page behind all that is drawn."""
    return str(tomllib.loads((ROOT / ".streamlit/config.toml").read_text())["theme"][theme]["backgroundColor"])


@pytest.mark.parametrize("theme", THEMES)
def test_what_charts_draw_stands_out_from_the_page(theme: str):
    ground = ground_of(theme)
    for colour in (FOR, AGAINST, ACCENT, GREY, *(look for look, _ in LOOKS.values())):
        assert contrast(parse(colour), parse(ground)) >= 3, colour


#: How people who lack one kind of cones see linear light: Machado et al. 2009, doi:10.1109/TVCG.2009.113.
VISION = {
    "full": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def see(colours: Any, vision: str) -> Float[np.ndarray, "colour 3"]:
    """Colours (0..255) as seen with a kind of colour vision, in CIELAB."""
    seen = np.clip(linear(np.array(colours)) @ VISION[vision].T, 0, 1)
    return np.asarray(rgb2lab(np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)))


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("name", DIVERGING)
def test_for_and_against_look_different_with_any_colour_vision(name: str, vision: str):
    table = colour_table(True, View(diverging=name))[:, :3]
    for strength in (64, 96, 128):  # half of the strongest score, three quarters, all of it
        against, weak, in_favour = see(table[[128 - strength, 128, 128 + strength]], vision)
        assert deltaE_cie76(against, in_favour) >= 20
        assert min(deltaE_cie76(against, weak), deltaE_cie76(in_favour, weak)) >= 20


@pytest.mark.parametrize("vision", VISION)
def test_bars_for_and_against_look_different_with_any_colour_vision(vision: str):
    assert deltaE_cie76(*see([parse(FOR), parse(AGAINST)], vision)) >= 20
