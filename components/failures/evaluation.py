"""All that the page says of a set of pictures, computed once for the same pictures, model, tags and filter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from jaxtyping import Int

from components.names import current_notes
from components.session import Workspace
from explainers.cases.figures import Figure, summarise
from explainers.cases.filters import Filter
from explainers.cases.outcomes import Outcomes, find_outcomes
from explainers.cases.predictions import Predictions
from explainers.cases.slices import Slices, find_slices
from explainers.cases.table import tabulate
from explainers.info import ModelInfo

#: What a model has to be asked for: the page leaves such conditions out, or it would judge only what is right or wrong.
SAID = ("decision", "right", "confidence", "value", "off by")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model says of the pictures that the filter lets through, beside what is true of them.

    ``rows`` are those of the data set; the table of cases and outcomes have a row for each of them. ``base`` is the
    filter, without its conditions on what the model says.
    """

    workspace: Workspace
    rows: Int[np.ndarray, " case"]
    base: Filter
    table: pd.DataFrame
    outcomes: Outcomes
    unreadable: tuple[str, ...]

    @property
    def info(self) -> ModelInfo:
        """What is known about the model."""
        info: ModelInfo = self.workspace.model.info
        return info

    @cached_property
    def figures(self) -> tuple[Figure, ...]:
        """How right the model is."""
        return summarise(self.outcomes)

    @cached_property
    def slices(self) -> Slices:
        """For whom it is worse."""
        filtered = [column for column in ("tags", "truth") if column in self.base.columns]
        empty = {column: pd.Series([()] * len(self.table), dtype=object) for column in filtered}
        return find_slices(
            self.outcomes, self.table.assign(**empty)
        )  # a cell has several values; a filter asks for one

    @cached_property
    def findings(self) -> Mapping[int, Evaluation]:
        """The same about each finding alone."""
        names = self.info.class_names if self.outcomes.by_finding else ()
        return {place: replace(self, outcomes=self.outcomes.about(place)) for place in range(len(names))}


def evaluate(workspace: Workspace, predictions: Predictions) -> Evaluation:
    """Put together what was predicted and what is known."""
    base, tags = current_base(), read_tags(workspace)
    about = (workspace.dataset, workspace.model, predictions, base, tags)
    made: tuple[Any, Evaluation] | None = st.session_state.get("evaluation")
    if made is None or not _same(made[0], about):
        made = about, _evaluate(workspace, predictions, base, tags)
        st.session_state["evaluation"] = made
    return made[1]


def _same(before: tuple[Any, ...], now: tuple[Any, ...]) -> bool:
    """Whether data set, model and predictions are the very same, and filter and tags are equal."""
    return all(old is new for old, new in zip(before[:3], now[:3], strict=True)) and before[3:] == now[3:]


def _evaluate(
    workspace: Workspace, predictions: Predictions, base: Filter, tags: Mapping[str, tuple[str, ...]]
) -> Evaluation:
    outcomes = find_outcomes(workspace.model.info, workspace.dataset, predictions)
    table = tabulate(workspace.model.info, workspace.dataset, predictions, tags, outcomes)
    rows = base.apply(table)
    part = table.iloc[rows].reset_index(drop=True)
    return Evaluation(workspace, rows, base, part, outcomes[rows], predictions.unreadable)


def current_base() -> Filter:
    """The session's filter without its order, and without its conditions on what the model says."""
    chosen: Filter = st.session_state.get("filter", Filter())
    return replace(
        chosen,
        chosen=tuple(one for one in chosen.chosen if one[0] not in SAID),
        ranges=tuple(one for one in chosen.ranges if one[0] not in SAID),
        sort="",
        descending=False,
    )


def read_tags(workspace: Workspace) -> Mapping[str, tuple[str, ...]]:
    """The tags that pictures bear, by their digests; raises NotesError."""
    info: ModelInfo = workspace.model.info
    return current_notes(replace(info, private=info.private or workspace.dataset.private)).every_tag()
