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
        amounts = quotient * unit if isinstance(unit, Tensor) else quotient
        rest = [place for place in range(1, amounts.dim()) if place != axis]
        amounts = (amounts.sum(rest) if rest else amounts).reshape(len(quotient), self.batch, -1).sum(-1)
        self.ended[kind] = self.ended.get(kind, 0.0) + (amounts if isinstance(unit, Tensor) else amounts * unit)


def batch_axis(node: fx.Node) -> int:
    """Find the dimension of a node's value that grows with the batch."""
    value = node.meta["val"]
    sizes = value.shape if isinstance(value, Tensor) else value[0].shape
    return next((place for place, size in enumerate(sizes) if isinstance(size, torch.SymInt)), 0)
