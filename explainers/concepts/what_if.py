"""What if: the decision with concepts silenced, damped or boosted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from explainers.concepts.question import ConceptQuestion, as_array
from explainers.parameters import parameter
from explainers.predictions import Prediction, summarise
from explainers.results import Result
from explainers.subjects import Case

if TYPE_CHECKING:
    from explainers.relevance.concepts.decision import Decision
    from explainers.relevance.concepts.units import Concepts


@dataclass(frozen=True)
class WhatIf(Result):
    """A decision before and after concepts were silenced, damped or boosted; heatmaps explain the same target."""

    logits: Float32[np.ndarray, "2 class"]
    probabilities: Float32[np.ndarray, "2 class"]
    heatmaps: Float32[np.ndarray, "2 height width"]
    outputs: Float32[np.ndarray, "2"]

    @property
    def before(self) -> Prediction:
        """The prediction as it was."""
        return Prediction(self.logits[0], self.probabilities[0])

    @property
    def after(self) -> Prediction:
        """The prediction with the changed concepts."""
        return Prediction(self.logits[1], self.probabilities[1])


@dataclass(frozen=True)
class ChangeConcepts(ConceptQuestion[WhatIf]):
    """How prediction and heatmap change if concepts are multiplied; one forward pass from the layer up."""

    name = "what-if"
    title = "What if"
    summary = "What the model would say if concepts were silenced (0), damped (0.5) or boosted (2)."

    factors: tuple[tuple[int, float], ...] = parameter(
        (), "Factors", "Concepts with what they are multiplied by.", kind="factors"
    )

    def look(self, about: Case, decision: Decision, concepts: Concepts) -> WhatIf:
        """Decide again."""
        from explainers.relevance.concepts.intervention import heatmap, intervene

        after = intervene(decision, concepts, dict(self.factors))
        predictions = [summarise(about.info, as_array(one.tape.output[0])) for one in (decision, after)]
        heatmaps = [decision.relevance()[0, 0].sum(0), heatmap(decision, after, concepts)[0]]
        return WhatIf(
            logits=np.stack([prediction.logits for prediction in predictions]),
            probabilities=np.stack([prediction.probabilities for prediction in predictions]),
            heatmaps=np.stack([as_array(one) for one in heatmaps]),
            outputs=np.array([decision.output, after.output], np.float32),
        )
