"""Which output to explain, from what a person picks, links or types. Free of torch."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Protocol

from explainers.errors import SelectionError
from explainers.info import ModelInfo
from explainers.regions import Region

PREDICTED = "predicted"


@dataclass(frozen=True)
class Target:
    """The output explained: the logit of class ``index``, or with ``versus`` its lead over another class.

    For a model that gives a map of logits it is their mean in ``region``, a polygon of corners (x, y) as shares of
    width and height; () for the whole map.
    """

    index: int
    versus: int | None = None
    region: Region = ()


class Ranked(Protocol):
    """A prediction, as far as it tells which classes are the likeliest."""

    def top(self, count: int) -> list[int]:
        """The class indices with the largest probabilities, best first."""


def find_class(info: ModelInfo, wanted: str) -> int:
    """Find a class by its index or its name; raises SelectionError with the nearest names."""
    wanted = wanted.strip()
    if wanted.isdigit() and int(wanted) < len(info.class_names):
        return int(wanted)
    lowered = [name.casefold() for name in info.class_names]
    if wanted.casefold() in lowered:
        return lowered.index(wanted.casefold())
    near = difflib.get_close_matches(wanted.casefold(), lowered, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"it has classes 0 to {len(lowered) - 1}."
    raise SelectionError(f"The model {info.name} has no class '{wanted}'; {hint}")


def choose_target(
    info: ModelInfo, prediction: Ranked, wanted: str = PREDICTED, versus: str = "", region: Region = ()
) -> Target:
    """Turn "predicted", a class name or a class index, and what to contrast it with, into a Target.

    ``versus`` "" asks for no contrast; "predicted" in it means the best class that is not the target.
    """
    best = prediction.top(2)
    index = best[0] if wanted == PREDICTED else find_class(info, wanted)
    if not versus:
        return Target(index, region=region)
    other = (
        next((rival for rival in best if rival != index), index) if versus == PREDICTED else find_class(info, versus)
    )
    if other == index:
        raise SelectionError(f"The class {info.class_names[index]} cannot be contrasted with itself. Choose another.")
    return Target(index, other, region)


def name_target(info: ModelInfo, target: Target) -> str:
    """Say a target in words."""
    name = info.class_names[target.index]
    contrast = "" if target.versus is None else f" rather than {info.class_names[target.versus]}"
    return name + contrast + " in the region" * bool(target.region)
