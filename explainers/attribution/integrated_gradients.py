"""Integrated gradients: the gradient averaged along the way from an empty image to the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from explainers.attribution.batch import Batch
from explainers.attribution.method import Method, Scores
from explainers.attribution.perturbation import baseline, cover
from explainers.parameters import parameter


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
    start: str = cover("Empty image", "Where the way starts; pixels that have its colour already get no score.")

    def attribute(self, batch: Batch) -> Scores:
        """Sum the gradients at the quadrature's points, times the way from the baseline to the image."""
        empty = baseline(batch.model.info.preprocessing, batch.inputs, self.start)
        way = batch.inputs - empty
        nodes, weights = (way.new_tensor(part) / 2 for part in np.polynomial.legendre.leggauss(self.steps))
        shares = (nodes + 0.5).view(-1, 1, 1, 1)
        gradients = batch.sum_gradients(lambda step, image: empty[image] + shares[step] * way[image], weights)
        return Scores(gradients * way, expected=batch.evaluate(batch.inputs) - batch.evaluate(empty))
