"""A small residual network (He et al. 2016, arXiv:1512.03385)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import relu


def convolve(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Make a convolution followed by batch norm, which keeps the size but for the stride."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


class Residual(nn.Module):
    """Two convolutions beside a shortcut, which is a 1 x 1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = convolve(inputs, outputs, stride=stride)
        self.second = convolve(outputs, outputs)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else convolve(inputs, outputs, 1, stride)

    def forward(self, values: Float[Tensor, "batch inputs h w"]) -> Float[Tensor, "batch outputs height width"]:
        """Add what the convolutions find to the shortcut."""
        found = self.second(relu(self.first(values)))
        return relu(found + self.shortcut(values))


class ResidualFeatures(nn.Sequential):
    """A stem at 1/4 of the size and stages that each halve it: ``width`` channels at 1/16 of the size."""

    def __init__(self, widths: Sequence[int] = (24, 48, 96)) -> None:
        super().__init__()
        self.width = widths[-1]
        self.stem = nn.Sequential(*convolve(3, widths[0], 5, stride=4), nn.ReLU())
        for stage, (inputs, outputs) in enumerate(pairwise(widths), 1):
            self.add_module(f"stage{stage}", Residual(inputs, outputs, stride=2))


class ResidualNetwork(nn.Module):
    """Residual features, averaged over space, and a linear classifier."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.features = ResidualFeatures()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(self.features.width, classes)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch class"]:
        """Give the logits of the classes."""
        return self.classify(self.features(images))

    def classify(self, features: Float[Tensor, "batch width h w"]) -> Float[Tensor, "batch class"]:
        """Give the logits of the classes from the features."""
        logits: Tensor = self.classifier(self.pool(features).flatten(1))
        return logits
