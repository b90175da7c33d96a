"""Architectures: which one a checkpoint belongs to, and that the exported program computes what the module does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from explainers.errors import ModelError
from explainers.graph.architectures import TABLE, find, fingerprints, take_fingerprint
from explainers.graph.export import export
from explainers.graph.guessing import guess
from explainers.graph.networks import Weights
from explainers.graph.zoo import all_architectures, build, preprocessing
from explainers.preprocessing import Preprocessing

aten = torch.ops.aten


class Assigning(nn.Module):
    """Changes parts of a tensor in place and reads the whole, as ConViT and MViT do."""

    def forward(self, images: Tensor) -> Tensor:
        scores = images.mean((2, 3)) * 2
        scores[:, 0] = scores[:, 1] + 1
        scores[:, 1:3] += 5
        scores[:1].mul_(3)
        flat = scores.view(-1)
        flat.mul_(2)
        return flat.view(-1, 3)


def test_parts_changed_in_place_change_the_whole() -> None:
    images = torch.randn(4, 3, 8, 8)
    model = export(Assigning(), "assigning", Preprocessing((8, 8), 8))
    torch.testing.assert_close(model(images), Assigning()(images))


class Branching(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        if images.mean() > 0:
            return images.mean((2, 3))
        return images.sum((2, 3))


class ByNumpy(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.from_numpy(images.numpy().mean((2, 3)))


class OneBatch(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.view(2, -1)


class TwoOutputs(nn.Module):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images.mean((2, 3)), images.sum((2, 3))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Branching(), r"data-dependent.*test_architectures.py, line \d+: `if images.mean\(\) > 0:`"),
        (ByNumpy(), r"numpy\(\).*line \d+: `return torch.from_numpy\(images.numpy\(\)"),
        (OneBatch(), r"batch as dynamic but your code specialized it to be a constant \(2\)"),
        (TwoOutputs(), "gives 2 outputs"),
        (nn.Linear(7, 2), r"must have same reduction dim.*\[7, 2\]"),
        (nn.Flatten(0), "does not return floating-point scores"),
    ],
)
def test_what_stops_an_export_is_told_with_its_line(module: nn.Module, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        export(module, "mine", Preprocessing((8, 8), 8))


@pytest.mark.parametrize(
    "architecture",
    [
        "timm/resnet10t",
        "timm/vit_tiny_patch16_224",
        "timm/tresnet_m",
        "timm/deit_tiny_distilled_patch16_224",
        "torchvision/regnet_y_400mf",
        "torchvision/inception_v3",
        "torchvision/lraspp_mobilenet_v3_large",
    ],
)
def test_the_shipped_fingerprint_is_that_of_the_architecture(architecture: str) -> None:
    assert take_fingerprint(architecture) == find(architecture)


def test_the_table_has_every_architecture_that_classifies_and_is_small() -> None:
    without = set(all_architectures()) - set(fingerprints())
    assert all(name.endswith("_enc") for name in without), without  # encoders without a classifier
    assert TABLE.stat().st_size < 300_000


def test_an_architecture_is_guessed_from_the_table_without_building_any(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = Weights(build("torchvision/resnet50", 12).state_dict(), ordered=True)
    monkeypatch.setattr("explainers.graph.matching.skeleton", None)
    best = guess(weights, "mine.pth")[0]
    assert (best.architecture, best.exact) == ("torchvision/resnet50", True)


@pytest.mark.parametrize(
    ("file_name", "ordered", "expected"),
    [
        ("model.safetensors", False, "timm/resnet18"),
        ("model.pth", True, "torchvision/resnet18"),
        ("resnetblur18-best.pth", True, "timm/resnetblur18"),
    ],
)
def test_among_equals_the_file_name_and_format_decide(file_name: str, ordered: bool, expected: str) -> None:
    weights = Weights(build("timm/resnet18", 3).state_dict(), ordered)
    assert guess(weights, file_name)[0].architecture == expected


def test_preprocessing_is_that_of_the_published_weights() -> None:
    assert preprocessing("torchvision/resnet50", 3) == Preprocessing((224, 224), 232, interpolation="bilinear")
    inception = preprocessing("timm/inception_v3", 3)
    assert (inception.size, inception.resize) == ((299, 299), 341)
    assert preprocessing("timm/resnet18", 1).mean == pytest.approx([0.449])


def test_an_architecture_made_for_one_size_is_built_for_another() -> None:
    module = build("timm/vit_tiny_patch16_224", 4, size=(96, 96))
    assert module(torch.zeros(1, 3, 96, 96)).shape == (1, 4)
