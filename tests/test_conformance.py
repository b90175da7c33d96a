"""What holds for every attribution method on every kind of model, whatever the method is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor, nn

from explainers.attribution.batch import Batch
from explainers.attribution.method import Scores, choose_layer, make_method, methods
from explainers.errors import CancelledError, SelectionError
from explainers.graph.export import export, graph_digest, weights_digest
from explainers.graph.model import Model
from explainers.jobs import Passes, Progress, passes
from explainers.memory import IMAGES_PER_PASS
from explainers.preprocessing import Preprocessing
from explainers.targets import Target

SIDE = 32
SMALL = Preprocessing(size=(SIDE, SIDE), resize=SIDE)


class Convolutional(nn.Sequential):
    """Two convolutions with batch norm, ReLU and pooling."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
        )  # fmt: skip


class Tokens(nn.Module):
    """Patches as tokens, one block of attention, a class token that is read out."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, stride=8)
        self.first = nn.Parameter(torch.randn(1, 1, 16))
        self.norm = nn.LayerNorm(16)
        self.mixed = nn.Linear(16, 48)
        self.head = nn.Linear(16, 5)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.first.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        query, key, value = self.mixed(self.norm(tokens)).unflatten(2, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + mixed.transpose(1, 2).flatten(2)
        return self.head(tokens[:, 0])


class ChannelsLast(nn.Module):
    """Patches with the channels behind the places, a gated block, a mean over the places."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 4, stride=4)
        self.norm = nn.LayerNorm(12)
        self.wide = nn.Linear(12, 24)
        self.activation = nn.GELU()
        self.narrow = nn.Linear(24, 12)
        self.head = nn.Linear(12, 5)

    def forward(self, images: Tensor) -> Tensor:
        places = self.patches(images).permute(0, 2, 3, 1)
        places = places + self.narrow(self.activation(self.wide(self.norm(places))))
        return self.head(places.mean((1, 2)))


