"""What pages ask about the concepts of one decision, answered as results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from explainers.concepts import intervention
from explainers.concepts.decision import Decision, trace_parents
from explainers.concepts.units import Concepts
from explainers.graph.model import score
from explainers.regions import Region
from explainers.results import ConceptGraph, ConceptHeatmaps, ConceptRelevance, Prediction, WhatIf


def tell_concepts(decision: Decision, concepts: Concepts, region: Region) -> ConceptRelevance:
    """Tell what every concept did for the decision, anywhere or in a region of the image."""
    values = decision.values(concepts)
    return ConceptRelevance(
        relevance=as_array(decision.measure(concepts, region)[0]),
        maximum=as_array(concepts.maximum(values)[0]),
        mean=as_array(concepts.mean(values)[0]),
        output=output_of(decision),
    )


def draw_concepts(decision: Decision, concepts: Concepts, chosen: Sequence[int], region: Region) -> ConceptHeatmaps:
    """Draw the conditional heatmaps of chosen concepts."""
    relevance = decision.measure(concepts, region)[0, list(chosen)]
    heatmaps = decision.heatmaps(concepts, chosen, region)[:, 0]
    return ConceptHeatmaps(np.array(chosen), as_array(heatmaps), as_array(relevance))


def tell_parents(
    decision: Decision, concepts: Concepts, chosen: Sequence[int], below: Sequence[Concepts], count: int
) -> ConceptGraph:
    """Tell from which concepts of lower layers the relevance of chosen concepts comes."""
    levels = trace_parents(decision, concepts, chosen, below, count)
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


def tell_what_if(
    decision: Decision,
    concepts: Concepts,
    factors: Mapping[int, float],
    summarise: Callable[[Float32[np.ndarray, "class *places"]], Prediction],
) -> WhatIf:
    """Tell how prediction and heatmap change with changed concepts."""
    after = intervention.intervene(decision, concepts, factors)
    predictions = [summarise(as_array(one.tape.output[0])) for one in (decision, after)]
    heatmaps = [decision.relevance()[0, 0].sum(0), intervention.heatmap(decision, after, concepts)[0]]
    return WhatIf(
        logits=np.stack([prediction.logits for prediction in predictions]),
        probabilities=np.stack([prediction.probabilities for prediction in predictions]),
        heatmaps=np.stack([as_array(heatmap) for heatmap in heatmaps]),
        outputs=np.array([output_of(decision), output_of(after)], np.float32),
    )


def output_of(decision: Decision) -> float:
    """The explained output of the only image."""
    return float(score(decision.tape.output, decision.targets)[0])


def as_array(tensor: Tensor) -> Float32[np.ndarray, "..."]:
    """Copy into an array of results, not a view of the tape."""
    found: Float32[np.ndarray, "..."] = tensor.detach().to(torch.float32, copy=True).numpy()
    return found
