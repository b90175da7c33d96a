"""Samples to look at first, as tables to sort, search, open and download: outliers, suspected labels, a new batch."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from components.following import finished, follow
from components.plain_text import plain
from components.prototypes.family import DECISION, Family
from components.prototypes.opened import draw_selection
from components.prototypes.pictures import draw_crop, make_samples
from components.prototypes.tags import draw_export, read_tags
from components.prototypes.verdict import choose_thresholds
from components.references.index import draw_index, find_references
from components.scene import indexed_layers
from components.session import Workspace, keep_source, open_picture
from explainers.errors import ImageError
from explainers.index import Index
from explainers.index.building import start
from explainers.prototypes.decisions import Thresholds, check_batch
from explainers.prototypes.suspects import FindSuspects
from explainers.tables import write_csv

OUTLIERS, LABELS, BATCH = TABLES = ("Least typical", "Suspected wrong labels", "Check these pictures")

#: How long a picture takes in seconds, before a build has told.
PACE = 0.1

#: How many rows a table has, and how many of them a picture.
ROWS, PICTURES = 300, 40

HINT = "Tick a row to open its picture, or several to tag them."

COLUMNS = {
    "picture": st.column_config.ImageColumn("Picture", width=64),
    "name": st.column_config.TextColumn("Name", width=130),
    "label": st.column_config.TextColumn("Label", width=80),
    "predicted": st.column_config.TextColumn("Model says", width=80),
    "percentile": st.column_config.NumberColumn(
        "Typicality", width=75, format="%.1f", help="How many of 100 cases of its class are less typical."
    ),
    "other": st.column_config.TextColumn(
        "Looks like", width=80, help="The other class whose use of concepts it is likest to."
    ),
    "verdict": st.column_config.TextColumn("Verdict", width=210),
    "surprise": st.column_config.NumberColumn(
        "Surprise", format="%.1f", help="How far its log-likelihood is below the middle of its class."
    ),
}


def draw_tables(family: Family, workspace: Workspace) -> None:
    """Draw the chosen table, and what is selected in it; raises LightboxError."""
    chosen = st.segmented_control(
        "Table", TABLES, default=OUTLIERS, required=True, key="table", bind="query-params", label_visibility="collapsed"
    )
    if chosen == BATCH:
        draw_batch(family, workspace)
        return
    question = FindSuspects(tuple(family.strategies), family.count, family.klass)
    (job,) = follow("suspects", [(question, family.layer)])
    if not finished([job], "Comparing all cases"):
        return
    found = job.result().table
    if chosen == LABELS:
        known = family.index.table["label"].to_numpy() >= 0
        found = found[known[found.index]]
        st.caption(
            "Of all classes, those whose label is most probably wrong come first: what the model uses is least typical "
            "of the labelled class. Each sample is judged by strategies that never saw it."
        )
    else:
        found = found[found["class"] == family.klass].sort_values(["percentile", "log_likelihood"], kind="stable")
        st.caption(f"The least typical {family.call(family.klass)} cases come first.")
    if found.empty:
        st.info("No sample here has a label. Put pictures into folders named by their class.", icon=":material/info:")
        return
    table, tags = tabulate(family, found), read_tags(family)
    left, right = st.columns([5, 3], gap="medium")
    with left:
        rows = [int(found.index[place]) for place in show(table, f"suspects-{chosen}-{family.klass}")]
        draw_export(family, tags)
    with right:
        draw_selection(family, rows, tags, HINT)


def tabulate(family: Family, found: pd.DataFrame) -> pd.DataFrame:
    """Make the table of samples to show, the first ones with pictures."""
    found = found.iloc[:ROWS]
    table = family.index.table.iloc[found.index]
    return pd.DataFrame(
        {
            "picture": [draw_thumbnail(family, row) for row in found.index[:PICTURES]] + [""] * (len(found) - PICTURES),
            "name": table["name"].to_numpy(),
            "label": table["label_name"].to_numpy(),
            "predicted": [family.name(int(klass)) for klass in table["predicted"]],
            "percentile": found["percentile"].to_numpy(),
            "other": [family.name(int(klass)) for klass in found["other"]],
        }
    )


def draw_thumbnail(family: Family, row: int) -> str:
    """Draw a sample's picture; empty if its file has gone."""
    return next((tile.address for tile in make_samples(family, [row])), "")


