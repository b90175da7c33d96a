"""The rule of the first layer, for inputs within bounds, where something comes before that layer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from explainers.graph.export import export
from explainers.preprocessing import Preprocessing
from explainers.relevance.choice import RuleChoice
from explainers.relevance.propagation import propagate
from explainers.relevance.seeds import seed_entries
from explainers.relevance.tape import record

SIDE = 8
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
NORMALISED = Preprocessing((SIDE, SIDE), SIDE, MEAN, STD)
PLAIN = Preprocessing((SIDE, SIDE), SIDE, (0.0,) * 3, (1.0,) * 3)


class Net(nn.Module):
    """A convolution behind something, and a head."""

    def __init__(self, before: Callable[[Tensor], Tensor], conv: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.before, self.head, self.conv = before, nn.Linear(8, 4), conv

    def forward(self, images: Tensor) -> Tensor:
        return self.head(torch.relu(self.conv(self.before(images))).mean((2, 3)))


def same(images: Tensor) -> Tensor:
    return images


def conv(weight: Tensor, stride: int = 1) -> nn.Conv2d:
    made = nn.Conv2d(weight.shape[1], len(weight), weight.shape[2], stride, bias=False)
    made.weight.data = weight
    return made


def focus(images: Tensor) -> Tensor:
    """Every second pixel into channels of its own."""
    return torch.cat([images[:, :, row::2, column::2] for row in (0, 1) for column in (0, 1)], 1)


def explain(module: nn.Module, images: Tensor, preprocessing: Preprocessing) -> tuple[Tensor, str]:
    model = export(module.eval(), "first", preprocessing)
    rules, note = RuleChoice(composite="epsilon-gamma-box").choose_rules(model)
    tape = record(model, images)
    found = propagate(tape, seed_entries(tape.output, (1,)), rules=rules, account=True)
    rest = tape.output[:, 1] - found.relevance[""][0].sum((1, 2, 3)) - sum(part[0] for part in found.ended.values())
    assert rest.abs().max() < 1e-5
    return found.relevance[""][0], note


WEIGHT = torch.randn(8, 3, 2, 2, generator=torch.Generator().manual_seed(1))
SHUFFLED = WEIGHT.reshape(8, 12, 1, 1)
FOCUSED = WEIGHT.permute(0, 2, 3, 1).reshape(8, 12, 1, 1)
SCALE = torch.tensor(STD).view(3, 1, 1)

#: Something before a convolution, and the stride of the convolution of the image that computes the same.
STEMS: dict[str, tuple[Callable[[Tensor], Tensor], nn.Module, int]] = {
    "pixels in channels": (nn.PixelUnshuffle(2), conv(SHUFFLED), 2),
    "slices": (focus, conv(FOCUSED), 2),
    "turned channels": (lambda images: images[:, [2, 1, 0]], conv(WEIGHT.flip(1)), 1),
    "turned pixels": (lambda images: images.flip(2, 3), conv(WEIGHT.flip(2, 3)), 1),
}


@pytest.mark.parametrize("name", STEMS)
def test_a_box_goes_through_what_moves_pixels_before_the_first_convolution(name: str) -> None:
    before, layer, stride = STEMS[name]
    images = torch.randn(2, 3, SIDE, SIDE)
    found, note = explain(Net(before, layer), images, NORMALISED)
    assert torch.allclose(found, explain(Net(same, conv(WEIGHT, stride)), images, NORMALISED)[0], atol=1e-6)
    assert note == ""


def test_a_box_goes_through_a_normalisation_inside_the_network() -> None:
    pixels = torch.rand(2, 3, SIDE, SIDE)
    mean = torch.tensor(MEAN).view(3, 1, 1)
    inside = Net(lambda images: (images - mean) / SCALE, conv(WEIGHT))
    expected = explain(Net(same, conv(WEIGHT)), (pixels - mean) / SCALE, NORMALISED)[0].sum()
    found = propagate_to_normalised(inside, pixels)
    assert torch.allclose(found, expected, atol=1e-5)


def propagate_to_normalised(module: nn.Module, pixels: Tensor) -> Tensor:
    """How much relevance comes to the first convolution's input, the normalised picture."""
    model = export(module.eval(), "first", PLAIN)
    rules, _ = RuleChoice(composite="epsilon-gamma-box").choose_rules(model)
    tape = record(model, pixels)
    found = propagate(tape, seed_entries(tape.output, (1,)), rules=rules, stops=["div"])
    return found.relevance["div"].sum()


def test_a_first_layer_whose_input_has_no_known_bounds_takes_the_rule_of_the_others_and_says_so() -> None:
    mixture = torch.tensor([[1.0, -1.0, 0.5], [0.3, 0.3, 0.3], [-1.0, 2.0, 0.0]])
    module = Net(lambda images: torch.einsum("bchw,cd->bdhw", images, mixture), conv(WEIGHT))
    found, note = explain(module, torch.randn(2, 3, SIDE, SIDE), NORMALISED)
    assert found.isfinite().all()
    assert note == "The values that the first layer reads have no known bounds: it has the rule gamma."
