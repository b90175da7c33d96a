"""What lies on or before the skin in dermoscopic pictures and has nothing to do with the lesion."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool

from sample_models.lesions.skin import Colour, Colours
from sample_models.lesions.texture import Field, Points, grid, noise, smoothstep, strokes, turn

Mask = Bool[np.ndarray, "h w"]

#: What an artifact is: its colours (0 to 1), and how much of each pixel it covers (0 to 1).
Layer = tuple[Colours | Colour, Field]

BAND_AIDS = np.array(
    [
        [0.45, 0.63, 0.85],
        [0.50, 0.76, 0.60],
        [0.95, 0.66, 0.40],
        [0.96, 0.85, 0.47],
        [0.90, 0.52, 0.58],
        [0.72, 0.58, 0.84],
    ],
    np.float32,
)
INKS = np.array([[0.30, 0.16, 0.50], [0.16, 0.20, 0.52], [0.42, 0.16, 0.46]], np.float32)


def draw_band_aid(rng: np.random.Generator, lesion: Mask) -> Layer:
    """Stick a coloured band-aid, round or square, into the corner with most room beside the lesion."""
    size, (x, y) = len(lesion), grid(len(lesion))
    corner = min((1, 3, 5, 7), key=lambda odd: turn(x, y, odd * math.pi / 4)[0][lesion].max())
    along, across = turn(x, y, corner * math.pi / 4 + rng.normal(0, 0.15))
    radius, power = rng.uniform(0.55, 0.85), int(rng.choice([2, 2, 5]))
    middle = radius + min(float(along[lesion].max()) + rng.uniform(0.02, 0.06), 1.0)
    away = (np.abs(along - middle) ** power + np.abs(across - rng.normal(0, 0.1)) ** power) ** (1 / power)
    rim = radius - away + 0.004 * noise(rng, size, 24)
    weave = 0.035 * np.sin(95 * along) * np.sin(95 * across) + 0.025 * noise(rng, size, 60) + 0.03 * noise(rng, size, 5)
    shade = (1 + weave) * (0.82 + 0.18 * smoothstep(rim / 0.05)) * rng.uniform(0.85, 1.05)
    return shade[..., None] * BAND_AIDS[rng.integers(len(BAND_AIDS))], smoothstep(rim / 0.012)


def draw_ink(rng: np.random.Generator, lesion: Mask) -> Layer:
    """Mark the place around the lesion with a surgical pen."""
    size, (x, y) = len(lesion), grid(len(lesion))
    middle = np.array([x[lesion].mean(), y[lesion].mean()])
    reach = np.hypot(x[lesion] - middle[0], y[lesion] - middle[1]).max() + rng.uniform(0.06, 0.12)
    starts = rng.uniform(0, 2 * np.pi) + np.arange(rng.integers(2, 5)) * rng.uniform(1.0, 1.6)
    width = rng.uniform(0.05, 0.08)
    cover = strokes(size, [(middle + _arc(rng, reach, start), width) for start in starts])
    return INKS[rng.integers(len(INKS))], cover * (0.72 + 0.14 * noise(rng, size, 40)).clip(0.3, 1)


def _arc(rng: np.random.Generator, radius: float, start: float) -> Points:
    angles = start + np.linspace(0, rng.uniform(0.35, 0.7), 12)
    radii = radius + rng.normal(0, 0.03) * np.linspace(-1, 1, 12) ** 2
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1)


def draw_ruler(rng: np.random.Generator, lesion: Mask) -> Layer:
    """Print the millimetre ticks of a ruler along an edge."""
    step, edge, first = rng.uniform(0.07, 0.1), rng.uniform(0.9, 0.97), int(rng.integers(10))
    lengths = {-1 + step * tick: 0.07 if (first + tick) % 5 else 0.14 for tick in range(1, int(2 / step))}
    ticks = [(np.array([[x, edge], [x, edge - length]]), 0.016) for x, length in lengths.items()]
    cover = strokes(len(lesion), [*ticks, (np.array([[-1, edge], [1, edge]]), 0.012)])
    return np.full(3, rng.uniform(0.05, 0.2), np.float32), 0.9 * np.rot90(cover, int(rng.integers(4)))


def draw_bubbles(rng: np.random.Generator, lesion: Mask) -> Layer:
    """Put bubbles into the gel: bright rims with a darker line inside and a reflection."""
    size, (x, y), middle = len(lesion), grid(len(lesion)), rng.uniform(-0.8, 0.8, 2)
    colours, cover = np.ones((size, size, 3), np.float32), np.zeros((size, size), np.float32)
    for radius in rng.uniform(0.04, 0.15, rng.integers(3, 8)).tolist():
        left, top = rng.normal(middle, 0.3).tolist()
        bright, dark = _bubble(x - left, y - top, radius)
        colours[dark > bright] = 0.2
        cover = np.maximum(cover, np.maximum(bright, dark))
    return colours, cover


def _bubble(x: Field, y: Field, radius: float) -> tuple[Field, Field]:
    """Draw how much light a bubble around (0, 0) adds and how much it takes."""
    away = np.hypot(x, y)
    rim = smoothstep(1 - np.abs(away - radius) / 0.014) * (0.5 - 0.35 * (x + y) / (2 * radius)).clip(0.15)
    glint = 0.85 * smoothstep(1.4 - np.hypot(x + radius * 0.4, y + radius * 0.4) * 5 / radius)
    dark = 0.3 * smoothstep(1 - np.abs(away - 0.8 * radius) / 0.016)
    return np.maximum(np.maximum(rim, glint), 0.08 * smoothstep((radius - away) / 0.02)), dark


def draw_corner(rng: np.random.Generator, lesion: Mask) -> Layer:
    """Darken the corners as the round tube of a dermoscope does."""
    x, y = (axis - rng.normal(0, 0.03) for axis in grid(len(lesion)))
    return np.full(3, 0.03, np.float32), smoothstep((np.hypot(x, y) - rng.uniform(1.02, 1.14)) / 0.06)


#: How to draw each artifact with a random stream beside a lesion, from the skin up.
DRAW: Mapping[str, Callable[[np.random.Generator, Mask], Layer]] = MappingProxyType(
    {
        "band-aid": draw_band_aid,
        "ink": draw_ink,
        "ruler": draw_ruler,
        "gel bubble": draw_bubbles,
        "dark corner": draw_corner,
    }
)
