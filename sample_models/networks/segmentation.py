"""A small U-Net (Ronneberger et al. 2015, arXiv:1505.04597)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from sample_models.networks.residual import convolve


def stage(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Make a convolution with batch norm and ReLU."""
    return nn.Sequential(*convolve(inputs, outputs, stride=stride), nn.ReLU())


class SegmentationNetwork(nn.Module):
    """Features at 1/2 to 1/16 of the size, brought back step by step to a map of logits of the full size."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.down1 = stage(3, 16, stride=2)
        self.down2 = nn.Sequential(stage(16, 24, stride=2), stage(24, 24))
        self.down3 = nn.Sequential(stage(24, 48, stride=2), stage(48, 48))
        self.down4 = nn.Sequential(stage(48, 64, stride=2), stage(64, 64))
        self.up3 = stage(64 + 48, 48)
        self.up2 = stage(48 + 24, 24)
        self.up1 = stage(24 + 16, 16)
        self.classifier = nn.Conv2d(16, classes, 1)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch class height width"]:
        """Give the logits of the classes at every pixel."""
        half = self.down1(images)
        quarter = self.down2(half)
        eighth = self.down3(quarter)
        merged = self.up3(merge(self.down4(eighth), eighth))
        merged = self.up2(merge(merged, quarter))
        return enlarge(self.classifier(self.up1(merge(merged, half))))


def merge(coarse: Float[Tensor, "batch c h w"], fine: Float[Tensor, "batch d height width"]) -> Tensor:
    """Enlarge a coarse map to twice its size and lay it beside a fine one."""
    return torch.cat([enlarge(coarse), fine], 1)


def enlarge(values: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c height width"]:
    """Enlarge a map bilinearly to twice its size."""
    return interpolate(values, scale_factor=2, mode="bilinear", align_corners=False)
