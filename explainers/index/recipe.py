"""What the numbers of an index depend on, besides the pictures. Free of torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from explainers.cache import digest
from explainers.preprocessing import Preprocessing

#: Changes whenever an index of earlier code must not be added to.
VERSION = 1


@dataclass(frozen=True)
class Recipe:
    """All that the numbers of an index depend on, besides the pictures.

    ``digest`` is the model's, ``layers`` are their names with their numbers of concepts; ``composite``, ``epsilon`` and
    ``gamma`` are those of ``explainers.relevance.composites.composite``.
    """

    model: str
    digest: str
    preprocessing: Preprocessing
    composite: str
    epsilon: float
    gamma: float
    layers: Mapping[str, int]
    class_names: tuple[str, ...]
    version: int = VERSION

    @property
    def key(self) -> str:
        """Name the recipe by its content."""
        return digest(self.plain)

    @property
    def plain(self) -> dict[str, Any]:
        """The recipe as JSON holds it."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @staticmethod
    def restore(plain: Mapping[str, Any]) -> Recipe:
        """Make a recipe from what ``plain`` gave; raises TypeError or KeyError for anything else."""
        names, steps = tuple(plain["class_names"]), plain["preprocessing"]
        frozen: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in steps.items()
        }
        return Recipe(**{**plain, "class_names": names, "preprocessing": Preprocessing(**frozen)})

    def difference(self, other: Recipe) -> str:
        """Say in words what another recipe has otherwise than this one; "" if nothing that changes numbers."""
        words = {
            "digest": f"the model {self.model}",
            "preprocessing": "another preprocessing",
            "composite": f"the composite {self.composite}",
            "epsilon": f"epsilon {self.epsilon:g}",
            "gamma": f"gamma {self.gamma:g}",
            "layers": f"the layers {', '.join(self.layers)}",
            "class_names": "other class names",
            "version": f"version {self.version} of the format",
        }
        found = [text for name, text in words.items() if getattr(self, name) != getattr(other, name)]
        return " and ".join(found)
