"""On every architecture that the design names, a relevance pass ends, is finite, and says where relevance went."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large

from explainers.graph.export import export
from explainers.preprocessing import Preprocessing
from explainers.relevance.propagation import propagate
from explainers.relevance.tape import record

SIDE = 96
ARCHITECTURES = [
    "resnet18", "resnet50", "vgg16_bn", "densenet121", "efficientnet_b0", "tf_efficientnet_lite0",
    "mobilenetv3_small_100", "convnext_atto", "inception_v3", "regnety_002", "vit_tiny_patch16_224",
    "deit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "xception41", "hrnet_w18_small", "mixer_s32_224",
    "seresnet18", "deeplabv3",
]  # fmt: skip


class Segmenter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None)

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)["out"]


def build(name: str) -> nn.Module:
    """The architecture with random weights, at a size that a test can afford."""
    torch.manual_seed(1)
    if name == "deeplabv3":
        return Segmenter()
    sized = {"img_size": SIDE} if any(word in name for word in ("vit", "deit", "swin", "mixer")) else {}
    module = timm.create_model(name, num_classes=10, **sized)
    if name.startswith("vgg"):
        module.pre_logits = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(512, 4096, 1), nn.ReLU())
    nn.init.normal_(module.get_classifier().weight, std=0.1)
    return module


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_relevance_is_finite_and_accounted_for(name: str) -> None:
    model = export(build(name), name, Preprocessing(size=(SIDE, SIDE), resize=SIDE))
    tape = record(model, torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2)))
    seeds = torch.zeros(1, *tape.output.shape)
    seeds[:, :, 3] = tape.output[:, 3]
    found = propagate(tape, seeds, account=True)
    values = found.relevance[""]
    assert values.shape == (1, 2, 3, SIDE, SIDE)
    assert values.isfinite().all()
    assert values.abs().sum() > 0
    rest = seeds.flatten(2).sum(2) - values.sum((2, 3, 4)) - sum(found.ended.values())
    scale = seeds.abs().flatten(2).sum(2) + values.abs().sum((2, 3, 4))
    assert (rest.abs() <= 1e-4 * scale).all()
