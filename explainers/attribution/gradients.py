"""Gradient and gradient x input, and the weighted sum of gradients on which other methods build."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from explainers.attribution.method import Index, Method, Scores, sweep
from explainers.graph.model import Model, Operators, gradient, score
from explainers.jobs import Progress
from explainers.results import Target

#: Makes the inputs at which to differentiate from the indices of steps and of images.
Points = Callable[[Index, Index], Float[Tensor, "pair channel height width"]]


def input_gradient(
    model: Model,
    inputs: Float[Tensor, "batch channel height width"],
    targets: Sequence[Target],
    operators: Operators | None = None,
) -> Float[Tensor, "batch channel height width"]:
    """Differentiate the targets' scores by the input, in one forward and one backward pass."""
    inputs = inputs.detach().requires_grad_()
    return gradient(score(model.run(inputs, operators=operators)[0], targets), inputs)


def sum_gradients(
    model: Model,
    inputs: Float[Tensor, "batch channel height width"],
    points: Points,
    weights: Float[Tensor, " step"],
    targets: Sequence[Target],
    progress: Progress,
    operators: Operators | None = None,
) -> Float[Tensor, "batch channel height width"]:
    """Differentiate at one point for each step and image; returns each image's weighted sum over the steps."""
    total = torch.zeros_like(inputs)
    for step, image in sweep(len(weights), len(targets), progress):
        found = input_gradient(model, points(step, image), [targets[i] for i in image.tolist()], operators)
        total.index_add_(0, image, weights[step].view(-1, 1, 1, 1) * found)
    return total


def plain_gradient(
    model: Model,
    inputs: Float[Tensor, "batch channel height width"],
    targets: Sequence[Target],
    progress: Progress,
    operators: Operators | None = None,
) -> Float[Tensor, "batch channel height width"]:
    """Differentiate at the inputs themselves."""
    return sum_gradients(model, inputs, lambda _, image: inputs[image], torch.ones(1), targets, progress, operators)


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
        return Scores(plain_gradient(model, inputs, targets, progress))


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
        return Scores(plain_gradient(model, inputs, targets, progress) * inputs)
