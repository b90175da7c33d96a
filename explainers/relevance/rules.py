"""The rules of layer-wise relevance propagation for affine operators, as in the papers.

A rule is a sum of parts. A part takes a share of the relevance R_j of each output, divides it by z_j, the sum of its
terms' forward passes with modified inputs, weights and biases, and gives each term back input * weight^T (R / z).
The modifiers are module-level functions, so that equal rules are equal keys for what is cached.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch
from jaxtyping import Float
from torch import Tensor

Modifier = Callable[[Tensor], Tensor]

#: Keeps denominators away from zero in every rule but epsilon, which has a parameter for it.
STABILIZER = 1e-6


@dataclass(frozen=True)
class Term:
    """How input, weight and bias are modified; a bias of None counts as zero."""

    input: Modifier
    weight: Modifier
    bias: Modifier | None = None


@dataclass(frozen=True)
class Part:
    """Terms with a common denominator of the given sign (0: of either).

    ``outputs`` restricts the part to outputs of that sign (0: all outputs).
    """

    terms: tuple[Term, ...]
    share: float = 1.0
    outputs: int = 0
    sign: int = 0


@dataclass(frozen=True)
class Rule:
    """A rule for affine operators under its name."""

    name: str
    parts: tuple[Part, ...]
    stabilizer: float = STABILIZER


def push(z: Float[Tensor, "*shape"], epsilon: float) -> Float[Tensor, "*shape"]:
    """What pushes z away from zero: epsilon * sign(z), where the sign of zero is its own, of complex numbers one."""
    if z.is_complex():
        return torch.where(z == 0, 1, z.sgn()).mul_(epsilon)
    return torch.copysign(z.new_tensor(epsilon), z)


def stabilize(z: Float[Tensor, "*shape"], epsilon: float) -> Float[Tensor, "*shape"]:
    """Push z away from zero: z + epsilon * sign(z); a new tensor."""
    return push(z, epsilon).add_(z)


def same(tensor: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Leave it as it is."""
    return tensor


def positive(tensor: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Keep the positive values, zero elsewhere."""
    return tensor.clamp(min=0)


def negative(tensor: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Keep the negative values, zero elsewhere."""
    return tensor.clamp(max=0)


def favour(tensor: Float[Tensor, "*shape"], part: Modifier, gamma: float) -> Float[Tensor, "*shape"]:
    """Add gamma times the positive (or negative) values."""
    return tensor + gamma * part(tensor)


def fill(tensor: Float[Tensor, "batch *shape"], values: tuple[float, ...]) -> Float[Tensor, "batch *shape"]:
    """Set every channel to one value."""
    shape = (-1, *(1 for _ in tensor.shape[2:]))
    return torch.tensor(values, dtype=tensor.dtype, device=tensor.device).view(shape).expand_as(tensor)


def repeat(tensor: Float[Tensor, "batch *shape"], values: Float[Tensor, "1 *shape"]) -> Float[Tensor, "batch *shape"]:
    """Set every image to the same values."""
    return values.to(tensor).expand_as(tensor)


@cache
def epsilon(value: float = STABILIZER) -> Rule:
    """Epsilon rule (Bach et al. 2015): z = a w + b."""
    return Rule("epsilon", (Part((Term(same, same, same),)),), value)


@cache
def alpha_beta(alpha: float = 2.0, beta: float = 1.0) -> Rule:
    """Alpha-beta rule (Bach et al. 2015): alpha of the positive contributions minus beta of the negative ones."""
    plus = Part((Term(positive, positive, positive), Term(negative, negative)), alpha, sign=1)
    minus = Part((Term(positive, negative, negative), Term(negative, positive)), -beta, sign=-1)
    return Rule("alpha-beta", (plus, minus) if beta else (plus,))


@cache
def zplus() -> Rule:
    """z-plus rule (Montavon et al. 2017), for signed inputs too: alpha = 1, beta = 0."""
    return Rule("z-plus", alpha_beta(1.0, 0.0).parts)


@cache
def gamma(value: float = 0.25) -> Rule:
    """Gamma rule (Montavon et al. 2019), for signed inputs and outputs (Andeol et al. 2021)."""
    more, less = partial(favour, part=positive, gamma=value), partial(favour, part=negative, gamma=value)
    plus = Part((Term(positive, more, more), Term(negative, less)), outputs=1)
    minus = Part((Term(positive, less, less), Term(negative, more)), outputs=-1)
    return Rule("gamma", (plus, minus))


@cache
def wsquare() -> Rule:
    """w-square rule (Montavon et al. 2017): inputs count as one, weights squared."""
    return Rule("w-square", (Part((Term(torch.ones_like, torch.square, torch.square),), sign=1),))


@cache
def flat() -> Rule:
    """Flat rule (Lapuschkin et al. 2019): every input of an output gets the same."""
    return Rule("flat", (Part((Term(torch.ones_like, torch.ones_like),), sign=1),))


@cache
def zbox(low: tuple[float, ...], high: tuple[float, ...]) -> Rule:
    """z-box rule (Montavon et al. 2017) for inputs between ``low`` and ``high`` in each channel."""
    lowest, highest = (tuple(-value for value in bound) for bound in (low, high))
    return box(partial(fill, values=lowest), partial(fill, values=highest))


def zbox_between(low: Float[Tensor, "1 *shape"], high: Float[Tensor, "1 *shape"]) -> Rule:
    """z-box rule for inputs between ``low`` and ``high`` in each place."""
    return box(partial(repeat, values=-low), partial(repeat, values=-high))


def box(lowest: Modifier, highest: Modifier) -> Rule:
    """z-box rule, by what makes the lowest and the highest input of the input, negated."""
    return Rule("z-box", (Part((Term(same, same), Term(lowest, positive), Term(highest, negative))),))
