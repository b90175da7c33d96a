"""How a method describes its parameters; page forms, CLI options and cache keys are derived from it. Free of torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from explainers.errors import SelectionError


@dataclass(frozen=True)
class Parameter:
    """One parameter of a method, in words and bounds.

    ``kind`` is "integer", "number", "choice", "flag", "text" or "layer" (the name of a spatial layer, "" to let the
    method choose).
    """

    name: str
    kind: str
    default: int | float | bool | str
    title: str
    help: str
    unit: str = ""
    low: float = 0
    high: float = 0
    step: float = 1
    choices: tuple[str, ...] = ()

    def check(self, value: Any) -> int | float | bool | str:
        """Convert a value from a form, link or command line to this parameter's type; raises SelectionError."""
        try:
            if self.kind == "flag":
                return value if isinstance(value, bool) else {"true": True, "false": False}[str(value).lower()]
            if self.kind in ("choice", "layer", "text"):
                if self.kind == "choice" and value not in self.choices:
                    raise ValueError
                return str(value)
            number = int(value) if self.kind == "integer" else float(value)
            if not self.low <= number <= self.high:
                raise ValueError
            return number
        except (KeyError, TypeError, ValueError):
            allowed = {"flag": "true or false", "choice": " or ".join(self.choices), "layer": "a layer's name"}
            expected = allowed.get(
                self.kind, f"{'a whole' if self.kind == 'integer' else 'a'} number from {self.low:g} to {self.high:g}"
            )
            raise SelectionError(f"The parameter '{self.name}' is {value!r}; give {expected}.") from None


def parameter(default: int | float | bool | str, title: str, help: str, kind: str = "", **bounds: Any) -> Any:
    """Declare a field of a method as a parameter; the kind follows from the default unless it is given."""
    if not kind:
        kind = {bool: "flag", int: "integer", float: "number", str: "choice"}[type(default)]
    return dataclasses.field(default=default, metadata={"kind": kind, "title": title, "help": help, **bounds})


@dataclass(frozen=True)
class MethodInfo:
    """A method as pages and the command line see it.

    ``signed`` tells whether its scores speak both for and against the target; ``unit`` is what one score measures.
    """

    name: str
    title: str
    summary: str
    citation: str
    signed: bool
    unit: str
    parameters: tuple[Parameter, ...]

    def check(self, given: Mapping[str, Any]) -> dict[str, int | float | bool | str]:
        """Complete the given parameters by the defaults, all of the right type; raises SelectionError."""
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in given:
            if name not in known:
                raise SelectionError(
                    f"The method {self.name} has no parameter '{name}'; it has {', '.join(known) or 'none'}."
                )
        return {name: parameter.check(given.get(name, parameter.default)) for name, parameter in known.items()}
