"""Where relevance ends before it reaches the input."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, fx


@dataclass
class Account:
    """The relevance that ended on the way, by seed and image, in kinds.

    "bias": in biases. "epsilon": in stabilisers. "constants": in padding, position embeddings, class tokens and other
    summands that no pixel has a part in. "softmax": in the offset of the expansion of attention (AttnLRP).
    """

    batch: int
    ended: dict[str, Float[Tensor, "seed batch"]] = field(default_factory=dict)

    def book(self, kind: str, node: fx.Node, quotient: Float[Tensor, "seed *shape"], unit: Tensor | float) -> None:
        """Add the sum of quotient * unit, for each image, to what ended as this kind."""
        axis = 1 + batch_axis(node)
        if not isinstance(unit, Tensor):
            unit = quotient.new_tensor(unit)
        constant = [
            place for place in range(1, quotient.dim()) if place != axis and size_at(unit, place - quotient.dim()) == 1
        ]
        if constant:
            quotient = quotient.sum(constant, keepdim=True)
        amounts = quotient * unit
        if rest := [place for place in range(1, amounts.dim()) if place != axis]:
            amounts = amounts.sum(rest)
        amounts = amounts.reshape(len(quotient), self.batch, -1).sum(-1)
        self.ended[kind] = self.ended.get(kind, 0.0) + amounts


def size_at(tensor: Tensor, place: int) -> int:
    """The size of a dimension counted from the end; 1 for those that a broadcast adds."""
    return tensor.shape[place] if -place <= tensor.dim() else 1


def batch_axis(node: fx.Node) -> int:
    """Find the dimension of a node's value that grows with the batch."""
    value = node.meta["val"]
    sizes = value.shape if isinstance(value, Tensor) else value[0].shape
    return next((place for place, size in enumerate(sizes) if isinstance(size, torch.SymInt)), 0)
