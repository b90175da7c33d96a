"""One table of all that is known of many pictures, to filter, to sort and to take along. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from explainers.cases.dataset import Dataset
from explainers.cases.filters import METADATA
from explainers.cases.outcomes import UNKNOWN, Outcomes, find_outcomes
from explainers.cases.predictions import Predictions
from explainers.images import Picture
from explainers.info import ModelInfo
from explainers.outputs import NUMBERS
from explainers.tables import write_csv


def tabulate(
    info: ModelInfo,
    dataset: Dataset,
    predictions: Predictions | None,
    tags: Mapping[str, Sequence[str]],
    outcomes: Outcomes | None = None,
    strategies: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Make a table with a row an entry; ``tags``, and the strategies that pictures follow, are by a picture's digest.

    Columns are "name", "label" (text), "truth" and "decision" (tuples of names out of ``info.decision_names``), "right"
    ("yes", "no", "" where that is not known), "confidence" (NaN without a prediction), "tags" (a tuple of texts), of
    measured numbers "value" and "off by", and "data.<column>" for each column of metadata, "data.strategy" among them.
    """
    outcomes = outcomes or find_outcomes(info, dataset, predictions)
    digests = find_digests(dataset, predictions)
    columns = {
        "name": [entry.name for entry in dataset.entries],
        "label": [entry.label or "" for entry in dataset.entries],
        "truth": name_decisions(info, outcomes.truth),
        "decision": name_decisions(info, outcomes.said) if info.kind != NUMBERS or info.usual else [()] * len(outcomes),
        "right": np.select([outcomes.right, outcomes.known & (info.kind != NUMBERS)], ["yes", "no"], ""),
        "confidence": outcomes.confidence,
        "tags": [tuple(tags.get(content, ())) for content in digests],
    }
    if info.kind == NUMBERS and len(info.class_names) == 1:
        columns |= {"value": outcomes.values, "off by": outcomes.errors}
    metadata = dataset.metadata
    if strategies and any(followed := [strategies.get(content, "") for content in digests]):
        metadata = metadata.assign(**{"strategy (found)" if "strategy" in metadata else "strategy": followed})
    metadata = metadata.add_prefix(METADATA).reset_index(drop=True)
    return pd.concat([pd.DataFrame(columns), metadata], axis=1)


def name_decisions(info: ModelInfo, decisions: np.ndarray) -> list[tuple[str, ...]]:
    """Name the decisions on each picture, without those that are not known; equal ones share a tuple."""
    names = info.decision_names
    rows, places = np.unique(decisions, axis=0, return_inverse=True)
    named = [tuple(names[decision] for decision in row if decision != UNKNOWN) for row in rows.tolist()]
    return [named[place] for place in places.ravel().tolist()]


def find_digests(dataset: Dataset, predictions: Predictions | None) -> Sequence[str]:
    """The digests of pictures, as far as they were read; "" for the others."""
    if predictions is not None:
        return predictions.digests
    return [entry.digest if isinstance(entry, Picture) else "" for entry in dataset.entries]


def write_cases(table: pd.DataFrame) -> bytes:
    """Write a table of cases as CSV; several values of a cell stand with a semicolon between them."""
    columns = [str(column).removeprefix(METADATA) for column in table.columns]
    return write_csv(columns, (tuple(map(_write_cell, row)) for row in table.itertuples(index=False, name=None)))


def _write_cell(cell: Any) -> Any:
    if isinstance(cell, tuple):
        return "; ".join(cell)
    return "" if isinstance(cell, float) and np.isnan(cell) else cell
