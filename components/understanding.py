"""What is known of the pictures from folders and tables: how it was understood, and ways to correct that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pandas as pd
import streamlit as st

from components.plain_text import plain
from components.waiting import reading
from explainers.cases.arranging import (
    AUTOMATIC,
    BOXES,
    FOLDERS,
    TABLES,
    Arrangement,
    Choice,
    Material,
    arrange,
)
from explainers.cases.columns import Columns
from explainers.cases.dataset import Dataset, collect
from explainers.images import Attachment, Picture, Sample, Samples
from explainers.info import ModelInfo
from explainers.opening import open_material

SOURCES = {FOLDERS: "Folders", TABLES: "Tables", BOXES: "What is marked in the pictures"}

#: What is known of tables and annotations that somebody did not wait for.
STOPPED = Material({}, {}, ("Reading tables and annotations was stopped. Add them anew when you want them read.",))

#: How many rows of a table are shown.
PREVIEW = 5


def understand(
    entries: Sequence[Sample | Picture], attachments: Sequence[Attachment], info: ModelInfo | None = None
) -> Dataset:
    """Draw how folders and tables were understood, with pickers to correct that; returns the pictures as understood.

    Columns named after the classes of the model that ``info`` is about are understood as labels.
    """
    if not entries:
        return collect(entries)
    material = _read_material(tuple(attachments), isinstance(entries, Samples))
    kept = _Kept((*(one.name for one in attachments), isinstance(entries[0], Picture)))
    found = _arrange(tuple(entries), entries, material, info.class_names if info else (), kept.choice)
    for note in material.notes:
        st.warning(plain(note), icon=":material/table:")
    notes = found.dataset.notes[len(material.notes) :]
    if notes:
        st.caption(plain(notes[0]))
    if material.tables or len(found.layout.choices) > 1 or len(notes) > 1:
        with st.expander("Labels and metadata"):
            for note in notes[1:]:
                st.caption(plain(note))
            _choose_source(found, material, kept)
            for name, table in material.tables.items():
                _choose_columns(name, table, found, kept)
    return found.dataset


class _Kept:
    """What a person chose about one set of files; widgets forget when their page is left, so it is kept beside them."""

    def __init__(self, key: tuple[Any, ...]) -> None:
        self.key = key

    @property
    def choice(self) -> Choice:
        choices: Mapping[tuple[Any, ...], Choice] = st.session_state.get("arranged_by", {})
        return choices.get(self.key, AUTOMATIC)

    def change(self, **values: Any) -> None:
        """Keep something else that was chosen."""
        choices = st.session_state.setdefault("arranged_by", {})
        choices[self.key] = replace(self.choice, **values)

    def change_columns(self, table: str, columns: Columns) -> None:
        """Keep what was chosen of a table."""
        others = {**dict(self.choice.columns), table: columns}
        self.change(columns=tuple(others.items()))

    def widget(self, *parts: str) -> str:
        """Name a widget for these files."""
        return "-".join(("arranged", str(hash(self.key)), *parts))


def _read_material(attachments: tuple[Attachment, ...], public: bool) -> Material:
    """Read attachments once; those on the server once for everybody."""
    known = st.session_state.get("material")
    if known is None or known[0] != attachments:
        read = _read_public if public else open_material
        with reading("what came with the pictures", "material", lambda: _keep_material(attachments, STOPPED)):
            _keep_material(attachments, read(attachments))
    material: Material = st.session_state["material"][1]
    return material


def _keep_material(attachments: tuple[Attachment, ...], material: Material) -> None:
    st.session_state["material"] = attachments, material


@lru_cache(maxsize=2)
def _read_public(attachments: tuple[Attachment, ...]) -> Material:
    return open_material(attachments)


def _arrange(
    key: tuple[Sample | Picture, ...],
    entries: Sequence[Sample | Picture],
    material: Material,
    class_names: tuple[str, ...],
    choice: Choice,
) -> Arrangement:
    """Put together what is known of the pictures once."""
    known = st.session_state.get("arranged")
    if known is None or known[1] is not material or known[2:4] != (class_names, choice) or known[0] != key:
        make = _arrange_public if isinstance(entries, Samples) else arrange
        found = make(entries, material, class_names, choice)
        known = st.session_state["arranged"] = (key, material, class_names, choice, found)
    arrangement: Arrangement = known[4]
    return arrangement


@lru_cache(maxsize=2)
def _arrange_public(entries: Samples, material: Material, class_names: tuple[str, ...], choice: Choice) -> Arrangement:
    return arrange(entries, material, class_names, choice)


def _choose_source(found: Arrangement, material: Material, kept: _Kept) -> None:
    """Draw the pickers of where labels come from, and of the folder that is the label."""
    sources = [FOLDERS] + [TABLES] * bool(found.columns) + [BOXES] * bool(material.boxes)
    if len(sources) > 1 and found.source in sources:
        key = kept.widget("source")
        st.selectbox(
            "Labels from",
            sources,
            sources.index(found.source),
            format_func=SOURCES.__getitem__,
            key=key,
            on_change=lambda: kept.change(source=st.session_state[key]),
            help="What says what is to be seen in a picture.",
        )
    levels = list(found.layout.choices)
    if found.source == FOLDERS and len(levels) > 1:
        place = kept.widget("level")
        st.selectbox(
            "Folder that is the label",
            levels,
            levels.index(found.layout.level) if found.layout.level in levels else 0,
            format_func=lambda level: _name_level(level, found.layout.choices[level]),
            key=place,
            on_change=lambda: kept.change(level=st.session_state[place]),
            help="Counted from the picture upwards.",
        )


def _name_level(level: int, names: Sequence[str]) -> str:
    """Say which folder is meant, with names found there."""
    where = {0: "None", 1: "Next to the picture"}.get(level, f"{level} above")
    return f"{where}: {', '.join(names)}" if names else where


def _choose_columns(name: str, table: pd.DataFrame, found: Arrangement, kept: _Kept) -> None:
    """Draw the pickers of what the columns of a table mean, and its first rows."""
    used, file, labels = (kept.widget(part, name) for part in ("used", "file", "labels"))
    columns = found.columns.get(name) or dict(kept.choice.columns).get(name, Columns())

    def use() -> None:
        others = tuple(one for one in kept.choice.left_out if one != name)
        kept.change(left_out=others if st.session_state[used] else (*others, name))

    def change() -> None:
        chosen = Columns(tuple(st.session_state[file]), tuple(st.session_state[labels]))
        same = chosen.labels == columns.labels
        kept.change_columns(name, replace(chosen, separator=columns.separator if same else ""))

    titles = list(table.columns)
    if not st.toggle(plain(name), name not in kept.choice.left_out, key=used, on_change=use):
        return
    st.multiselect(
        "Columns that name the file", titles, list(columns.file), key=file, max_selections=2, on_change=change,
        placeholder="Choose a column", help="One; or two, of the folder and of the file.",
    )  # fmt: skip
    st.multiselect(
        "Columns of labels", titles, list(columns.labels), key=labels, on_change=change, placeholder="Choose a column",
        help="One with names, or one for each finding with 1 and 0, and -1 or nothing for unknown. The others are kept "
        "as what is known of each picture.",
    )  # fmt: skip
    st.dataframe(table.head(PREVIEW), hide_index=True, alt=f"The first rows of {name}")
