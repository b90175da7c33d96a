"""How far a lesion reaches in each direction, and how abruptly it ends there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sample_models.lesions.rule import Findings

#: The directions in which an outline is known.
ANGLES = np.linspace(-np.pi, np.pi, 257)

Around = Float[np.ndarray, " angles"]


@dataclass(frozen=True, eq=False)
class Outline:
    """Where a lesion lies in coordinates from -1 to 1, for each direction of ANGLES.

    ``radius`` is the distance of the border from the centre; ``abrupt`` goes from 0, where the border fades, to 1,
    where it ends abruptly.
    """

    centre: Float[np.ndarray, "2"]
    radius: Around
    abrupt: Around

    def at(self, angle: float, distance: float) -> Float[np.ndarray, "2"]:
        """Give the point at ``distance`` (1 is the border) in the direction of ``angle``."""
        reach = distance * np.interp((angle + np.pi) % (2 * np.pi) - np.pi, ANGLES, self.radius)
        point: Float[np.ndarray, "2"] = self.centre + reach * np.array([np.cos(angle), np.sin(angle)])
        return point


def draw_outline(rng: np.random.Generator, findings: Findings) -> Outline:
    """Draw an outline with the asymmetry and the border that were found."""
    turn, size, centre = rng.uniform(-np.pi, np.pi), rng.uniform(0.48, 0.64), rng.uniform(-0.1, 0.1, 2)
    abrupt = _abrupt(rng, findings.border, turn)
    radius = size * (1 + _shape(rng, findings.asymmetry, ANGLES - turn) + _jag(rng) * abrupt)
    return Outline(centre, radius, abrupt)


def _shape(rng: np.random.Generator, asymmetry: int, angle: Around) -> Around:
    """Sum waves: even cosines mirror in both axes, odd ones in the first alone, sines in none."""
    waves = [rng.uniform(-0.14, 0.14) * np.cos(2 * angle), rng.uniform(-0.03, 0.03) * np.cos(4 * angle)]
    for order in (1, 3, 5) if asymmetry > 0 else ():
        waves.append(rng.choice([-1, 1]) * rng.uniform(0.10, 0.24) / order**0.5 * np.cos(order * angle))
    for order in (2, 3, 4) if asymmetry > 1 else ():
        waves.append(rng.choice([-1, 1]) * rng.uniform(0.10, 0.22) / order**0.5 * np.sin(order * angle))
    shape: Around = np.sum(waves, 0)
    return shape


def _abrupt(rng: np.random.Generator, eighths: int, turn: float) -> Around:
    eighth = ((ANGLES - turn) // (np.pi / 4)).astype(int) - int(rng.integers(8))
    return _smooth((eighth % 8 < eighths).astype(float), 8)


def _jag(rng: np.random.Generator) -> Around:
    """Draw the notches of an abrupt border."""
    heights = np.resize(rng.normal(0, 0.075, 64), 65)
    return _smooth(np.interp(np.arange(257), np.arange(0, 257, 4), heights), 3)


def _smooth(values: Around, reach: int) -> Around:
    """Average over neighbours on both sides; the last direction is the first."""
    padded = np.pad(values[:-1], (reach, reach + 1), "wrap")
    return np.convolve(padded, np.full(2 * reach + 1, 1 / (2 * reach + 1)), "valid")
