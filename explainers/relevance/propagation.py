"""A relevance pass: walk the tape backwards from a seed."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, fx

from explainers.breakdown import OPERATOR
from explainers.errors import SelectionError
from explainers.graph.model import Model
from explainers.jobs import check, passes
from explainers.memory import PASS_MEMORY
from explainers.relevance.composites import Assignment, Composite, assign, choose_composite, composite
from explainers.relevance.elementary import approximate
from explainers.relevance.operators import RULES
from explainers.relevance.similarities import Similarity, find_similarities
from explainers.relevance.step import Account, Relevance, Step
from explainers.relevance.tape import Tape, find_node

#: How many bytes of one node's relevance stay in the processor's cache until the next node reads them.
CACHE = 4 << 20

#: Relevance on its way, by node and by place among the node's outputs.
Arrivals = dict[fx.Node, dict[int, list[Relevance]]]


@dataclass(frozen=True)
class Pass:
    """What a relevance pass found: the relevance of the layers asked for, and where the rest ended (see Account)."""

    relevance: Mapping[str, Float[Tensor, "seed batch *shape"]]
    ended: Mapping[str, Float[Tensor, "seed batch"]]


def relevance(
    tape: Tape,
    seeds: Float[Tensor, "seed batch *output"],
    *,
    rules: Composite | None = None,
    start: str = "",
    stop: str = "",
    mask: Mapping[str, Float[Tensor, "..."]] | None = None,
) -> Float[Tensor, "seed batch *shape"]:
    """Propagate relevance from a layer to an earlier one; the arguments are those of ``propagate``."""
    (found,) = propagate(tape, seeds, rules=rules, start=start, stops=[stop], mask=mask).relevance.values()
    return found


def propagate(
    tape: Tape,
    seeds: Float[Tensor, "seed batch *output"],
    *,
    rules: Composite | None = None,
    start: str = "",
    stops: Sequence[str] = ("",),
    mask: Mapping[str, Float[Tensor, "..."]] | None = None,
    account: bool = False,
) -> Pass:
    """Propagate the relevance of many seeds at once from one layer to others (Bach et al. 2015).

    ``seeds`` are relevances of the values of ``start``, a layer or node by name ("": the output). ``stops`` are where
    to read relevance ("": the input). ``mask`` multiplies the relevance of layers on the way and broadcasts to
    [seed, batch, ...]. ``rules`` default to the composite chosen for the graph. With ``account`` the result says
    where relevance ended. Counts as one backward pass. Raises SelectionError for unknown layers, or a stop that does
    not lead to the start.
    """
    model = tape.model
    if rules is None:
        rules = composite(choose_composite(model)[0], model.info.preprocessing)
    begin = find_node(model, start) if start else model.output_node
    ends = {name: find_node(model, name) if name else model.input_node for name in stops}
    masks = {find_node(model, name): values for name, values in (mask or {}).items()}
    require_shape(seeds, tape.value(begin).shape)
    if (counts := passes.get(None)) is not None:
        counts.backward += 1
    route = Route.find(model, assign(model, rules), begin, ends)
    with torch.no_grad(), PASS_MEMORY.hold(model.footprint.tape * tape.batch):
        walked = [walk(tape, route, part, masks, account) for part in torch.split(seeds, seeds_at_once(tape, route))]
    return Pass(
        {name: torch.cat([found[node] for found, _ in walked]) for name, node in ends.items()},
        {kind: torch.cat([ended[kind] for _, ended in walked]) for kind in walked[0][1]},
    )


def require_shape(seeds: Float[Tensor, "seed batch *output"], shape: Sequence[int]) -> None:
    """Raise SelectionError for seeds that do not fit the values of the layer where they start."""
    if tuple(seeds.shape[1:]) != tuple(shape):
        needed = ", ".join(str(size) for size in shape)
        raise SelectionError(f"The seeds have the shape {tuple(seeds.shape)}; the layer needs (seeds, {needed}).")


@dataclass(frozen=True)
class Route:
    """The nodes between a start and its ends, in the order in which relevance visits them."""

    assignment: Assignment
    ends: frozenset[fx.Node]
    nodes: tuple[fx.Node, ...]
    inside: frozenset[fx.Node]
    similarities: Mapping[fx.Node, Similarity]

    @staticmethod
    def find(model: Model, assignment: Assignment, start: fx.Node, ends: Mapping[str, fx.Node]) -> Route:
        """Find the nodes that lie on any way from the start to an end; raises SelectionError if there is no way."""
        leading = set(ends.values())
        for node in start.graph.nodes:
            if node in assignment.carriers and not leading.isdisjoint(node.all_input_nodes):
                leading.add(node)
        below = {start}
        for node in reversed(start.graph.nodes):
            if node in leading and not below.isdisjoint(node.users):
                below.add(node)
        for name, node in ends.items():
            if node not in below:
                raise SelectionError(f"The layer '{name}' does not come before the one where relevance starts.")
        inside = frozenset(below & leading)
        ordered = tuple(node for node in reversed(start.graph.nodes) if node in inside)
        whole = (
            one for one in find_similarities(model) if one.inner.isdisjoint(ends.values()) and one.source in inside
        )
        return Route(assignment, frozenset(ends.values()), ordered, inside, {one.node: one for one in whole})


def seeds_at_once(tape: Tape, route: Route) -> int:
    """How many seeds go together: those whose largest values fit into the processor's cache, or a small budget."""
    values = (tape.value(node) for node in route.nodes)
    largest = max(value.nbytes for value in values if isinstance(value, Tensor))
    return max(1, min(CACHE, tape.budget // 4) // largest)


def walk(
    tape: Tape,
    route: Route,
    seeds: Float[Tensor, "seed batch *output"],
    masks: Mapping[fx.Node, Float[Tensor, "..."]],
    account: bool,
) -> tuple[dict[fx.Node, Float[Tensor, "seed batch *shape"]], Mapping[str, Float[Tensor, "seed batch"]]]:
    """Visit every node of the route once; returns the relevance at its ends, and where the rest ended."""
    booked = Account(tape.batch) if account else None
    arrivals: Arrivals = {route.nodes[0]: {0: [Relevance(seeds)]}}
    found = {}
    for node in route.nodes:
        check()
        outputs = {place: gather(parts) for place, parts in arrivals.pop(node, {}).items()}
        if node in masks:
            outputs = {place: Relevance(part.total * masks[node]) for place, part in outputs.items()}
        if node in route.ends:
            value = tape.value(node)
            found[node] = outputs[0].total if outputs else value.new_zeros(len(seeds), *value.shape)
        sources = frozenset(source for source in node.all_input_nodes if source in route.inside)
        if outputs and node in route.similarities:
            similarity = route.similarities[node]
            shared = Relevance(similarity.share(outputs[0].total, tape.value(similarity.source)))
            arrivals.setdefault(similarity.source, {}).setdefault(0, []).append(shared)
        elif sources and outputs:
            for source, place, part in visit(Step(tape, node, route.assignment, outputs, sources, booked)):
                arrivals.setdefault(source, {}).setdefault(place, []).append(part)
    return found, booked.ended if booked else {}


def visit(step: Step) -> Iterator[tuple[fx.Node, int, Relevance]]:
    """Apply the rule of one operator, or go by gradient x input if it has none."""
    if step.node.target is operator.getitem:
        source, place = cast(tuple[fx.Node, int], step.node.args)
        yield source, place, step.relevance
    else:
        rule = RULES.get(step.node.target) or RULES.get(str(step.node.target), approximate)
        try:
            for source, part in rule(step):
                if source in step.sources:
                    yield source, 0, part
        except Exception as error:
            error.add_note(f"{OPERATOR}{step.node.target}")
            raise


def gather(parts: Sequence[Relevance]) -> Relevance:
    """Add up the relevance that arrived at a node; what has the same factor keeps it apart."""
    first, *rest = parts
    if not rest:
        return first
    if all(part.factor is first.factor for part in rest):
        quotient = first.quotient + rest[0].quotient
        for part in rest[1:]:
            quotient += part.quotient
        return Relevance(quotient, first.factor)
    total = first.total + rest[0].total
    for part in rest[1:]:
        total += part.total
    return Relevance(total)
