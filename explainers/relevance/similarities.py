"""Similarity to prototypes, which grows as a distance shrinks: the rule that goes around the distance's arithmetic.

The rules of its sums and products would call what makes a patch alike the prototype a reason against it, since it makes
the distance small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx

from explainers.graph.model import Model, constant
from explainers.relevance.groups import ELEMENTWISE, QUOTIENTS, overloads
from explainers.relevance.tape import Tape

aten = torch.ops.aten

#: What distances are made of, and similarities of them.
ARITHMETIC = ELEMENTWISE | QUOTIENTS | overloads("add sub rsub mul sum") | {aten.conv2d.default}


@dataclass(frozen=True, eq=False)
class Similarity:
    """A map of similarities, at ``node``, of the vectors at ``source`` to prototypes; ``inner`` lies between."""

    node: fx.Node
    source: fx.Node
    prototypes: Float[Tensor, "prototype channel"]
    inner: frozenset[fx.Node]

    def share(
        self, relevance: Float[Tensor, "seed batch prototype *places"], values: Float[Tensor, "batch channel *places"]
    ) -> Float[Tensor, "seed batch channel *places"]:
        """Split each similarity among the channels, the more the nearer they are: by 1 / (z_k - p_k)^4.

        Prototypical relevance propagation (Gautam et al. 2023, arXiv:2108.12204); nothing is lost.
        """
        found = relevance.new_zeros(len(relevance), *values.shape)
        for place, prototype in enumerate(self.prototypes):
            arriving = relevance[:, :, place : place + 1]
            if arriving.any():
                near = 1 / ((values - prototype.view(-1, 1, 1)) ** 4 + 1e-12)
                found += arriving * (near / near.sum(1, keepdim=True))
        return found


def find_similarities(model: Model) -> tuple[Similarity, ...]:
    """Find the maps of similarities by squared distance, as of prototypical part networks (arXiv:1806.10574)."""
    found: tuple[Similarity, ...] = model.remember("similarities", lambda: _find_similarities(model))
    return found


def _find_similarities(model: Model) -> tuple[Similarity, ...]:
    moving = {model.input_node}
    for node in model.program.graph.nodes:
        if not moving.isdisjoint(node.all_input_nodes):
            moving.add(node)
    convolutions = model.program.graph.find_nodes(op="call_function", target=aten.conv2d.default)
    found = (find_similarity(model, node, moving) for node in convolutions)
    return tuple(one for one in found if one)


def find_similarity(model: Model, convolution: fx.Node, moving: set[fx.Node]) -> Similarity | None:
    """Find the similarities whose distances a convolution with prototypes computes; None if it is another."""
    operands: Any = convolution.args
    source, weight, *rest = operands
    if weight.op != "get_attr" or any(rest[:1]) or not any(is_square(user, source) for user in source.users):
        return None
    prototypes = constant(model.program, weight)
    inner: list[fx.Node] = []
    for node in model.program.graph.nodes:
        needed = moving.intersection(node.all_input_nodes)
        if needed and needed <= {source, *inner} and node.target in ARITHMETIC:
            inner.append(node)
    leaving = [node for node in inner if any(user not in inner for user in node.users)]
    if prototypes.shape[2:] != (1, 1) or len(leaving) != 1 or convolution not in inner:
        return None
    found = Similarity(leaving[0], source, prototypes.flatten(1), frozenset(inner) - {leaving[0]})
    return found if is_symmetric(model, found) else None


def is_square(node: fx.Node, source: fx.Node) -> bool:
    """Whether a node is the square of another."""
    if node.target == aten.pow.Tensor_Scalar:
        return bool(node.args[1] == 2)
    product = node.target == aten.mul.Tensor and node.args[:2] == (source, source)
    return product or node.target == aten.square.default


def is_symmetric(model: Model, similarity: Similarity) -> bool:
    """Whether patches on both sides of a prototype are as similar to it, and less than the prototype: by distance."""
    prototypes = similarity.prototypes[:, :, None, None]
    offset = prototypes.std() * torch.randn(prototypes.shape, generator=torch.Generator().manual_seed(0))

    def measure(vectors: Tensor) -> Tensor:
        made: Tensor = Tape(model, len(vectors), 0, {similarity.source.name: vectors}).value(similarity.node)
        return made.flatten(1).diagonal()

    at, one, other = (measure(prototypes + sign * offset) for sign in (0, 1, -1))
    return bool((at > one).all()) and bool(torch.isclose(one, other, rtol=1e-3).all())
