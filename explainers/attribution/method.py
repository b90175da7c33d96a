"""What every attribution method is: a frozen dataclass that describes itself, found by being in this package."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from explainers.errors import SelectionError
from explainers.graph.model import Model
from explainers.jobs import Progress
from explainers.parameters import MethodInfo, Parameter
from explainers.results import Layer, ModelInfo, Target

#: Indices of steps or of images, one for each image that goes through the network.
Index = Int[Tensor, " pair"]

#: How many images go through the network at once; more costs memory and gains no time on a CPU.
IMAGES_PER_PASS = 16


@dataclass(frozen=True)
class Scores:
    """What a method returns for a batch.

    ``values`` are scores of the input's pixels, per colour or already summed over colours. ``expected`` is the sum of
    scores that the method promises for each image (completeness or conservation), None if it promises none.
    ``details`` are further figures for each image, in the units of the output. ``note`` is a sentence on what the
    method chose by itself, and why.
    """

    values: Float[Tensor, "batch channel height width"]
    expected: Float[Tensor, " batch"] | None = None
    details: tuple[Mapping[str, float], ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Method(ABC):
    """An attribution method; its fields are its parameters (see ``explainers.parameters.parameter``).

    To add one, put a file with a subclass into this package: page form, command line, cache key and conformance tests
    follow from the class. ``signed`` tells whether scores speak both for and against the target, ``unit`` what a
    score measures.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    citation: ClassVar[str]
    signed: ClassVar[bool]
    unit: ClassVar[str] = "logit per pixel"

    @abstractmethod
    def attribute(
        self,
        model: Model,
        inputs: Float[Tensor, "batch channel height width"],
        targets: Sequence[Target],
        progress: Progress,
    ) -> Scores:
        """Score every input pixel for the target of its image; ``progress(done, total)`` is called on the way."""

    @classmethod
    def unsuitable(cls, info: ModelInfo) -> str | None:
        """Say in a sentence why the method cannot explain this model; None if it can."""
        if len(info.output_shape) not in (1, 3):
            return f"{cls.title} explains one score for each class, or a map of them; this model returns another shape."
        return None

    @classmethod
    def describe(cls) -> MethodInfo:
        """Describe the method and its parameters for forms, links and the command line."""
        fields = [
            Parameter(name=field.name, default=field.default, **field.metadata)  # type: ignore[arg-type]
            for field in dataclasses.fields(cls)
        ]
        return MethodInfo(cls.name, cls.title, cls.summary, cls.citation, cls.signed, cls.unit, tuple(fields))


@cache
def methods() -> Mapping[str, type[Method]]:
    """Find every method in this package, by name."""
    import explainers.attribution as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    found: dict[str, type[Method]] = {}
    stack: list[type[Method]] = Method.__subclasses__()
    while stack:
        kind = stack.pop()
        stack += kind.__subclasses__()
        if "name" in vars(kind):
            found[kind.name] = kind
    return dict(sorted(found.items()))


def method(name: str, parameters: Mapping[str, Any]) -> Method:
    """Make a method by its name with checked parameters; raises SelectionError."""
    if name not in methods():
        raise SelectionError(f"There is no method '{name}'. Choose one of {', '.join(methods())}.")
    kind = methods()[name]
    return kind(**kind.describe().check(parameters))


def choose_layer(info: ModelInfo, name: str) -> Layer:
    """Find the named spatial layer, or for "" the last one, where maps are the most about content."""
    if name:
        return info.layer(name)
    spatial = [layer for layer in info.layers if layer.spatial]
    if not spatial:
        raise SelectionError(f"The model {info.name} has no spatial layer. Choose a method that needs none.")
    return spatial[-1]


def chunks(total: int, size: int) -> Iterator[range]:
    """Split 0..total into ranges of at most ``size``."""
    for start in range(0, total, size):
        yield range(start, min(start + size, total))


def sweep(steps: int, batch: int, progress: Progress) -> Iterator[tuple[Index, Index]]:
    """Go through all pairs (step, image), as many at once as fit into one pass, reporting progress in between.

    Yields the pairs' steps and their images, as indices.
    """
    for chunk in chunks(steps * batch, IMAGES_PER_PASS):
        pair = torch.arange(chunk.start, chunk.stop)
        yield pair // batch, pair % batch
        progress(chunk.stop, steps * batch)