class Segmenting(nn.Sequential):
    """A map of logits, coarser than the image."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 5, 3, padding=1))


KINDS: dict[str, Callable[[], nn.Module]] = {
    "convolutional": Convolutional,
    "tokens": Tokens,
    "channels last": ChannelsLast,
    "segmenting": Segmenting,
}
every_method = pytest.mark.parametrize("name", methods())
every_pair = pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in methods()])


@cache
def model(kind: str) -> Model:
    torch.manual_seed(2)
    module = KINDS[kind]()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.2)
            part.running_var.uniform_(0.5, 1.5)
    return export(module, kind, SMALL)


def pictures(count: int = 3) -> Float[Tensor, "count 3 32 32"]:
    return torch.randn(17, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))[:count]


def explain(
    kind: str, name: str, inputs: Tensor, targets: Sequence[Target], parameters: dict[str, Any] | None = None
) -> Scores:
    if reason := methods()[name].unsuitable(model(kind).info):
        assert reason.endswith(".")
        pytest.skip(reason)
    return make_method(name, parameters or {}).attribute(Batch(model(kind), inputs, targets, Progress()))


@cache
def usual(kind: str, name: str) -> Scores:
    return explain(kind, name, pictures(), targets())


def targets(count: int = 3, first: int = 0) -> list[Target]:
    return [Target((first + place) % 5) for place in range(count)]


@every_pair
def test_scores_are_finite_and_have_the_shape_of_the_input(kind: str, name: str) -> None:
    scores = usual(kind, name)
    assert scores.values.shape[0] == 3
    assert scores.values.shape[1] in (1, 3)
    assert scores.values.shape[2:] == (SIDE, SIDE)
    assert scores.values.isfinite().all()
    assert not scores.values.requires_grad


@every_pair
def test_the_same_call_gives_identical_numbers(kind: str, name: str) -> None:
    assert torch.equal(explain(kind, name, pictures(), targets()).values, usual(kind, name).values)


@every_pair
def test_an_image_gets_the_same_scores_alone_and_in_a_batch(kind: str, name: str) -> None:
    together = usual(kind, name).values
    alone = explain(kind, name, pictures()[2:], targets()[2:]).values
    resolution = 1e-7 + 1e-5 * float(together[2].abs().max())  # of scores of order one, and of their attribution
    torch.testing.assert_close(alone, together[2:], rtol=1e-5, atol=resolution)


@every_pair
def test_scores_depend_on_the_target(kind: str, name: str) -> None:
    first, second = usual(kind, name).values, explain(kind, name, pictures(), targets(first=1)).values
    assert (first - second).abs().max() > 1e-2 * first.abs().max() > 0


@every_pair
def test_a_contrast_gives_other_scores_than_its_class_alone(kind: str, name: str) -> None:
    alone = usual(kind, name).values
    contrast = explain(kind, name, pictures(), [Target(target.index, 4) for target in targets()]).values
    assert (alone - contrast).abs().max() > 1e-2 * alone.abs().max()


@every_pair
def test_scores_add_up_to_what_the_method_promises_within_two_percent_of_the_scores(kind: str, name: str) -> None:
    scores = usual(kind, name)
    if scores.expected is None:
        pytest.skip("The method promises no sum.")
    gaps = (scores.values.sum((1, 2, 3)) - scores.expected).abs()
    assert (gaps <= 0.02 * scores.values.abs().sum((1, 2, 3))).all()


@every_pair
def test_signs_are_as_declared(kind: str, name: str) -> None:
    both_ways = [Target(0, 1), Target(1, 0), Target(2, 0)]
    lowest = explain(kind, name, pictures()[[0, 0, 1]], both_ways).values.min()
    assert lowest < 0 if methods()[name].signed else lowest >= 0


@every_pair
def test_the_model_and_the_inputs_are_left_untouched(kind: str, name: str) -> None:
    program, inputs = model(kind).program, pictures()
    before = graph_digest(program, weights_digest(program.state_dict()))
    explain(kind, name, inputs, targets())
    assert graph_digest(program, weights_digest(program.state_dict())) == before
    assert torch.equal(inputs, pictures())
    assert not inputs.requires_grad


class WatchedModel(Model):
    """A model that notes how many images it is given at once."""

    def run(self, *arguments: Any, **keywords: Any) -> Any:
        output, kept = super().run(*arguments, **keywords)
        largest[0] = max(largest[0], len(output))
        return output, kept


largest = [0]


@every_pair
def test_passes_are_counted_and_none_is_larger_than_allowed(kind: str, name: str) -> None:
    usual(kind, name)
    largest[0] = 0
    token = passes.set(counts := Passes())
    watched = WatchedModel(model(kind).info, model(kind).program)
    make_method(name, {}).attribute(Batch(watched, pictures(17), targets(17), Progress()))
    passes.reset(token)
    assert counts.forward > 0
    assert counts.images >= 17
    assert largest[0] <= IMAGES_PER_PASS


@every_pair
def test_a_cancel_is_heard_before_the_passes_are_done(kind: str, name: str) -> None:
    usual(kind, name)
    progress = Progress()
    progress.cancel()
    token = passes.set(counts := Passes())
    with pytest.raises(CancelledError):
        make_method(name, {}).attribute(Batch(model(kind), pictures(17), targets(17), progress))
    passes.reset(token)
    assert counts.forward <= 1


@every_pair
def test_progress_ends_at_its_total(kind: str, name: str) -> None:
    usual(kind, name)
    progress = Progress()
    make_method(name, {}).attribute(Batch(model(kind), pictures(), targets(), progress))
    assert progress.done == progress.total > 0


@every_pair
def test_an_unknown_class_is_refused(kind: str, name: str) -> None:
    with pytest.raises(SelectionError, match="classes 0 to 4"):
        explain(kind, name, pictures(1), [Target(5)])


@every_method
def test_a_model_without_class_scores_is_refused_in_a_sentence(name: str) -> None:
    detector = replace(model("convolutional").info, output_shape=(100, 6))
    assert (methods()[name].unsuitable(detector) or "").endswith(".")


@every_method
def test_the_parameters_lowest_values_work(name: str) -> None:
    lowest = {one.name: one.low for one in methods()[name].parameters() if one.kind in ("integer", "number")}
    assert explain("convolutional", name, pictures(1), targets(1), lowest).values.isfinite().all()


@every_method
def test_an_unknown_parameter_is_refused(name: str) -> None:
    with pytest.raises(SelectionError, match="no parameter 'colour'"):
        make_method(name, {"colour": 1})


def test_an_unknown_method_is_refused_with_those_there_are() -> None:
    with pytest.raises(SelectionError, match="gradient-times-input"):
        make_method("tea-leaves", {})


def test_the_last_spatial_layer_is_chosen_unless_another_is_named() -> None:
    info = model("convolutional").info
    assert choose_layer(info, "").grid == (16, 16)
    assert choose_layer(info, "0").grid == (SIDE, SIDE)
    with pytest.raises(SelectionError, match="no layer 'attic'"):
        choose_layer(info, "attic")
