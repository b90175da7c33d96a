"""Journeys of engineers: a model and pictures of their own, and a flaw that nobody told them about."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from playwright.sync_api import Locator, Page, expect
from torch import nn

from explainers.preprocessing import Preprocessing
from sample_models import SIZE, gallery, lesions
from tests.conftest import open_page
from tests.journeys import Journey
from tests.onnx_files import write_old
from tests.test_browser import HEATMAP, headline, upload_model

#: What a build of an index may take on a computer that is busy with other things.
PATIENCE = 600_000

#: Counts what a person does with the mouse, in the browser itself.
COUNTING = "window.clicks = 0; addEventListener('pointerdown', () => { clicks += 1 }, true)"

CLASSES = ("cat", "cup", "flower")


@pytest.fixture
def journey(open_app: Callable[..., Page], request: pytest.FixtureRequest) -> Callable[..., Journey]:
    """Begins a journey at a link."""
    name = request.node.name.removeprefix("test_")
    return lambda link="", **options: Journey(open_app(link, **options), name)


def cards(page: Page) -> Locator:
    return page.locator("[class*=st-key-card-]")


def build_index(page: Page, pictures: str) -> None:
    """Build the index of so many pictures with the button on the page, and wait until its reference samples are there.

    A concept has fewer than eight where fewer pictures show it.
    """
    page.get_by_role("button", name="Build the index").click()
    expect(page.get_by_text(f"reference samples out of {pictures} pictures")).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("Building the index")).to_have_count(0, timeout=PATIENCE)
    expect(cards(page).locator("figure:nth-child(9)").first).to_be_attached()


def masks_of(figure: Locator, split: str = "biased-train") -> Mapping[str, np.ndarray]:
    """The masks of what can be seen in the drawn lesion whose name a picture bears."""
    name = re.match(rf"{split}-\d+", figure.get_attribute("title") or "")
    assert name
    return lesions.samples(split, size=SIZE).named(name[0]).lesion().masks


def told_place(figure: Locator) -> np.ndarray:
    """The mask of the ninth of a picture where a concept lies, as the picture's words say."""
    told = re.search(r"in the (upper|middle|lower) ?(left|middle|right)?", figure.get_attribute("title") or "")
    assert told
    mask = np.zeros((3, 3), bool)
    mask[("upper", "middle", "lower").index(told[1]), ("left", "middle", "right").index(told[2] or "middle")] = True
    return np.asarray(Image.fromarray(mask).resize((SIZE, SIZE), Image.Resampling.NEAREST))


def lies_on_band_aid(figure: Locator) -> bool:
    mask = masks_of(figure).get("band-aid")
    return mask is not None and mask[told_place(figure)].mean() > 0.3


def test_the_planted_flaw_is_found_within_six_clicks(journey: Callable[..., Journey]):
    walk = journey()
    page = walk.page
    page.evaluate(COUNTING)
    expect(page.locator(HEATMAP)).to_have_count(1)
    walk.step("opens the app")
    page.get_by_role("combobox", name="Model").click()
    walk.step("looks which models there are")
    page.get_by_role("option", name="Skin lesions, a network").click()
    expect(page.get_by_role("heading", name="The model says benign")).to_be_visible()
    walk.step("chooses the first network for skin lesions")
    open_page(page, "What did it use?")
    expect(cards(page)).to_have_count(8)
    walk.step("asks what it used")
    build_index(page, "1,000")
    walk.step("builds the index and sees band-aids")
    assert page.evaluate("clicks") == 4
    here, *references = cards(page).first.locator("figure").all()
    assert len(references) == 8
    expect(references[0]).to_be_in_viewport()
    seen = lesions.samples("biased-test", size=SIZE)[0].lesion().masks
    assert seen["band-aid"][told_place(here)].mean() > 0.5
    assert seen["lesion"][told_place(here)].mean() < 0.1
    assert sum(lies_on_band_aid(reference) for reference in references) >= 6
    open_page(page, "Is it ordinary?")
    expect(page.locator(".lightbox-verdict")).to_be_visible()
    page.get_by_role("link", name="How does it decide?").click()
    strategies = page.locator("[class*=st-key-strategy-]")
    expect(strategies.first.locator("figure").first).to_be_visible()
    walk.step("sees the ways to decide for benign")
    assert page.evaluate("clicks") <= 6
    typical = [one.locator(".lightbox-tiles").first.locator("figure") for one in strategies.all()]
    assert any(all("band-aid" in masks_of(figure) for figure in one.all()) for one in typical)


