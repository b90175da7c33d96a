"""Which function imports which ONNX operator, by domain, name and the opset since which it reads so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Shaped
from onnx import GraphProto, NodeProto
from torch import Tensor

from explainers.errors import UnsupportedOperatorError
from explainers.graph.onnx.builder import Builder, Value

#: The domain of onnxruntime's own operators, in which its optimised and quantised files are written.
MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class Call:
    """One ONNX node on its way into the graph.

    ``outputs`` counts those that it has, ``used`` those up to the last that is read; ``run`` imports a branch or the
    body of a loop, given as an attribute, on its inputs.
    """

    builder: Builder
    kind: str
    opset: int
    attributes: Mapping[str, Any]
    inputs: tuple[Any, ...]
    outputs: int
    used: int
    run: Callable[[GraphProto, Sequence[Any]], list[Any]]

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

#: Functions that leave each number as it is, so that quantised ones stay so, and those that read quantised numbers.
MOVES: set[Import] = set()
READS_QUANTISED: set[Import] = set()


def operator(
    *names: str, since: int = 1, domain: str = "", moves: bool = False, quantised: bool = False
) -> Callable[[Import], Import]:
    """Register a function as that which imports these operators from this opset on, until a newer one.

    It may return NotImplemented for what ONNX's own definition of the operator as a function is then imported.
    ``moves`` tells that it leaves each number as it is, ``quantised`` that it reads quantised numbers.
    """

    def register(function: Import) -> Import:
        for name in names:
            OPERATORS.setdefault(f"{domain}.{name}".lstrip("."), {})[since] = function
        if moves:
            MOVES.add(function)
        if quantised:
            READS_QUANTISED.add(function)
        return function

    return register


def find(name: str, opset: int, domain: str = "") -> Import | None:
    """Find the newest function for an operator that is not newer than the opset."""
    known = OPERATORS.get(f"{domain}.{name}".lstrip("."), {})
    versions = {since: function for since, function in known.items() if since <= opset}
    return versions[max(versions)] if versions else None


def domain_of(node: NodeProto) -> str:
    """The domain of a node's operator; ONNX's own has no name."""
    return "" if node.domain == "ai.onnx" else str(node.domain)
