"""How a question describes its parameters; page forms, CLI options and cache keys follow from it. Free of torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from explainers.errors import SelectionError


def _list(value: Any) -> list[Any]:
    """Split a text at its commas; any other sequence stays as it is."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else list(value)


def _read_flag(value: Any) -> bool:
    return value if isinstance(value, bool) else {"true": True, "false": False}[str(value).lower()]


def _read_texts(value: Any) -> tuple[str, ...]:
    return tuple(str(part) for part in _list(value))


def _read_indices(value: Any) -> tuple[int, ...]:
    return tuple(sorted({int(part) for part in _list(value)}))


def _read_factors(value: Any) -> tuple[tuple[int, float], ...]:
    pairs = value.items() if isinstance(value, Mapping) else _list(value)
    split = (pair.split("x") if isinstance(pair, str) else pair for pair in pairs)
    return tuple(sorted((int(index), float(factor)) for index, factor in split))


def _read_region(value: Any) -> tuple[tuple[float, float], ...]:
    points = _list(value)
    if isinstance(value, str):
        points = list(zip(points[::2], points[1::2], strict=True))
    if 0 < len(points) < 3:
        raise ValueError
    return tuple((float(x), float(y)) for x, y in points)


#: How a value of each kind is read from a form, a link or a command line, and what to say where it cannot be.
KINDS: Mapping[str, tuple[Callable[[Any], Any], str]] = {
    "integer": (int, "a whole number"),
    "number": (float, "a number"),
    "flag": (_read_flag, "true or false"),
    "choice": (str, ""),
    "text": (str, "a text"),
    "layer": (str, "a layer's name"),
    "concept layer": (str, "a layer's name"),
    "layers": (_read_texts, "names of layers with commas between them"),
    "class": (int, "a class"),
    "classes": (_read_indices, "classes with commas between them"),
    "concepts": (_read_indices, "numbers of concepts, such as 3,17"),
    "factors": (_read_factors, "concepts with factors, such as 3x0,17x2"),
    "region": (_read_region, "three or more corners x,y,x,y,x,y as shares of width and height"),
}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a question, in words and bounds.

    ``kind`` is one of KINDS; "layer" is the name of a spatial layer, "concept layer" of one whose channels are
    concepts, each "" for one that is chosen for the model.
    """

    name: str
    kind: str
    default: Any
    title: str
    help: str
    unit: str = ""
    low: float = 0
    high: float = 0
    step: float = 1
    choices: tuple[str, ...] = ()

    def read(self, value: Any) -> Any:
        """Convert a value to this parameter's type; raises SelectionError."""
        try:
            found = KINDS[self.kind][0](value)
        except (KeyError, TypeError, ValueError, OverflowError):
            raise self._refuse(value) from None
        if self.choices and found not in self.choices:
            raise self._refuse(value)
        return found

    def check(self, value: Any) -> Any:
        """Convert a value from a form, link or command line to this parameter's type and bounds; SelectionError."""
        found = self.read(value)
        if self._bounded and not self.low <= found <= self.high:
            raise self._refuse(value)
        return found

    @property
    def _bounded(self) -> bool:
        return self.kind in ("integer", "number")

    def _refuse(self, value: Any) -> SelectionError:
        expected = " or ".join(self.choices) or KINDS[self.kind][1]
        bounds = f" from {self.low:g} to {self.high:g}" if self._bounded else ""
        return SelectionError(f"The parameter '{self.name}' is {value!r}; give {expected}{bounds}.")


def parameter(default: Any, title: str, help: str, kind: str = "", **bounds: Any) -> Any:
    """Declare a field of a question as a parameter; the kind follows from the default unless it is given."""
    if not kind:
        kind = {bool: "flag", int: "integer", float: "number", str: "choice"}[type(default)]
    return dataclasses.field(default=default, metadata={"kind": kind, "title": title, "help": help, **bounds})
