"""What a dermatologist would find in a lesion, and the rule that calls it malignant."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BROWN = ("light brown", "dark brown")
COLOURS = (*BROWN, "black", "red", "white", "blue-grey")
STRUCTURES = ("network", "structureless", "dots", "globules", "streaks")

#: Malignant above this total score; nothing is drawn with a score between the margins, so that each label can be seen.
THRESHOLD = 5.45
MARGINS = (3.6, 6.4)


@dataclass(frozen=True)
class Findings:
    """The four findings of the ABCD rule of dermoscopy (Stolz et al. 1994, Nachbar et al. 1994).

    ``asymmetry`` counts the axes (0 to 2) over which the outline is no mirror image, ``border`` the eighths (0 to 8)
    of the border that end abruptly; ``colours`` and ``structures`` are names out of COLOURS and STRUCTURES.
    """

    asymmetry: int
    border: int
    colours: tuple[str, ...]
    structures: tuple[str, ...]

    @property
    def score(self) -> float:
        """The total dermoscopy score, 1.0 to 8.9."""
        return 1.3 * self.asymmetry + 0.1 * self.border + 0.5 * len(self.colours) + 0.5 * len(self.structures)

    @property
    def malignant(self) -> bool:
        """Whether the rule calls the lesion malignant."""
        return self.score > THRESHOLD


def find(rng: np.random.Generator, malignant: bool) -> Findings:
    """Choose findings at random that the rule clearly calls malignant, or benign."""
    while True:
        findings = _choose(rng, malignant)
        if findings.score >= MARGINS[1] if malignant else findings.score <= MARGINS[0]:
            return findings


def _choose(rng: np.random.Generator, malignant: bool) -> Findings:
    asymmetry = int(rng.choice([1, 2, 2, 2] if malignant else [0, 0, 0, 1]))
    border = int(rng.integers(3, 9) if malignant else rng.integers(0, 5))
    brown = BROWN if malignant or rng.random() < 0.5 else (BROWN[rng.integers(2)],)
    others = _some(rng, COLOURS[2:], int(rng.integers(1, 5) if malignant else rng.random() < 0.2))
    structures = _some(rng, STRUCTURES, int(rng.integers(2, 6) if malignant else rng.integers(1, 4)))
    return Findings(asymmetry, border, (*brown, *others), structures)


def _some(rng: np.random.Generator, names: tuple[str, ...], count: int) -> tuple[str, ...]:
    return tuple(names[index] for index in sorted(rng.permutation(len(names))[:count]))
