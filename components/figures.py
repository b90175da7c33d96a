"""Plotly figures of pictures under heatmaps."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas  # noqa: F401  (Plotly would use one that another thread has imported only half)
import plotly.graph_objects as go
from jaxtyping import UInt8

from components.heatmap import View, colour_scale, encode_png, limits
from explainers.attribution.method import Attribution
from explainers.regions import Region

#: What every chart's tools have in common.
TOOLS = {"displaylogo": False, "scrollZoom": False, "doubleClick": "reset"}

#: Charts without a bar of tools.
BARE = {**TOOLS, "displayModeBar": False}

#: A ground that lets the page's through, and tools that are seen on any picture.
CLEAR = {
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "modebar": {"bgcolor": "rgba(20,24,27,0.75)", "color": "#d9d9d2", "activecolor": "#4fc3c9"},
}


@dataclass(frozen=True)
class Seen:
    """What the model sees of a picture: its name and the pixels of its crop, and what its scores are measured in."""

    name: str
    crop: UInt8[np.ndarray, "h w 3"]
    unit: str = "logit"

    @cached_property
    def address(self) -> str:
        """The crop as an address that holds it."""
        return "data:image/png;base64," + base64.b64encode(encode_png(self.crop)).decode()


def draw_picture(seen: Seen, side: int, region: Region = ()) -> go.Figure:
    """The picture as the model sees it, on which a box or lasso can be drawn."""
    rows, columns = np.mgrid[0 : seen.crop.shape[0] : 8, 0 : seen.crop.shape[1] : 8]
    # Plotly selects points only: a grid of invisible ones makes box and lasso possible anywhere.
    grid = _scatter(columns.ravel(), rows.ravel(), mode="markers", marker={"opacity": 0})
    return go.Figure([grid, *_outline(region)], _layout(seen, side))


def draw_heatmap(seen: Seen, attribution: Attribution, view: View, region: Region = ()) -> go.Figure:
    """The picture under its heatmap; the score under the cursor is shown."""
    low, high = limits(attribution.values, attribution.signed, view)
    heatmap = {
        "type": "heatmap",
        "z": attribution.values,
        "zmin": low,
        "zmax": high,
        "colorscale": colour_scale(attribution.signed, view),
        "showscale": False,
        "hovertemplate": "score %{z:.3g}<br>x %{x} px, y %{y} px<extra></extra>",
    }
    return go.Figure([heatmap, *_outline(region)], _layout(seen, view.side))


def _scatter(x: Any, y: Any, **more: Any) -> dict[str, Any]:
    return {"type": "scatter", "x": x, "y": y, "hoverinfo": "skip", "showlegend": False, **more}


def _outline(region: Region) -> list[dict[str, Any]]:
    """Draw a region's edge in black and white, visible on dark and on light."""
    if not region:
        return []
    x, y = zip(*region, region[0], strict=True)
    return [
        _scatter(x, y, mode="lines", line={"color": colour, "width": width})
        for colour, width in (("#000000", 4), ("#ffffff", 2))
    ]


def _layout(seen: Seen, side: int) -> dict[str, Any]:
    """Lay the picture behind the plot, a pixel to a unit, the first row at the top."""
    height, width = seen.crop.shape[:2]
    axis: dict[str, Any] = {"visible": False, "constrain": "domain"}
    place = {"x": -0.5, "y": -0.5, "sizex": width, "sizey": height, "xref": "x", "yref": "y", "layer": "below"}
    return {
        "images": [{"source": seen.address, **place}],
        "xaxis": {**axis, "range": [-0.5, width - 0.5]},
        "yaxis": {**axis, "range": [height - 0.5, -0.5], "scaleanchor": "x"},
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        "width": side,
        "height": round(side * height / width),
        "dragmode": "select",
        "selectdirection": "any",
        "newselection": {"line": {"color": "#ffffff", "width": 2}},
        **CLEAR,
        "uirevision": "keep",
    }
