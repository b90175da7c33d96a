"""Concept relevance: what each concept of a layer did for one decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from explainers.concepts.question import WITHIN, ConceptQuestion, as_array, rank_concepts
from explainers.parameters import parameter
from explainers.results import Result
from explainers.subjects import Case

if TYPE_CHECKING:
    from explainers.relevance.concepts.decision import Decision
    from explainers.relevance.concepts.units import Concepts


@dataclass(frozen=True)
class ConceptRelevance(Result):
    """What each concept of a layer did for one output of one image.

    ``relevance`` is signed, in the units of the output (logit), summed over the layer's places or those in a region;
    ``maximum`` and ``mean`` are activations over all places. ``output`` is the explained output.
    """

    relevance: Float32[np.ndarray, " concept"]
    maximum: Float32[np.ndarray, " concept"]
    mean: Float32[np.ndarray, " concept"]
    output: float

    @property
    def shares(self) -> Float32[np.ndarray, " concept"]:
        """Each concept's part, with its sign, of the sum of absolute relevances (all zero if that is zero)."""
        whole = np.abs(self.relevance).sum()
        return self.relevance / whole if whole else np.zeros_like(self.relevance)

    def top(self, count: int = 8) -> list[int]:
        """The most relevant concepts, for or against, best first."""
        return rank_concepts(self.relevance, count)

    def needed(self, share: float = 0.8) -> int:
        """How many of the most relevant concepts carry a share of all absolute relevance together."""
        carried = np.cumsum(np.sort(np.abs(self.shares.astype(np.float64)))[::-1])
        return min(int((carried < share - 1e-6).sum()) + 1, len(carried))


@dataclass(frozen=True)
class RankConcepts(ConceptQuestion[ConceptRelevance]):
    """The relevance of every concept of a layer, everywhere or in a region; one backward pass to the layer."""

    name = "concept-relevance"
    title = "Concept relevance"
    summary = "What each concept of a layer did for the decision."

    region: tuple[tuple[float, float], ...] = parameter((), "Region", WITHIN, kind="region")

    def look(self, about: Case, decision: Decision, concepts: Concepts) -> ConceptRelevance:
        """Measure all concepts."""
        values = decision.values(concepts)
        return ConceptRelevance(
            relevance=as_array(decision.measure(concepts, self.region)[0]),
            maximum=as_array(concepts.maximum(values)[0]),
            mean=as_array(concepts.mean(values)[0]),
            output=decision.output,
        )
