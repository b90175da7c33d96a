"""Samples to look at first: outliers, and those whose label is probably wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from explainers.asking import ask
from explainers.index.subjects import IndexLayer
from explainers.jobs import Progress
from explainers.parameters import parameter
from explainers.prototypes.strategies import Comparison, Strategies, score
from explainers.prototypes.vectors import EmbedDecisions, Vectors
from explainers.questions import Question
from explainers.results import Result


@dataclass(frozen=True)
class Suspects(Result):
    """Samples of all compared classes, the least typical first.

    ``percentiles`` are their typicality for their class; ``log_ratios`` = log p(nu | the likeliest other class) -
    log p(nu | its class); both under mixtures that never saw the sample. ``others`` are the likeliest other classes.
    """

    unbounded: ClassVar[frozenset[str]] = frozenset({"log_ratios"})  # where only one class is compared

    rows: Int[np.ndarray, " sample"]
    classes: Int[np.ndarray, " sample"]
    others: Int[np.ndarray, " sample"]
    log_likelihoods: Float[np.ndarray, " sample"]
    log_ratios: Float[np.ndarray, " sample"]
    percentiles: Float[np.ndarray, " sample"]

    @property
    def table(self) -> pd.DataFrame:
        """The samples as a table; its index is their rows."""
        columns = {
            "class": self.classes,
            "other": self.others,
            "log_likelihood": self.log_likelihoods,
            "log_ratio": self.log_ratios,
            "percentile": self.percentiles,
        }
        return pd.DataFrame(columns, index=self.rows)


@dataclass(frozen=True)
class FindSuspects(Comparison, Question[IndexLayer, Suspects]):
    """Outliers, and labels that are probably wrong, see ``find_suspects``; no pass of the model."""

    name = "suspects"
    title = "Outliers and suspects"
    summary = "Which samples are untypical of their class, or more like another one."
    citation = "Dreyer et al. 2024, arXiv:2311.16681"
    subject = IndexLayer

    klass: int = parameter(-1, "Explained class", "The class that has so many strategies.", kind="class")

    def answer(self, about: IndexLayer, progress: Progress) -> Suspects:
        """Compare all samples with the strategies of all classes."""
        return find_suspects(ask(EmbedDecisions(), about).result(), self.find(about, self.klass))


def find_suspects(vectors: Vectors, strategies: Mapping[int, Strategies]) -> Suspects:
    """List the samples of all classes, the least typical first: outliers, and labels that are probably wrong.

    To find wrong labels, give ``embed`` the relevance of the label and let it learn from what the model decides as
    labelled.
    """
    rows = np.concatenate([known.rows for known in strategies.values()])
    points, folds, names = vectors.points.take(rows), vectors.folds[rows], np.array(list(strategies))
    scores = np.stack([score(known.mixtures, points)[folds, np.arange(len(rows))] for known in strategies.values()])
    own = vectors.classes[rows] == names[:, None]
    others = np.where(own, -np.inf, scores)
    likelihoods = scores.T[own.T]
    percentiles = np.concatenate([known.percentiles for known in strategies.values()])
    order = np.lexsort((likelihoods, percentiles))
    return Suspects(
        rows=rows[order],
        classes=vectors.classes[rows][order],
        others=names[others.argmax(axis=0)][order],
        log_likelihoods=likelihoods[order],
        log_ratios=(others.max(axis=0) - likelihoods)[order],
        percentiles=percentiles[order],
    )


def trace_precision(truth: Bool[np.ndarray, " sample"]) -> pd.DataFrame:
    """Give precision and recall of the first 1, 2, ... samples of a list, by whether each is what was looked for."""
    found, listed = np.cumsum(truth), np.arange(1, len(truth) + 1)
    return pd.DataFrame({"precision": found / listed, "recall": found / max(1, truth.sum())}, index=listed)
