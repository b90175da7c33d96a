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

#: Over how many pixels Winograd's algorithm is faster than the plain sum, which needs no transform of the weights.
WIDE = 28 * 28


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

    def transpose(self, modifier: Modifier, folded: Tensor, values: Tensor, weight: Tensor, *rest: Any) -> Tensor:
        """Multiply by the transposed, modified weight of a 2d convolution of ``values``."""
        stride, padding, dilation, groups = (*rest, *WINDOW[len(rest) :])
        spans = zip(values.shape[2:], folded.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
        more = [size - (out - 1) * s + 2 * p - (kernel - 1) * d - 1 for size, out, kernel, s, p, d in spans]
        window = (padding, more, stride, dilation, groups)
        pack = partial(pack_with, onednn._reorder_convolution_transpose_weight, (*window, list(folded.shape)))
        packed = self.make(weight, modifier, "backward", pack)
        return cast(Tensor, onednn._convolution_transpose_pointwise(folded, packed, None, *window, "none", [], ""))


def suits_winograd(values: Tensor, weight: Tensor, *window: Any) -> bool:
    """Whether NNPACK computes this convolution faster than oneDNN: by Winograd's algorithm, channels first.

    It does so with one thread only; oneDNN's plain sums are as fast with two.
    """
    small = weight.shape[2:] == (3, 3) and (*window, *WINDOW[len(window) :]) == ([1, 1], [1, 1], [1, 1], 1)
    wide = values.shape[2] * values.shape[3] >= WIDE and values.is_contiguous()
    alone = torch.get_num_threads() == 1
    return small and wide and alone and packs(aten.conv2d.default, weight) and bool(torch._nnpack_available())


def convolve(values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve 3x3 by NNPACK, image by image, so that its workspace stays in the processor's cache.

    Rounding errors are as large as elsewhere, but relative to the largest value nearby.
    """
    made = [aten._nnpack_spatial_convolution(image, weight, bias, [1, 1]) for image in torch.split(values, 1)]
    return made[0] if len(made) == 1 else torch.cat(made)


def turn(weight: Tensor) -> Tensor:
    """Make the weight with which a convolution of stride one goes backwards."""
    return weight.flip(2, 3).transpose(0, 1).contiguous()


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
