"""Every sample model works on every page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import pytest
import torch
from playwright.sync_api import Page, expect
from torch import nn

import sample_models
from tests.test_accessibility import settle
from tests.test_browser import HEATMAP, upload_model

#: What each page shows once it has answered, without an index.
ANSWERS = {
    "": HEATMAP,
    "concepts": "[class*=st-key-card-] img",
    "prototypes": "h1",
    "failures": "h1",
    "strategies": "h1",
    "model": "[data-testid=stDataFrame]",
}

#: The one that gives a map; the others are walked, too, where time does not matter.
UNUSUAL = ("lesions-segmentation",)


@pytest.mark.parametrize(
    "model",
    [pytest.param(name, marks=() if name in UNUSUAL else pytest.mark.exhaustive) for name in sample_models.models()],
)
def test_a_sample_model_gets_an_answer_on_every_page(open_app: Callable[..., Page], model: str):
    for link, answer in ANSWERS.items():
        page = open_app(f"{link}?model={model}")
        settle(page, answer)
        expect(page.get_by_test_id("stAlertContentError")).to_have_count(0)
        if link == "concepts":
            page.get_by_role("button", name="Origin").first.click()
            settle(page, ".scatterlayer .point")
            expect(page.get_by_test_id("stAlertContentError")).to_have_count(0)
        page.context.close()


class Findings(nn.Module):
    """A network of three findings that ends in sigmoids."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.head = nn.Conv2d(3, 8, 3, 2), nn.Linear(8, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Give the shares."""
        scores: torch.Tensor = self.head(self.convolution(images).relu().mean((2, 3)))
        return scores.sigmoid()


def test_a_network_of_findings_is_known_by_its_end_and_shows_every_finding_at_once(open_app: Callable[..., Page]):
    torch.manual_seed(0)
    network, file = Findings().eval(), io.BytesIO()
    network.head.bias.data = torch.tensor([3.0, 2.0, -9.0])
    shapes = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(network, (torch.zeros(2, 3, 32, 32),), dynamic_shapes=shapes), file)
    page = open_app("model")
    upload_model(page, file.getvalue(), "chest.pt2", "mass\n*fluid*\nnodule\n")
    expect(page.get_by_role("combobox", name="What its outputs mean")).to_have_value(
        "Several findings at once (a sigmoid each)"
    )
    page.get_by_role("button", name="Test this model").click()
    page.get_by_role("button", name="Use this model").click()
    words = page.get_by_role("heading", name=re.compile("The model finds")).inner_text()
    assert "finds mass" in words
    assert "*fluid*" in words
    assert "nodule" not in words
    page.get_by_text("Every finding at once").click()
    expect(page.locator(".lightbox-tiles figure")).to_have_count(3)
    expect(page.locator(".lightbox-tiles figcaption").nth(1)).to_contain_text("*fluid*")
