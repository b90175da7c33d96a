"""Weights as rules modify them, and packed for the processor's convolutions (oneDNN); made once for each model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from explainers.graph.model import Model
from explainers.relevance.rules import Modifier, same

aten, onednn = torch.ops.aten, torch.ops.mkldnn

#: The window of a convolution where the graph leaves it out: stride, padding, dilation, groups.
WINDOW: tuple[Any, ...] = ([1, 1], [0, 0], [1, 1], 1)


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
            return cast(Tensor, operator(values, self.modify(weight, modifier), bias, *rest, **keywords))
        stride, padding, dilation, groups = (*rest, *WINDOW[len(rest) :])
        window = (padding, stride, dilation, groups)
        pack = partial(pack_with, onednn._reorder_convolution_weight, (*window, list(values.shape)))
        packed = self.make(weight, modifier, "forward", pack)
        return cast(Tensor, onednn._convolution_pointwise(values, packed, bias, *window, "none", [], ""))

    def transpose(self, modifier: Modifier, values: Tensor, weight: Tensor, window: Sequence[Any]) -> Tensor:
        """Multiply by the transposed, modified weight of a 2d convolution.

        ``window`` is padding, output padding, stride, dilation and groups.
        """
        pack = partial(pack_with, onednn._reorder_convolution_transpose_weight, (*window, list(values.shape)))
        packed = self.make(weight, modifier, "backward", pack)
        return cast(Tensor, onednn._convolution_transpose_pointwise(values, packed, None, *window, "none", [], ""))


def pack_with(reorder: Any, geometry: Sequence[Any], weight: Tensor) -> Tensor:
    """Pack a weight with an operator of oneDNN, for images of this shape; others go through it as well."""
    return cast(Tensor, reorder(weight, *geometry))


def packs(operator: Any, weight: Tensor) -> bool:
    """Whether oneDNN can take this weight packed, which saves packing it again in each call."""
    plain = operator == aten.conv2d.default and weight.dtype == torch.float32 and weight.device.type == "cpu"
    return plain and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


#: What was made for each model that is alive.
weights: WeakKeyDictionary[Model, Weights] = WeakKeyDictionary()


def weights_of(model: Model) -> Weights:
    """Find what was made of a model's weights."""
    return weights.setdefault(model, Weights())