def zip_of_photographs() -> bytes:
    """Eight parts each of three photographs, in the folder of their class."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for label, name in zip(CLASSES, ("chelsea", "coffee", "flower"), strict=True):
            parts = [sample for sample in gallery.references() if sample.name.startswith(name)]
            for sample in parts[:8]:
                picture = io.BytesIO()
                Image.fromarray(sample.read().pixels).save(picture, "PNG")
                archive.writestr(f"{label}/{sample.name}.png", picture.getvalue())
    return file.getvalue()


def accept_model(walk: Journey, data: bytes, name: str) -> None:
    """Upload a model with its class names, test it and accept it."""
    page = walk.page
    upload_model(page, data, name, "\n".join(CLASSES))
    expect(page.get_by_text("3 outputs; 3 class names.")).to_be_visible()
    walk.step(f"uploads {name} with class names")
    page.get_by_role("button", name="Test this model").click()
    expect(page.get_by_role("button", name="Use this model")).to_be_visible()
    walk.step(f"tests {name}")
    page.get_by_role("button", name="Use this model").click()
    expect(page.locator(HEATMAP)).to_have_count(1)
    walk.step(f"uses {name}")


def upload_pictures(walk: Journey) -> None:
    page = walk.page
    file = {"name": "photographs.zip", "mimeType": "application/zip", "buffer": zip_of_photographs()}
    page.get_by_test_id("stSidebar").locator("input[type=file]").first.set_input_files(file)
    expect(page.get_by_text("The picture's own label is cat.")).to_be_visible()
    walk.step("uploads a zip of pictures in folders")


def download(page: Page, button: str) -> tuple[str, bytes]:
    """Press a button that downloads; returns the file's name and content."""
    with page.expect_download() as download:
        page.get_by_role("button", name=button, exact=True).click()
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def explained_output(array: bytes, network: nn.Module) -> tuple[float, float]:
    """The output that a downloaded heatmap explains, and the one that the network itself gives for its picture."""
    with np.load(io.BytesIO(array)) as file:
        told = json.loads(str(file["provenance"]))
        seen = Preprocessing(**told["preprocessing"])
        pixels = (file["picture"] / 255 - seen.mean) / seen.std
    with torch.no_grad():
        logits = network(torch.tensor(pixels, dtype=torch.float32).permute(2, 0, 1)[None])
    return told["output"], float(logits[0, told["target"]["index"]])


def name_concept(page: Page, name: str) -> None:
    cards(page).first.get_by_role("button", name="Name").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("textbox", name="Name", exact=True).fill(name)
    dialog.get_by_role("textbox", name="Your name").fill("Grace")
    dialog.get_by_role("button", name="Keep").click()
    expect(cards(page).first.get_by_text(name)).to_be_visible()


def check_heatmaps(data: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert len(archive.namelist()) == 8
        for member in archive.namelist():
            assert re.fullmatch(r"concept-\d+\.png", member)
            with Image.open(archive.open(member)) as picture:
                assert picture.size == (352, 352)


def test_a_checkpoint_and_pictures_of_ones_own_go_all_the_way_to_the_downloads(journey: Callable[..., Journey]):
    torch.manual_seed(0)
    network = timm.create_model("resnet10t", num_classes=3).eval()
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    walk = journey("model")
    page = walk.page
    expect(page.get_by_role("heading", name="Bring your own")).to_be_visible()
    walk.step("opens the page of models")
    accept_model(walk, file.getvalue(), "house-network.pth")
    upload_pictures(walk)
    output, expected = explained_output(download(page, "Array")[1], network)
    assert output == pytest.approx(expected, abs=1e-3)
    page.get_by_text("Grad-CAM settings").click()
    walk.step("opens the settings of the method")
    page.get_by_role("combobox", name="Layer").click()
    page.keyboard.type("layer2")
    expect(page.get_by_role("option").filter(has_text="layer2").first).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.get_by_text("The layer shown is")).to_have_count(0)
    walk.step("chooses another layer")
    links = [page.url]
    open_page(page, "What did it use?")
    expect(cards(page)).to_have_count(8)
    walk.step("asks what it used")
    build_index(page, "24")
    walk.step("builds an index over the pictures")
    name_concept(page, "=striped fur")
    walk.step("names a concept")
    cards(page).first.get_by_text("Silence").click()
    changes = page.locator(".lightbox-change")
    expect(changes).to_contain_text("after")
    walk.step("silences it")
    assert re.search(r"[+-]\d+\.\d", changes.inner_text())
    links.append(page.url)

    name, table = download(page, "Table")
    rows = list(csv.DictReader(io.StringIO(table.decode())))
    assert len({row["concept"] for row in rows}) == 512
    assert rows[0]["name"] == "'=striped fur"
    assert sum(abs(float(row["share"])) for row in rows) == pytest.approx(1, abs=1e-3)
    check_heatmaps(download(page, "Heatmaps")[1])
    name, names = download(page, "Export names")
    (row,) = csv.DictReader(io.StringIO(names.decode()))
    assert (name, row["layer"], row["author"]) == ("house-network-concepts.csv", rows[0]["layer"], "Grace")
    assert not re.search("house|layer|chelsea|cat|striped", " ".join(links))


@pytest.mark.exhaustive
def test_an_onnx_file_and_pictures_of_ones_own_go_all_the_way_to_reference_samples(
    journey: Callable[..., Journey],
):
    torch.manual_seed(1)
    network = timm.create_model("resnet10t", num_classes=3).eval()
    file = write_old(network, torch.zeros(1, 3, 224, 224), batch=None)
    walk = journey("model")
    page = walk.page
    accept_model(walk, file, "export.onnx")
    upload_pictures(walk)
    output, expected = explained_output(download(page, "Array")[1], network)
    assert output == pytest.approx(expected, abs=1e-3)
    open_page(page, "What did it use?")
    expect(cards(page)).to_have_count(8)
    build_index(page, "24")
    cards(page).first.get_by_role("button", name="Open").click()
    expect(page.get_by_text("Which decisions it serves")).to_be_visible()
    walk.step("opens a concept")
    page.get_by_role("button", name="Back to the decision").click()
    expect(cards(page)).to_have_count(8)
    walk.step("comes back to the decision")
    assert headline(page).startswith(tuple(f"The model says {name}" for name in CLASSES))
