"""All that is known at this moment of the pictures to choose from, as one table that is made once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
import streamlit as st

from components.names import current_notes
from components.session import Workspace
from explainers.cases.filters import METADATA, natural_text, values_of
from explainers.errors import NotesError
from explainers.images import Picture

#: The columns that are known once the model was asked about all pictures; before, tags are known of uploads alone.
PREDICTED = ("decision", "right", "confidence", "value", "off by")

#: Numbers of which there are more different ones than this are chosen by range.
FEW = 12


@dataclass(frozen=True, eq=False)
class Known:
    """The table of cases, and which of its columns say something."""

    table: pd.DataFrame
    columns: tuple[str, ...]
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


def current_table(workspace: Workspace) -> pd.DataFrame:
    """All that is known of the pictures now, a row each, see ``explainers.cases.table``."""
    return current_knowledge(workspace).table


def current_knowledge(workspace: Workspace) -> Known:
    """The table of cases of the same data set, model, predictions and tags, made once."""
    info, dataset, tags = workspace.model.info, workspace.dataset, _read_tags(workspace)
    before: tuple[Any, Known | None] = st.session_state.get("known", (None, None))
    about = (dataset, info.digest, tags)
    known = before[1] if before[0] == about else None
    if known is None:
        known = _tabulate(workspace, tags)
        st.session_state["known"] = about, known
    return known


def _read_tags(workspace: Workspace) -> Mapping[str, tuple[str, ...]] | None:
    """Read the tags that pictures bear, by their digests; None where the notes cannot be read."""
    info = workspace.model.info
    try:
        return current_notes(replace(info, private=info.private or workspace.dataset.private)).every_tag()
    except NotesError:  # told where notes are written and shown
        return None


def _tabulate(workspace: Workspace, tags: Mapping[str, tuple[str, ...]] | None) -> Known:
    entries, metadata = workspace.pictures, workspace.dataset.metadata
    columns = {
        "name": [entry.name for entry in entries],
        "label": [entry.label or "" for entry in entries],
        "tags": [(tags or {}).get(entry.digest, ()) if isinstance(entry, Picture) else () for entry in entries],
    }
    table = pd.concat([pd.DataFrame(columns), metadata.add_prefix(METADATA).reset_index(drop=True)], axis=1)
    read = tags is not None and all(isinstance(entry, Picture) for entry in entries)
    return Known(table, tuple(str(column) for column in table if read or column != "tags"))
