"""From a bar or a cell to its pictures: chosen by mouse or by keyboard, shown as tiles, opened on other pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st
from PIL import Image

from components.failures.answer import draw_figures
from components.failures.evaluation import Evaluation
from components.figures import BARE
from components.plain_text import plain
from components.prediction import tell_share
from components.session import keep_source, open_picture
from components.tiles import SIDE, Tile, draw_tiles, encode_once
from explainers.cases.figures import summarise
from explainers.cases.filters import Filter
from explainers.errors import ImageError

#: How many pictures of a part are shown, and where there is less room.
TILES, FEW = 8, 4

#: The pages that open a part: the file, the question, its icon.
PAGES = (
    ("attribution", "Where did it look?", "visibility"),
    ("concepts", "What did it use?", "interests"),
    ("prototypes", "Is it ordinary?", "balance"),
)


@dataclass(frozen=True)
class Part:
    """Cases that can be opened: in words, how many, and the filter that lets just these through."""

    words: str
    count: int
    filter: Filter


def choose_part(figure: go.Figure, parts: Sequence[Part], key: str, alt: str, label: str) -> Part | None:
    """Draw a chart whose points are parts, and a list of them for the keyboard; returns the chosen part.

    The points' ``customdata`` begin with the place of their part.
    """
    state, box = st.session_state, f"{key}_box"
    if state.get(box) is not None and state[box] >= len(parts):
        state[box] = None

    def take() -> None:
        points = state[key]["selection"]["points"]
        places = [int(np.ravel(point["customdata"])[0]) for point in points if point.get("customdata") is not None]
        state[box] = places[0] if places else None

    st.plotly_chart(figure, key=key, config=BARE, on_select=take, selection_mode="points", alt=alt)
    place = st.selectbox(
        label,
        range(len(parts)),
        None,
        key=box,
        format_func=lambda place: f"{parts[place].words} ({parts[place].count:,})",
        placeholder="Click in the chart, or choose here",
    )
    return None if place is None else parts[place]


def draw_part(evaluation: Evaluation, part: Part | None, key: str, shown: int = TILES, figures: bool = False) -> None:
    """Show the first pictures of a part, on demand its figures, and offer to look at all of them elsewhere."""
    if part is None:
        return
    rows = part.filter.apply(evaluation.table)
    with st.container(border=True, key=f"part_{key}"):
        st.markdown(f"**{tell_count(len(rows))}:** {plain(part.words)}")
        if figures:
            draw_figures(summarise(evaluation.outcomes[rows])[1:])
        draw_tiles(None, [tile for row in rows[:shown] if (tile := make_tile(evaluation, int(row)))], shown)
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f"Look at {'these' if len(rows) > 1 else 'it'} in", width="content")
            for file, title, icon in PAGES:
                if st.button(title, icon=f":material/{icon}:", key=f"open_{key}_{file}", disabled=not len(rows)):
                    open_cases(evaluation, part.filter, int(rows[0]), file)


def tell_count(count: int) -> str:
    """Say how many pictures."""
    return f"{count:,} picture{'s' * (count != 1)}"


def open_cases(evaluation: Evaluation, chosen: Filter, row: int, page: str = "attribution") -> None:
    """Go to a page with just the cases of a filter in its strip, one of them opened."""
    state, workspace = st.session_state, evaluation.workspace
    state["next_filter"] = chosen
    state["strip"] = workspace.dataset.names
    state["picture"] = int(evaluation.rows[row])
    keep_source()
    st.switch_page(f"pages/{page}.py", query_params={})


def make_tile(evaluation: Evaluation, row: int) -> Tile | None:
    """Make the tile of a case; None if its picture cannot be read any more."""
    case = evaluation.table.iloc[row]
    said, label = tell_decision(case["decision"], evaluation.info.class_names), str(case["label"])
    entry = evaluation.workspace.pictures[int(evaluation.rows[row])]

    def draw() -> Any:
        image = Image.fromarray(open_picture(entry).pixels)
        image.thumbnail((SIDE, SIDE), reducing_gap=2)
        return np.asarray(image)

    try:
        address = encode_once(("case", key_of(entry), SIDE), draw)
    except ImageError:
        return None
    sure = "" if np.isnan(case["confidence"]) else f", {tell_share(case['confidence'])}"
    value = f"{case['value']:.4g} {evaluation.info.unit}".rstrip() if "value" in case else said
    caption = f"{value}{sure}\nlabel {label or 'unknown'}"
    return Tile(address, caption, f"{case['name']}: the model says {caption}".replace("\n", ", "))


def key_of(entry: Any) -> Any:
    """What a picture's tile is kept under."""
    return getattr(entry, "digest", entry)


def tell_decision(decisions: Sequence[str], classes: Sequence[str]) -> str:
    """Say what was decided on one picture: the class, or of several findings those that are there."""
    if len(decisions) < 2:
        return "".join(decisions)
    found = [name for name in decisions if name in classes]
    return ", ".join(found[:3]) + f" and {len(found) - 3:,} more" * (len(found) > 3) or "no finding"
