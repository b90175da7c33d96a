"""Which function imports which ONNX operator, by name and by the opset since which it reads so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Shaped
from torch import Tensor

from explainers.errors import UnsupportedOperatorError
from explainers.graph.onnx.builder import Builder, Value


@dataclass(frozen=True)
class Call:
    """One ONNX node on its way into the graph."""

    builder: Builder
    kind: str
    opset: int
    attributes: Mapping[str, Any]
    inputs: tuple[Value | None, ...]
    outputs: int

    def emit(self, target: Any, *arguments: Any, **keywords: Any) -> Any:
        """Add an ATen call to the graph, or compute it if its value is constant."""
        return self.builder.emit(target, *arguments, **keywords)

    def get(self, name: str, default: Any = None) -> Any:
        """Read an attribute."""
        return self.attributes.get(name, default)

    def numbers(self, name: str, place: int, default: Any = None) -> Any:
        """Read a list of numbers that is an attribute in old opsets and the input at ``place`` in new ones."""
        if name in self.attributes:
            return self.attributes[name]
        given = self.inputs[place] if len(self.inputs) > place else None
        return default if given is None else self.constant(given, name).tolist()

    def constant(self, value: Value, name: str) -> Shaped[Tensor, "..."]:
        """Take a value as numbers; raises UnsupportedOperatorError if they depend on the image."""
        if not isinstance(value, Tensor):
            raise UnsupportedOperatorError(f"takes its {name} from the image, which is not supported")
        return value

    def require(self, condition: bool, what: str) -> None:
        """Raise UnsupportedOperatorError that names what is not supported, unless the condition holds."""
        if not condition:
            raise UnsupportedOperatorError(f"has {what}, which is not supported")


Import = Callable[..., Any]

OPERATORS: dict[str, dict[int, Import]] = {}


def operator(*names: str, since: int = 1) -> Callable[[Import], Import]:
    """Register a function as that which imports these operators from this opset on, until a newer one."""

    def register(function: Import) -> Import:
        for name in names:
            OPERATORS.setdefault(name, {})[since] = function
        return function

    return register


def find(name: str, opset: int) -> Import | None:
    """Find the newest function for an operator that is not newer than the opset."""
    versions = {since: function for since, function in OPERATORS.get(name, {}).items() if since <= opset}
    return versions[max(versions)] if versions else None
