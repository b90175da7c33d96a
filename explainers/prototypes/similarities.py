"""How alike pictures are to the prototypes of a network that has them built in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int

from explainers.results import Result


@dataclass(frozen=True)
class PartMaps(Result):
    """How alike every place of one picture is to every prototype, and what each prototype adds to each class."""

    maps: Float32[np.ndarray, "prototype rows columns"]
    weights: Float32[np.ndarray, "class prototype"]

    @property
    def similarities(self) -> Float32[np.ndarray, " prototype"]:
        """The similarity of the place that is most alike to each prototype."""
        return np.asarray(self.maps.max(axis=(1, 2)))

    def place(self, prototype: int) -> tuple[int, int]:
        """The row and column that are most alike to a prototype."""
        row, column = np.unravel_index(self.maps[prototype].argmax(), self.maps.shape[1:])
        return int(row), int(column)


@dataclass(frozen=True)
class Similarities(Result):
    """How alike many pictures are to every prototype at their most similar places; ``labels`` are -1 where unknown."""

    values: Float32[np.ndarray, "sample prototype"]
    labels: Int[np.ndarray, " sample"]

    @property
    def typical(self) -> Float32[np.ndarray, " prototype"]:
        """The mean similarity to each prototype."""
        return np.asarray(self.values.mean(axis=0))
