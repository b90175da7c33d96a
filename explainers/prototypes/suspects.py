"""Samples to look at first: outliers, and those whose label is probably wrong."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Bool

from explainers.prototypes.strategies import Strategies, score
from explainers.prototypes.vectors import Vectors


def find_suspects(vectors: Vectors, strategies: Mapping[int, Strategies]) -> pd.DataFrame:
    """List the samples of all classes, the least typical first: outliers, and labels that are probably wrong.

    To find wrong labels, give ``embed`` the relevance of the label and let it learn from what the model decides as
    labelled. ``percentile`` is a sample's typicality for its class; ``log_ratio`` = log p(nu | the likeliest other
    class) - log p(nu | its class); both under mixtures that never saw it. Other columns: class, other (the likeliest
    other class), log_likelihood. The index is the sample's row.
    """
    rows = np.concatenate([known.rows for known in strategies.values()])
    points, folds, names = vectors.points.take(rows), vectors.folds[rows], np.array(list(strategies))
    scores = np.stack([score(known.mixtures, points)[folds, np.arange(len(rows))] for known in strategies.values()])
    own = vectors.classes[rows] == names[:, None]
    others = np.where(own, -np.inf, scores)
    likelihood = scores.T[own.T]
    columns = {
        "class": vectors.classes[rows],
        "other": names[others.argmax(axis=0)],
        "log_likelihood": likelihood,
        "log_ratio": others.max(axis=0) - likelihood,
        "percentile": np.concatenate([known.percentiles for known in strategies.values()]),
    }
    return pd.DataFrame(columns, index=rows).sort_values(["percentile", "log_likelihood"], kind="stable")


def trace_precision(truth: Bool[np.ndarray, " sample"]) -> pd.DataFrame:
    """Give precision and recall of the first 1, 2, ... samples of a list, by whether each is what was looked for."""
    found, listed = np.cumsum(truth), np.arange(1, len(truth) + 1)
    return pd.DataFrame({"precision": found / listed, "recall": found / max(1, truth.sum())}, index=listed)
