"""Gradient and gradient x input: one forward and one backward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from explainers.attribution.method import Method, Scores
from explainers.graph.model import Model, gradient, score
from explainers.jobs import Progress
from explainers.results import Target


def input_gradient(
    model: Model, inputs: Float[Tensor, "batch channel height width"], targets: Sequence[Target]
) -> tuple[Float[Tensor, "batch channel height width"], Float[Tensor, " batch"]]:
    """Differentiate the targets' scores by the input; returns the gradient and the scores."""
    inputs = inputs.detach().requires_grad_()
    scores = score(model.run(inputs)[0], targets)
    return gradient(scores, inputs), scores.detach()


@dataclass(frozen=True)
class Gradient(Method):
    """The gradient of the target's score (Simonyan et al. 2014, arXiv:1312.6034), signed, summed over colours."""

    name = "gradient"
    title = "Gradient"
    summary = "How much the score would change if a pixel became a little brighter."
    citation = "Simonyan et al. 2014, arXiv:1312.6034"
    signed = True
    unit = "logit per unit of input"

    def attribute(
        self,
        model: Model,
        inputs: Float[Tensor, "batch channel height width"],
        targets: Sequence[Target],
        progress: Progress,
    ) -> Scores:
        """Differentiate once."""
        return Scores(input_gradient(model, inputs, targets)[0])


@dataclass(frozen=True)
class GradientTimesInput(Method):
    """The gradient times the input (Shrikumar et al. 2017, arXiv:1605.01713), complete on bias-free linear models."""

    name = "gradient-times-input"
    title = "Gradient × input"
    summary = "How much each pixel adds to the score if the model is taken as linear around this image."
    citation = "Shrikumar et al. 2017, arXiv:1605.01713"
    signed = True

    def attribute(
        self,
        model: Model,
        inputs: Float[Tensor, "batch channel height width"],
        targets: Sequence[Target],
        progress: Progress,
    ) -> Scores:
        """Differentiate once and multiply by the input."""
        return Scores(input_gradient(model, inputs, targets)[0] * inputs)
