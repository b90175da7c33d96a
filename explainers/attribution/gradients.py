"""Gradient and gradient x input."""

from __future__ import annotations

from dataclasses import dataclass

from explainers.attribution.batch import Batch
from explainers.attribution.method import Method, Scores


@dataclass(frozen=True)
class Gradient(Method):
    """The gradient of the target's score (Simonyan et al. 2014, arXiv:1312.6034), signed, summed over colours."""

    name = "gradient"
    title = "Gradient"
    summary = "How much the score would change if a pixel became a little brighter."
    citation = "Simonyan et al. 2014, arXiv:1312.6034"
    signed = True
    unit = "logit per unit of input"

    def attribute(self, batch: Batch) -> Scores:
        """Differentiate once."""
        return Scores(batch.gradient())


@dataclass(frozen=True)
class GradientTimesInput(Method):
    """The gradient times the input (Shrikumar et al. 2017, arXiv:1605.01713), complete on bias-free linear models."""

    name = "gradient-times-input"
    title = "Gradient × input"
    summary = "How much each pixel adds to the score if the model is taken as linear around this image."
    citation = "Shrikumar et al. 2017, arXiv:1605.01713"
    signed = True

    def attribute(self, batch: Batch) -> Scores:
        """Differentiate once and multiply by the input."""
        return Scores(batch.gradient() * batch.inputs)
