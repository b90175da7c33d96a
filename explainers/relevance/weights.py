"""Weights as rules modify them, and packed for the processor's convolutions (oneDNN); made once for each model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from explainers.graph.model import Model
from explainers.relevance.rules import Modifier, same

aten, onednn = torch.ops.aten, torch.ops.mkldnn

#: The window of a convolution where the graph leaves it out: stride, padding, dilation, groups.
WINDOW = ([1, 1], [0, 0], [1, 1], 1)


@dataclass(frozen=True, eq=False)
class Weights:
    """What was made of a model's weights, by weight, modifier and use; two threads may make the same at once."""

    made: dict[tuple[int, Modifier, str], Tensor] = field(default_factory=dict)

    def make(self, weight: Tensor, modifier: Modifier, use: str, pack: Callable[[Tensor], Tensor]) -> Tensor:
        """Modify and pack a weight for one use, or read what was made before."""
        key = (id(weight), modifier, use)
        if (found := self.made.get(key)) is None:
            found = self.made[key] = pack(modifier(weight))
        return found

    def modify(self, weight: Tensor, modifier: Modifier) -> Tensor:
        """Read a weight as a rule modifies it."""
        return weight if modifier is same else self.make(weight, modifier, "modified", same)

    def apply(
        self, operator: Any, modifier: Modifier, values: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any,
        **keywords: Any,
    ) -> Tensor:  # fmt: skip
        """Call a convolution or dense operator with a modified weight."""
        if keywords or not packs(operator, weight):
            made: Tensor = operator(values, self.modify(weight, modifier), bias, *rest, **keywords)
            return made
        stride, padding, dilation, groups = (*rest, *WINDOW[len(rest) :])
        window = (padding, stride, dilation, groups)
        packed = self.make(
            weight,
            modifier,
            "forward",
            lambda plain: onednn._reorder_convolution_weight(plain, *window, list(values.shape)),
        )
        made = onednn._convolution_pointwise(values, packed, bias, *window, "none", [], "")
        return made

    def transpose(
        self, modifier: Modifier, values: Tensor, weight: Tensor, more: Sequence[int], window: Sequence[Any]
    ) -> Float[Tensor, "batch channel height width"]:
        """Multiply by the transposed, modified weight of a 2d convolution; ``more`` is its output padding."""
        stride, padding, dilation, groups = window
        arguments = (padding, more, stride, dilation, groups)
        packed = self.make(
            weight,
            modifier,
            "backward",
            lambda plain: onednn._reorder_convolution_transpose_weight(plain, *arguments, list(values.shape)),
        )
        made: Tensor = onednn._convolution_transpose_pointwise(values, packed, None, *arguments, "none", [], "")
        return made


def packs(operator: Any, weight: Tensor) -> bool:
    """Whether oneDNN can take this weight packed, which saves packing it again in each call."""
    plain = operator == aten.conv2d.default and weight.dtype == torch.float32 and weight.device.type == "cpu"
    return plain and torch.backends.mkldnn.is_available()


#: What was made for each model that is alive.
weights: WeakKeyDictionary[Model, Weights] = WeakKeyDictionary()


def weights_of(model: Model) -> Weights:
    """Find what was made of a model's weights."""
    return weights.setdefault(model, Weights())
