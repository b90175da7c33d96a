"""The one table of rules by ATen operator, and what each rule does.

Relevance of a node is written R = quotient * factor. The factor is a value of the tape, shared by all seeds; it stays
apart until it has to be multiplied, because most rules divide by another value of the tape at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx

from explainers.errors import UnsupportedOperatorError
from explainers.relevance.account import Account
from explainers.relevance.composites import AFFINE, SOFTMAX, TRANSPOSED, Assignment, names
from explainers.relevance.rules import Part, Term, negative, positive, same, stabilize
from explainers.relevance.tape import Tape

aten = torch.ops.aten


@dataclass(frozen=True)
class Relevance:
    """Relevance of a node as a product: ``quotient`` by seed, times ``factor``, the same for all seeds (None: one)."""

    quotient: Float[Tensor, "seed *shape"]
    factor: Float[Tensor, "*shape"] | None = None

    @property
    def total(self) -> Float[Tensor, "seed *shape"]:
        """The relevance itself."""
        return self.quotient if self.factor is None else self.quotient * self.factor

    def over(self, denominator: Float[Tensor, "*shape"]) -> Float[Tensor, "seed *shape"]:
        """Divide by a value of the tape."""
        if self.factor is None:
            return self.quotient / denominator
        return self.quotient * (self.factor / denominator)


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
        epsilon = self.assignment.composite.stabilizer
        output = self.tape.value(self.node)
        quotient = self.relevance.over(self.tape.remember((self.node, epsilon), lambda: stabilize(output, epsilon)))
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


def fit(values: Float[Tensor, "seed *shape"], operand: Float[Tensor, "*smaller"]) -> Float[Tensor, "seed *smaller"]:
    """Sum over the dimensions along which an operand was repeated."""
    if values.shape[1:] == operand.shape:
        return values
    ones = (1,) * (values.dim() - 1 - operand.dim())
    return values.sum_to_size(len(values), *ones, *operand.shape).reshape(len(values), *operand.shape)


def flow(step: Step) -> Shares:
    """Pass the relevance through an elementwise operator unchanged (pass rule)."""
    for node in step.sources:
        yield node, step.relevance


def move(step: Step) -> Shares:
    """Send the relevance back to where the operator took its values from; for max pooling, to the winners."""
    totals = {place: relevance.total for place, relevance in step.outputs.items()}
    for node, moved in step.pull_back(totals).items():
        yield node, Relevance(moved)


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
    for piece, part in zip(pieces, step.relevance.total.split(sizes, dim + (dim >= 0)), strict=True):
        if piece in step.sources:
            yield piece, Relevance(part)
        elif piece not in step.assignment.carriers:
            step.lose("constants", part)


def add(step: Step, second: float = 1.0) -> Shares:
    """Split the relevance of a sum in proportion to the summands, by the epsilon rule."""
    quotient = step.over_output()
    for place, sign in ((0, 1.0), (1, second * step.argument(2, "alpha", 1))):
        operand: Any = step.node.args[place]
        value = step.argument(place, "other")
        if operand in step.sources:
            shared = fit(quotient, value)
            yield operand, Relevance(shared if sign == 1 else shared * sign, value)
        elif operand not in step.assignment.carriers:
            step.lose("constants", quotient, value * sign)


def subtract(step: Step) -> Shares:
    """Split the relevance of a difference as that of a sum whose second operand is negated."""
    return add(step, -1.0)


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
    """Give the relevance of a product to the signal; half to each factor if neither, or each, is a gate."""
    signals = [node for node in step.carried if not is_gate(node)] or step.carried
    for node in signals:
        if node in step.sources:
            yield node, Relevance(fit(step.relevance.total / len(signals), step.tape.value(node)))


def divide(step: Step) -> Shares:
    """Give the relevance of a quotient to the numerator, as AttnLRP does for normalisations."""
    numerator = step.carried[0]
    if numerator in step.sources:
        yield numerator, Relevance(fit(step.relevance.total, step.tape.value(numerator)))


def is_gate(node: fx.Node) -> bool:
    """Whether a factor only scales the other: a squashed value, looked for behind changes of shape."""
    while node.target in MOVES:
        node = node.all_input_nodes[0]
    return node.target in GATES


def normalise(step: Step) -> Shares:
    """Take the factor 1/std of a layer norm, group norm or RMS norm as constant (AttnLRP); the rest is affine."""
    (source,) = step.sources
    values = step.tape.value(source)
    grouped = step.node.target == aten.group_norm.default
    rows = values.unflatten(1, (step.node.args[1], -1)).flatten(2) if grouped else values
    axes = (-1,) if grouped else tuple(range(-len(step.argument(1, "normalized_shape")), 0))
    centred = step.node.target != aten.rms_norm.default
    quotient = step.over_output()
    weight, bias = step.argument(2, "weight"), step.argument(3, "bias") if centred else None
    shape = (-1, *(1,) * (values.dim() - 2)) if grouped else (...,)
    if bias is not None:
        step.lose("bias", quotient, bias.view(shape) if grouped else bias)
    if weight is not None:
        quotient = quotient * (weight.view(shape) if grouped else weight)
    pulled = quotient.reshape(len(quotient), *rows.shape) * spread(step, rows, axes, centred)
    if centred:
        pulled = pulled - pulled.mean(axes, keepdim=True)
    yield source, Relevance(pulled.reshape(quotient.shape), values)


def spread(step: Step, rows: Float[Tensor, "*shape"], axes: tuple[int, ...], centred: bool) -> Tensor:
    """The factor by which a normalisation scales: 1 / standard deviation, or 1 / root mean square."""
    power = rows.var(axes, correction=0, keepdim=True) if centred else rows.square().mean(axes, keepdim=True)
    epsilon = step.argument(4 if centred else 3, "eps", 1e-5 if centred else None)
    return (power + (torch.finfo(rows.dtype).eps if epsilon is None else epsilon)).rsqrt()


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


def propagate(step: Step) -> Shares:
    """Apply the rule that the composite gave to a convolution or dense layer."""
    rule = step.assignment.rules[step.node]
    (source,) = step.sources
    for part in rule.parts:
        terms = [term for term in part.terms if not vanishes(step, term)]
        stabilised = step.tape.remember(
            (step.node, part, rule.stabilizer),
            lambda part=part, terms=terms: stabilize(forward(step, part, terms), rule.stabilizer, part.sign),  # type: ignore[misc]
        )
        quotient = step.relevance.over(stabilised)
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
    values: Tensor = step.argument(0, "input")
    return bool(step.tape.remember((step.node.args[0], negative), lambda: values.min() >= 0))


def modify_input(step: Step, term: Term) -> Tensor | None:
    """Modify the input of a convolution or dense layer; None stands for ones."""
    values: Tensor = step.argument(0, "input")
    if term.input is positive and vanishes(step, Term(negative, same)):
        return values
    return None if term.input is torch.ones_like else term.input(values)


def modify_weight(step: Step, term: Term) -> Tensor:
    """Modify the weight of a convolution or dense layer."""
    node: Any = step.node.args[1]
    return step.assignment.weight(step.tape, node, term.weight)


def modify_bias(step: Step, term: Term) -> Tensor | None:
    """Modify the bias of a convolution or dense layer; None if it has none or the rule leaves it out."""
    bias = step.argument(2, "bias")
    return None if bias is None or term.bias is None else term.bias(bias)


def forward(step: Step, part: Part, terms: list[Term]) -> Float[Tensor, "*shape"]:
    """Sum what the operator makes of a part's modified inputs, weights and biases."""
    if part.terms == (Term(same, same, same),):
        found: Tensor = step.tape.value(step.node)
        return found
    target: Any = step.node.target
    keywords = {name: value for name, value in step.node.kwargs.items() if name != "bias"}
    made: list[Tensor] = []
    for term in terms:
        values = modify_input(step, term)
        values = torch.ones_like(step.argument(0, "input")) if values is None else values
        made.append(target(values, modify_weight(step, term), modify_bias(step, term), *step.node.args[3:], **keywords))
    return sum(made[1:], made[0])


