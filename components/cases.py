"""All that is known at this moment of the pictures to choose from, as one table that is made once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
import streamlit as st

from components.names import current_notes
from components.session import Workspace
from explainers.asking import identify
from explainers.cache import shared_cache
from explainers.cases.filters import METADATA, natural_text, values_of
from explainers.cases.outcomes import Outcomes, find_outcomes
from explainers.cases.predictions import PredictAll, Predictions, ask_about, find_predictions
from explainers.cases.table import tabulate
from explainers.errors import NotesError
from explainers.images import Picture
from explainers.index.subjects import ManyInputs

#: The columns that are known once the model was asked about all pictures.
PREDICTED = ("decision", "right", "confidence", "value", "off by")

#: Numbers of which there are more different ones than this are chosen by range.
FEW = 12


@dataclass(frozen=True, eq=False)
class Known:
    """The table of cases, which of its columns say something, and what the model said of each beside the truth."""

    table: pd.DataFrame
    columns: tuple[str, ...]
    predictions: Predictions | None
    outcomes: Outcomes
    counted: dict[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def metadata(self) -> list[str]:
        """The columns that tables brought."""
        return [column for column in self.columns if column.startswith(METADATA)]

    def count(self, column: str) -> Mapping[str, int]:
        """How many cases have each value of a column, in the order of the values; "" is what is not known."""
        if column not in self.counted:
            cells = Counter(self.table[column].tolist())
            counts = Counter[str]()
            for cell, number in cells.items():
                counts.update(dict.fromkeys(values_of(cell), number))
            self.counted[column] = {value: counts[value] for value in sorted(counts, key=natural_text)}
        return self.counted[column]

    def is_range(self, column: str) -> bool:
        """Whether a column has so many different numbers that they are chosen by range."""
        numeric = pd.api.types.is_numeric_dtype(self.table[column])
        return numeric and not pd.api.types.is_bool_dtype(self.table[column]) and len(self.count(column)) > FEW


def current_knowledge(workspace: Workspace) -> Known:
    """The table of cases of the same data set, model, predictions, tags and strategies, made once."""
    info, dataset, tags = workspace.model.info, workspace.dataset, _read_tags(workspace)
    predictions = current_predictions(workspace)
    kept: dict[tuple[Any, ...], Known] = st.session_state.setdefault("known", {})
    strategies: Mapping[str, str] = st.session_state.get("strategies_of", {}).get(info.digest, {})
    about = (dataset, info.digest, id(predictions), repr(tags), id(strategies) if strategies else 0)
    if about not in kept:
        kept.clear()
        outcomes = find_outcomes(info, dataset, predictions)
        table = tabulate(info, dataset, predictions, tags or {}, outcomes, strategies)
        kept[about] = Known(table, tuple(_say_something(workspace, table, predictions, tags)), predictions, outcomes)
    return kept[about]


def _read_tags(workspace: Workspace) -> Mapping[str, tuple[str, ...]] | None:
    """Read the tags that pictures bear, by their digests; None where the notes cannot be read."""
    info = workspace.model.info
    try:
        return current_notes(replace(info, private=info.private or workspace.dataset.private)).every_tag()
    except NotesError:  # told where notes are written and shown
        return None


def _say_something(
    workspace: Workspace, table: pd.DataFrame, predictions: Predictions | None, tags: Mapping[str, Any] | None
) -> Iterator[str]:
    """List the columns in which anything can be known now: digests, by which tags are kept, come with predictions."""
    read = predictions is not None or all(isinstance(entry, Picture) for entry in workspace.pictures)
    for column in table:
        known = (read and tags is not None) if column == "tags" else predictions is not None or column not in PREDICTED
        if known:
            yield str(column)


def current_predictions(workspace: Workspace) -> Predictions | None:
    """What the model says of all pictures, if it was asked before; None where that is still to be done."""
    asked = ask_about_all(workspace)
    if asked.found is None and shared_cache().holds(asked.key):
        asked.found = find_predictions(asked.about)
    return asked.found


@dataclass(eq=False)
class Asked:
    """What ``PredictAll`` is asked about, the key of its answer, and the answer once it is there."""

    about: ManyInputs
    key: str
    found: Predictions | None = None


def ask_about_all(workspace: Workspace) -> Asked:
    """Make the question about all pictures, once for the same data set and model."""
    kept: dict[tuple[Any, ...], Asked] = st.session_state.setdefault("asked_about_all", {})
    key = (workspace.dataset, workspace.model.info.digest)
    if key not in kept:
        kept.clear()
        about = ask_about(workspace.model, workspace.pictures)
        kept[key] = Asked(about, identify(PredictAll(), about))
    return kept[key]
