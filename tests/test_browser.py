"""The app as people use it: the real server, the real model, a real browser."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from playwright.sync_api import Page, expect
from pydicom.data import get_testdata_file

from tests.model_files import Touch, saved
from tests.onnx_files import write_old

HEATMAP = ".js-plotly-plot .heatmaplayer image"


def expect_heatmap(page: Page, count: int = 1) -> None:
    """Wait until so many heatmaps are drawn and nothing is being computed."""
    expect(page.locator(HEATMAP)).to_have_count(count)
    expect(page.get_by_test_id("stProgress")).to_have_count(0)


def headline(page: Page) -> str:
    return page.get_by_role("heading", name=re.compile("The model says")).inner_text()


def counters(open_app: Callable[..., Page]) -> dict[str, float]:
    """Read the figures of the page of activity in a session of its own, once they stand still."""
    page = open_app("activity")
    metrics = page.get_by_test_id("stMetric")
    expect(metrics).to_have_count(9)
    last: list[str] = []
    while (now := metrics.all_inner_texts()) != last:
        last = now
        page.wait_for_timeout(2500)
    found = dict(text.split("\n")[::2][:2] if "\n\n" in text else text.split("\n")[:2] for text in now)
    return {title: float(value.replace(",", "")) for title, value in found.items()}


def test_the_app_opens_on_a_real_heatmap_without_a_click(open_app: Callable[..., Page]):
    page = open_app()
    expect_heatmap(page)
    assert headline(page) == "The model says espresso, 95%"
    assert page.title() == "Lightbox"


def test_keys_click_through_the_pictures_and_the_link_follows(open_app: Callable[..., Page]):
    page = open_app()
    expect_heatmap(page)
    page.keyboard.press("ArrowRight")
    expect(page.get_by_text("2 of 12")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("heading", name="tiger cat")).to_be_visible()
    expect(page).to_have_url(re.compile("image=chelsea"))
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_text("2 of 12")).to_be_visible()


def test_a_link_shows_the_same_view_in_another_browser(open_app: Callable[..., Page]):
    first = open_app("?image=chelsea&versus=Next+best+class&opacity=50&region=20,20,100,20,100,100,20,100")
    expect_heatmap(first)
    second = open_app(first.url.split("/")[-1])
    expect_heatmap(second)
    for page in (first, second):
        expect(page.get_by_text("tiger cat rather than Egyptian cat")).to_be_visible()
        expect(page.get_by_text("In the region:")).to_be_visible()
        expect(page.get_by_role("slider", name="Opacity (%)")).to_have_value("50")
    shown = [page.get_by_text("In the region:").inner_text() for page in (first, second)]
    assert shown[0] == shown[1]


def test_the_next_picture_is_computed_before_the_click(open_app: Callable[..., Page]):
    page = open_app("?image=rocket")
    expect_heatmap(page)
    before = counters(open_app)
    page.keyboard.press("ArrowRight")
    expect(page.get_by_text("10 of 12")).to_be_visible()
    expect_heatmap(page)
    after = counters(open_app)
    assert after["Answered without computing"] > before["Answered without computing"]
    assert after["Heatmaps computed"] <= before["Heatmaps computed"] + 1  # the one ahead


def test_changing_how_a_heatmap_looks_costs_no_pass(open_app: Callable[..., Page]):
    page = open_app("?methods=Gradient&methods=Grad-CAM")
    expect_heatmap(page, 2)
    before = counters(open_app)
    for slider, told in (("Opacity (%)", "opacity="), ("Clip at (percentile)", "clip=")):
        page.get_by_role("slider", name=slider).press("ArrowLeft")
        expect(page).to_have_url(re.compile(told))
    for name, told in (("Fade weak", "fade="), ("Positive only", "positive=")):
        page.get_by_text(name, exact=True).click()
        expect(page).to_have_url(re.compile(told))
    page.get_by_role("combobox", name="Colours for/against").click()
    page.get_by_role("option", name="Purple–orange").click()
    expect(page).to_have_url(re.compile("opacity=70.*"))
    expect(page).to_have_url(re.compile("colours=Purple"))
    expect_heatmap(page, 2)
    after = counters(open_app)
    for passes in ("Forward passes", "Backward passes", "Heatmaps computed", "Predictions computed"):
        assert after[passes] == before[passes]


def test_a_box_on_the_picture_tells_the_share_inside(open_app: Callable[..., Page]):
    page = open_app()
    expect_heatmap(page)
    box = page.locator(".js-plotly-plot .nsewdrag").first.bounding_box()
    assert box
    page.mouse.move(box["x"] + 80, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 340, box["y"] + 250, steps=8)
    page.mouse.up()
    told = page.get_by_text("In the region:")
    expect(told).to_be_visible()
    share = int(re.search(r"(\d+)%", told.inner_text()).group(1))
    assert share > 60  # the cup's inside, where the espresso is
    expect(page).to_have_url(re.compile("region="))
    page.get_by_role("button", name="Clear region").click()
    expect(told).to_have_count(0)


def test_a_slow_method_shows_progress_and_can_be_stopped(open_app: Callable[..., Page]):
    page = open_app("?methods=RISE&image=astronaut&rise.masks=2000")
    stop = page.get_by_role("button", name="Stop")
    stop.click()
    expect(page.get_by_text("Stopped before the end.")).to_be_visible()
    expect(page.get_by_role("button", name="Start again")).to_be_visible()


def test_downloads_hold_what_is_on_the_screen(open_app: Callable[..., Page], tmp_path: Path):
    page = open_app()
    expect_heatmap(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="PNG").click()
    assert download.value.suggested_filename == "coffee-gradcam.png"
    with Image.open(download.value.path()) as picture:
        assert picture.size == (896, 896)
    with page.expect_download() as download:
        page.get_by_role("button", name="Array").click()
    with np.load(download.value.path()) as file:
        assert json.loads(str(file["provenance"]))["method"] == "gradcam"
        assert file["values"].shape == (224, 224)


def test_a_radiograph_is_read_and_stays_in_its_session(open_app: Callable[..., Page]):
    page = open_app()
    expect_heatmap(page)
    page.locator("input[type=file]").set_input_files(get_testdata_file("CT_small.dcm"))
    expect(page.get_by_text("1 of 1", exact=True)).to_be_visible()
    expect(page.get_by_text("Values -896..1167 scaled to 8 bit.")).to_be_visible()
    expect_heatmap(page)
    assert "CT_small" not in page.url
    assert "image=" not in page.url
    other = open_app()
    expect_heatmap(other)
    assert "CT_small" not in other.content()


def test_a_file_that_is_no_image_is_told_in_a_sentence_and_the_rest_goes_on(open_app: Callable[..., Page]):
    page = open_app()
    expect_heatmap(page)
    good = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(good, "PNG")
    files = [
        {"name": "letter.txt", "mimeType": "text/plain", "buffer": b"Dear colleague"},
        {"name": "teal.png", "mimeType": "image/png", "buffer": good.getvalue()},
    ]
    page.locator("input[type=file]").set_input_files(files)
    expect(page.get_by_test_id("stAlert").get_by_text("letter.txt")).to_be_visible()
    expect(page.get_by_text("1 of 1", exact=True)).to_be_visible()
    expect_heatmap(page)


def upload_model(page: Page, data: bytes, name: str, classes: str = "") -> None:
    page.get_by_role("heading", name="Bring your own").wait_for()
    chooser = page.locator("[data-testid=stMain] input[type=file]")
    if classes:
        chooser.nth(1).set_input_files({"name": "names.txt", "mimeType": "text/plain", "buffer": classes.encode()})
    chooser.nth(0).set_input_files({"name": name, "mimeType": "application/octet-stream", "buffer": data})


def test_a_checkpoint_is_tested_accepted_and_explained_for_its_session_only(open_app: Callable[..., Page]):
    torch.manual_seed(0)
    network = timm.create_model("mobilenetv3_small_050", num_classes=3)
    file = io.BytesIO()
    torch.save({"state_dict": {f"module.{key}": value for key, value in network.state_dict().items()}}, file)
    page = open_app("model")
    upload_model(page, file.getvalue(), "pets.pth", "cat\ndog\nhamster\n")
    architecture = page.get_by_role("combobox", name="Architecture")
    expect(architecture).to_have_value(re.compile(r"mobilenetv3_small_050 · (\d+) of \1 tensors fit"))
    page.get_by_role("button", name="Test this model").click()
    page.get_by_role("button", name="Use this model").click()
    expect_heatmap(page)
    assert re.search("cat|dog|hamster", headline(page))
    assert "pets" not in page.url
    other = open_app("model")
    expect(other.get_by_role("heading", name="EfficientNet-Lite0")).to_be_visible()
    assert "pets" not in other.content()


def test_an_onnx_file_with_class_names_is_explained(open_app: Callable[..., Page]):
    torch.manual_seed(0)
    network = timm.create_model("mobilenetv3_small_050", num_classes=3).eval()
    file = write_old(network, torch.zeros(1, 3, 224, 224), batch=None)
    page = open_app("model")
    upload_model(page, file, "leaf.onnx", "oak\nbeech\nmaple\n")
    page.get_by_role("button", name="Test this model").click()
    page.get_by_role("button", name="Use this model").click()
    expect_heatmap(page)
    assert re.search("oak|beech|maple", headline(page))


def test_a_pickle_that_would_run_code_is_refused_with_the_line_that_converts_it(
    open_app: Callable[..., Page], tmp_path: Path
):
    page = open_app("model")
    upload_model(page, saved(Touch(tmp_path / "marker")), "whole.pt")
    expect(page.get_by_test_id("stAlert").get_by_text("state_dict()")).to_be_visible()
