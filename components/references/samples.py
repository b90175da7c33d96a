"""Reference samples as the papers on concept relevance draw them: cut to what matters, dim around it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image
from scipy.ndimage import correlate1d

from components.heatmap import View, blend

#: The width of the Gaussian kernel in pixels for a picture of 224 pixels, Achtibat et al. 2023 (arXiv:2206.03208).
KERNEL = 19

#: Of the strongest smoothed score: what is cut out has more than CROP, what stays bright more than BRIGHT.
CROP, BRIGHT = 0.1, 0.2

#: What is left of the brightness around it.
DIM = 0.3


def draw_reference(
    crop: UInt8[np.ndarray, "h w 3"], scores: Float32[np.ndarray, "h w"], side: int
) -> UInt8[np.ndarray, "side side 3"]:
    """Cut a picture to the square where a concept's conditional heatmap is, dim the rest of it, scale it to ``side``.

    Achtibat et al. 2023, arXiv:2206.03208.
    """
    strength = smooth(scores)
    pixels = np.where((strength > BRIGHT)[..., None], crop, (crop * DIM).astype(np.uint8))
    top, bottom, left, right = bound(strength > CROP)
    image = Image.fromarray(pixels[top:bottom, left:right])
    return np.asarray(image.resize((side, side), Image.Resampling.LANCZOS))


def draw_here(crop: UInt8[np.ndarray, "h w 3"], scores: Float32[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Lay a heatmap over a picture that is shown so small that single pixels would be lost: blurred."""
    return blend(crop, blur(scores), True, View())


def smooth(scores: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Blur a heatmap and scale its positive part to 0..1; all zero if no score is positive."""
    positive = np.maximum(blur(scores), 0)
    return np.asarray(positive / (positive.max() or 1), np.float32)


def blur(scores: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Blur a heatmap with a Gaussian whose width goes with the picture's."""
    width = max(3, KERNEL * max(scores.shape) // 224 | 1)
    # The deviation that goes with a kernel's width in OpenCV and torchvision, which the papers' code uses.
    places = (np.arange(width) - width // 2) / (0.3 * ((width - 1) / 2 - 1) + 0.8)
    kernel = np.exp(-(places**2) / 2)
    for axis in (0, 1):
        scores = correlate1d(scores, kernel / kernel.sum(), axis, mode="mirror")
    return scores


def bound(mask: Bool[np.ndarray, "h w"]) -> tuple[int, int, int, int]:
    """Find the smallest square (top, bottom, left, right) in the picture that holds a mask, all of it without one.

    Of a picture that is longer than wide the square may hold less than the mask.
    """
    if not mask.any():
        return 0, mask.shape[0], 0, mask.shape[1]
    ends = [np.flatnonzero(mask.any(axis=axis))[[0, -1]] for axis in (1, 0)]
    side = min(max(int(last - first) + 1 for first, last in ends), *mask.shape)
    top, left = (
        int(np.clip((first + last + 1 - side) // 2, 0, length - side))
        for (first, last), length in zip(ends, mask.shape, strict=True)
    )
    return top, top + side, left, left + side
