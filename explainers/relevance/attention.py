"""Softmax and attention: what AttnLRP (Achtibat et al. 2024, arXiv:2402.05602) and CP-LRP make of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx

from explainers.relevance.rules import stabilize
from explainers.relevance.step import Relevance, Shares, Step, fit


def expand_softmax(step: Step) -> Shares:
    """Expand the softmax at its input (AttnLRP): R_i = x_i (R'_i - s_i sum_j R'_j)."""
    (source,) = step.sources
    dim = step.argument(1, "dim")
    total, weights, logits = step.relevance.total, step.tape.value(step.node), finite(step, source)
    quotient = total - weights * total.sum(dim + (dim >= 0), keepdim=True)
    step.lose("softmax", total)
    step.lose("softmax", quotient, -logits)
    yield source, Relevance(quotient, logits)


def finite(step: Step, source: fx.Node) -> Float[Tensor, "*shape"]:
    """The input of a softmax, zero where a mask made it infinite: no relevance comes from there."""
    logits: Tensor = step.tape.value(source)
    infinite = step.tape.remember((source, "infinite"), lambda: logits.isinf().any())
    return logits.masked_fill(logits.isinf(), 0.0) if infinite else logits


def expand_log_softmax(step: Step) -> Shares:
    """Split a log-softmax as the difference it is, x_i - log sum_j exp x_j; the sum's part goes to its winners.

    By the epsilon rule, and for the sum in proportion to the softmax (Kauffmann et al. 2020, arXiv:1805.06230).
    """
    (source,) = step.sources
    dim = step.argument(1, "dim")
    output, logits = step.output(), finite(step, source)
    quotient = step.over_output()
    passed = quotient * (logits - output)
    yield source, Relevance(quotient * logits - output.exp() * passed.sum(dim + (dim >= 0), keepdim=True))


@dataclass(frozen=True)
class Attention:
    """The operands of one operator of attention, keys and values repeated for their group of queries, and weights."""

    query: Float[Tensor, "... target width"]
    key: Float[Tensor, "... source width"]
    value: Float[Tensor, "... source depth"]
    mask: Tensor | None
    scale: float
    logits: Float[Tensor, "... target source"]
    weights: Float[Tensor, "... target source"]

    @staticmethod
    def read(step: Step) -> Attention:
        """Compute the weights again, which the operator does not give."""
        query, key, value = (step.argument(place, "") for place in range(3))
        mask, scale = step.argument(3, "attn_mask"), step.argument(6, "scale")
        if step.argument(7, "enable_gqa", False):
            key, value = (one.repeat_interleave(query.shape[-3] // one.shape[-3], -3) for one in (key, value))
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        logits = query @ key.mT * scale
        if step.argument(5, "is_causal", False):
            mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
        if mask is not None:
            logits = logits + torch.where(mask, 0.0, -math.inf) if mask.dtype == torch.bool else logits + mask
        return Attention(query, key, value, mask, scale, logits, logits.softmax(-1))


def attend(step: Step) -> Shares:
    """Chain the rules of attention (AttnLRP): value product, softmax, query-key product.

    Of each product half goes to each factor, or all to the one that depends on the image. CP-LRP gives all to the
    values.
    """
    nodes: Any = (*step.node.args[:3], mask_node(step))
    query, key, value, mask = (node in step.assignment.carriers for node in nodes)
    used = Attention.read(step)
    quotient = step.over_output()
    through = step.assignment.composite.through_softmax and (query or key or mask)
    found = {}
    if value:
        found[2] = used.weights.mT @ (quotient / 2 if through else quotient)
    if through:
        inner = through_weights(step, used, quotient / 2 if value else quotient)
        if mask:
            found[3] = inner
        inner = inner * (used.scale / 2 if query and key else used.scale)
        found |= {0: inner @ used.key} if query else {}
        found |= {1: inner.mT @ used.query} if key else {}
    step.lose("softmax", quotient, step.tape.value(step.node))
    for place, pulled in found.items():
        factor = step.argument(place, "attn_mask")
        part = Relevance(ungroup(pulled, factor), factor if place < 3 else factor.masked_fill(factor.isinf(), 0.0))
        step.lose("softmax", part.total, -1.0)
        yield nodes[place], part


def through_weights(step: Step, used: Attention, quotient: Float[Tensor, "seed ..."]) -> Float[Tensor, "seed ..."]:
    """Take relevance back through value product and softmax; returns R / z of the query-key product and of the mask."""
    inner = used.weights * (quotient @ used.value.mT)
    inner = inner - used.weights * inner.sum(-1, keepdim=True)
    ratio = used.logits / stabilize(used.logits, step.assignment.composite.stabilizer)
    inner = inner * (ratio if used.mask is None else ratio.nan_to_num())
    if used.mask is not None and used.mask.dtype != torch.bool and mask_node(step) not in step.assignment.carriers:
        constant = used.mask.masked_fill(used.mask.isinf(), 0.0)
        step.lose("constants", inner, constant)
        step.lose("softmax", inner, -constant)
    return inner


def mask_node(step: Step) -> Any:
    """The mask that attention was given, if any."""
    return step.node.args[3] if len(step.node.args) > 3 else step.node.kwargs.get("attn_mask")


def ungroup(pulled: Float[Tensor, "seed *larger"], operand: Float[Tensor, "*shape"]) -> Float[Tensor, "seed *shape"]:
    """Sum over the queries that shared a key or value, and along what was repeated."""
    if pulled.dim() == operand.dim() + 1 and operand.dim() > 2 and 1 < operand.shape[-3] < pulled.shape[-3]:
        pulled = pulled.reshape(*pulled.shape[:-3], operand.shape[-3], -1, *pulled.shape[-2:]).sum(-3)
    return fit(pulled, operand)
