"""Sharing an upload by an explicit act: two people, each in a browser of their own, on the real server."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from PIL import Image
from playwright.sync_api import FilePayload, Page, expect
from torch import nn

from tests.conftest import open_page
from tests.onnx_files import write_old
from tests.picture_files import save
from tests.test_browser import expect_heatmap, upload_model
from tests.test_privacy import wait_until
from tests.test_sharing import has_heatmap, visit


def write_network() -> bytes:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return write_old(network.eval(), torch.zeros(1, 3, 32, 32), batch=None)


def draw(*colours: str) -> list[FilePayload]:
    """A picture of each colour."""
    return [
        {"name": f"{colour}.png", "mimeType": "image/png", "buffer": save(Image.new("RGB", (32, 32), colour), "PNG")}
        for colour in colours
    ]


def offers(page: Page, name: str) -> int:
    """How many models of the picker bear a name."""
    picker = page.get_by_role("combobox", name="Model")
    picker.click()
    page.get_by_role("option").first.wait_for()
    count = page.get_by_role("option", name=name).count()
    page.keyboard.press("Escape")
    return count


def test_a_model_is_seen_by_others_once_it_is_shared_and_until_it_is_taken_back(open_app: Callable[..., Page]) -> None:
    owner = open_app("model")
    owner.get_by_role("heading", name="Bring your own").wait_for()
    owner.get_by_test_id("stSidebar").locator("input[type=file]").set_input_files(draw("teal"))
    expect(owner.get_by_text("Yours", exact=True)).to_be_visible()
    upload_model(owner, write_network(), "thorax.onnx")
    owner.get_by_role("button", name="Test this model").click()
    owner.get_by_role("button", name="Use this model").click()
    expect_heatmap(owner)
    expect(owner).to_have_url(re.compile("source=Yours"))  # the pictures stay those that were chosen
    other = open_app()
    expect_heatmap(other)
    assert not offers(other, "thorax")
    assert "model=" not in owner.url

    open_page(owner, "Model")
    card = owner.get_by_test_id("stMain")
    card.get_by_role("button", name="Share with everybody on this server").click()
    expect(owner.get_by_text("Everybody who can open this server finds this model")).to_be_visible()
    expect(owner).to_have_url(re.compile("model=shared-"))
    other.reload()
    expect_heatmap(other)
    assert offers(other, "thorax · shared") == 1
    guest = open_app(f"?{owner.url.partition('?')[2]}")
    expect_heatmap(guest)
    expect(guest.get_by_role("combobox", name="Model")).to_have_value("thorax · shared")

    open_page(guest, "What did it use?")
    expect(guest.get_by_role("combobox", name="Layer")).to_be_visible()
    expect(guest).to_have_url(re.compile("layer="))
    open_page(guest, "Where did it look?")
    expect_heatmap(guest)

    card.get_by_role("button", name="Take back").click()
    expect(card.get_by_role("button", name="Share with everybody on this server")).to_be_visible()
    expect(guest.get_by_text("The model that was chosen is not here any more")).to_be_visible()
    expect_heatmap(guest)
    assert not offers(guest, "thorax")


def are_offered(address: str) -> bool:
    """Whether somebody who comes now may choose shared pictures."""
    return any('"Shared"' in str(message) for message in visit(address, has_heatmap, model="digits"))


def test_shared_pictures_are_seen_by_others_and_go_with_the_session_of_who_shared_them(
    open_app: Callable[..., Page], app_address: str
) -> None:
    owner = open_app("?model=digits")
    expect_heatmap(owner)
    owner.locator("input[type=file]").set_input_files(draw("teal", "navy"))
    expect(owner.get_by_text("1 of 2", exact=True)).to_be_visible()
    other = open_app("?model=digits")
    expect_heatmap(other)
    expect(other.get_by_text("Shared", exact=True)).to_have_count(0)

    owner.get_by_role("button", name="Share with everybody on this server").click()
    expect(owner.get_by_role("button", name="Take back")).to_be_visible()
    guest = open_app("?model=digits&source=Shared&image=navy.png")
    expect(guest.get_by_text("2 of 2", exact=True)).to_be_visible()
    expect_heatmap(guest)
    expect(guest).to_have_url(re.compile("image=navy"))

    assert are_offered(app_address)
    owner.context.close()
    expect(guest.get_by_text("2 of 2", exact=True)).to_be_visible()
    wait_until(lambda: not are_offered(app_address))
    guest.reload()
    expect_heatmap(guest)
    expect(guest.get_by_text("Shared", exact=True)).to_have_count(0)
    expect(guest.get_by_text("of 2", exact=True)).to_have_count(0)
