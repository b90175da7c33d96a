"""The one table of rules by ATen operator, and what each rule does."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import fx

from explainers.relevance.affine import propagate_affine
from explainers.relevance.composites import AFFINE, SOFTMAX
from explainers.relevance.rules import stabilize
from explainers.relevance.step import Relevance, Shares, Step, fit, fold, unfold, unsupported

aten = torch.ops.aten


def flow(step: Step) -> Shares:
    """Pass the relevance through an elementwise operator unchanged (pass rule)."""
    for node in step.sources:
        yield node, step.relevance


def move(step: Step) -> Shares:
    """Send the relevance back to where the operator took its values from; for max pooling, to the winners."""
    totals = {place: relevance.total for place, relevance in step.outputs.items()}
    for node, moved in step.pull_back(totals).items():
        yield node, Relevance(moved)


def win(step: Step) -> Shares:
    """Send the relevance of max pooling to the winners, which the tape knows."""
    (source,) = step.sources
    values, total = step.tape.value(source), step.relevance.total
    window = [step.argument(place, name, given) for place, (name, given) in enumerate(POOLING, 1)]
    winners = step.tape.remember((step.node, "winners"), lambda: aten.max_pool2d_with_indices(values, *window)[1])
    like = values if len(total) == 1 else values.repeat(len(total), 1, 1, 1)
    places = winners if len(total) == 1 else winners.repeat(len(total), 1, 1, 1)
    moved = aten.max_pool2d_with_indices_backward(fold(total), like, *window, places)
    yield source, Relevance(unfold(moved, len(total)))


def pad(step: Step) -> Shares:
    """Cut off the relevance of the padding, which ends here."""
    step.lose("constants", step.relevance.total)
    for node, moved in move(step):
        step.lose("constants", moved.quotient, -1.0)
        yield node, moved


def cut(step: Step) -> Shares:
    """Cut the relevance of a concatenation into its pieces."""
    dim = step.argument(1, "dim", 0)
    pieces: Any = step.node.args[0]
    sizes = [step.tape.value(piece).shape[dim] for piece in pieces]
    for piece, part in zip(pieces, torch.split(step.relevance.total, sizes, dim + (dim >= 0)), strict=True):
        if piece in step.sources:
            yield piece, Relevance(part)
        elif piece not in step.assignment.carriers:
            step.lose("constants", part)


def add(step: Step, second: float = 1.0) -> Shares:
    """Split the relevance of a sum, or of a difference, in proportion to the summands, by the epsilon rule."""
    quotient = step.over_output()
    for place, sign in ((0, 1.0), (1, second * step.argument(2, "alpha", 1))):
        operand: Any = step.node.args[place]
        value = step.argument(place, "other")
        if operand in step.sources:
            shared = fit(quotient, value)
            yield operand, Relevance(shared if sign == 1 else shared * sign, value)
        elif operand not in step.assignment.carriers:
            step.lose("constants", quotient, value * sign)


def share(step: Step) -> Shares:
    """Split the relevance in proportion to what the inputs contribute to the output, by the epsilon rule.

    The output must be linear in each source; with two (a product of matrices) each gets half.
    """
    quotient = step.over_output()
    if len(step.carried) > 1:
        quotient = quotient / len(step.carried)
    for node, pulled in step.pull_back({0: quotient}).items():
        yield node, Relevance(pulled, step.tape.value(node))


def multiply(step: Step) -> Shares:
    """Give the relevance of a product to the signal; half to each factor if neither, or each, is a gate.

    A quotient leaves all to the numerator, as AttnLRP does for normalisations.
    """
    signals = [node for node in step.carried if not is_gate(node)] or step.carried
    if step.node.target in QUOTIENTS:
        signals = step.carried[:1]
    whole = step.relevance.total
    part = whole if len(signals) == 1 else whole / len(signals)
    for node in signals:
        if node in step.sources:
            yield node, Relevance(fit(part, step.tape.value(node)))


def is_gate(node: fx.Node) -> bool:
    """Whether a factor only scales the other: a squashed value, looked for behind changes of shape."""
    while node.target in MOVES:
        node = node.all_input_nodes[0]
    return node.target in GATES


def normalise(step: Step) -> Shares:
    """Take the factor 1/std of a layer norm, group norm or RMS norm as constant (AttnLRP); the rest is affine."""
    (source,) = step.sources
    values = step.tape.value(source)
    grouped, centred = step.node.target == aten.group_norm.default, step.node.target != aten.rms_norm.default
    axes = (2,) if grouped else tuple(range(-len(step.argument(1, "normalized_shape")), 0))
    epsilon = step.argument(4 if centred else 3, "eps", 1e-5 if centred else None)
    epsilon = torch.finfo(values.dtype).eps if epsilon is None else epsilon
    shape = (-1, *(1,) * (values.dim() - 2)) if grouped else (...,)
    quotient = step.over_output()
    if centred and (bias := step.argument(3, "bias")) is not None:
        step.lose("bias", quotient, bias.view(shape) if grouped else bias)
    if (weight := step.argument(2, "weight")) is not None:
        quotient = quotient * (weight.view(shape) if grouped else weight)
    rows = values.reshape(len(values), step.node.args[1], -1) if grouped else values
    centre = rows.mean(axes, keepdim=True) if centred else 0.0
    pulled = quotient.reshape(-1, *rows.shape) / (rows.sub(centre).square().mean(axes, keepdim=True) + epsilon).sqrt()
    if centred:
        pulled = pulled - pulled.mean([axis + (axis >= 0) for axis in axes], keepdim=True)
    yield source, Relevance(pulled.reshape(quotient.shape), values)


def softmax(step: Step) -> Shares:
    """Expand the softmax at its input (AttnLRP): R_i = x_i (R'_i - s_i sum_j R'_j)."""
    (source,) = step.sources
    dim = step.argument(1, "dim")
    total, weights, logits = step.relevance.total, step.tape.value(step.node), step.tape.value(source)
    quotient = total - weights * total.sum(dim + (dim >= 0), keepdim=True)
    step.lose("softmax", total)
    step.lose("softmax", quotient, -logits)
    yield source, Relevance(quotient, logits)


def attend(step: Step) -> Shares:
    """Chain the rules of attention (AttnLRP): value product, softmax, query-key product; half to each factor.

    CP-LRP gives all to the values.
    """
    nodes: Any = step.node.args[:3]
    query, key, value = (step.tape.value(node) for node in nodes)
    mask, scale = step.argument(3, "attn_mask"), step.argument(6, "scale")
    if step.argument(5, "is_causal", False) or step.argument(7, "enable_gqa", False):
        raise unsupported(step.node, "causal or grouped attention")
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    logits = query @ key.mT * scale
    if mask is not None:
        logits = logits + torch.where(mask, 0.0, -math.inf) if mask.dtype == torch.bool else logits + mask
    weights = logits.softmax(-1)
    quotient = step.over_output()
    step.lose("softmax", quotient, step.tape.value(step.node))
    through = step.assignment.composite.through_softmax
    found = {2: weights.mT @ (quotient / 2 if through else quotient)}
    if through:
        inner = weights * (quotient @ value.mT / 2)
        inner = inner - weights * inner.sum(-1, keepdim=True)
        ratio = logits / stabilize(logits, step.assignment.composite.stabilizer)
        inner = inner * (ratio if mask is None else ratio.nan_to_num()) * (scale / 2)
        found |= {0: inner @ key, 1: inner.mT @ query}
    for place, pulled in found.items():
        step.lose("softmax", pulled, -step.argument(place, ""))
        if nodes[place] in step.sources:
            yield nodes[place], Relevance(pulled, step.argument(place, ""))


def overloads(names: str) -> frozenset[Any]:
    """Look up ATen operators by "name" or "name.overload"."""
    split = (name.partition(".") for name in names.split())
    return frozenset(getattr(getattr(aten, name), overload or "default") for name, _, overload in split)


#: The arguments of max pooling behind its input, and what they are where the graph leaves them out.
POOLING: tuple[tuple[str, Any], ...] = (
    ("kernel_size", None), ("stride", []), ("padding", [0]), ("dilation", [1]), ("ceil_mode", False),
)  # fmt: skip
MOVES = overloads(
    """view reshape flatten.using_ints unflatten.int squeeze squeeze.dim squeeze.dims unsqueeze permute transpose.int t
    mT movedim.int movedim.intlist swapaxes expand contiguous clone to.dtype repeat flip roll slice.Tensor select.int
    unbind.int split.Tensor split_with_sizes chunk stack index.Tensor index_select pixel_shuffle pixel_unshuffle
    channel_shuffle masked_fill.Scalar where.self upsample_nearest1d.vec upsample_nearest2d.vec
    upsample_nearest3d.vec"""
)
WINNERS = overloads(
    """max_pool1d max_pool3d max_pool2d_with_indices adaptive_max_pool1d adaptive_max_pool2d amax max.dim"""
)
ELEMENTWISE = overloads(
    """relu relu6 leaky_relu prelu elu selu celu gelu silu mish softplus sigmoid hardsigmoid hardswish tanh hardtanh
    log_sigmoid clamp clamp_min dropout batch_norm neg"""
)
AVERAGES = overloads(
    """avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d mean mean.dim sum
    sum.dim_IntList upsample_linear1d.vec upsample_bilinear2d.vec upsample_trilinear3d.vec upsample_bicubic2d.vec"""
)
QUOTIENTS = overloads("div.Tensor div.Scalar")
GATES = SOFTMAX | overloads("sigmoid hardsigmoid tanh rsqrt")

#: Which rule every operator has. Adding an operator is one line here.
RULES: Mapping[Any, Callable[[Step], Shares]] = {
    **dict.fromkeys(AFFINE, propagate_affine),
    **dict.fromkeys(ELEMENTWISE, flow),
    **dict.fromkeys(MOVES | WINNERS, move),
    aten.max_pool2d.default: win,
    **dict.fromkeys(AVERAGES, share),
    **dict.fromkeys(overloads("layer_norm group_norm rms_norm"), normalise),
    **dict.fromkeys(SOFTMAX, softmax),
    **dict.fromkeys(overloads("pad constant_pad_nd"), pad),
    **dict.fromkeys(overloads("cat concat concatenate"), cut),
    **dict.fromkeys(overloads("add.Tensor add.Scalar"), add),
    **dict.fromkeys(overloads("sub.Tensor sub.Scalar"), partial(add, second=-1.0)),
    **dict.fromkeys(QUOTIENTS | overloads("mul.Tensor mul.Scalar"), multiply),
    **dict.fromkeys(overloads("matmul bmm"), share),
    aten.scaled_dot_product_attention.default: attend,
}
