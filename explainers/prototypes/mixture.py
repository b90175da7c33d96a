"""Gaussian mixtures: of how many components, and how likely a sample is under them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.mixture import GaussianMixture

from explainers.jobs import check
from explainers.results import Result

#: Most prototypes, the least share and number of samples for each; samples to choose their number and to fit them by.
PROTOTYPES = 8
SHARE = 0.1
MEMBERS = 5
CHOOSING = 1500
FITTING = 10_000


@dataclass(frozen=True)
class Mixture(Result):
    """A Gaussian mixture of one covariance C for all; ``factor`` is the precision's Cholesky factor, C^-1 = F F^T."""

    weights: Float[np.ndarray, " prototype"]
    means: Float[np.ndarray, "prototype dimension"]
    factor: Float[np.ndarray, "dimension dimension"]

    def joint(self, points: Float[np.ndarray, "sample dimension"]) -> Float[np.ndarray, "sample prototype"]:
        """Give log(weight_k N(x; mean_k, C)) of every sample and component."""
        squares = np.stack([(((points - mean) @ self.factor) ** 2).sum(axis=1) for mean in self.means], axis=1)
        volume = np.log(np.diagonal(self.factor)).sum() - points.shape[1] / 2 * np.log(2 * np.pi)
        return np.asarray(np.log(self.weights) + volume - squares / 2)

    def score(self, points: Float[np.ndarray, "sample dimension"]) -> Float[np.ndarray, " sample"]:
        """Give the log-likelihood of every sample: log sum_k weight_k N(x; mean_k, C)."""
        return np.asarray(np.logaddexp.reduce(self.joint(points), axis=1))

    def assign(self, points: Float[np.ndarray, "sample dimension"]) -> Float[np.ndarray, "sample prototype"]:
        """Give every component's responsibility for every sample; each sample's sum to 1."""
        joint = self.joint(points)
        return np.asarray(np.exp(joint - np.logaddexp.reduce(joint, axis=1, keepdims=True)))


def fit(points: Float[np.ndarray, "sample dimension"], count: int, floor: float, seed: int) -> Mixture:
    """Fit scikit-learn's GaussianMixture to at most 10,000 samples, the component of most samples first.

    One covariance for all components, no variance in it below ``floor``: what many samples share is known best.
    """
    found = _fit(points[:FITTING], count, floor, seed)
    order = np.argsort(-found.weights_, kind="stable")
    return Mixture(found.weights_[order], found.means_[order], found.precisions_cholesky_)


def measure_bic(
    points: Float[np.ndarray, "sample dimension"], counts: Sequence[int], floor: float, seed: int
) -> Float[np.ndarray, " count"]:
    """Measure the BIC of each number of components on at most 1500 samples; the least is best.

    BIC = parameters * log(samples) - 2 log-likelihood (Schwarz 1978); infinite if a component has less than a tenth of
    the samples, for what fewer do is not typical.
    """
    points = points[:CHOOSING]
    found = [_fit(points, count, floor, seed) for count in counts]
    return np.array([mixture.bic(points) if mixture.weights_.min() >= SHARE else np.inf for mixture in found])


def _fit(points: Float[np.ndarray, "sample dimension"], count: int, floor: float, seed: int) -> Any:
    check()
    mixture = GaussianMixture(count, covariance_type="tied", reg_covar=floor, random_state=seed, max_iter=500)
    return mixture.fit(points)
