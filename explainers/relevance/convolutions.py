"""Convolutions with weights as rules modify them, forwards and, transposed, backwards.

2d convolutions in single precision take weights that were rearranged once for each model: for Winograd's algorithm
where that is faster, else as the processor's library (oneDNN) reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from explainers.graph.model import Model
from explainers.relevance import winograd
from explainers.relevance.rules import Modifier, same

aten, onednn = torch.ops.aten, torch.ops.mkldnn
CONVOLUTION = aten.conv2d.default

#: The window of a convolution where the graph leaves it out: stride, padding, dilation, groups.
WINDOW: tuple[Any, ...] = ([1, 1], [0, 0], [1, 1], 1)


@dataclass(frozen=True, eq=False)
class Kernel:
    """The weight of a convolution or dense layer of a model, as a rule modifies it.

    Where it is ``tolerant``, rounding errors may be relative to the largest value nearby rather than to each value.
    """

    model: Model
    weight: Tensor
    modifier: Modifier = same
    tolerant: bool = True

    @property
    def modified(self) -> Tensor:
        """The modified weight itself."""
        return self.weight if self.modifier is same else self.arranged("modified", same)

    def arranged(self, use: str, arrange: Callable[[Tensor], Tensor]) -> Tensor:
        """Read the modified weight as it was arranged for one use; made once for each model.

        A weight that the graph computes is another one in each pass, so it is arranged anew.
        """
        if id(self.weight) not in self.model.constants:
            return arrange(self.modifier(self.weight))
        key = (id(self.weight), self.modifier, use)
        found: Tensor = self.model.remember(key, lambda: arrange(self.modifier(self.weight)))
        return found

    def forward(
        self, operator: Any, values: Tensor, bias: Tensor | None = None, *rest: Any, **named: Any
    ) -> Float[Tensor, "batch *out"]:
        """Call the operator."""
        if named or not packs(operator, self.weight):
            return cast(Tensor, operator(values, self.modified, bias, *rest, **named))
        window = stride, padding, dilation, groups = (*rest, *WINDOW[len(rest) :])
        if self.tolerant and winograd.suits(values, self.weight, *window):
            return winograd.convolve(values, self.arranged("kernels", winograd.transform), bias)
        geometry = padding, stride, dilation, groups
        shape, reorder = list(values.shape), onednn._reorder_convolution_weight  # other shapes go through it as well
        packed = self.arranged("forward", lambda weight: reorder(weight, *geometry, shape))
        return cast(Tensor, onednn._convolution_pointwise(values, packed, bias, *geometry, "none", [], ""))

    def backward(
        self, operator: Any, folded: Float[Tensor, "batch *out"], size: Sequence[int], *rest: Any, **named: Any
    ) -> Float[Tensor, "batch *in"]:
        """Multiply by the transposed weight of a convolution; ``size`` is that of one input."""
        if named or not packs(operator, self.weight):
            return differentiate(operator, folded, size, self.modified, *rest, **named)
        window = stride, padding, dilation, groups = (*rest, *WINDOW[len(rest) :])
        if self.tolerant and winograd.suits(folded, self.weight, *window):
            return winograd.convolve(folded, self.arranged("turned", winograd.transform_turned))
        spans = zip(size[1:], folded.shape[2:], self.weight.shape[2:], stride, padding, dilation, strict=True)
        more = [full - (out - 1) * s + 2 * p - (kernel - 1) * d - 1 for full, out, kernel, s, p, d in spans]
        geometry = padding, more, stride, dilation, groups
        shape, reorder = list(folded.shape), onednn._reorder_convolution_transpose_weight
        packed = self.arranged("backward", lambda weight: reorder(weight, *geometry, shape))
        return cast(Tensor, onednn._convolution_transpose_pointwise(folded, packed, None, *geometry, "none", [], ""))


def differentiate(
    operator: Any, folded: Float[Tensor, "batch *out"], size: Sequence[int], weight: Tensor, *rest: Any, **named: Any
) -> Float[Tensor, "batch *in"]:
    """Multiply by the transposed weight of any convolution; ``size`` is that of one input."""
    inputs = folded.new_zeros(len(folded), *size).requires_grad_()
    with torch.enable_grad():
        made = operator(inputs, weight, None, *rest, **named)
    return torch.autograd.grad(made, inputs, folded)[0]


def packs(operator: Any, weight: Tensor) -> bool:
    """Whether the processor's library can take this weight packed, which saves packing it again in each call."""
    plain = operator == CONVOLUTION and weight.dtype == torch.float32 and weight.device.type == "cpu"
    return plain and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
