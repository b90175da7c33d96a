"""One decision beside its class: whether it is ordinary, and in which concepts it differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from explainers.asking import ask
from explainers.concepts.question import rank_concepts
from explainers.concepts.relevance import RankConcepts
from explainers.errors import SelectionError
from explainers.index.subjects import CaseInIndex, IndexLayer
from explainers.jobs import Progress
from explainers.parameters import parameter
from explainers.predictions import Predict
from explainers.prototypes.strategies import Comparison, Strategies, score
from explainers.prototypes.vectors import EmbedDecisions, Points, Vectors, locate, normalise
from explainers.questions import Question
from explainers.results import Result


@dataclass(frozen=True)
class Thresholds:
    """Where a verdict changes, in percent of the class's own held-out samples that are less typical."""

    unusual: float = 5.0
    unlike: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.unlike <= self.unusual <= 100:
            raise SelectionError(
                f"The thresholds are {self.unlike:g} and {self.unusual:g} percent. "
                "Choose 0 <= unlike <= unusual <= 100."
            )

    def verdict(self, percentile: float) -> str:
        """Say a percentile in words."""
        if percentile < self.unlike:
            return "unlike anything seen for this class"
        return "unusual" if percentile < self.unusual else "ordinary"


@dataclass(frozen=True)
class Likeness(Result):
    """How well a decision fits a class: log-likelihood, percentile among the class's own, and nearest prototype."""

    klass: int
    prototype: int
    log_likelihood: float
    percentile: float


@dataclass(frozen=True)
class Decision(Result):
    """One decision beside its class's prototypes.

    ``responsibilities`` is the share of each prototype in it; ``deviation`` is its nu minus each prototype's mean, so
    that over-used concepts are positive. ``likenesses`` are all classes, the most likely first.
    """

    klass: int
    nearest: int
    responsibilities: Float[np.ndarray, " prototype"]
    log_likelihood: float
    percentile: float
    verdict: str
    deviation: Float[np.ndarray, "prototype concept"]
    likenesses: tuple[Likeness, ...]

    def deviating_concepts(self, count: int = 5) -> list[int]:
        """The concepts most over-used or under-used against the nearest prototype, most first."""
        return rank_concepts(self.deviation[self.nearest], count)


@dataclass(frozen=True)
class JudgeDecision(Comparison, Question[CaseInIndex, Decision]):
    """Whether one decision is ordinary for its class, see ``judge``."""

    name = "verdict"
    title = "Verdict"
    summary = "Whether a decision is ordinary for its class, and in which concepts it differs."
    citation = "Dreyer et al. 2024, arXiv:2311.16681"
    subject = CaseInIndex

    unusual: float = parameter(5.0, "Unusual below", "Percent of less typical cases.", low=0.0, high=100.0, step=1.0)
    unlike: float = parameter(
        0.5, "Unlike anything seen below", "Percent of less typical cases.", low=0.0, high=100.0, step=0.5
    )

    def answer(self, about: CaseInIndex, progress: Progress) -> Decision:
        """Compare what the concepts did with the strategies of all compared classes."""
        thresholds, recipe = Thresholds(self.unusual, self.unlike), about.index.recipe
        if about.info.digest != recipe.digest:
            raise SelectionError(
                f"The index in {about.index.store} belongs to another model ({recipe.model}). Build one of this."
            )
        asked = RankConcepts(recipe.composite, recipe.epsilon, recipe.gamma, layer=about.layer)
        found = ask(asked, about).result()
        beside = about.narrow(IndexLayer)
        klass, several = about.target.index, about.info.decisions_about(about.target.index)
        if several:
            klass = ask(Predict(), about).result().decision(about.info, klass)
        vectors, strategies = ask(EmbedDecisions(), beside).result(), self.find(beside, klass)
        row = about.index.find_row(about.picture.digest, several)
        return judge(vectors, strategies, klass, found.relevance, row, thresholds)


