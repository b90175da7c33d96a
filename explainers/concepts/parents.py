"""Parents: from which concepts of earlier layers the relevance of a concept comes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Int

from explainers.concepts.question import ConceptQuestion, as_array, rank_concepts
from explainers.parameters import parameter
from explainers.results import Result
from explainers.subjects import Case

if TYPE_CHECKING:
    from explainers.relevance.concepts.decision import Decision, Level
    from explainers.relevance.concepts.units import Concepts


@dataclass(frozen=True)
class ConceptGraph(Result):
    """Where the relevance of concepts comes from, layer by layer downwards.

    Node n is the concept ``concepts[n]`` of the layer ``layers[levels[n]]``; level 0 holds what was asked for. Edge e
    says that ``weights[e]`` of the relevance of node ``uppers[e]`` comes from node ``lowers[e]``, one of its most
    relevant parents. A node's ``relevance`` is what all nodes of the level above have from it.
    """

    layers: tuple[str, ...]
    levels: Int[np.ndarray, " node"]
    concepts: Int[np.ndarray, " node"]
    relevance: Float32[np.ndarray, " node"]
    uppers: Int[np.ndarray, " edge"]
    lowers: Int[np.ndarray, " edge"]
    weights: Float32[np.ndarray, " edge"]


@dataclass(frozen=True)
class TraceConcepts(ConceptQuestion[ConceptGraph]):
    """The attribution graph of concepts: one backward pass a layer down."""

    name = "concept-parents"
    title = "Where a concept comes from"
    summary = "From which concepts of earlier layers the relevance of some concepts comes."

    concepts: tuple[int, ...] = parameter(
        (), "Concepts", "Those traced; empty for the most relevant one.", kind="concepts"
    )
    below: tuple[str, ...] = parameter(
        (), "Earlier layers", "The layers to look into, nearest first; empty for two below.", kind="layers"
    )
    count: int = parameter(3, "Parents", "How many parents each concept has in the graph.", low=1, high=20)

    def look(self, about: Case, decision: Decision, concepts: Concepts) -> ConceptGraph:
        """Trace the chosen concepts down."""
        from explainers.relevance.concepts.decision import trace_parents
        from explainers.relevance.concepts.layers import find_concepts, layers_below

        chosen = concepts.check(self.concepts or rank_concepts(as_array(decision.measure(concepts)[0]), 1))
        names = self.below or layers_below(about.model, concepts.layer.name, 2)
        below = [find_concepts(about.model, name) for name in names]
        return join(trace_parents(decision, concepts, chosen, below, self.count), self.count)


def join(levels: list[Level], count: int) -> ConceptGraph:
    """Make one graph of the levels, each node with its ``count`` most relevant parents."""
    import torch

    starts = np.cumsum([0, *(len(level.concepts) for level in levels)])
    edges = [np.zeros((3, 0))]
    for level, upper, lower in zip(levels[1:], starts, starts[1:], strict=False):
        weights = level.weights.numpy()
        best = np.argsort(-np.abs(weights), axis=1, kind="stable")[:, :count]
        rows = np.repeat(np.arange(len(best)), best.shape[1])
        edges.append(np.stack([rows + upper, best.ravel() + lower, weights[rows, best.ravel()]]))
    uppers, lowers, weights = np.concatenate(edges, axis=1)
    return ConceptGraph(
        layers=tuple(level.layer for level in levels),
        levels=np.repeat(np.arange(len(levels)), np.diff(starts)),
        concepts=torch.cat([level.concepts for level in levels]).numpy(),
        relevance=as_array(torch.cat([level.relevance for level in levels])),
        uppers=uppers.astype(int),
        lowers=lowers.astype(int),
        weights=weights.astype(np.float32),
    )
