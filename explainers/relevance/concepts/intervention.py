"""What if a model had not seen a concept, or more of it: the decision again from that layer up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, fx

from explainers.memory import PASS_MEMORY
from explainers.relevance.composites import assign
from explainers.relevance.concepts.decision import Decision
from explainers.relevance.concepts.units import Concepts
from explainers.relevance.propagation import propagate, relevance
from explainers.relevance.tape import find_node


def intervene(decision: Decision, concepts: Concepts, factors: Mapping[int, float]) -> Decision:
    """Multiply concepts (0 silences, 0.5 damps, 2 boosts) and decide again; raises SelectionError.

    One forward pass from the layer up: what does not depend on the layer is shared with the decision as it was. The
    new decision explains the same targets by what their logits are now.
    """
    tape, node = decision.tape, find_node(decision.tape.model, concepts.layer.node)
    changed = concepts.change(decision.values(concepts), factors)
    above = find_dependents(node)
    shared = {name: value for name, value in tape.kept.items() if name not in above}
    with torch.no_grad(), PASS_MEMORY.hold(tape.model.footprint.total * tape.batch):
        values = tape.model.run(given={**shared, node.name: changed}, keep=above)[1]
    return replace(decision, tape=replace(tape, kept={**shared, **values, node.name: changed}, derived={}))


def heatmap(before: Decision, after: Decision, concepts: Concepts) -> Float[Tensor, "batch height width"]:
    """The heatmap of a decision after an intervention on a layer's concepts.

    The change of the layer counts as a scaling behind it: above the layer relevance flows by the values after it, below
    by those before, and what goes round the layer (in a skip connection) by its own. Two backward passes that share
    the network, or a third where something goes round.
    """
    node = concepts.layer.node
    lower = relevance(before.tape, after.relevance(node), rules=before.rules, start=node)
    if goes_round(before, find_node(before.tape.model, node)):
        mask = {node: torch.zeros(())}
        lower = lower + propagate(after.tape, after.seeds, rules=before.rules, mask=mask).relevance[""]
    return lower[0].sum(1)


def find_dependents(node: fx.Node) -> frozenset[str]:
    """Find the nodes behind a node that compute with its value."""
    found, stack = set[fx.Node](), [node]
    while stack:
        new = set(stack.pop().users) - found
        found |= new
        stack += new
    return frozenset(dependent.name for dependent in found if dependent.op == "call_function")


def goes_round(decision: Decision, node: fx.Node) -> bool:
    """Whether relevance goes from the output to the input on any way past a node."""
    model = decision.tape.model
    carriers, stack = assign(model, decision.rules).carriers - {node}, [model.output_node]
    found = set(stack)
    while stack:
        sources = carriers.intersection(stack.pop().all_input_nodes) - found
        found |= sources
        stack += sources
    return model.input_node in found
