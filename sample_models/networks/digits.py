"""A tiny convolutional network for handwritten digits."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class DigitsNetwork(nn.Module):
    """Three convolutions with max pooling between them, averaged over space, and a linear classifier."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.conv2 = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.conv3 = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.classifier = nn.Linear(32 * 4 * 4, classes)

    def forward(self, images: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch class"]:
        """Give the logits of the classes."""
        logits: Tensor = self.classifier(self.conv3(self.conv2(self.conv1(images))).flatten(1))
        return logits
