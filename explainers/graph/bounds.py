"""What an uploaded model may take when it runs: memory that one image bounds and that grows no faster than a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)

from explainers.errors import ModelError
from explainers.graph.checkpoint import telling
from explainers.graph.model import Model
from explainers.settings import settings

N = TypeVar("N")

#: Sizes of the batches whose values are compared.
ONE, MANY = 1, 16


class Observation(fx.Interpreter, Generic[N]):
    """A run that notes something of each value."""

    def __init__(self, program: fx.GraphModule, note: Callable[[Any], N]) -> None:
        super().__init__(program)
        self.note, self.noted = note, dict[fx.Node, N]()

    def run_node(self, node: fx.Node) -> Any:
        """Run one call, and note what is wanted of what it gives."""
        found = super().run_node(node)
        self.noted[node] = self.note(found)
        return found


def observe(program: fx.GraphModule, shape: Sequence[int], note: Callable[[Any], N]) -> dict[fx.Node, N]:
    """Run a program without numbers on images of a shape, and note something of each value."""
    observation = Observation(program, note)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        observation.run(torch.zeros(*shape))
    return observation.noted


def check_memory(model: Model) -> None:
    """Raise ModelError if a value takes more bytes than a model may have, or grows faster than the batch.

    A file says itself how large its values are, and its sums of sizes may be of any power, so sizes are computed anew.
    """
    name, advice = model.info.name, "Export the network that classifies one picture at a time."
    try:
        with telling(f"The model {name} cannot be run", "Export or save it for float32 images of this size."):
            alone, many = measure(model, ONE), measure(model, MANY)
    except ModelError as error:
        if not isinstance(error.__cause__, DataDependentOutputException | DynamicOutputShapeException):
            raise
        raise ModelError(f"How large the values of the model {name} are depends on the picture. {advice}") from error
    for node, size in alone.items():
        if size > settings().model_bytes:
            raise ModelError(
                f"The model {name} has a value ('{node.name}') of {size:,} bytes for one picture; at most "
                f"{settings().model_bytes:,} are computed. Export it for smaller images."
            )
        if many[node] > size * MANY:
            raise ModelError(f"The model {name} compares the pictures of a batch (in '{node.name}'). {advice}")


def measure(model: Model, count: int) -> dict[fx.Node, int]:
    """The bytes of every value for a batch of ``count`` images."""
    steps = model.info.preprocessing
    return observe(model.program, (count, steps.channels, *steps.size), count_bytes)


def count_bytes(found: Any) -> int:
    """The bytes of a value, of all where there are several."""
    several = found if isinstance(found, list | tuple) else [found]
    return sum(one.numel() * one.element_size() for one in several if isinstance(one, Tensor))