def transpose(step: Step, term: Term, quotient: Float[Tensor, "seed *out"]) -> Float[Tensor, "seed *in"]:
    """Multiply by the transposed, modified weight; seeds go into the batch of one convolution."""
    weight = modify_weight(step, term)
    if step.node.target == aten.linear.default:
        return quotient @ weight
    values: Tensor = step.argument(0, "input")
    *window, groups, extra = geometry(step, values.dim() - 2)
    channels = values.shape[1]
    folded = quotient.flatten(0, 1)
    if term.weight is torch.ones_like and groups == 1:  # all channels get the same: go back to one of them only
        folded, weight, channels = folded.sum(1, keepdim=True), weight[:1, :1], 1
    sizes = [size + more for size, more in zip(values.shape[2:], extra, strict=True)]
    inputs = folded.new_empty(1).expand(len(folded), channels, *sizes)
    found: Tensor = aten.convolution_backward(folded, inputs, weight, None, *window, groups, [True, False, False])[0]
    for axis, size in enumerate(values.shape[2:], 2):
        found = found.narrow(axis, 0, size)
    return found.expand(-1, values.shape[1], *values.shape[2:]).unflatten(0, quotient.shape[:2])


def geometry(step: Step, dimensions: int) -> tuple[Any, ...]:
    """Stride, padding, dilation, transposition, output padding, groups, and what "same" pads more on the far side."""
    transposed = step.node.target in TRANSPOSED
    order = ("stride", "padding", "output_padding", "groups", "dilation")
    order = order if transposed else ("stride", "padding", "dilation", "groups")
    given: dict[str, Any] = dict(zip(order, step.node.args[3:], strict=False)) | dict(step.node.kwargs)
    stride, dilation = (list(given.get(name, [1])) for name in ("stride", "dilation"))
    padding, more, extra = given.get("padding", [0]), given.get("output_padding", [0]), [0] * dimensions
    if isinstance(padding, str):
        kernel = step.argument(1, "weight").shape[2:]
        spans = [(size - 1) * dilation[-1] * (padding == "same") for size in kernel]
        padding, extra = [span // 2 for span in spans], [span % 2 for span in spans]
    filled = [list(item) * (dimensions // len(item)) for item in (stride, padding, dilation, more)]
    return (*filled[:3], transposed, filled[3], given.get("groups", 1), extra)


def unsupported(node: fx.Node, what: str = "") -> UnsupportedOperatorError:
    """Say which operator has no rule, and in which layer it sits."""
    inside = names(node)
    return UnsupportedOperatorError(
        f"The operator {what or node.target} {f'in the layer {inside[0]}' if inside else 'of the model'} has no "
        "relevance rule. Choose another method, such as the gradient, or a layer behind it as the map."
    )


def overloads(names: str) -> frozenset[Any]:
    """Look up ATen operators by "name" or "name.overload"."""
    split = (name.partition(".") for name in names.split())
    return frozenset(getattr(getattr(aten, name), overload or "default") for name, _, overload in split)


MOVES = overloads(
    """view reshape flatten.using_ints unflatten.int squeeze squeeze.dim squeeze.dims unsqueeze permute transpose.int t
    mT movedim.int movedim.intlist swapaxes expand contiguous clone to.dtype repeat flip roll slice.Tensor select.int
    unbind.int split.Tensor split_with_sizes chunk stack index.Tensor index_select pixel_shuffle pixel_unshuffle
    channel_shuffle masked_fill.Scalar where.self upsample_nearest2d.vec upsample_nearest1d.vec upsample_nearest3d.vec"""
)
WINNERS = overloads(
    """max_pool1d max_pool2d max_pool3d max_pool2d_with_indices adaptive_max_pool1d adaptive_max_pool2d amax max.dim"""
)
ELEMENTWISE = overloads(
    """relu relu6 leaky_relu prelu elu selu celu gelu silu mish softplus sigmoid hardsigmoid hardswish tanh hardtanh
    log_sigmoid clamp clamp_min dropout batch_norm neg"""
)
AVERAGES = overloads(
    """avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d mean mean.dim sum
    sum.dim_IntList upsample_linear1d.vec upsample_bilinear2d.vec upsample_trilinear3d.vec upsample_bicubic2d.vec"""
)
GATES = SOFTMAX | overloads("sigmoid hardsigmoid tanh rsqrt")

#: Which rule every operator has. Adding an operator is one line here.
RULES: Mapping[Any, Callable[[Step], Shares]] = {
    **dict.fromkeys(AFFINE, propagate),
    **dict.fromkeys(ELEMENTWISE, flow),
    **dict.fromkeys(MOVES | WINNERS, move),
    **dict.fromkeys(AVERAGES, share),
    **dict.fromkeys(overloads("layer_norm group_norm rms_norm"), normalise),
    **dict.fromkeys(SOFTMAX, softmax),
    **dict.fromkeys(overloads("pad constant_pad_nd"), pad),
    **dict.fromkeys(overloads("cat concat concatenate"), cut),
    **dict.fromkeys(overloads("add.Tensor add.Scalar"), add),
    **dict.fromkeys(overloads("sub.Tensor sub.Scalar"), subtract),
    **dict.fromkeys(overloads("mul.Tensor mul.Scalar"), multiply),
    **dict.fromkeys(overloads("div.Tensor div.Scalar"), divide),
    **dict.fromkeys(overloads("matmul bmm"), share),
    aten.scaled_dot_product_attention.default: attend,
}
