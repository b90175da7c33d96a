"""A lesion while it is drawn."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from sample_models.lesions.outline import ANGLES, Outline
from sample_models.lesions.rule import Findings
from sample_models.lesions.texture import Field, grid, noise, smoothstep


class Canvas:
    """The melanin of a lesion so far, and the masks of what was found in it.

    ``x`` and ``y`` are measured from the lesion's centre, ``depth`` from its border (0) to the centre (1); ``cover``
    goes from 0 outside to 1 inside.
    """

    def __init__(self, rng: np.random.Generator, size: int, findings: Findings, outline: Outline):
        self.rng, self.size, self.findings, self.outline = rng, size, findings, outline
        x, y = grid(size)
        self.x, self.y = x - float(outline.centre[0]), y - float(outline.centre[1])
        self.angle = np.arctan2(self.y, self.x)
        radius, abrupt = (
            np.interp(self.angle, ANGLES, of).astype(np.float32) for of in (outline.radius, outline.abrupt)
        )
        ragged = 0.025 * noise(rng, size, 14) + 0.02 * noise(rng, size, 36)
        self.depth: Field = 1 - np.hypot(self.x, self.y) / radius + ragged
        self.cover = smoothstep(self.depth / (0.36 - 0.30 * abrupt) + 0.5)
        self.melanin = np.zeros_like(self.cover)
        self.masks: dict[str, Bool[np.ndarray, "h w"]] = {"lesion": self.cover > 0.5}
        if findings.border:
            self.masks["border"] = (abrupt > 0.5) & (np.abs(self.depth) < 0.12)
        self._direction = rng.uniform(-np.pi, np.pi)

    @property
    def even(self) -> bool:
        """Whether the lesion is a mirror image over both axes, and so all that is in it lies around its centre."""
        return self.findings.asymmetry == 0

    def next_direction(self) -> float:
        """Choose a direction away from those chosen before: on by the golden angle, as leaves grow."""
        self._direction += 2.4 + self.rng.uniform(-0.2, 0.2)
        return self._direction

    def area(self, low: float, high: float) -> Field:
        """Draw a soft uneven area in the next direction, within the border, with a radius from ``low`` to ``high``."""
        rng, place = self.rng, self.outline.at(self.next_direction(), 0 if self.even else self.rng.uniform(0.35, 0.6))
        x, y = (place - self.outline.centre).tolist()
        rim = 1 - np.hypot(self.x - x, self.y - y) / rng.uniform(low, high)
        rim += 0.28 * noise(rng, self.size, 8) + 0.12 * noise(rng, self.size, 24)
        area: Field = smoothstep(rim * 1.7 + 0.3) * smoothstep(self.depth * 6)
        return area

    def mark(self, name: str, where: Field) -> None:
        """Note where something that was found lies."""
        self.masks[name] = where > 0.4
