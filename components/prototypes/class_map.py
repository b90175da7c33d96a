"""The map of a class: a dot for each sample, beside those that are decided alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from components.concepts.bars import shorten
from components.figures import CLEAR, TOOLS
from components.following import finished, follow
from components.plain_text import plain_in_chart
from components.prototypes.family import COLOURS, Family
from components.prototypes.opened import draw_selection
from components.prototypes.tags import draw_export, read_tags
from explainers.prototypes.maps import METHODS, DrawMap, Map

COLOURINGS = ("Strategy", "Label", "Prediction", "Typicality")
SCOPES = ("This class", "All compared classes")

#: Shapes of dots that tell groups apart without their colours.
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "triangle-down")

HINT = (
    "Click a dot to open its picture. To see and tag several, take the lasso at the top right of the map and draw "
    "around them."
)

CONFIG = {**TOOLS, "modeBarButtons": [["lasso2d", "select2d", "zoom2d", "pan2d", "resetScale2d"]]}


def draw_map(family: Family) -> None:
    """Draw the map with its pickers, and what is selected on it; raises LightboxError."""
    method, colouring, scope = _choose()
    classes = [family.klass] if scope == SCOPES[0] else sorted(family.strategies)
    (job,) = follow("map", [(DrawMap(tuple(classes), method), family.layer)])
    if not finished([job], "Drawing the map"):
        return
    drawn, tags = job.result(), read_tags(family)
    chart, panel = st.columns([5, 3], gap="medium")
    with chart:
        event = st.plotly_chart(
            plot_map(family, drawn, colouring),
            key=f"map-{method}-{colouring}-{scope}-{family.klass}",
            config=CONFIG,
            on_select="rerun",
            selection_mode=("points", "lasso", "box"),
            alt=f"Map of {len(drawn.rows):,} samples by {method}, coloured by {colouring.lower()}.",
        )
        st.caption(f"Dots that lie together are decided alike: they use the same concepts. {drawn.note}")
        draw_export(family, tags)
    with panel:
        draw_selection(family, selected_rows(event), tags, HINT)


def _choose() -> tuple[str, str, str]:
    """Draw the pickers of method, colours and scope."""
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        colouring = st.segmented_control(
            "Colours", COLOURINGS, default=COLOURINGS[0], required=True, key="colours", bind="query-params"
        )
        scope = st.segmented_control(
            "Samples", SCOPES, default=SCOPES[0], required=True, key="scope", bind="query-params"
        )
        method = st.segmented_control(
            "Map by", list(METHODS), default=next(iter(METHODS)), required=True, key="map_by", bind="query-params",
            help="PCA shows the directions in which decisions differ most; t-SNE keeps neighbours together, and the "
            "distance between groups means little.",
        )  # fmt: skip
    return str(method), str(colouring), str(scope)


def selected_rows(event: Any) -> list[int]:
    """Read the rows that were selected on the map."""
    points = event["selection"]["points"]
    return list(dict.fromkeys(int(point["customdata"][0]) for point in points if point.get("customdata")))


def plot_map(family: Family, drawn: Map, colouring: str) -> go.Figure:
    """Plot samples as dots in the colours of what is asked for."""
    if colouring == "Typicality":
        traces = [_dots(family, drawn, np.arange(len(drawn.rows)), "", _shades(family, drawn))]
    else:
        groups = group(family, drawn.rows.tolist(), colouring)
        names = sorted(set(groups))
        traces = [
            _dots(
                family,
                drawn,
                np.flatnonzero(np.array(groups) == name),
                name,
                {"color": COLOURS[number % len(COLOURS)], "symbol": SYMBOLS[number % len(SYMBOLS)]},
            )
            for number, name in enumerate(names)
        ]
    return go.Figure(traces, _layout())


def group(family: Family, rows: Sequence[int], colouring: str) -> list[str]:
    """Name the strategy, label or prediction of each sample."""
    table = family.index.table
    if colouring == "Label":
        return [str(name) or "no label" for name in table["label_name"].iloc[list(rows)]]
    if colouring == "Prediction":
        return [family.name(int(klass)) for klass in table["predicted"].iloc[list(rows)]]
    return [f"{family.name(int(family.vectors.classes[row]))} {family.owners[row] + 1}" for row in rows]


def _shades(family: Family, drawn: Map) -> dict[str, Any]:
    return {
        "color": family.percentiles[drawn.rows],
        "colorscale": "Viridis",
        "cmin": 0,
        "cmax": 100,
        "colorbar": {"title": {"text": "percentile", "side": "right"}, "thickness": 12, "outlinewidth": 0},
    }


def _dots(family: Family, drawn: Map, places: np.ndarray, name: str, marker: dict[str, Any]) -> dict[str, Any]:
    rows = drawn.rows[places]
    table = family.index.table.iloc[rows]
    data = [
        [
            int(row),
            plain_in_chart(one.name),
            plain_in_chart(one.label_name or "none"),
            plain_in_chart(family.name(int(one.predicted))),
            f"{percentile:.0f}",
        ]
        for row, percentile, one in zip(rows, family.percentiles[rows], table.itertuples(index=False), strict=True)
    ]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": drawn.places[places, 0],
        "y": drawn.places[places, 1],
        "name": shorten(name),
        "customdata": data,
        "marker": {"size": 8, "opacity": 0.85, "line": {"width": 1, "color": "#777777"}, **marker},
        "unselected": {"marker": {"opacity": 0.2}},
        "hovertemplate": "<b>%{customdata[1]}</b><br>label %{customdata[2]}<br>the model says %{customdata[3]}<br>"
        "%{customdata[4]} of 100 are less typical<extra></extra>",
        "showlegend": bool(name),
    }


def _layout() -> dict[str, Any]:
    axis = {"visible": False}
    return {
        "height": 520,
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        "dragmode": False,
        "hovermode": "closest",
        "xaxis": axis,
        "yaxis": axis,
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0},
        **CLEAR,
        "plot_bgcolor": "rgba(136,136,136,0.06)",
        "uirevision": "keep",
    }
