"""The structures that dermoscopy shows in a lesion, each drawn into its melanin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from sample_models.lesions.canvas import Canvas
from sample_models.lesions.texture import net, noise, smoothstep, spots, strokes, turn


def draw_network(canvas: Canvas) -> None:
    """Draw a pigment network: dark lines around lighter holes, fading out at the border."""
    rng, size, direction = canvas.rng, canvas.size, canvas.next_direction()
    x, y = (axis + 0.018 * noise(rng, size, 10) + 0.008 * noise(rng, size, 30) for axis in (canvas.x, canvas.y))
    lines = net(*turn(x, y, rng.uniform(0, np.pi)), rng.uniform(9, 12.5), rng.uniform(-0.6, -0.1))
    lines *= 1 + 0.25 * noise(rng, size, 12)
    where = smoothstep(canvas.depth * 4 + 0.6) * canvas.cover
    if not canvas.even:
        away = np.abs((canvas.angle - direction + np.pi) % (2 * np.pi) - np.pi)
        where *= smoothstep((1.6 - away) * 3 + 0.5)
    canvas.mark("network", where)
    canvas.melanin *= 1 + where * (1.1 * lines - 0.45)


def draw_structureless(canvas: Canvas) -> None:
    """Wipe one part clean of any structure, and pale."""
    where = canvas.area(0.32, 0.42)
    canvas.mark("structureless", where)
    canvas.melanin += where * (0.5 * canvas.cover - canvas.melanin)


def draw_dots(canvas: Canvas) -> None:
    """Strew small black dots."""
    _strew(canvas, "dots", 32, (0.014, 0.022), 1.6)


def draw_globules(canvas: Canvas) -> None:
    """Strew larger round brown globules."""
    _strew(canvas, "globules", 22, (0.03, 0.05), 0.8)


def _strew(canvas: Canvas, name: str, count: int, radii: tuple[float, float], melanin: float) -> None:
    rng, direction = canvas.rng, canvas.next_direction()
    angles = rng.uniform(-np.pi, np.pi, count) if canvas.even else rng.normal(direction, 0.45, count)
    distances = 0.85 * rng.random(count) ** 0.5 if canvas.even else rng.uniform(0.35, 0.95, count)
    centres = np.stack([canvas.outline.at(*place) for place in zip(angles, distances, strict=True)])
    cover = spots(canvas.size, centres, rng.uniform(*radii, count))
    canvas.mark(name, cover)
    canvas.melanin += melanin * cover


def draw_streaks(canvas: Canvas) -> None:
    """Draw streaks that run out over the border like fingers: on all sides of an even lesion, else on one."""
    rng, direction, at = canvas.rng, canvas.next_direction(), canvas.outline.at
    angles = np.linspace(-np.pi, np.pi, 44, endpoint=False) if canvas.even else direction + np.linspace(-0.6, 0.6, 14)
    angles = angles + rng.normal(0, 0.05, len(angles))
    roots = np.stack([at(angle, rng.uniform(0.45, 0.75)) for angle in angles])
    tips = np.stack([at(angle, 1 + 0.22 * rng.beta(1.5, 2)) for angle in angles])
    waists = (roots + 2 * tips) / 3
    thick = [(pair, rng.uniform(0.03, 0.055)) for pair in np.stack([roots, waists], 1)]
    thin = [(pair, 0.024) for pair in np.stack([waists, tips], 1)]
    cover = np.maximum(
        strokes(canvas.size, thick + thin), spots(canvas.size, tips, rng.uniform(0.010, 0.022, len(tips)))
    )
    canvas.mark("streaks", cover)
    more = (rng.uniform(1.0, 1.4) - canvas.melanin).clip(0.2)
    canvas.melanin += cover * more * (0.85 + 0.15 * noise(rng, canvas.size, 30))


DRAW: Mapping[str, Callable[[Canvas], None]] = MappingProxyType(
    {
        "network": draw_network,
        "structureless": draw_structureless,
        "dots": draw_dots,
        "globules": draw_globules,
        "streaks": draw_streaks,
    }
)
