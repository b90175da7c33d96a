"""One operator of a relevance pass, and what rules ask of it.

Relevance of a node is written R = quotient * factor. The factor is a value of the tape, shared by all seeds; it stays
apart until it has to be multiplied, because most rules divide by another value of the tape at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx

from explainers.errors import UnsupportedOperatorError
from explainers.relevance.composites import Assignment, names
from explainers.relevance.rules import stabilize
from explainers.relevance.tape import Tape


@dataclass(frozen=True)
class Relevance:
    """Relevance of a node as a product: ``quotient`` by seed, times ``factor``, the same for all seeds (None: one)."""

    quotient: Float[Tensor, "seed *shape"]
    factor: Float[Tensor, "*shape"] | None = None

    @property
    def total(self) -> Float[Tensor, "seed *shape"]:
        """The relevance itself."""
        return self.quotient if self.factor is None else self.quotient * self.factor

    def over(self, denominator: Float[Tensor, "*shape"], spare: bool = False) -> Float[Tensor, "seed *shape"]:
        """Divide by a value of the tape; where it is ``spare``, its memory is used for the result."""
        if self.factor is None:
            return self.quotient / denominator
        ratio = torch.div(self.factor, denominator, out=denominator if spare else None)
        return ratio[None].mul_(self.quotient) if len(self.quotient) == 1 else self.quotient * ratio


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
        axis = 1 + node.meta["batch_axis"]
        amounts = quotient * unit if isinstance(unit, Tensor) else quotient
        rest = [place for place in range(1, amounts.dim()) if place != axis]
        amounts = (amounts.sum(rest) if rest else amounts).reshape(len(quotient), self.batch, -1).sum(-1)
        self.ended[kind] = self.ended.get(kind, 0.0) + (amounts if isinstance(unit, Tensor) else amounts * unit)


Shares = Iterable[tuple[fx.Node, Relevance]]


@dataclass(frozen=True)
class Step:
    """One operator of a relevance pass, with the relevance of its outputs by place (0 if it has only one).

    ``sources`` are the inputs that lead to where the pass goes. ``account`` notes where relevance ends, if asked.
    """

    tape: Tape
    node: fx.Node
    assignment: Assignment
    outputs: Mapping[int, Relevance]
    sources: frozenset[fx.Node]
    account: Account | None

    @property
    def relevance(self) -> Relevance:
        """The relevance of the operator's only output."""
        return self.outputs[0]

    @property
    def carried(self) -> list[Any]:
        """The operands, in order, that depend on the image."""
        return [operand for operand in self.node.args if operand in self.assignment.carriers]

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """Read an argument's value, wherever it was given."""
        found = self.node.args[place] if len(self.node.args) > place else self.node.kwargs.get(name, default)
        return self.tape.value(found) if isinstance(found, fx.Node) else found

    def lose(self, kind: str, quotient: Float[Tensor, "seed *shape"], unit: Tensor | float = 1.0) -> None:
        """Note that relevance, quotient * unit, ends in this operator."""
        if self.account is not None:
            self.account.book(kind, self.node, quotient, unit)

    def over_output(self) -> Float[Tensor, "seed *shape"]:
        """Divide the relevance by the stabilised output: R / z."""
        output, epsilon = self.tape.value(self.node), self.assignment.composite.stabilizer
        quotient = self.relevance.over(stabilize(output, epsilon), spare=True)
        if self.account is not None:
            self.lose("epsilon", quotient, torch.copysign(output.new_tensor(epsilon), output))
        return quotient

    def pull_back(
        self, cotangents: Mapping[int, Float[Tensor, "seed *shape"]]
    ) -> dict[fx.Node, Float[Tensor, "seed *shape"]]:
        """Multiply by the transposed Jacobian of the operator, for each source."""
        leaves = {node: self.tape.value(node).detach().requires_grad_() for node in self.sources}
        target: Any = self.node.target
        arguments, keywords = fx.node.map_arg(
            (self.node.args, self.node.kwargs), lambda node: leaves[node] if node in leaves else self.tape.value(node)
        )
        with torch.enable_grad():
            made = target(*arguments, **keywords)
        made = made if isinstance(made, (tuple, list)) else (made,)
        batched = any(len(cotangent) > 1 for cotangent in cotangents.values())
        found = torch.autograd.grad(
            [made[place] for place in cotangents],
            list(leaves.values()),
            [cotangent if batched else cotangent[0] for cotangent in cotangents.values()],
            is_grads_batched=batched,
        )
        return {node: grad if batched else grad[None] for node, grad in zip(leaves, found, strict=True)}


def fold(values: Float[Tensor, "seed batch *shape"]) -> Float[Tensor, "seed_batch *shape"]:
    """Put the seeds into the batch; one seed by an index, which leaves the memory format recognisable."""
    return values[0] if len(values) == 1 else values.flatten(0, 1)


def unfold(values: Float[Tensor, "seed_batch *shape"], seeds: int) -> Float[Tensor, "seed batch *shape"]:
    """Take the seeds out of the batch again."""
    return values[None] if seeds == 1 else values.reshape(seeds, -1, *values.shape[1:])


def fit(values: Float[Tensor, "seed *shape"], operand: Float[Tensor, "*smaller"]) -> Float[Tensor, "seed *smaller"]:
    """Sum over the dimensions along which an operand was repeated."""
    if values.shape[1:] == operand.shape:
        return values
    ones = (1,) * (values.dim() - 1 - operand.dim())
    return values.sum_to_size(len(values), *ones, *operand.shape).reshape(len(values), *operand.shape)


def unsupported(node: fx.Node, what: str = "") -> UnsupportedOperatorError:
    """Say which operator has no rule, and in which layer it sits."""
    inside = names(node)
    return UnsupportedOperatorError(
        f"The operator {what or node.target} {f'in the layer {inside[0]}' if inside else 'of the model'} has no "
        "relevance rule. Choose another method, such as the gradient, or a layer behind it as the map."
    )
