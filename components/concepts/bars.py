"""How much each concept matters, as bars with sign and share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from components.figures import BARE, CLEAR
from components.plain_text import plain_in_chart

#: For and against, the colours of the heatmaps, legible on light and on dark and with every colour vision.
FOR, AGAINST = "#d6604d", "#4393c3"

#: The same for words, which need more contrast.
FOR_WORDS, AGAINST_WORDS = "light-dark(#b2452f, #e8836f)", "light-dark(#21689c, #6fb1dc)"

#: The height of a bar with its gap, in pixels, and how many letters of a title fit.
HEIGHT, LETTERS = 30, 26


@dataclass(frozen=True)
class Bar:
    """A signed value under a title, with the words on its end and, fit for a chart, those under the cursor."""

    title: str
    value: float
    label: str
    says: str


def tell_points(before: float, after: float) -> str:
    """Say by how many points a share has changed; agrees with both shares rounded to a tenth of a percent."""
    return f"{round(100 * after, 1) - round(100 * before, 1):+z.1f}"


def choose_bar(bars: Sequence[Bar], key: str, alt: str) -> int | None:
    """Draw bars; returns the place of the one that was clicked on."""
    event = st.plotly_chart(
        draw_bars(bars),
        key=key,
        config=BARE,
        on_select="rerun",
        selection_mode="points",
        alt=f"{alt}: " + ", ".join(f"{bar.title} {bar.label}" for bar in bars) + ".",
    )
    points = event["selection"]["points"]
    return int(points[0]["point_index"]) if points else None


def draw_bars(bars: Sequence[Bar]) -> go.Figure:
    """Draw values as horizontal bars, the first on top, in the colours of for and against."""
    places, values = list(range(len(bars))), [bar.value for bar in bars]
    low, high = bound(values, -1), bound(values, 1)
    room = 0.16 * (high - low or 1)  # for the labels
    chart = go.Bar(
        x=values,
        y=places,
        orientation="h",
        marker={"color": [FOR if value > 0 else AGAINST for value in values], "cornerradius": 3},
        text=[bar.label for bar in bars],
        textposition="outside",
        cliponaxis=False,
        customdata=[bar.says for bar in bars],
        hovertemplate="%{customdata}<extra></extra>",
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}},
    )
    return go.Figure(chart, _layout(bars, (low - room * (low < 0), high + room)))


def _layout(bars: Sequence[Bar], ends: tuple[float, float]) -> dict[str, Any]:
    titles = {
        "tickvals": list(range(len(bars))),
        "ticktext": [shorten(bar.title) for bar in bars],
        "tickfont": {"size": 13},
        "ticksuffix": "  ",
    }
    still = {"fixedrange": True, "showgrid": False, "zeroline": False}
    return {
        "height": HEIGHT * len(bars) + 4,
        "margin": {"l": 0, "r": 0, "t": 2, "b": 2},
        "xaxis": {**still, "visible": False, "range": ends},
        "yaxis": {**still, **titles, "range": [len(bars) - 0.5, -0.5]},
        "bargap": 0.35,
        "dragmode": False,
        **CLEAR,
    }


def bound(values: Sequence[float], sign: int) -> float:
    """The value of a sign that is farthest from 0, 0 if there is none."""
    return sign * max([0.0, *(sign * value for value in values)])


def shorten(title: str) -> str:
    """Cut a title to the letters that fit beside a bar, not to be read as markup."""
    return plain_in_chart(title if len(title) <= LETTERS else title[: LETTERS - 1] + "…")
