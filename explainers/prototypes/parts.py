"""Networks that decide by similarity to learnt prototypes: the arithmetic of their last layer.

ProtoPNet (Chen et al. 2019, arXiv:1806.10574): logit_c = sum_p w_cp s_p, with the similarity s_p of the sample to
prototype p.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from sklearn.neighbors import NearestNeighbors

from explainers.errors import SelectionError


def contribute(
    similarities: Float[np.ndarray, "sample prototype"], weights: Float[np.ndarray, "class prototype"]
) -> Float[np.ndarray, "sample class prototype"]:
    """Give the points that each prototype contributes to each class: w_cp s_p. Their sum is the logit.

    Raises SelectionError if the numbers of prototypes differ.
    """
    if similarities.shape[1] != weights.shape[1]:
        raise SelectionError(
            f"There are similarities to {similarities.shape[1]} prototypes, but weights of {weights.shape[1]}. "
            "Give the weights of the layer that reads these similarities."
        )
    return np.asarray(similarities[:, None, :] * weights)


def decide(
    similarities: Float[np.ndarray, "sample prototype"],
    weights: Float[np.ndarray, "class prototype"],
    rejected: Collection[int] = (),
    typical: Float[np.ndarray, " prototype"] | float = 0.0,
) -> Float[np.ndarray, "sample class"]:
    """Give the logits without the rejected prototypes (Gerstenberger et al. 2022, arXiv:2203.10087).

    A rejected prototype counts as if its similarity were the ``typical`` one of all pictures: so it tells nothing about
    this one and leaves the classes in balance; 0 masks it, as the paper does. Raises SelectionError for a prototype
    that does not exist.
    """
    unknown = sorted(set(rejected) - set(range(weights.shape[1])))
    if unknown:
        raise SelectionError(f"There is no prototype {unknown[0]}; there are 0 to {weights.shape[1] - 1}.")
    out = np.isin(np.arange(weights.shape[1]), list(rejected))
    return np.asarray(np.where(out, typical, similarities) @ weights.T)


def measure_accuracy(logits: Float[np.ndarray, "sample class"], labels: Int[np.ndarray, " sample"]) -> float:
    """Give the share of samples whose greatest logit is that of their label."""
    return float((logits.argmax(axis=1) == labels).mean())


@dataclass(frozen=True)
class Counterexample:
    """Two samples with one explanation and two classes; ``difference`` is the most that their similarities differ."""

    samples: tuple[int, int]
    classes: tuple[int, int]
    prototypes: tuple[int, ...]
    difference: float


def find_counterexample(
    similarities: Float[np.ndarray, "sample prototype"],
    classes: Int[np.ndarray, " sample"],
    shown: int = 3,
    tolerance: float = 0.05,
) -> Counterexample | None:
    """Find two samples with the same explanation but different classes, the most alike pair; None if there is none.

    The explanation is what a person sees: the ``shown`` most similar prototypes in their order, and how similar, within
    ``tolerance`` of the greatest similarity.
    """
    top = np.argsort(-similarities, axis=1, kind="stable")[:, :shown]
    groups = defaultdict(list)
    for sample, prototypes in enumerate(top.tolist()):
        groups[tuple(prototypes)].append(sample)
    pairs = [
        pair
        for prototypes, samples in groups.items()
        for pair in _closest_pairs(similarities, classes, prototypes, np.array(samples))
    ]
    best = min(pairs, key=lambda pair: (pair.difference, pair.samples), default=None)
    return best if best and best.difference <= tolerance * np.abs(similarities).max() else None


def _closest_pairs(
    similarities: Float[np.ndarray, "sample prototype"],
    classes: Int[np.ndarray, " sample"],
    prototypes: tuple[int, ...],
    samples: Int[np.ndarray, " some"],
) -> list[Counterexample]:
    """Pair each class's samples with the most alike one of another class."""
    found = []
    for klass in np.unique(classes[samples])[:-1]:
        own, others = samples[classes[samples] == klass], samples[classes[samples] > klass]
        search = NearestNeighbors(n_neighbors=1, metric="chebyshev").fit(similarities[np.ix_(others, prototypes)])
        distances, nearest = search.kneighbors(similarities[np.ix_(own, prototypes)])
        place = int(distances.argmin())
        pair = (int(own[place]), int(others[nearest[place, 0]]))
        found.append(Counterexample(pair, (int(klass), int(classes[pair[1]])), prototypes, float(distances.min())))
    return found
