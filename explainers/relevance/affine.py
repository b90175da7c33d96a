"""Convolutions and dense layers: any rule of ``explainers.relevance.rules``, by two calls for each of its terms."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from explainers.relevance.composites import TRANSPOSED
from explainers.relevance.convolutions import Kernel, differentiate
from explainers.relevance.rules import Part, Term, negative, positive, same, stabilize
from explainers.relevance.step import Relevance, Shares, Step, fold, unfold

aten = torch.ops.aten
KEEPING_SIGN = frozenset({aten.max_pool2d.default, aten.dropout.default, aten.adaptive_avg_pool2d.default})


def propagate_affine(step: Step) -> Shares:
    """Apply the rule that the composite gave to a convolution or dense layer."""
    if any(operand in step.assignment.carriers for operand in step.node.args[1:3]):
        yield from propagate_product(step)
        return
    rule = step.assignment.rules[step.node]
    (source,) = step.sources
    for part in rule.parts:
        terms = [term for term in part.terms if not vanishes(step, term)]
        plain = part.terms == (Term(same, same, same),)
        if plain:
            signs = step.tape.value(step.node)
            quotient = step.relevance.over(stabilize(signs, rule.stabilizer), spare=True)
        else:
            compute = partial(stabilised_sum, step, part, terms, rule.stabilizer)
            signs = step.tape.remember((step.node, part, rule.stabilizer), compute)
            quotient = step.relevance.over(signs)
        if part.outputs:
            quotient = quotient * (step.tape.value(step.node) * part.outputs > 0)
        if part.share != 1:
            quotient = quotient * part.share
        if step.account is not None:
            settle(step, part, quotient, signs, rule.stabilizer)
        for term in terms:
            yield source, Relevance(pull_back(step, part, term, quotient), modify_input(step, term))


def propagate_product(step: Step) -> Shares:
    """Split the relevance where weights or biases depend on the image, by the epsilon rule: a product, half to each."""
    quotient = step.over_output()
    factors = [node for node in step.node.args[:2] if node in step.carried]
    for node, pulled in step.pull_back({0: quotient}).items():
        part = pulled / len(factors) if node in factors else pulled
        yield node, Relevance(part, step.tape.value(node))
    bias, spatial = step.argument(2, "bias"), 0 if step.node.target == aten.linear.default else quotient.dim() - 3
    if bias is not None and bias_node(step) not in step.carried:
        step.lose("bias", quotient, bias.view(-1, *(1,) * spatial))


def bias_node(step: Step) -> Any:
    """Where a bias is computed."""
    return step.node.args[2] if len(step.node.args) > 2 else step.node.kwargs.get("bias")


def settle(
    step: Step, part: Part, quotient: Float[Tensor, "seed *shape"], signs: Float[Tensor, "*shape"], epsilon: float
) -> None:
    """Note what of a part's relevance ends in the bias and in the stabiliser, which has the sign of ``signs``."""
    spatial = 0 if step.node.target == aten.linear.default else quotient.dim() - 3
    if not part.sign:
        step.lose("epsilon", quotient, torch.copysign(signs.new_tensor(epsilon), signs))
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
    made: list[Tensor] = []
    for term in terms:
        values, bias = modify_input(step, term), modify_bias(step, term)
        values = torch.ones_like(step.argument(0, "input")) if values is None else values
        if part.sign and not made:  # a stabiliser of known sign costs nothing in the bias
            channel = -1 if step.node.target == aten.linear.default else 1
            bias = values.new_zeros(step.tape.value(step.node).shape[channel]) if bias is None else bias
            bias = bias + part.sign * epsilon
        call = partial(kernel(step, part, term).forward, step.node.target)
        made.append(call(values, bias, *step.node.args[3:], **window(step)))
    total: Tensor = sum(made[1:], made[0])
    if not part.sign:
        return stabilize(total, epsilon)
    return total.clamp_(min=epsilon) if part.sign > 0 else total.clamp_(max=-epsilon)  # rounding may cross zero


def kernel(step: Step, part: Part, term: Term) -> Kernel:
    """The weight as a term modifies it; tolerant where no quotient has a denominator below the layer's output."""
    bounded = part.sign > 0 and all(user.target == aten.relu.default for user in step.node.users)
    return Kernel(step.tape.model, step.argument(1, "weight"), term.weight, bounded)


def pull_back(step: Step, part: Part, term: Term, quotient: Float[Tensor, "seed *out"]) -> Float[Tensor, "seed *in"]:
    """Multiply by the transposed, modified weight; seeds go into the batch of one convolution."""
    target, used, rest = step.node.target, kernel(step, part, term), (*step.node.args[3:],)
    if target == aten.linear.default:
        return quotient @ used.modified
    folded, size = fold(quotient), step.argument(0, "input").shape[1:]
    if term.weight is torch.ones_like and target not in TRANSPOSED and used.weight.shape[1] == size[0]:
        alike = torch.ones_like(used.weight[:1, :1])  # all channels get the same: go back to one of them only
        found = differentiate(target, folded.sum(1, keepdim=True), (1, *size[1:]), alike, *rest, **window(step))
        found = found.expand(-1, *size)
    else:
        found = used.backward(target, folded, size, *rest, **window(step))
    return unfold(found, len(quotient))


def window(step: Step) -> dict[str, Any]:
    """What a convolution was given by name, such as its stride; the bias is modified and given apart."""
    return {name: value for name, value in step.node.kwargs.items() if name != "bias"}
