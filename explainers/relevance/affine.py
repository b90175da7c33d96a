"""Convolutions and dense layers: any rule of ``explainers.relevance.rules``, by two calls for each of its terms."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from explainers.relevance.composites import TRANSPOSED
from explainers.relevance.rules import Part, Term, negative, positive, same, stabilize
from explainers.relevance.step import Relevance, Shares, Step
from explainers.relevance.weights import packs

aten = torch.ops.aten
KEEPING_SIGN = frozenset({aten.max_pool2d.default, aten.dropout.default, aten.adaptive_avg_pool2d.default})


def propagate_affine(step: Step) -> Shares:
    """Apply the rule that the composite gave to a convolution or dense layer."""
    rule = step.assignment.rules[step.node]
    (source,) = step.sources
    for part in rule.parts:
        terms = [term for term in part.terms if not vanishes(step, term)]
        plain = part.terms == (Term(same, same, same),)
        if plain:
            stabilised = stabilize(step.tape.value(step.node), rule.stabilizer)
        else:
            compute = partial(stabilised_sum, step, part, terms, rule.stabilizer)
            stabilised = step.tape.remember((step.node, part, rule.stabilizer), compute)
        quotient = step.relevance.over(stabilised, spare=plain and step.account is None)
        if part.outputs:
            quotient = quotient * (step.tape.value(step.node) * part.outputs > 0)
        if part.share != 1:
            quotient = quotient * part.share
        if step.account is not None:
            settle(step, part, quotient, stabilised, rule.stabilizer)
        for term in terms:
            yield source, Relevance(transpose(step, term, quotient), modify_input(step, term))


def settle(
    step: Step, part: Part, quotient: Float[Tensor, "seed *shape"], stabilised: Float[Tensor, "*shape"], epsilon: float
) -> None:
    """Note what of a part's relevance ends in the bias and in the stabiliser."""
    spatial = 0 if step.node.target == aten.linear.default else quotient.dim() - 3
    if not part.sign:
        step.lose("epsilon", quotient, torch.copysign(stabilised.new_tensor(epsilon), stabilised))
    sums = quotient.sum(tuple(range(-spatial, 0)), keepdim=True) if spatial else quotient
    if part.sign:
        step.lose("epsilon", sums, part.sign * epsilon)
    for bias in (modify_bias(step, term) for term in part.terms):
        if bias is not None:
            step.lose("bias", sums, bias.view(-1, *(1,) * spatial))


def vanishes(step: Step, term: Term) -> bool:
    """Whether a term is zero since the input has no negative values, as after a ReLU."""
    if term.input is not negative:
        return False
    source: Any = step.node.args[0]
    while source.target in KEEPING_SIGN:
        source = source.args[0]
    if source.target == aten.relu.default:
        return True
    return bool(step.tape.remember((source, negative), lambda: step.tape.value(source).min() >= 0))


def modify_input(step: Step, term: Term) -> Tensor | None:
    """Modify the input of a convolution or dense layer; None stands for ones."""
    values: Tensor = step.argument(0, "input")
    if term.input is positive and vanishes(step, Term(negative, same)):
        return values
    return None if term.input is torch.ones_like else term.input(values)


def modify_bias(step: Step, term: Term) -> Tensor | None:
    """Modify the bias of a convolution or dense layer; None if it has none or the rule leaves it out."""
    bias = step.argument(2, "bias")
    return None if bias is None or term.bias is None else term.bias(bias)


def stabilised_sum(step: Step, part: Part, terms: list[Term], epsilon: float) -> Float[Tensor, "*shape"]:
    """Sum what the operator makes of a part's modified inputs, weights and biases, and push it away from zero."""
    target: Any = step.node.target
    keywords = {name: value for name, value in step.node.kwargs.items() if name != "bias"}
    made: list[Tensor] = []
    for term in terms:
        values, bias = modify_input(step, term), modify_bias(step, term)
        values = torch.ones_like(step.argument(0, "input")) if values is None else values
        if part.sign and not made:  # a stabiliser of known sign costs nothing in the bias
            channel = -1 if target == aten.linear.default else 1
            bias = values.new_zeros(step.tape.value(step.node).shape[channel]) if bias is None else bias
            bias = bias + part.sign * epsilon
        weight = step.argument(1, "weight")
        made.append(step.tape.weights.apply(target, term.weight, values, weight, bias, *step.node.args[3:], **keywords))
    total: Tensor = sum(made[1:], made[0])
    return total if part.sign else stabilize(total, epsilon)


def transpose(step: Step, term: Term, quotient: Float[Tensor, "seed *out"]) -> Float[Tensor, "seed *in"]:
    """Multiply by the transposed, modified weight; seeds go into the batch of one convolution."""
    values, plain = step.argument(0, "input"), step.argument(1, "weight")
    if step.node.target == aten.linear.default:
        pulled: Tensor = quotient @ step.tape.weights.modify(plain, term.weight)
        return pulled
    *window, groups, extra = geometry(step, values.dim() - 2)
    channels = values.shape[1]
    folded = quotient.flatten(0, 1)
    summed = term.weight is torch.ones_like and groups == 1
    if not summed and packs(step.node.target, plain):
        stride, padding, dilation, *_ = window
        spans = zip(values.shape[2:], folded.shape[2:], plain.shape[2:], stride, padding, dilation, strict=True)
        more = [size - (out - 1) * s + 2 * p - (kernel - 1) * d - 1 for size, out, kernel, s, p, d in spans]
        made = step.tape.weights.transpose(term.weight, folded, plain, (padding, more, stride, dilation, groups))
        return made.reshape(*quotient.shape[:2], *values.shape[1:])
    weight = step.tape.weights.modify(plain, term.weight)
    if summed:  # all channels get the same: go back to one of them only
        folded, weight, channels = folded.sum(1, keepdim=True), weight[:1, :1], 1
    sizes = [size + more for size, more in zip(values.shape[2:], extra, strict=True)]
    inputs = folded.new_empty(1).expand(len(folded), channels, *sizes)
    found: Tensor = aten.convolution_backward(folded, inputs, weight, None, *window, groups, [True, False, False])[0]
    for axis, more in enumerate(extra, 2):
        found = found.narrow(axis, 0, values.shape[axis]) if more else found
    return found.expand(-1, values.shape[1], *values.shape[2:]).reshape(*quotient.shape[:2], *values.shape[1:])


def geometry(step: Step, dimensions: int) -> tuple[Any, ...]:
    """Stride, padding, dilation, transposition, output padding, groups, and what "same" pads more on the far side."""
    transposed = step.node.target in TRANSPOSED
    order = "stride padding output_padding groups dilation" if transposed else "stride padding dilation groups"
    given: dict[str, Any] = dict(zip(order.split(), step.node.args[3:], strict=False)) | dict(step.node.kwargs)
    stride, dilation = (list(given.get(name, [1])) for name in ("stride", "dilation"))
    padding, more, extra = given.get("padding", [0]), given.get("output_padding", [0]), [0] * dimensions
    if isinstance(padding, str):
        kernel = step.argument(1, "weight").shape[2:]
        spans = [(size - 1) * dilation[axis % len(dilation)] * (padding == "same") for axis, size in enumerate(kernel)]
        padding, extra = [span // 2 for span in spans], [span % 2 for span in spans]
    filled = [list(item) * (dimensions // len(item)) for item in (stride, padding, dilation, more)]
    return (*filled[:3], transposed, filled[3], given.get("groups", 1), extra)
