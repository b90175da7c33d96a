"""What is known about a model but its graph: its layers, classes and fingerprints. Free of torch."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from explainers.errors import SelectionError
from explainers.outputs import BINARY, CLASSES, NUMBERS, name_decisions
from explainers.preprocessing import Preprocessing


@dataclass(frozen=True)
class Layer:
    """A layer of a model under the name that the model's author gave it.

    ``shape`` is its output for one image, without the batch dimension. ``layout`` says where space is in it:
    "channels first" (C, H, W), "channels last" (H, W, C), "tokens" (N, C), "heads" (C, N, D: tokens for each attention
    head) or "none". ``grid`` is (rows, columns) of the spatial map, (1, 1) without space. As many tokens are the image,
    row by row; ``before`` says how many others (of a class, registers) come before them, -1 that all others do.
    """

    name: str
    node: str
    kind: str
    shape: tuple[int, ...]
    layout: str
    grid: tuple[int, int]
    before: int = -1

    @property
    def place_tokens(self) -> slice:
        """Where among the tokens of a layer with tokens those of the image are."""
        places = self.grid[0] * self.grid[1]
        first = self.shape[-2] - places if self.before < 0 else self.before
        return slice(first, first + places)

    @property
    def spatial(self) -> bool:
        """Whether the layer's output is a map with more than one position."""
        return self.layout != "none"

    @property
    def channels(self) -> int:
        """The number of channels (concepts) of the layer's output."""
        return self.shape[-1] if self.layout in ("channels last", "tokens") else self.shape[0]


@dataclass(frozen=True)
class ModelInfo:
    """Everything about a model but the graph itself.

    ``digest`` names the model with all that changes its results (graph and weights); ``weights_digest`` names the
    content of its weights as the author's file held them, whatever the file's format. ``private`` marks what a person
    uploaded: its results stay in memory. ``operators`` are the graph's operators, such as "aten.relu.default".
    ``kind`` says what the outputs mean, one of ``explainers.outputs.KINDS``; of numbers, ``unit`` is what they are
    measured in, and ``usual`` has their usual values if these are known. ``class_names`` are the outputs' names.
    """

    name: str
    source: str
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    layers: tuple[Layer, ...]
    output_shape: tuple[int, ...]
    parameters: int
    digest: str
    weights_digest: str
    notes: tuple[str, ...] = ()
    private: bool = False
    operators: tuple[str, ...] = ()
    kind: str = CLASSES
    unit: str = ""
    usual: tuple[float, ...] = ()

    @property
    def decision_names(self) -> tuple[str, ...]:
        """What the model can decide: its classes; of findings, that each is there, then that each is not."""
        return name_decisions(self.kind, self.class_names, self.usual)

    @property
    def score_unit(self) -> str:
        """What scores are measured in: logits, or the unit of the numbers."""
        return (self.unit or "units of the output") if self.kind == NUMBERS else "logit"

    def output_of(self, decision: int) -> int:
        """The output that a decision is about: that of its class, or the finding that is there or not."""
        return decision % len(self.class_names)

    def decisions_about(self, output: int) -> tuple[int, ...]:
        """The decisions about an output, only one of which is taken; () where all outputs share one decision."""
        if self.kind in (CLASSES, BINARY):
            return ()
        return tuple(range(output, len(self.decision_names), len(self.class_names)))

    @property
    def gives_map(self) -> bool:
        """Whether the output is a map of logits (class, height, width) instead of one logit a class."""
        return len(self.output_shape) == 3

    def layer(self, name: str) -> Layer:
        """Find a layer by its name; raises SelectionError with the nearest names."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        near = difflib.get_close_matches(name, [layer.name for layer in self.layers], n=3)
        raise SelectionError(
            f"The model has no layer '{name}'." + (f" Did you mean {' or '.join(near)}?" if near else "")
        )
