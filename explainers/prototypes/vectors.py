"""Concept-relevance vectors, and the few directions in which those of a layer vary."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from explainers.errors import ComputationError, SelectionError
from explainers.index.subjects import IndexLayer
from explainers.jobs import Progress, check
from explainers.questions import Question
from explainers.results import Result

#: Directions kept at most, samples that they are found from, folds of held-out samples, fewest samples.
DIMENSIONS = 32
SAMPLES = 4000
FOLDS = 3
FEWEST = 15

#: How many classes a decision is compared with at most.
COMPARED = 20

#: The least variance in any direction, as a share of the mean variance.
FLOOR = 1e-3

BATCH = 4096


def normalise(relevance: Float[np.ndarray, "sample concept"]) -> Float[np.ndarray, "sample concept"]:
    """Divide each sample's concept relevances by the sum of their absolute values: nu = R / sum |R|.

    A sample without any relevance stays zero. Raises ComputationError for values that are not finite. Dreyer et al.
    2024, arXiv:2311.16681.
    """
    broken = int((~np.isfinite(relevance)).any(axis=1).sum())
    if broken:
        raise ComputationError(
            f"The concept relevances of {broken} of {len(relevance)} samples are not finite numbers. "
            "Check the model's weights, then build the index again."
        )
    values = relevance.astype(np.float64)
    total = np.abs(values).sum(axis=1, keepdims=True)
    return np.asarray(np.divide(values, total, out=np.zeros_like(values), where=total > 0))


@dataclass(frozen=True)
class Space(Result):
    """The directions in which vectors vary, with noise alike in all others: probabilistic principal components.

    ``noise`` is the variance g of the rest in each of ``rank`` effective dimensions h, so that the energy of the rest
    is g times a chi-square of h degrees (Box 1954); for isotropic Gaussian noise these are the noise's variance and the
    number of dimensions left (Tipping and Bishop 1999). ``floor`` is the least variance in any direction.
    """

    centre: Float[np.ndarray, " concept"]
    basis: Float[np.ndarray, "dimension concept"]
    noise: float
    rank: float
    floor: float

    def project(
        self, vectors: Float[np.ndarray, "sample concept"]
    ) -> tuple[Float[np.ndarray, "sample dimension"], Float[np.ndarray, " sample"]]:
        """Split vectors into coordinates and the energy (squared length) of the rest."""
        deltas = vectors - self.centre
        coordinates = deltas @ self.basis.T
        return coordinates, np.maximum((deltas**2).sum(axis=1) - (coordinates**2).sum(axis=1), 0)


@dataclass(frozen=True)
class Points(Result):
    """Samples as each space sees them: ``coordinates`` and ``rest``, the log-density of what is outside of the space.

    log N(rest) = -energy / 2g - h/2 log(2 pi g), see ``Space``.
    """

    coordinates: Float[np.ndarray, "space sample dimension"]
    rest: Float[np.ndarray, "space sample"]

    def take(self, rows: Int[np.ndarray, " row"]) -> Points:
        """Keep some samples."""
        return Points(self.coordinates[:, rows], self.rest[:, rows])


@dataclass(frozen=True)
class Vectors(Result):
    """All samples of a layer in few coordinates.

    ``learnt`` tells the samples that strategies are found from. ``spaces`` holds the space of all of them and then, for
    every fold, that of those outside of it; ``folds`` are numbered from 1, so that ``spaces[folds[i]]`` never saw
    sample i. ``order`` sorts samples by a hash of their content: a shuffle that does not depend on how they come.
    """

    classes: Int[np.ndarray, " sample"]
    learnt: Bool[np.ndarray, " sample"]
    order: Int[np.ndarray, " sample"]
    folds: Int[np.ndarray, " sample"]
    spaces: tuple[Space, ...]
    points: Points


@dataclass(frozen=True)
class EmbedDecisions(Question[IndexLayer, Vectors]):
    """The vectors of a layer's decisions in few directions, see ``embed``; no pass of the model."""

    name = "decision-vectors"
    title = "Vectors of decisions"
    summary = "In which few directions the decisions of an index differ in one layer."
    citation = "Dreyer et al. 2024, arXiv:2311.16681; Tipping and Bishop 1999"
    subject = IndexLayer
    durable = False

    def answer(self, about: IndexLayer, progress: Progress) -> Vectors:
        """Read the index and embed it."""
        found = about.index.decisions(about.layer)
        return embed(found.relevance, found.classes, found.learnt)


