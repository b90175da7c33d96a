"""What pictures of skin are made of: smooth noise, nets, strokes and spots, which look the same at every size.

Coordinates go from -1 (left, top) to 1 (right, bottom), and lengths are measured in them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Float32
from PIL import Image, ImageDraw

Field = Float32[np.ndarray, "h w"]
Points = Float[np.ndarray, "points 2"]


def grid(size: int) -> tuple[Field, Field]:
    """Make the coordinates x and y of all pixels."""
    axis = ((np.arange(size) + 0.5) * 2 / size - 1).astype(np.float32)
    x, y = np.meshgrid(axis, axis)
    return x, y


def turn(x: Field, y: Field, angle: float) -> tuple[Field, Field]:
    """Make coordinates along the direction of an angle (in radians), and across it."""
    return x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)


def noise(rng: np.random.Generator, size: int, cells: int) -> Field:
    """Draw smooth noise of about unit variance with ``cells`` independent values across the picture."""
    values = rng.standard_normal((cells, cells), dtype=np.float32)
    return np.asarray(Image.fromarray(values).resize((size, size), Image.Resampling.BICUBIC))


def smoothstep(values: Field) -> Field:
    """Go smoothly from 0 (at 0 and below) to 1 (at 1 and above)."""
    values = values.clip(0, 1)
    smooth: Field = values * values * (3 - 2 * values)
    return smooth


def net(x: Field, y: Field, cells: float, thickness: float) -> Field:
    """Draw the lines (1) between the holes (0) of a honeycomb with ``cells`` holes per unit of length."""
    waves = np.zeros_like(x)
    for angle in (0, math.pi / 3, -math.pi / 3):
        waves += np.cos(2 * math.pi * cells * turn(x, y, angle)[0])
    return smoothstep(0.5 + (thickness - waves) * 0.7)


def strokes(size: int, lines: Iterable[tuple[Points, float]]) -> Field:
    """Draw lines, each of a width; returns how much of each pixel they cover."""
    image, scale = _canvas(size)
    draw = ImageDraw.Draw(image)
    for points, width in lines:
        draw.line([(x, y) for x, y in (points + 1) * scale], 255, max(1, round(width * scale)), "curve")
    return _cover(image, size)


def spots(size: int, centres: Points, radii: Float[np.ndarray, " points"]) -> Field:
    """Fill circles; returns how much of each pixel they cover."""
    image, scale = _canvas(size)
    draw = ImageDraw.Draw(image)
    for (x, y), radius in zip((centres + 1) * scale, radii * scale, strict=True):
        draw.circle((x, y), radius, 255)
    return _cover(image, size)


def _canvas(size: int) -> tuple[Image.Image, float]:
    """Make a larger picture to draw on, because Pillow draws hard edges; returns it with its pixels per unit."""
    side = size * (4 if size <= 192 else 2)
    return Image.new("L", (side, side)), side / 2


def _cover(image: Image.Image, size: int) -> Field:
    return np.asarray(image.reduce(image.width // size), np.float32) / 255
