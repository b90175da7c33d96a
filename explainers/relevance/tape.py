"""The tape: one forward pass with every value that relevance rules need, and the what else depends on them alone."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx

from explainers.errors import SelectionError
from explainers.graph.model import Model, constant, count_stored
from explainers.memory import PASS_MEMORY
from explainers.relevance.convolutions import CONVOLUTION, Kernel

aten = torch.ops.aten

#: What a tape over its budget computes again rather than stores: one cheap step from a value that it keeps.
CHEAP = frozenset(
    {aten.relu.default, aten.gelu.default, aten.silu.default, aten.hardswish.default, aten.hardtanh.default}
)


@dataclass(eq=False)
class Tape:
    """The values of one forward pass, by node; read by any number of relevance passes, from any thread.

    ``batch`` is the number of images. ``budget`` in bytes bounds what is kept (``spent`` so far) and, in each relevance
    pass, what the seeds that go together may take.
    """

    model: Model
    batch: int
    budget: int
    kept: dict[str, Any]
    spent: int = 0
    derived: dict[Hashable, Tensor] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """The memory that the tape holds at this moment, in bytes; views of one storage count once."""
        values = [*self.kept.values(), *self.derived.copy().values()]
        return count_stored(value for value in values if isinstance(value, Tensor))

    @property
    def output(self) -> Float[Tensor, "batch *output"]:
        """The model's output."""
        found: Tensor = self.value(self.model.output_node)
        return found

    def value(self, node: fx.Node) -> Any:
        """Read a node's value, computing it again if it was not kept."""
        if node.op == "get_attr":
            return constant(self.model.program, node)
        if node.name in self.kept:
            return self.kept[node.name]
        target: Any = node.target
        arguments, keywords = fx.node.map_arg((node.args, node.kwargs), self.value)
        return target(*arguments, **keywords)

    def remember(self, key: Hashable, compute: Callable[[], Tensor]) -> Tensor:
        """Read what depends on the tape alone, such as a denominator; computed once if the budget allows to keep it.

        Two threads may compute the same at once; both get the same numbers.
        """
        if (found := self.derived.get(key)) is not None:
            return found
        made = compute()
        if self.spent + made.nbytes <= self.budget:
            self.spent += made.nbytes
            self.derived[key] = made
        return made


def record(model: Model, inputs: Float[Tensor, "batch channel height width"], budget: int | None = None) -> Tape:
    """Run the model forward once, without gradients, and keep what the rules need; counts as one forward pass.

    Over ``budget`` bytes, by default a pass's share of the memory, outputs of cheap operators are left out and computed
    again when a rule reads them.
    """
    budget = PASS_MEMORY.share if budget is None else budget
    nodes = [node for node in model.program.graph.nodes if node.op in ("placeholder", "call_function")]

    def convolve(values: Tensor, weight: Tensor, *rest: Any, **named: Any) -> Tensor:
        return Kernel(model, weight).forward(CONVOLUTION, values, *rest, **named)

    with torch.no_grad(), PASS_MEMORY.hold(model.footprint.total * len(inputs)):
        kept: dict[str, Any] = model.run(
            inputs,
            keep=frozenset(node.name for node in nodes),
            operators={CONVOLUTION: convolve},
        )[1]
    tape = Tape(model, len(inputs), budget, kept)
    if tape.bytes > budget:
        for node in nodes:
            if node.target in CHEAP:
                del kept[node.name]
    tape.spent = tape.bytes
    return tape


def find_node(model: Model, name: str) -> fx.Node:
    """Find a node by a layer's name, or by its own; raises SelectionError."""
    nodes: dict[str, fx.Node] = {node.name: node for node in model.program.graph.nodes}
    for layer in model.info.layers:
        if layer.name == name:
            return nodes[layer.node]
    if name not in nodes:
        raise SelectionError(f"The model has no layer '{name}'. Choose one of its layers.")
    return nodes[name]
