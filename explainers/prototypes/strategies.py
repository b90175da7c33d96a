"""How a model decides for a class: its prototypes, and how typical each of its samples is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from explainers.asking import ask
from explainers.concepts.question import rank_concepts
from explainers.errors import SelectionError
from explainers.index.subjects import IndexLayer
from explainers.jobs import Progress
from explainers.parameters import parameter
from explainers.prototypes.mixture import MEMBERS, PROTOTYPES, Mixture, fit, measure_bic
from explainers.prototypes.vectors import FEWEST, FOLDS, EmbedDecisions, Points, Vectors, batches, comparable_classes
from explainers.questions import Question
from explainers.results import Result


@dataclass(frozen=True)
class Strategies(Result):
    """The prototypes of one class, the largest first (Dreyer et al. 2024, arXiv:2311.16681).

    ``rows`` are the class's samples, ``learnt`` tells those that the prototypes come from. ``mixtures`` has one entry
    for each of the vectors' spaces: that of all samples and those without a fold. ``held_out`` is each sample's
    log-likelihood under the mixture that never saw it. ``responsibilities``, ``means`` (in concepts) and ``shares``
    (the mixture's weights) are those of all samples. ``bic`` is given for 1, 2, ... prototypes (empty if by hand).
    """

    unbounded: ClassVar[frozenset[str]] = frozenset({"bic"})

    klass: int
    rows: Int[np.ndarray, " sample"]
    learnt: Bool[np.ndarray, " sample"]
    folds: Int[np.ndarray, " sample"]
    held_out: Float[np.ndarray, " sample"]
    responsibilities: Float[np.ndarray, "sample prototype"]
    means: Float[np.ndarray, "prototype concept"]
    shares: Float[np.ndarray, " prototype"]
    bic: Float[np.ndarray, " count"]
    mixtures: tuple[Mixture, ...]

    @property
    def percentiles(self) -> Float[np.ndarray, " sample"]:
        """How typical each of the class's samples is among those of its own fold, in percent."""
        shares = np.stack([_share_below(self.held_out, known) for known in self._known()])
        return np.asarray(100 * shares[self.folds - 1, np.arange(len(self.rows))])

    def rank(self, scores: Float[np.ndarray, "space sample"]) -> Float[np.ndarray, " sample"]:
        """Give the percentile of new samples' log-likelihoods among the class's own held-out ones.

        Each fold's held-out samples count under the mixture that never saw them; so a new sample that is like the
        class's gets every percentile equally often (cross-conformal prediction, Vovk 2015, arXiv:1208.0806).
        """
        shares = [_share_below(new, known) for new, known in zip(scores[1:], self._known(), strict=True)]
        return np.asarray(100 * np.mean(shares, axis=0))

    def _known(self) -> list[Float[np.ndarray, " some"]]:
        return [self.held_out[self.learnt & (self.folds == fold)] for fold in range(1, FOLDS + 1)]


@dataclass(frozen=True)
class Prototype:
    """A typical way to decide for a class.

    ``share`` of the class that follows it (coverage); ``rows``, its samples nearest to the mean first; ``mean``, its
    concept relevances; ``contrast``, what it has more than the class's other prototypes (zeros for a single one).
    """

    share: float
    rows: Int[np.ndarray, " sample"]
    mean: Float[np.ndarray, " concept"]
    contrast: Float[np.ndarray, " concept"]

    def characteristic_concepts(self, count: int = 5) -> list[int]:
        """The concepts with the most relevance of either sign, most first."""
        return rank_concepts(self.mean, count)

    def distinctive_concepts(self, count: int = 5) -> list[int]:
        """The concepts in which it differs most from the class's other prototypes, most first."""
        return rank_concepts(self.contrast, count)


@dataclass(frozen=True)
class FindStrategies(Question[IndexLayer, Strategies]):
    """The strategies of one class, see ``fit_strategies``; no pass of the model."""

    name = "strategies"
    title = "Strategies of a class"
    summary = "In which typical ways the model decides for a class."
    citation = "Dreyer et al. 2024, arXiv:2311.16681"
    subject = IndexLayer

    klass: int = parameter(0, "Class", "The class whose decisions are told apart.", kind="class")
    count: int = parameter(0, "Strategies", "How many; 0 for as many as its samples show.", low=0, high=PROTOTYPES)

    def answer(self, about: IndexLayer, progress: Progress) -> Strategies:
        """Fit a mixture to the class's decisions."""
        vectors = ask(EmbedDecisions(), about).result()
        return fit_strategies(vectors, about.index.decisions(about.layer).relevance, self.klass, self.count or None)


@dataclass(frozen=True)
class Comparison:
    """The parameters of questions that compare classes by their strategies."""

    compared: tuple[int, ...] = parameter(
        (), "Compared classes", "The classes that are compared; empty for those of most samples.", kind="classes"
    )
    strategies: int = parameter(
        0, "Strategies", "How many the explained class has; 0 for as many as its samples show.", low=0, high=PROTOTYPES
    )

    def find(self, about: IndexLayer, klass: int) -> Mapping[int, Strategies]:
        """Find the strategies of the classes that are compared, those of the explained one as many as asked for."""
        classes: Sequence[int] = self.compared or comparable_classes(ask(EmbedDecisions(), about).result(), [klass])
        counts = {other: self.strategies if other == klass else 0 for other in classes}
        return {other: ask(FindStrategies(other, count), about).result() for other, count in counts.items()}


def fit_strategies(
    vectors: Vectors,
    relevance: Float[np.ndarray, "sample concept"],
    klass: int,
    count: int | None = None,
    seed: int = 0,
) -> Strategies:
    """Find a class's prototypes: a Gaussian mixture over nu, of ``count`` components or as many as BIC chooses.

    ``relevance`` is what ``vectors`` was made from. Raises SelectionError for too few samples or too many prototypes.
    """
    points, rows = vectors.points, np.flatnonzero(vectors.classes == klass)
    known = vectors.order[(vectors.classes == klass)[vectors.order] & vectors.learnt[vectors.order]]
    counts, bic = _possible_counts(points.coordinates[0, known], klass, count), np.empty(0)
    with threadpool_limits(1):  # as in embed
        if count is None:
            bic = measure_bic(points.coordinates[0, known], counts, vectors.spaces[0].floor, seed)
            count = counts[int(bic.argmin())]
        mixtures = tuple(
            fit(points.coordinates[fold, known[vectors.folds[known] != fold]], count, space.floor, seed)
            for fold, space in enumerate(vectors.spaces)
        )
    responsibilities = mixtures[0].assign(points.coordinates[0])
    return Strategies(
        klass=klass,
        rows=rows,
        learnt=vectors.learnt[rows],
        folds=vectors.folds[rows],
        held_out=score(mixtures, points.take(rows))[vectors.folds[rows], np.arange(len(rows))],
        responsibilities=responsibilities[rows],
        means=_average(relevance, known, responsibilities[known]),
        shares=mixtures[0].weights,
        bic=bic,
        mixtures=mixtures,
    )


def score(mixtures: tuple[Mixture, ...], points: Points) -> Float[np.ndarray, "space sample"]:
    """Give the log-likelihood of samples in every space: log sum_k weight_k N(z; mean_k, C) + log N(rest)."""
    scores = [mixture.score(coordinates) for mixture, coordinates in zip(mixtures, points.coordinates, strict=True)]
    return np.asarray(np.stack(scores) + points.rest)


def describe(strategies: Strategies, vectors: Vectors, count: int = 8) -> tuple[Prototype, ...]:
    """Describe a class's prototypes with the ``count`` samples nearest to each: least |nu - mean|^2 of those it has."""
    points = vectors.points.take(strategies.rows)
    energy = -2 * vectors.spaces[0].noise * points.rest[0]  # but for a constant
    owners = strategies.responsibilities.argmax(axis=1)
    found = []
    for number, (share, mean) in enumerate(zip(strategies.shares, strategies.means, strict=True)):
        distances = ((points.coordinates[0] - strategies.mixtures[0].means[number]) ** 2).sum(axis=1) + energy
        nearest = np.argsort(np.where(owners == number, distances, np.inf), kind="stable")
        nearest = nearest[: min(count, int((owners == number).sum()))]
        others = np.delete(np.arange(len(strategies.shares)), number)
        rest = np.average(strategies.means[others], axis=0, weights=strategies.shares[others]) if len(others) else mean
        found.append(Prototype(float(share), strategies.rows[nearest], mean, mean - rest))
    return tuple(found)


def _possible_counts(points: Float[np.ndarray, "sample dimension"], klass: int, count: int | None) -> range:
    if len(points) < FEWEST:
        raise SelectionError(
            f"Class {klass} has {len(points)} samples to learn from; prototypes need at least {FEWEST}. "
            "Choose another class, or index more of its images."
        )
    most = max(1, len(np.unique(points, axis=0)) // MEMBERS)
    if count is not None and not 1 <= count <= most:
        raise SelectionError(f"Class {klass} has samples for 1 to {most} prototypes; {count} were asked for.")
    return range(1, min(PROTOTYPES, most) + 1)


def _average(
    relevance: Float[np.ndarray, "sample concept"],
    rows: Int[np.ndarray, " row"],
    responsibilities: Float[np.ndarray, "row prototype"],
) -> Float[np.ndarray, "prototype concept"]:
    """Average the vectors of each prototype by its responsibilities, as the mixture's means do."""
    means = np.zeros((responsibilities.shape[1], relevance.shape[1]))
    for part, vectors in batches(relevance, rows):
        means += responsibilities[part].T @ vectors
    return np.asarray(means / responsibilities.sum(axis=0)[:, None])


def _share_below(
    scores: Float[np.ndarray, " sample"], known: Float[np.ndarray, " some"]
) -> Float[np.ndarray, " sample"]:
    """Give the share of known scores below each score, counting half of those equal to it."""
    known = np.sort(known)
    twice = np.searchsorted(known, scores, "left") + np.searchsorted(known, scores, "right")
    return np.asarray(twice / (2 * len(known)))