def judge(
    vectors: Vectors,
    strategies: Mapping[int, Strategies],
    klass: int,
    relevance: Float[np.ndarray, " concept"],
    row: int | None = None,
    thresholds: Thresholds = Thresholds(),
) -> Decision:
    """Compare one decision for a class with the strategies of that class and of others.

    ``strategies`` are those of the classes to compare with. For a sample that they were made from give its ``row``: it
    is then judged by the mixture that never saw it. Raises SelectionError for a class without strategies and
    ComputationError for values that are not finite. Dreyer et al. 2024, arXiv:2311.16681.
    """
    if klass not in strategies:
        raise SelectionError(
            f"There are no strategies of class {klass} to compare with. Find those of its samples first."
        )
    points = locate(vectors.spaces, relevance[None])
    likenesses = [compare(points, other, known, row) for other, known in strategies.items()]
    this = next(likeness for likeness in likenesses if likeness.klass == klass)
    return Decision(
        klass=klass,
        nearest=this.prototype,
        responsibilities=strategies[klass].mixtures[0].assign(points.coordinates[0])[0],
        log_likelihood=this.log_likelihood,
        percentile=this.percentile,
        verdict=thresholds.verdict(this.percentile),
        deviation=normalise(relevance[None]) - strategies[klass].means,
        likenesses=tuple(sorted(likenesses, key=lambda likeness: -likeness.log_likelihood)),
    )


def compare(points: Points, klass: int, known: Strategies, row: int | None) -> Likeness:
    """Compare one decision with the strategies of one class."""
    scores = score(known.mixtures, points)
    own = np.flatnonzero(known.rows == row)
    percentile = known.percentiles[own[0]] if len(own) else known.rank(scores)[0]
    prototype = int(known.mixtures[0].joint(points.coordinates[0])[0].argmax())
    return Likeness(klass, prototype, float(scores[0, 0]), float(percentile))


def check_batch(
    vectors: Vectors,
    strategies: Mapping[int, Strategies],
    relevance: Float[np.ndarray, "sample concept"],
    classes: Int[np.ndarray, " sample"],
    thresholds: Thresholds = Thresholds(),
) -> pd.DataFrame:
    """Check new samples against the strategies of their classes, the least typical first: out-of-distribution or not.

    ``surprise`` is how far the log-likelihood is below the median of the class's held-out samples, to rank samples of
    several classes. Samples of classes without strategies are left out. Columns: class, prototype, log_likelihood,
    surprise, percentile, verdict; the index is the row.
    """
    points, tables = locate(vectors.spaces, relevance), []
    for klass, known in strategies.items():
        rows = np.flatnonzero(classes == klass)
        own = points.take(rows)
        scores = score(known.mixtures, own)
        percentiles = known.rank(scores)
        columns = {
            "class": klass,
            "prototype": known.mixtures[0].joint(own.coordinates[0]).argmax(axis=1),
            "log_likelihood": scores[0],
            "surprise": np.median(known.held_out) - scores[0],
            "percentile": percentiles,
            "verdict": [thresholds.verdict(percentile) for percentile in percentiles],
        }
        tables.append(pd.DataFrame(columns, index=rows))
    return pd.concat(tables).sort_values("surprise", ascending=False, kind="stable")


def summarise(
    decision: Decision,
    strategies: Strategies,
    class_names: tuple[str, ...] = (),
    concepts: int = 5,
    thresholds: Thresholds = Thresholds(),
) -> dict[str, Any]:
    """Write a decision as JSON values: verdict, prototypes, the concepts that deviate most, and the likest classes."""

    def name(klass: int) -> str:
        return class_names[klass] if 0 <= klass < len(class_names) else str(klass)

    kept = ("prototype", "log_likelihood", "percentile")
    return {
        "class": name(decision.klass),
        "verdict": decision.verdict,
        "percentile": round(decision.percentile, 3),
        "thresholds": vars(thresholds),
        "log_likelihood": decision.log_likelihood,
        "samples": len(strategies.rows),
        "nearest_prototype": decision.nearest,
        "prototypes": [
            {"share": round(float(share), 6), "responsibility": round(float(responsibility), 6)}
            for share, responsibility in zip(strategies.shares, decision.responsibilities, strict=True)
        ],
        "deviations": tell_deviations(decision, concepts),
        "looks_like": [
            {"class": name(likeness.klass)} | {key: getattr(likeness, key) for key in kept}
            for likeness in decision.likenesses[:concepts]
        ],
    }


def tell_deviations(decision: Decision, count: int) -> list[dict[str, Any]]:
    """Write the concepts that deviate most from the nearest prototype as JSON values."""
    nearest = decision.deviation[decision.nearest]
    return [
        {"concept": concept, "deviation": float(nearest[concept]), "use": "over" if nearest[concept] > 0 else "under"}
        for concept in decision.deviating_concepts(count)
    ]
