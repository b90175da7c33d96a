"""Where the image is among the tokens of a transformer, whatever other tokens stand before, behind or between."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from explainers.graph.export import export
from explainers.graph.model import Model, spatial_map
from explainers.graph.stored import pack, unpack
from explainers.preprocessing import Preprocessing
from explainers.relevance.concepts.layers import find_concepts

PATCH, GRID, WIDTH = 8, 4, 8
SIDE = PATCH * GRID


class Tokens(nn.Module):
    """A transformer of one block, with so many tokens before the image's, behind them, and added behind the block."""

    def __init__(self, before: int, behind: int, later: int = 0) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.before, self.behind, self.later = (
            nn.Parameter(torch.randn(1, count, width))
            for count, width in ((before, WIDTH), (behind, WIDTH), (later, 16))
        )
        self.last = nn.Linear(16, 16)
        self.deep, self.attention = nn.Linear(WIDTH, 16), nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 4)

    def forward(self, images: Tensor) -> Tensor:
        count = images.shape[0]
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        parts = [self.before.expand(count, -1, -1), tokens, self.behind.expand(count, -1, -1)]
        tokens = torch.cat([part for part in parts if part.shape[1]], 1)
        deep = self.norm(self.deep(tokens).relu())
        parts = [deep[:, : self.before.shape[1]], self.later.expand(count, -1, -1), deep[:, self.before.shape[1] :]]
        deep = self.last(torch.cat([part for part in parts if part.shape[1]], 1))
        return self.head((deep * 2).mean(1)) + self.attention(tokens, tokens, tokens)[0].mean((1, 2))[:, None]


def opened(*counts: int) -> Model:
    torch.manual_seed(0)
    return export(Tokens(*counts).eval(), "tokens", Preprocessing((SIDE, SIDE), SIDE))


def changed_places(model: Model, layer: str, row: int, column: int) -> list[list[int]]:
    """Where the map of a layer changes when one patch of the picture does."""
    images = torch.zeros(2, 3, SIDE, SIDE)
    images[1, :, row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH] = 3
    found = model.info.layer(layer)
    values = model.run(images, keep=[found.node])[1][found.node]
    maps = spatial_map(values, found)
    assert maps.shape[2:] == (GRID, GRID)
    return (maps[1] - maps[0]).abs().sum(0).nonzero().tolist()


@pytest.mark.parametrize("counts", [(0, 0), (1, 0), (5, 0), (0, 1), (1, 4), (2, 20)])
def test_a_patch_is_shown_where_it_is(counts: tuple[int, int]) -> None:
    model = opened(*counts)
    for row, column in ((0, 0), (1, 2), (3, 3)):
        assert changed_places(model, "deep", row, column) == [[row, column]]
    assert unpack(pack(model)).info == model.info


def test_heads_and_regions_know_the_places_too() -> None:
    model = opened(1, 4)
    concepts = find_concepts(model, "deep")
    corner = ((0.0, 0.0), (0.25, 0.0), (0.25, 0.25), (0.0, 0.25))
    assert concepts.inside(corner, (SIDE, SIDE)).flatten().nonzero().tolist() == [[1]]
    assert concepts.layer.place_tokens == slice(1, 17)


def test_tokens_that_are_put_between_move_those_behind_them() -> None:
    model = opened(1, 4, 3)
    assert model.info.layer("norm").place_tokens == slice(1, 17)
    assert model.info.layer("last").place_tokens == slice(4, 20)
    assert changed_places(model, "last", 1, 2) == [[1, 2]]
