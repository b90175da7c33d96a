"""Skin as a dermoscope shows it, and the hair on it."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float32

from sample_models.lesions.texture import Field, Points, grid, net, noise, strokes, turn

Colours = Float32[np.ndarray, "h w 3"]
Colour = Float32[np.ndarray, "3"]

#: Mean colours (0 to 1) of skin of the six types of Fitzpatrick 1988, from light to dark.
TONES = np.array(
    [
        [0.93, 0.77, 0.70],
        [0.90, 0.72, 0.63],
        [0.84, 0.65, 0.53],
        [0.72, 0.53, 0.41],
        [0.56, 0.39, 0.31],
        [0.40, 0.27, 0.22],
    ]
)
#: How strongly melanin and blood absorb red, green and blue.
MELANIN = np.array([0.65, 0.92, 1.12], np.float32)
BLOOD = np.array([0.10, 0.48, 0.40], np.float32)

FAIR, DARK = np.array([0.50, 0.36, 0.24], np.float32), np.array([0.14, 0.09, 0.07], np.float32)


def draw_skin(rng: np.random.Generator, size: int) -> tuple[Colours, float]:
    """Draw skin without a lesion; returns its colours (0 to 1) and its type, 1 (light) to 6 (dark)."""
    kind = 1 + 5 * rng.beta(1.1, 1.9)
    tone = np.array([np.interp(kind, range(1, 7), channel) for channel in TONES.T]) * rng.normal(1, [0.03, 0.015, 0.02])
    x, y = (axis + 0.03 * noise(rng, size, 6) for axis in grid(size))
    along, across = turn(x, y, rng.uniform(0, np.pi))
    furrows = net(along, 0.7 * across, rng.uniform(4, 7), -0.9)
    melanin = 0.05 * noise(rng, size, 5) + 0.03 * noise(rng, size, 24) + 0.03 * noise(rng, size, 80)
    melanin += rng.uniform(0.03, 0.09) * furrows
    blood = 0.08 * noise(rng, size, 4) + 0.05 * noise(rng, size, 16) + 0.05 * noise(rng, size, 60)
    return tint(tone.astype(np.float32), melanin, blood), kind


def draw_hair(rng: np.random.Generator, picture: Colours, kind: float) -> Colours:
    """Draw hairs with their shadows over a picture: none, a few or many, fair ones only on light skin."""
    size, count, width = len(picture), rng.choice([0, 0, 0, 3, 6, 12, 22]), rng.uniform(0.008, 0.016)
    colour, direction = FAIR if rng.random() < 0.25 and kind < 4 else DARK, rng.uniform(0, np.pi)
    hairs = [(_hair(rng, rng.normal(direction, 0.5)), width * rng.uniform(0.6, 1.3)) for _ in range(count)]
    shadow = strokes(size, [(points + 0.012, 2 * width) for points, width in hairs])
    picture = blend(picture, np.zeros(3, np.float32), 0.18 * shadow)
    return blend(picture, colour, rng.uniform(0.7, 0.95) * strokes(size, hairs))


def _hair(rng: np.random.Generator, angle: float) -> Points:
    """Bend a line through the picture in this direction."""
    along, across = np.array([math.cos(angle), math.sin(angle)]), np.array([-math.sin(angle), math.cos(angle)])
    middle = across * rng.uniform(-1.1, 1.1) + along * rng.uniform(-0.7, 0.7)
    steps = np.linspace(-rng.uniform(0.2, 1.5), rng.uniform(0.2, 1.5), 16)[:, None]
    return middle + along * steps + across * rng.normal(0, 0.2) * steps**2


def tint(skin: Colours | Colour, melanin: Field, blood: Field) -> Colours:
    """Colour skin by what absorbs light in it (Beer-Lambert law)."""
    tinted: Colours = skin * np.exp(-melanin[..., None] * MELANIN - blood[..., None] * BLOOD)
    return tinted


def blend(below: Colours, colour: Colours | Colour, cover: Field) -> Colours:
    """Lay a colour over a picture where ``cover`` (0 to 1) says."""
    blended: Colours = below + (colour - below) * cover[..., None]
    return blended
