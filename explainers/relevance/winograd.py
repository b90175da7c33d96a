"""Winograd's algorithm for wide 3 x 3 convolutions: a quarter of the multiplications, as products of matrices.

Lavin and Gray 2015 (arXiv:1509.09308), F(4 x 4, 3 x 3), here with the tiles of several images in one product. Rounding
errors are relative to the largest value nearby, some ten times those of the plain sum.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

#: From this many channels and pixels on it is faster than the processor's own convolutions.
CHANNELS, PIXELS = 128, 28 * 28

#: How many bytes of images go together: their tiles are a few times as large, and read again at once.
CACHE = 4 << 20

#: The transforms of a tile of 6 x 6 inputs, of a kernel, and back to 4 x 4 outputs, along one axis; then those of
#: tiles along both axes at once.
TILE = torch.tensor(
    [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
     [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]]
).float()  # fmt: skip
KERNEL = torch.tensor([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
BACK = torch.tensor([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]).float()
TILES, BACKS = torch.kron(TILE, TILE), torch.kron(BACK, BACK)


def suits(values: Tensor, weight: Tensor, *window: Any) -> bool:
    """Whether a convolution with this window (stride, padding, dilation, groups) is 3 x 3, padded by one, and wide."""
    plain = weight.shape[2:] == (3, 3) and window == ([1, 1], [1, 1], [1, 1], 1)
    wide = max(weight.shape[:2]) >= CHANNELS and values.shape[2:].numel() >= PIXELS
    return plain and wide


def transform(weight: Float[Tensor, "out in 3 3"]) -> Float[Tensor, "36 in out"]:
    """Transform the kernels, once for many images."""
    return torch.einsum("xa,oiab,yb->xyio", KERNEL, weight, KERNEL).reshape(36, *weight.shape[1::-1])


def transform_turned(weight: Float[Tensor, "out in 3 3"]) -> Float[Tensor, "36 out in"]:
    """Transform the kernels with which the convolution goes backwards."""
    return transform(weight.flip(2, 3).transpose(0, 1))


def convolve(
    values: Float[Tensor, "batch in height width"],
    kernels: Float[Tensor, "36 in out"],
    bias: Float[Tensor, " out"] | None = None,
) -> Float[Tensor, "batch out height width"]:
    """Convolve with transformed kernels; the result has its channels last in memory."""
    batch, _, height, width = values.shape
    together = max(1, CACHE * batch // values.nbytes)
    if batch <= together:
        return convolve_together(values, kernels, bias).permute(0, 3, 1, 2)
    made = values.new_empty(batch, height, width, kernels.shape[2])
    for place in range(0, batch, together):
        made[place : place + together] = convolve_together(values[place : place + together], kernels, bias)
    return made.permute(0, 3, 1, 2)


def convolve_together(
    values: Float[Tensor, "batch in height width"],
    kernels: Float[Tensor, "36 in out"],
    bias: Float[Tensor, " out"] | None,
) -> Float[Tensor, "batch height width out"]:
    """Convolve images whose tiles fit into the processor's cache together."""
    batch, channels, height, width = values.shape
    right, below = -width % 4, -height % 4
    padded = pad(values.permute(0, 2, 3, 1), (0, 0, 1, 1 + right, 1, 1 + below))
    tiles = padded.unfold(1, 6, 4).unfold(2, 6, 4).permute(4, 5, 0, 1, 2, 3)
    grid = tiles.shape[2:5]
    transformed = TILES @ tiles.reshape(36, -1)
    products = torch.bmm(transformed.view(36, -1, channels), kernels)
    made = BACKS @ products.view(36, -1)
    laid = made.view(4, 4, *grid, -1).permute(2, 3, 0, 4, 1, 5)
    if bias is not None:
        laid = laid + bias
    return laid.reshape(batch, height + below, width + right, -1)[:, :height, :width]
