"""Regions of a picture: polygons, and the pixels or places inside them. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool
from PIL import Image, ImageDraw

#: The corners (x, y) of a polygon, in pixels or as shares of width and height.
Region = tuple[tuple[float, float], ...]


def region_mask(region: Sequence[Sequence[float]], shape: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Which pixels lie in a polygon of (x, y) corners in pixels."""
    mask = Image.new("1", (shape[1], shape[0]))
    ImageDraw.Draw(mask).polygon([(x, y) for x, y in region], fill=1, outline=1)
    return np.asarray(mask, bool)


def shares_of(region: Region, shape: tuple[int, int]) -> Region:
    """Convert corners in pixels to shares of width and height, so that they fit a map of any size."""
    return tuple((x / max(shape[1] - 1, 1), y / max(shape[0] - 1, 1)) for x, y in region)


def pixels_of(region: Region, shape: tuple[int, int]) -> Region:
    """Convert corners as shares of width and height to the pixels of a map."""
    return tuple((x * (shape[1] - 1), y * (shape[0] - 1)) for x, y in region)
