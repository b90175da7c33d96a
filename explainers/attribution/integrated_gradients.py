"""Integrated gradients: the gradient averaged along the way from an empty image to the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from explainers.attribution.gradients import sum_gradients
from explainers.attribution.method import Method, Scores
from explainers.attribution.perturbation import BASELINES, baseline, evaluate
from explainers.graph.model import Model
from explainers.jobs import Progress
from explainers.parameters import parameter
from explainers.results import Target


@dataclass(frozen=True)
class IntegratedGradients(Method):
    """Integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365) by Gauss-Legendre quadrature.

    Completeness: the scores add up to f(image) - f(baseline), but for the error of the quadrature.
    """

    name = "integrated-gradients"
    title = "Integrated gradients"
    summary = "How much each pixel adds to the score on the way from an empty image to this one."
    citation = "Sundararajan et al. 2017, arXiv:1703.01365"
    signed = True

    steps: int = parameter(
        32,
        "Steps",
        "How finely the way is divided. More steps bring the sum closer to what it should be, and are slower.",
        low=8,
        high=256,
        step=8,
    )
    start: str = parameter(
        "mean colour",
        "Empty image",
        "Where the way starts; pixels that have its colour already get no score.",
        choices=BASELINES,
    )

    def attribute(
        self,
        model: Model,
        inputs: Float[Tensor, "batch channel height width"],
        targets: Sequence[Target],
        progress: Progress,
    ) -> Scores:
        """Sum the gradients at the quadrature's points, times the way from the baseline to the image."""
        empty = baseline(model.info.preprocessing, inputs, self.start)
        way = inputs - empty
        nodes, weights = (torch.from_numpy(part).to(inputs) / 2 for part in np.polynomial.legendre.leggauss(self.steps))
        shares = (nodes + 0.5).view(-1, 1, 1, 1)
        gradients = sum_gradients(
            model, inputs, lambda step, image: empty[image] + shares[step] * way[image], weights, targets, progress
        )
        return Scores(gradients * way, expected=evaluate(model, inputs, targets) - evaluate(model, empty, targets))
