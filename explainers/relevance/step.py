"""One operator of a relevance pass, and what rules ask of it.

Relevance of a node is written R = quotient * factor. The factor is a value of the tape, shared by all seeds; it stays
apart until it has to be multiplied, because most rules divide by another value of the tape at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx

from explainers.relevance.composites import Assignment
from explainers.relevance.rules import push, stabilize
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


#: How relevance is called that a gradient makes or takes, and that ends where there is none.
GRADIENT, UNDIFFERENTIABLE = "elsewhere by gradient", "operators without a derivative"


@dataclass
class Account:
    """The relevance that ended on the way, by seed and image, in kinds.

    "bias": in biases. "epsilon": in stabilisers. "constants": in padding, position embeddings, class tokens and other
    summands that no pixel has a part in. "softmax": in the offset of the expansion of attention (AttnLRP). GRADIENT:
    the difference that gradient x input makes where an operator has no rule. UNDIFFERENTIABLE: in operators that have
    no derivative either.
    """

    batch: int
    ended: dict[str, Float[Tensor, "seed batch"]] = field(default_factory=dict)

    def book(self, kind: str, node: fx.Node, quotient: Float[Tensor, "seed *shape"], unit: Tensor | float) -> None:
        """Add the sum of quotient * unit, for each image, to what ended as this kind."""
        axis = 1 + node.meta["batch_axis"]
        amounts = quotient * unit if isinstance(unit, Tensor) else quotient
        amounts = amounts.real if amounts.is_complex() else amounts
        rest = [place for place in range(1, amounts.dim()) if place != axis]
        amounts = amounts.sum(rest) if rest else amounts
        if amounts[0].numel() % self.batch:  # a value of all images together: each has its part
            amounts = (amounts.reshape(len(quotient), -1).sum(1, keepdim=True) / self.batch).expand(-1, self.batch)
        outer = node.meta["batch_outer"] if amounts[0].numel() % (self.batch * node.meta["batch_outer"]) == 0 else 1
        amounts = amounts.reshape(len(quotient), outer, self.batch, -1).sum((1, 3))
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
        """The operands, in order and as often as they are given, that depend on the image."""
        found: list[fx.Node] = []
        fx.node.map_arg((self.node.args, self.node.kwargs), found.append)
        return [operand for operand in found if operand in self.assignment.carriers]

    @property
    def tracked(self) -> frozenset[fx.Node]:
        """The operands whose relevance has to be known: where something is accounted for, all that carry it."""
        return self.sources if self.account is None else frozenset(self.carried)

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """Read an argument's value, wherever it was given."""
        found = self.node.args[place] if len(self.node.args) > place else self.node.kwargs.get(name, default)
        return self.tape.value(found) if isinstance(found, fx.Node) else found

    def lose(self, kind: str, quotient: Float[Tensor, "seed *shape"], unit: Tensor | float = 1.0) -> None:
        """Note that relevance, quotient * unit, ends in this operator."""
        if self.account is not None:
            self.account.book(kind, self.node, quotient, unit)

    def lose_rest(self, kind: str, passed: Mapping[fx.Node, Relevance]) -> None:
        """Note that what an operator did not pass on of the relevance of its outputs ends in it."""
        if self.account is not None:
            for part in self.outputs.values():
                self.account.book(kind, self.node, part.total, 1.0)
            for node, part in passed.items():
                self.account.book(kind, node, -part.quotient, 1.0 if part.factor is None else part.factor)

    def output(self, place: int = 0) -> Float[Tensor, "*shape"]:
        """Read one of the operator's outputs."""
        found = self.tape.value(self.node)
        output: Tensor = found[place] if isinstance(found, (tuple, list)) else found
        return output

    def over_output(self, place: int = 0) -> Float[Tensor, "seed *shape"]:
        """Divide the relevance by the stabilised output: R / z."""
        output, epsilon = self.output(place), self.assignment.composite.stabilizer
        quotient = self.outputs[place].over(stabilize(output, epsilon), spare=True)
        if self.account is not None:
            self.lose("epsilon", quotient, push(output, epsilon))
        return quotient

    def pull_back(
        self, cotangents: Mapping[int, Float[Tensor, "seed *shape"]], nodes: Iterable[fx.Node] | None = None
    ) -> dict[fx.Node, Float[Tensor, "seed *shape"]]:
        """Multiply by the transposed Jacobian of the operator, for each source or for given nodes.

        Of complex values conjugates go in and come out, so that quotient * value is relevance there as well. Raises
        NotImplementedError for an operator without a derivative.
        """
        leaves, made = self.run_again(self.sources if nodes is None else nodes)
        outputs = [made[place] for place in cotangents]
        batched = any(len(cotangent) > 1 for cotangent in cotangents.values())
        given = [mirror(cotangent if batched else cotangent[0]) for cotangent in cotangents.values()]
        if not all(output.requires_grad for output in outputs):
            raise NotImplementedError(f"{self.node.target} has no derivative")
        try:
            found = torch.autograd.grad(
                outputs, list(leaves.values()), given, is_grads_batched=batched, allow_unused=True
            )
        except RuntimeError as error:  # torch does not always raise the kind that says so
            if "implemented" not in str(error):
                raise
            raise NotImplementedError(f"{self.node.target} has no derivative") from error
        count = len(next(iter(cotangents.values())))
        return {
            node: leaf.new_zeros(count, *leaf.shape) if grad is None else mirror(grad if batched else grad[None])
            for (node, leaf), grad in zip(leaves.items(), found, strict=True)
        }

    def run_again(self, nodes: Iterable[fx.Node]) -> tuple[dict[fx.Node, Tensor], Sequence[Tensor]]:
        """Run the operator with gradients; returns its inputs from these nodes, as leaves, and its outputs."""
        leaves = {node: self.tape.value(node).detach().requires_grad_() for node in nodes}
        target: Any = self.node.target
        arguments, keywords = fx.node.map_arg(
            (self.node.args, self.node.kwargs), lambda node: leaves[node] if node in leaves else self.tape.value(node)
        )
        with torch.enable_grad():
            made = target(*arguments, **keywords)
        return leaves, made if isinstance(made, (tuple, list)) else (made,)


def mirror(values: Tensor) -> Tensor:
    """The conjugates of complex values; others as they are."""
    return values.conj().resolve_conj() if values.is_complex() else values


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
