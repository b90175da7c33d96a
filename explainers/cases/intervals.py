"""95 % intervals in closed form, so that they are the same each time and cost nothing. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from scipy.optimize import brentq
from scipy.special import expit, logit, ndtri

#: How many standard deviations hold 95 %.
Z = float(ndtri(0.975))

#: A value, and the ends of its interval.
Estimate = tuple[float, float, float]

Numbers = Float64[np.ndarray, " group"]


def wilson(right: np.ndarray, count: np.ndarray) -> tuple[Numbers, Numbers]:
    """The ends of intervals of shares (Wilson 1927, doi:10.1080/01621459.1927.10502953), NaN for a share of nothing."""
    n = np.where(np.asarray(count) > 0, count, np.nan).astype(np.float64)
    share, wide = right / n, 1 + Z**2 / n
    middle = (share + Z**2 / (2 * n)) / wide
    half = Z / wide * np.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return (middle - half).clip(0, 1), (middle + half).clip(0, 1)


def newcombe(area: float, positives: int, negatives: int) -> Estimate:
    """The interval of an area under a ROC curve, also of 0 and 1 (Newcombe 2006, method 5, doi:10.1002/sim.2324).

    Its ends are the areas for which the one found is just z standard errors away.
    """
    count = (positives + negatives) / 2

    def beyond(true: float) -> float:
        spread = (count - 1) * ((1 - true) / (2 - true) + true / (1 + true))
        variance = true * (1 - true) * (1 + spread) / (positives * negatives)
        return float((area - true) ** 2 - Z**2 * variance)

    inside = min(max(area, 1e-9), 1 - 1e-9)  # at the very ends nothing varies, and any end would fit
    low = float(brentq(beyond, 0, inside)) if area > 0 else 0.0
    high = float(brentq(beyond, inside, 1)) if area < 1 else 1.0
    return area, low, high


def boyd(precision: float, positives: int) -> Estimate:
    """The logit interval of an average precision (Boyd et al. 2013, doi:10.1007/978-3-642-40994-3_29).

    An average precision of 0 or 1 has no logit; it is taken to be half a picture away from that.
    """
    inside = min(max(precision, 0.5 / (positives + 1)), 1 - 0.5 / (positives + 1))
    half = Z / np.sqrt(positives * inside * (1 - inside))
    low, high = expit(logit(inside) - half), expit(logit(inside) + half)
    return precision, min(float(low), precision), max(float(high), precision)


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """The interval of the mean of estimates that are taken to be independent (MOVER, Zou and Donner 2008).

    doi:10.1002/sim.3095
    """
    values, low, high = np.array(estimates).T
    mean, count = float(values.mean()), len(values)
    below, above = (np.sqrt(((values - end) ** 2).sum()) / count for end in (low, high))
    return mean, float(mean - below), float(mean + above)