def show(table: pd.DataFrame, key: str) -> list[int]:
    """Draw a table; returns the places of the ticked rows, and offers it as CSV."""
    event = st.dataframe(
        table, key=key, height=480, hide_index=True, column_config=COLUMNS, on_select="rerun",
        selection_mode="multi-row", row_height=48,
    )  # fmt: skip
    st.download_button(
        "Table", lambda: write_table(table), "samples.csv", "text/csv", icon=":material/download:",
        on_click="ignore", key=f"download-{key}",
    )  # fmt: skip
    return [int(place) for place in event["selection"]["rows"]]


def write_table(table: pd.DataFrame) -> bytes:
    """Write a table as CSV, without the pictures."""
    kept = table.drop(columns="picture")
    return write_csv(list(map(str, kept.columns)), kept.itertuples(index=False, name=None))


def draw_batch(family: Family, workspace: Workspace) -> None:
    """Check the pictures in the strip against the strategies of the reference pictures; raises LightboxError."""
    st.caption(
        f"Are the {len(workspace.rows):,} pictures in the strip like those of the reference set? Add your own in "
        "the sidebar to check them. Each is judged for the class that the model sees in it."
    )
    scene, thresholds = family.scene, choose_thresholds()
    layers = indexed_layers(scene.model, scene.layer)
    references = find_references(workspace.turn_to([workspace.pictures[row] for row in sorted(workspace.rows)]), layers)
    builds = st.session_state.setdefault("builds", {})
    if references.open() is None and references.store not in builds:
        words = f"Check {len(references.samples):,} pictures"
        if st.button(words, type="primary", icon=":material/fact_check:", key="check_batch"):
            builds[references.store] = start(scene.model, references.samples, references.store, layers)
            st.rerun()
        return
    batch = draw_index(scene.model, layers, references, PACE)
    if batch is None or not len(batch):
        return
    table = tabulate_batch(family, workspace, batch, thresholds)
    for place in show(table, "batch")[:1]:
        name = str(table["name"].iloc[place])
        if st.button(f"Open {plain(name)}", icon=":material/open_in_full:", key="open_decision"):
            open_decision([entry.name for entry in workspace.pictures].index(name))


def tabulate_batch(family: Family, workspace: Workspace, batch: Index, thresholds: Thresholds) -> pd.DataFrame:
    """Judge every picture of a batch; returns the table to show, what surprises most first."""
    predicted = batch.table["predicted"].to_numpy().astype(np.int64)
    relevance = batch.relevance(family.scene.layer)
    found = check_batch(family.vectors, family.strategies, relevance, predicted, thresholds)
    rows, names = found.index.to_numpy(), batch.table["name"].to_numpy()
    return pd.DataFrame(
        {
            "picture": [_thumbnail(family, workspace, str(names[row])) for row in rows],
            "name": names[rows],
            "verdict": found["verdict"].to_numpy(),
            "predicted": [family.name(int(klass)) for klass in found["class"]],
            "percentile": found["percentile"].to_numpy(),
            "surprise": found["surprise"].to_numpy(),
            "label": batch.table["label_name"].to_numpy()[rows],
        }
    )


def open_decision(place: int) -> None:
    """Go to the decision on a picture of the strip."""
    st.session_state["picture"], st.session_state["next_view"] = place, DECISION
    keep_source()
    st.switch_page("pages/prototypes.py", query_params={})


def _thumbnail(family: Family, workspace: Workspace, name: str) -> str:
    for entry in workspace.pictures:
        if entry.name == name:
            try:
                return draw_crop(family.scene.info, open_picture(entry))
            except ImageError:
                return ""
    return ""
