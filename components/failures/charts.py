"""The charts of the page: cells, bars with intervals, and how often confidence is right, each with points to click."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from components.figures import CLEAR
from components.plain_text import plain_in_chart
from components.theme import ACCENT
from explainers.cases.figures import Calibration

#: Right and wrong in colours that people with any colour vision tell apart, Okabe and Ito 2008; and what is neither.
RIGHT, WRONG, OTHER = ACCENT, "rgba(213,94,0,0.65)", "rgba(138,143,148,0.4)"

#: Lines that are seen on light and on dark, and on bars.
LINE = "#868b90"

#: The same for cells: from wrong by nothing to right, so that the page's ground shows where there is little.
SHADES = [[0, "rgba(213,94,0,0.75)"], [0.5, "rgba(136,136,136,0.06)"], [1, "rgba(26,152,159,0.75)"]]

#: The height of a bar with its gap in pixels, and how many letters of a title fit.
HEIGHT, LETTERS = 34, 46


@dataclass(frozen=True)
class Bar:
    """A value with its interval under a title, its label, and lines for under the cursor; ``alarm`` makes it stand out.

    ``place`` is that of the part that it opens.
    """

    title: str
    value: float
    low: float
    high: float
    label: str
    says: Sequence[str]
    alarm: bool
    place: int


def shorten(text: str, letters: int = LETTERS) -> str:
    """Cut a text to some letters, fit for a chart."""
    return plain_in_chart(text if len(text) <= letters else text[: letters - 1] + "…")


def draw_bars(bars: Sequence[Bar], mean: float, most: float, unit: str) -> go.Figure:
    """Draw values as bars with intervals, the first on top, and a line where all cases together are."""
    places = list(range(len(bars)))
    values = np.array([bar.value for bar in bars])
    ends = np.array([[bar.low, bar.high] for bar in bars]).T
    chart = {
        "type": "bar",
        "orientation": "h",
        "x": values,
        "y": places,
        "marker": {"color": [WRONG if bar.alarm else OTHER for bar in bars], "cornerradius": 3},
        "error_x": {
            "type": "data", "symmetric": False, "array": ends[1] - values, "arrayminus": values - ends[0],
            "thickness": 1.5, "width": 4, "color": LINE,
        },
        "customdata": [[bar.place, _join(bar.says)] for bar in bars],
        "hovertemplate": "%{customdata[1]}<extra></extra>",
        "selected": {"marker": {"opacity": 1}},
        "unselected": {"marker": {"opacity": 0.45}},
    }  # fmt: skip
    return go.Figure(chart, _bar_layout(bars, mean, most, unit))


def _bar_layout(bars: Sequence[Bar], mean: float, most: float, unit: str) -> dict[str, Any]:
    line = {"type": "line", "x0": mean, "x1": mean, "y0": -0.6, "y1": len(bars) - 0.4, "line": {"dash": "dot"}}
    titles = {"tickvals": list(range(len(bars))), "ticktext": [shorten(bar.title) for bar in bars], "ticksuffix": "  "}
    fixed = {"fixedrange": True, "showgrid": False, "zeroline": False}
    return {
        "height": HEIGHT * len(bars) + 44,
        "margin": {"l": 0, "r": 8, "t": 2, "b": 32},
        "xaxis": {**fixed, "range": [0, most * 1.34], "tickformat": ".0%" if unit == "%" else "",
                  "tickvals": [0, 0.25, 0.5, 0.75, 1] if unit == "%" else None},
        "yaxis": {**fixed, **titles, "range": [len(bars) - 0.4, -0.6], "tickfont": {"size": 13}},
        "shapes": [{**line, "line": {"dash": "dot", "width": 2, "color": LINE}}],
        "annotations": [
            _write(1.03 * most, place, bar.label, xanchor="left") for place, bar in enumerate(bars)
        ],
        "bargap": 0.4,
        "dragmode": False,
        "showlegend": False,
        **CLEAR,
    }  # fmt: skip


def _write(x: float, y: float, text: str, **more: Any) -> dict[str, Any]:
    """Write a text that does not fade when something is selected."""
    return {"x": x, "y": y, "text": plain_in_chart(text), "showarrow": False, "font": {"size": 12}, **more}


def _join(lines: Sequence[str]) -> str:
    """Write lines for under the cursor."""
    return "<br>".join(plain_in_chart(line) for line in lines)


@dataclass(frozen=True)
class Cells:
    """A matrix to click: titles of rows and columns, shades from -1 (wrong) to 1 (right), words in and about cells.

    ``places`` are those of the parts that cells open, -1 for none.
    """

    rows: Sequence[str]
    columns: Sequence[str]
    row_title: str
    column_title: str
    shades: np.ndarray
    texts: Sequence[Sequence[str]]
    says: Sequence[Sequence[str]]
    places: np.ndarray


def draw_cells(cells: Cells) -> go.Figure:
    """Draw a matrix; a click near the middle of a cell counts for it."""
    height, width = cells.shades.shape
    rows, columns = (grid.ravel() for grid in np.mgrid[0:height, 0:width])
    colours = {
        "type": "heatmap", "z": cells.shades, "zmin": -1, "zmax": 1, "colorscale": SHADES, "showscale": False,
        "hoverinfo": "skip", "xgap": 2, "ygap": 2,
    }  # fmt: skip
    there = np.flatnonzero(cells.places.ravel() >= 0)
    says = [plain_in_chart(text) for row in cells.says for text in row]
    points = {
        "type": "scatter", "mode": "markers", "x": columns[there], "y": rows[there],
        "marker": {"size": 36, "symbol": "square", "opacity": 0, "color": "#888888"},
        "customdata": [[int(cells.places.ravel()[place]), says[place]] for place in there],
        "hovertemplate": "%{customdata[1]}<extra></extra>",
        "selected": {"marker": {"opacity": 0.3}}, "unselected": {"marker": {"opacity": 0}},
    }  # fmt: skip
    return go.Figure([colours, points], _cell_layout(cells))


def _cell_layout(cells: Cells) -> dict[str, Any]:
    height, width = cells.shades.shape
    size = {"size": 13 if max(height, width) <= 12 else 10}
    fixed = {"fixedrange": True, "showgrid": False, "zeroline": False}
    texts = [(row, column, text) for row, line in enumerate(cells.texts) for column, text in enumerate(line) if text]
    return {
        "annotations": [_write(column, row, text, font=size) for row, column, text in texts],
        "height": max(170, (46 if height <= 6 else 34) * height + 90),
        "margin": {"l": 0, "r": 4, "t": 4, "b": 4},
        "xaxis": {**fixed, "tickvals": list(range(width)), "ticktext": [shorten(name, 16) for name in cells.columns],
                  "side": "top", "range": [-0.5, width - 0.5],
                  "title": {"text": plain_in_chart(cells.column_title), "font": {"size": 13}}},
        "yaxis": {**fixed, "tickvals": list(range(height)), "ticktext": [shorten(name, 22) for name in cells.rows],
                  "range": [height - 0.5, -0.5], "ticksuffix": " ",
                  "title": {"text": plain_in_chart(cells.row_title), "font": {"size": 13}}},
        "dragmode": False,
        "hovermode": "closest",
        "hoverdistance": -1,
        "showlegend": False,
        **CLEAR,
    }  # fmt: skip


def draw_reliability(found: Calibration, low: np.ndarray, high: np.ndarray, says: Sequence[str]) -> go.Figure:
    """Draw how often decisions of a confidence are right, with intervals, beside the line where both are the same."""
    line = {
        "type": "scatter", "mode": "lines", "x": [0, 1], "y": [0, 1], "hoverinfo": "skip",
        "line": {"dash": "dot", "color": LINE},
    }  # fmt: skip
    sizes = 8 + 22 * np.sqrt(found.count / found.count.max())
    points = {
        "type": "scatter", "mode": "markers+lines", "x": found.confidence, "y": found.right,
        "marker": {"size": sizes, "color": RIGHT, "opacity": 0.9, "line": {"width": 1, "color": LINE}},
        "line": {"color": RIGHT, "width": 1},
        "error_y": {"type": "data", "symmetric": False, "array": high - found.right,
                    "arrayminus": found.right - low, "thickness": 1.5, "color": LINE},
        "customdata": [[place, plain_in_chart(text)] for place, text in enumerate(says)],
        "hovertemplate": "%{customdata[1]}<extra></extra>",
        "unselected": {"marker": {"opacity": 0.4}}, "cliponaxis": False,
    }  # fmt: skip
    axis = {"fixedrange": True, "tickformat": ".0%", "gridcolor": "rgba(136,136,136,0.2)", "zeroline": False}
    start = max(0.0, min(float(found.low.min()), float(low.min())) - 0.05)
    layout = {
        "height": 320,
        "margin": {"l": 0, "r": 4, "t": 4, "b": 4},
        "xaxis": {**axis, "range": [start, 1.05], "title": {"text": "How sure the model is", "font": {"size": 13}}},
        "yaxis": {**axis, "range": [start, 1.05], "title": {"text": "How often it is right", "font": {"size": 13}}},
        "dragmode": False,
        "hovermode": "closest",
        "showlegend": False,
        **CLEAR,
    }
    return go.Figure([line, points], layout)
