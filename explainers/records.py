"""Frozen dataclasses from plain data that others wrote: each field is checked by its kind. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

R = TypeVar("R")


def restore(kind: type[R], entry: Any) -> R:
    """Make a dataclass of a mapping of its fields; lists become tuples.

    Raises ValueError where a field is unknown, missing, or of another kind than the class says: texts must be such that
    they can be shown, numbers finite.
    """
    hints = kinds_of(kind)
    if not isinstance(entry, Mapping) or not needed(kind) <= entry.keys() <= hints.keys():
        raise ValueError(f"These are not the fields of a {kind.__name__}.")
    return kind(**{name: convert(hints[name], item) for name, item in entry.items()})


def convert(kind: Any, item: Any) -> Any:
    """Check a value by the kind that a class declares; raises ValueError."""
    origin, choices = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        kind = next((choice for choice in choices if (item is None) == (choice is NoneType)), str)
        return convert(kind, item)
    if origin is tuple and isinstance(item, list | tuple):
        repeated = choices[-1] is Ellipsis
        if repeated or len(item) == len(choices):
            return tuple(convert(choices[0 if repeated else place], one) for place, one in enumerate(item))
    if isinstance(kind, type) and is_dataclass(kind):
        return item if isinstance(item, kind) else restore(kind, item)
    if kind is Path and type(item) is str and "\0" not in item:
        return Path(item)
    if (type(item) is kind or (kind is float and type(item) is int)) and is_plain(item):
        return item
    raise ValueError(f"A {kind} was expected, and a {type(item).__name__} was found.")


def is_plain(item: Any) -> bool:
    """Whether a text can be written in UTF-8 and a number is finite and of a size that arrays can have."""
    if isinstance(item, str):
        return not any("\ud800" <= letter <= "\udfff" for letter in item)
    return math.isfinite(item) and abs(item) < 2**63 if isinstance(item, int | float) else True


def kinds_of(kind: type[Any]) -> dict[str, Any]:
    """The kinds of a dataclass's fields by their names."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def needed(kind: type[Any]) -> frozenset[str]:
    """The names of a dataclass's fields that have no usual value."""
    return frozenset(
        field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING
    )
