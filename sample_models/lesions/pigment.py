"""The lesion itself, drawn on skin from what is found in it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from sample_models.lesions.canvas import Canvas
from sample_models.lesions.outline import Outline
from sample_models.lesions.rule import BROWN, Findings
from sample_models.lesions.skin import Colours, blend, tint
from sample_models.lesions.structures import DRAW
from sample_models.lesions.texture import Field, noise, smoothstep, turn

#: The colours that lie in one part of a lesion: melanin and blood in them, and how much of the melanin there stays.
PATCHES = {"black": (2.6, 0.6, 0.4), "red": (-0.15, 1.3, 1.0), "white": (0.0, 0.1, 0.4), "blue-grey": (0.9, 0.1, 0.4)}

#: The colours of what hazes the view: the fibres of a scar, and melanin so deep that it looks blue (Tyndall effect).
HAZES = {
    "white": np.array([0.93, 0.84, 0.82], np.float32),
    "blue-grey": np.array([0.49, 0.52, 0.59], np.float32),
}


def draw_lesion(
    rng: np.random.Generator, skin: Colours, findings: Findings, outline: Outline
) -> tuple[Colours, dict[str, Bool[np.ndarray, "h w"]]]:
    """Draw a lesion on skin; returns the picture, and where lesion, colours, structures and abrupt border lie."""
    canvas = Canvas(rng, len(skin), findings, outline)
    canvas.melanin = canvas.cover * _brown(canvas)
    for name in findings.structures:
        DRAW[name](canvas)
    blood = 0.25 * canvas.cover
    patches = _patches(canvas)
    for name, patch in patches.items():
        canvas.mark(name, patch)
        melanin, more, kept = PATCHES[name]
        canvas.melanin += patch * (melanin - canvas.melanin * (1 - kept))
        blood += more * patch
    picture = tint(skin, canvas.melanin, blood)
    light = float(skin.mean((0, 1)).max()) ** 0.5
    for name in (name for name in HAZES if name in patches):
        haze = 0.60 + 0.12 * noise(rng, canvas.size, 10) + 0.08 * noise(rng, canvas.size, 40)
        picture = blend(picture, light * HAZES[name], haze * patches[name])
    return picture, canvas.masks


def _patches(canvas: Canvas) -> dict[str, Field]:
    """Choose where each colour lies; the later ones lie over the earlier ones."""
    patches: dict[str, Field] = {}
    for name in (name for name in canvas.findings.colours if name in PATCHES):
        patch = canvas.area(0.24, 0.36)
        patches = {below: area * (1 - patch) for below, area in patches.items()} | {name: patch}
    return patches


def _brown(canvas: Canvas) -> Field:
    """Give melanin that is light or dark or both: dark in the middle of an even lesion, on one side of another."""
    rng, size, browns = canvas.rng, canvas.size, [name for name in BROWN if name in canvas.findings.colours]
    mottle = 1 + 0.10 * noise(rng, size, 12) + 0.08 * noise(rng, size, 40)
    melanin = {"light brown": rng.uniform(0.45, 0.65), "dark brown": rng.uniform(1.2, 1.5)}
    dark = canvas.depth * 3 - 1.1
    if not canvas.even:
        dark = 0.5 + 2.5 * turn(canvas.x, canvas.y, rng.uniform(-np.pi, np.pi))[0] + 0.6 * noise(rng, size, 5)
    first, last = melanin[browns[0]], melanin[browns[-1]]
    return mottle * (first + (last - first) * smoothstep(dark))