def comparable_classes(vectors: Vectors, first: Sequence[int] = (), most: int = COMPARED) -> tuple[int, ...]:
    """List the classes of enough samples to find strategies of: those named ``first``, then those of most samples."""
    classes, counts = np.unique(vectors.classes[vectors.learnt], return_counts=True)
    large = classes[np.argsort(-counts, kind="stable")][: (counts >= FEWEST).sum()].tolist()
    return tuple(dict.fromkeys([klass for klass in first if klass in large] + large))[:most]


def embed(
    relevance: Float[np.ndarray, "sample concept"],
    classes: Int[np.ndarray, " sample"],
    learnt: Bool[np.ndarray, " sample"] | None = None,
    seed: int = 0,
) -> Vectors:
    """Find the directions in which a layer's vectors vary, over all classes, and the samples' coordinates there.

    ``classes`` is the class whose relevance each row holds. ``learnt`` tells which samples to learn from: those that
    the model decides rightly, as the paper does (None: all). One space for all classes makes their likelihoods
    comparable. Raises ComputationError for values that are not finite or all alike, SelectionError for too few samples.
    """
    learnt = np.ones(len(relevance), bool) if learnt is None else learnt
    if learnt.sum() < FEWEST:
        raise SelectionError(
            f"There are {learnt.sum()} samples to learn from; prototypes need at least {FEWEST}. "
            "Build the index on more images."
        )
    order = np.argsort([zlib.crc32(np.ascontiguousarray(row).data) for row in relevance], kind="stable")
    folds = np.empty(len(order), np.int64)
    folds[order[np.lexsort((classes[order], learnt[order]))]] = np.arange(len(order)) % FOLDS + 1
    known = order[learnt[order]]
    outside = [known, *(known[folds[known] != fold] for fold in range(1, FOLDS + 1))]
    count = min(DIMENSIONS, relevance.shape[1], len(known) // FOLDS)
    with threadpool_limits(1):  # threads on matrices this small wait for each other longer than they compute
        spaces = tuple(fit_space(normalise(relevance[rows[:SAMPLES]]), count, seed) for rows in outside)
        return Vectors(classes, learnt, order, folds, spaces, locate(spaces, relevance))


def fit_space(vectors: Float[np.ndarray, "sample concept"], count: int, seed: int) -> Space:
    """Find ``count`` principal directions and the noise in all others; raises ComputationError if all are alike."""
    if np.ptp(vectors, axis=0).max() < 1e-9:
        raise ComputationError(
            f"The concept relevances of all {len(vectors)} samples are alike. Choose another layer, or index images "
            "that differ."
        )
    check()
    parts = PCA(count, random_state=seed).fit(vectors)
    floor = FLOOR * float(parts.explained_variance_.mean())
    space = Space(parts.mean_, parts.components_, 0.0, 0.0, floor)
    energy = space.project(vectors)[1]
    noise = max(floor, float(energy.var() / (2 * energy.mean() + 1e-30)))
    return Space(space.centre, space.basis, noise, float(energy.mean()) / noise, floor)


def locate(spaces: tuple[Space, ...], relevance: Float[np.ndarray, "sample concept"]) -> Points:
    """Find the points of samples in every space, with the vectors of a few thousand in memory at a time."""
    coordinates = np.empty((len(spaces), len(relevance), len(spaces[0].basis)))
    rest = np.empty(coordinates.shape[:2])
    for part, vectors in batches(relevance):
        for number, space in enumerate(spaces):
            coordinates[number, part], energy = space.project(vectors)
            rest[number, part] = -energy / (2 * space.noise) - space.rank / 2 * np.log(2 * np.pi * space.noise)
    return Points(coordinates, rest)


def batches(
    relevance: Float[np.ndarray, "sample concept"], rows: Int[np.ndarray, " row"] | None = None
) -> Iterator[tuple[slice, Float[np.ndarray, "part concept"]]]:
    """Normalise the relevances of all or some rows, a few thousand at a time, each with its place among the rows."""
    for start in range(0, len(relevance) if rows is None else len(rows), BATCH):
        check()
        part = slice(start, start + BATCH)
        yield part, normalise(relevance[part if rows is None else rows[part]])
