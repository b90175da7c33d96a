"""Conditional heatmaps: where in the picture each concept is seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Int

from explainers.asking import ask
from explainers.concepts.question import WITHIN, ConceptQuestion, as_array
from explainers.concepts.relevance import RankConcepts
from explainers.parameters import parameter
from explainers.results import Result
from explainers.subjects import Case

if TYPE_CHECKING:
    from explainers.relevance.concepts.decision import Decision
    from explainers.relevance.concepts.units import Concepts


@dataclass(frozen=True)
class ConceptHeatmaps(Result):
    """Where chosen concepts of a layer are seen: relevance of every input pixel through each of them alone.

    ``values`` are summed over colours, in the units of the output; ``relevance`` is each concept's at its layer.
    """

    concepts: Int[np.ndarray, " concept"]
    values: Float32[np.ndarray, "concept height width"]
    relevance: Float32[np.ndarray, " concept"]

    def heatmap(self, concept: int) -> Float32[np.ndarray, "height width"]:
        """The heatmap of one of the chosen concepts."""
        found: Float32[np.ndarray, "height width"] = self.values[self.concepts.tolist().index(concept)]
        return found


@dataclass(frozen=True)
class DrawConcepts(ConceptQuestion[ConceptHeatmaps]):
    """The conditional heatmaps of concepts, all in one backward pass from their layer down.

    With a region only the relevance of the concepts in its places is followed.
    """

    name = "concept-heatmaps"
    title = "Conditional heatmaps"
    summary = "Where in the picture each of some concepts is seen."

    concepts: tuple[int, ...] = parameter((), "Concepts", "Those drawn; empty for the most relevant.", kind="concepts")
    count: int = parameter(8, "How many", "How many are drawn if none is named.", low=1, high=100)
    region: tuple[tuple[float, float], ...] = parameter((), "Region", WITHIN, kind="region")

    def look(self, about: Case, decision: Decision, concepts: Concepts) -> ConceptHeatmaps:
        """Draw the chosen concepts in the order of their numbers."""
        chosen = concepts.check(self.concepts or self._most_relevant(about))
        relevance = decision.measure(concepts, self.region)[0, chosen]
        heatmaps = decision.heatmaps(concepts, chosen, self.region)[:, 0]
        return ConceptHeatmaps(np.array(chosen), as_array(heatmaps), as_array(relevance))

    def _most_relevant(self, about: Case) -> list[int]:
        asked = RankConcepts(self.composite, self.epsilon, self.gamma, self.overrides, self.layer, self.region)
        return sorted(ask(asked, about).result().top(self.count))
