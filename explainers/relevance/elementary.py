"""Rules of operators that move, choose, add up or multiply values, and of those without a rule of their own."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from explainers.relevance.groups import GATES, KEEPING, QUOTIENTS, SQUASHED, overloads
from explainers.relevance.rules import stabilize
from explainers.relevance.step import GRADIENT, UNDIFFERENTIABLE, Relevance, Shares, Step, fit, fold, unfold

aten = torch.ops.aten

#: The arguments of max pooling behind its input, and what they are where the graph leaves them out.
POOLING: tuple[tuple[str, Any], ...] = (
    ("kernel_size", None), ("stride", []), ("padding", [0]), ("dilation", [1]), ("ceil_mode", False),
)  # fmt: skip


#: What may have a bound on one side only, and is no gate then.
ONE_SIDED = overloads("clamp clip")


def flow(step: Step) -> Shares:
    """Pass the relevance through an elementwise operator unchanged (pass rule); by gradient where two signals meet."""
    source, *others = step.node.all_input_nodes
    if others and len(step.carried) > 1:
        yield from approximate(step)
        return
    if others:
        (source,) = step.carried
    value = step.tape.value(source)
    same = value.shape == step.output().shape
    yield source, step.relevance if same else Relevance(fit(step.relevance.total, value))


def move(step: Step) -> Shares:
    """Send the relevance back to where the operator took its values from; for max pooling, to the winners."""
    totals = {place: relevance.total for place, relevance in step.outputs.items()}
    for node, moved in step.pull_back(totals).items():
        yield node, Relevance(moved)


def choose(step: Step) -> Shares:
    """Send the relevance back to where values came from, of which some, as padding, are constants: theirs ends here."""
    totals = {place: relevance.total for place, relevance in step.outputs.items()}
    moved = {node: Relevance(part) for node, part in step.pull_back(totals, step.tracked).items()}
    step.lose_rest("constants", moved)
    yield from moved.items()


def compare(step: Step) -> Shares:
    """Send the relevance of a maximum or minimum of two to the winners; beside a constant it is an activation."""
    return choose(step) if len(step.carried) > 1 else flow(step)


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


def add(step: Step, first: float = 1.0, second: float = 1.0) -> Shares:
    """Split the relevance of a sum, or of a difference, in proportion to the summands, by the epsilon rule.

    ``first`` or ``second`` is -1 for the operand that the operator subtracts.
    """
    quotient, alpha = step.over_output(), step.argument(2, "alpha", 1)
    signs = (first * alpha, second) if first < 0 else (first, second * alpha)
    for place, sign in enumerate(signs):
        operand: Any = step.node.args[place]
        value = step.argument(place, "other")
        if operand in step.sources:
            shared = fit(quotient, value)
            yield operand, Relevance(shared if sign == 1 else shared * sign, value)
        elif operand not in step.assignment.carriers:
            step.lose("constants", quotient, bounded(value) * sign)


def bounded(value: Any) -> Any:
    """A constant with zero for what is infinite, as in a mask, where the sum is so too and no relevance arrives."""
    if isinstance(value, torch.Tensor):
        return value.masked_fill(value.isinf(), 0.0) if value.is_floating_point() else value
    return value if math.isfinite(value) else 0.0


def share(step: Step, degree: float = 1) -> Shares:
    """Split the relevance in proportion to what the inputs contribute to the output, by the epsilon rule.

    The output must be linear in its sources, or of the given degree in all of them together: a product of matrices
    has the degree two, and each of the two gets half.
    """
    quotients = {place: step.over_output(place) for place in step.outputs}
    quotients = {place: quotient / degree if degree > 1 else quotient for place, quotient in quotients.items()}
    for node, pulled in step.pull_back(quotients).items():
        yield node, Relevance(pulled, step.tape.value(node))


def share_product(step: Step) -> Shares:
    """Split the relevance of a product of matrices or sums over products: each factor gets the same."""
    return share(step, len(step.carried))


def share_square(step: Step) -> Shares:
    """Split the relevance of a sum of squares, a product of the input with itself."""
    return share(step, 2)


def share_all_factors(step: Step) -> Shares:
    """Split the relevance of the product of a tensor's entries: each gets the same."""
    source = step.tape.value(step.carried[0])
    return share(step, source.numel() // step.output().numel())


def share_with_constants(step: Step) -> Shares:
    """Split the relevance among inputs in which the output is linear together; that of constants ends here."""
    quotients = {place: part.over(push_away(step, place)) for place, part in step.outputs.items()}
    pulled = step.pull_back(quotients, step.tracked)
    passed = {node: Relevance(part, step.tape.value(node)) for node, part in pulled.items()}
    step.lose_rest("constants", passed)
    yield from passed.items()


def share_first(step: Step) -> Shares:
    """Split the relevance in the first input, in which the operator is linear; how it is sampled gets none."""
    first: Any = step.node.args[0]
    if first not in step.assignment.carriers:
        yield from approximate(step)
    elif first in step.sources:
        quotient = step.relevance.over(push_away(step, 0))
        part = Relevance(step.pull_back({0: quotient}, [first])[first], step.tape.value(first))
        step.lose_rest("constants", {first: part})
        yield first, part


def push_away(step: Step, place: int) -> torch.Tensor:
    """An output, away from zero."""
    return stabilize(step.output(place), step.assignment.composite.stabilizer)


def approximate(step: Step) -> Shares:
    """Gradient x input at this operator, which has no published rule: R_i = x_i sum_j dz_j/dx_i R_j / z_j.

    Exact where the operator is linear in its inputs together; elsewhere the account notes the difference. Where there
    is no gradient either, relevance ends.
    """
    quotients = {place: part.over(push_away(step, place)) for place, part in step.outputs.items()}
    try:
        pulled = step.pull_back(quotients, step.tracked)
    except NotImplementedError:  # torch has no derivative of it
        step.lose_rest(UNDIFFERENTIABLE, {})
        return
    passed = {node: Relevance(part, step.tape.value(node)) for node, part in pulled.items()}
    step.lose_rest(GRADIENT, passed)
    yield from passed.items()


def multiply(step: Step) -> Shares:
    """Give the relevance of a product to the signal; half to each factor if neither, or each, is a gate.

    A squashed signal, as of a tanh, is a gate beside what is none, and the signal beside a gate, as in recurrent cells
    (Arras et al. 2019, arXiv:1909.12114). A quotient leaves all to the numerator, as AttnLRP does for normalisations.
    """
    carried = signals = step.carried
    if step.node.target in QUOTIENTS:
        signals = carried[:1]
    elif len(carried) > 1:
        for gates in (GATES, SQUASHED):
            signals = [node for node in signals if not is_gate(step, node, gates)] or signals
    whole = step.relevance.total
    part = whole if len(signals) == 1 else whole / len(signals)
    for node in signals:
        if node in step.sources:
            value = step.tape.value(node)
            fitted = fit(part, value)
            yield node, Relevance(fitted.real if fitted.is_complex() and not value.is_complex() else fitted)


def is_gate(step: Step, node: fx.Node, gates: frozenset[Any]) -> bool:
    """Whether a factor only scales the other: a squashed value, or what changes of shape and constants make of it."""
    carried = [source for source in node.all_input_nodes if source in step.assignment.carriers]
    if node.target in gates:
        return not (node.target in ONE_SIDED and len([bound for bound in node.args[1:3] if bound is not None]) < 2)
    if node.target in QUOTIENTS and carried and carried[0] is not node.args[0]:  # a number over a signal
        return True
    if node.target == aten.mul.Tensor:
        return bool(carried) and all(is_gate(step, source, gates) for source in carried)
    return node.target in KEEPING and len(carried) == 1 and is_gate(step, carried[0], gates)
