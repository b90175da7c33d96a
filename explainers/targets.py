"""Which output to explain, from what a person picks, links or types. Free of torch."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from explainers.errors import SelectionError
from explainers.info import ModelInfo
from explainers.labels import fold
from explainers.outputs import BINARY
from explainers.regions import Region

PREDICTED = "predicted"

#: What a number is contrasted with where its usual value is known.
USUAL = "usual"


@dataclass(frozen=True)
class Target:
    """The output explained: the logit of class ``index``, or with ``versus`` its lead over another class.

    For a model that gives a map of logits it is their mean in ``region``, a polygon of corners (x, y) as shares of
    width and height; () for the whole map. ``usual`` is taken off a number, so that what is above it is explained.
    """

    index: int
    versus: int | None = None
    region: Region = ()
    usual: float = 0.0


class Ranked(Protocol):
    """A prediction, as far as it tells which classes are the likeliest."""

    def top(self, count: int) -> list[int]:
        """The class indices with the largest probabilities, best first."""


def find_class(info: ModelInfo, wanted: str) -> int:
    """Find a class by its name or its index; raises SelectionError with the nearest names.

    A name goes before an index, so that of the classes "1" to "5" asking for 3 gives "3"; "#3" is always the index.
    """
    wanted = wanted.strip()
    lowered = [fold(name) for name in info.class_names]
    named = [index for index, name in enumerate(lowered) if name == fold(wanted)]
    exact = [index for index in named if info.class_names[index] == wanted]
    if len(found := exact or named) > 1:
        raise SelectionError(
            f"The model {info.name} has {len(found)} classes named '{wanted}'. Ask for one by its index: "
            f"{' or '.join(f'#{index}' for index in found)}."
        )
    if found:
        return found[0]
    index = wanted.removeprefix("#")
    if index.isascii() and index.isdecimal() and int(index) < len(lowered):
        return int(index)
    near = difflib.get_close_matches(fold(wanted), lowered, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"it has classes 0 to {len(lowered) - 1}."
    raise SelectionError(f"The model {info.name} has no class '{wanted}'; {hint}")


def refer_to(info: ModelInfo, index: int) -> str:
    """Write a class's index so that ``find_class`` gives this class, whatever the names."""
    return f"#{index}" if str(index) in fold_all(info.class_names) else str(index)


@lru_cache(maxsize=8)
def fold_all(names: tuple[str, ...]) -> frozenset[str]:
    """Fold the names of all classes, once for all that ask about one of them."""
    return frozenset(map(fold, names))


def choose_target(
    info: ModelInfo, prediction: Ranked, wanted: str = PREDICTED, versus: str = "", region: Region = ()
) -> Target:
    """Turn "predicted", a class name or a class index, and what to contrast it with, into a Target.

    ``versus`` "" asks for no contrast; "predicted" in it means the best class that is not the target, "usual" a
    number's usual value. One side of a yes-or-no needs no contrast: its score is its lead over the other.
    """
    best = prediction.top(2)
    if wanted != PREDICTED:
        index = find_class(info, wanted)
    else:  # of a map of one class, that class, however small it is
        index = 1 if info.gives_map and info.kind == BINARY else best[0]
    if not versus:
        return Target(index, region=region)
    if versus == USUAL and info.usual:
        return Target(index, region=region, usual=info.usual[index])
    other = (
        next((rival for rival in best if rival != index), index) if versus == PREDICTED else find_class(info, versus)
    )
    if other == index:
        raise SelectionError(f"The class {info.class_names[index]} cannot be contrasted with itself. Choose another.")
    return Target(index, None if info.kind == BINARY else other, region)


def name_target(info: ModelInfo, target: Target) -> str:
    """Say a target in words."""
    name = info.class_names[target.index]
    contrast = "" if target.versus is None else f" rather than {info.class_names[target.versus]}"
    contrast += f" above {target.usual:g}" if target.usual else ""
    return name + contrast + " in the region" * bool(target.region)
