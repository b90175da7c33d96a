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

from components.cases import PREDICTED, Known, current_knowledge
from components.finding import current_filter
from components.session import Workspace
from explainers.cases.figures import Figure, summarise
from explainers.cases.filters import Filter
from explainers.cases.outcomes import Outcomes
from explainers.cases.slices import Slices, find_slices
from explainers.info import ModelInfo


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


def evaluate(workspace: Workspace) -> Evaluation:
    """Put together what was predicted and what is known."""
    about = current_knowledge(workspace), current_base()
    made: tuple[Any, Evaluation] | None = st.session_state.get("evaluation")
    if made is None or made[0] != about:
        made = about, _evaluate(workspace, *about)
        st.session_state["evaluation"] = made
    return made[1]


def _evaluate(workspace: Workspace, known: Known, base: Filter) -> Evaluation:
    rows = base.apply(known.table)
    table = known.table.iloc[rows].reset_index(drop=True)
    unreadable = known.predictions.unreadable if known.predictions else ()
    return Evaluation(workspace, rows, base, table, known.outcomes[rows], unreadable)


def current_base() -> Filter:
    """The session's filter without order and conditions on what the model says, or all it shows might be right."""
    chosen = current_filter()
    return replace(
        chosen,
        chosen=tuple(one for one in chosen.chosen if one[0] not in PREDICTED),
        ranges=tuple(one for one in chosen.ranges if one[0] not in PREDICTED),
        sort="",
        descending=False,
    )
