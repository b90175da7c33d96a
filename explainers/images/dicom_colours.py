"""Luminance and chroma as RGB, for every depth that DICOM files have."""

from __future__ import annotations

import numpy as np
from jaxtyping import Real
from pydicom.pixels.processing import convert_color_space


def convert_full(cells: Real[np.ndarray, "h w 3"], bits: int) -> Real[np.ndarray, "h w 3"]:
    """Bring luminance and chroma of the full range to RGB (PS3.3 C.7.6.3.1.2)."""
    if cells.dtype == np.uint8 and bits == 8:
        colours: Real[np.ndarray, "h w 3"] = convert_color_space(cells, "YBR_FULL", "RGB")
        return colours
    return mix(cells, bits, 1, (1.402, -0.344136, -0.714136, 1.772), 0)


def convert_partial(cells: Real[np.ndarray, "h w 3"], bits: int) -> Real[np.ndarray, "h w 3"]:
    """Bring luminance of 16 to 235 and chroma of 16 to 240, of 255, to RGB (ITU-R BT.601)."""
    return mix(cells, bits, 1.164384, (1.596027, -0.391762, -0.812968, 2.017232), 16)


def mix(
    cells: Real[np.ndarray, "h w 3"], bits: int, gain: float, weights: tuple[float, float, float, float], black: int
) -> Real[np.ndarray, "h w 3"]:
    """Add to the luminance what the chroma of blue and red weigh in red, green (of both) and blue."""
    luminance, blue, red = (channel.astype(np.float32) for channel in np.moveaxis(cells, -1, 0))
    luminance = gain * (luminance - black * 2.0 ** (bits - 8))
    blue, red = blue - 2.0 ** (bits - 1), red - 2.0 ** (bits - 1)
    mixed = (weights[0] * red, weights[1] * blue + weights[2] * red, weights[3] * blue)
    colours = np.stack([luminance + part for part in mixed], axis=-1).clip(0, 2**bits - 1)
    found: Real[np.ndarray, "h w 3"] = np.rint(colours).astype(cells.dtype)
    return found
