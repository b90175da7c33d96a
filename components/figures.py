"""Plotly figures of pictures under heatmaps."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import UInt8

from components.heatmap import View, colour_scale, encode_png, limits
from explainers.results import Attribution

Region = tuple[tuple[float, float], ...]


def draw_picture(crop: UInt8[np.ndarray, "h w 3"], side: int, region: Region = ()) -> go.Figure:
    """The picture as the model sees it, on which a region can be drawn with box or lasso."""
    height, width = crop.shape[:2]
    figure = go.Figure()
    figure.add_layout_image(
        source="data:image/png;base64," + base64.b64encode(encode_png(crop)).decode(),
        x=-0.5,
        y=-0.5,
        sizex=width,
        sizey=height,
        xref="x",
        yref="y",
        layer="below",
    )
    # Plotly selects points only: a grid of invisible ones makes box and lasso possible anywhere.
    rows, columns = np.mgrid[0:height:8, 0:width:8]
    figure.add_scatter(
        x=columns.ravel(), y=rows.ravel(), mode="markers", marker_opacity=0, hoverinfo="skip", showlegend=False
    )
    if region:
        x, y = zip(*(*region, region[0]), strict=True)
        for colour, line in (("#000000", 4), ("#ffffff", 2)):  # visible on dark and on light
            figure.add_scatter(
                x=x, y=y, mode="lines", line={"color": colour, "width": line}, hoverinfo="skip", showlegend=False
            )
    axis: dict[str, Any] = {"visible": False, "constrain": "domain"}
    figure.update_layout(
        xaxis={**axis, "range": [-0.5, width - 0.5]},
        yaxis={**axis, "range": [height - 0.5, -0.5], "scaleanchor": "x"},
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        width=side,
        height=round(side * height / width),
        dragmode="select",
        selectdirection="any",
        newselection={"line": {"color": "#ffffff", "width": 2}},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        uirevision="keep",
    )
    return figure


def draw_heatmap(
    crop: UInt8[np.ndarray, "h w 3"], attribution: Attribution, view: View, side: int, region: Region = ()
) -> go.Figure:
    """The picture under its heatmap; the score under the cursor is shown."""
    figure = draw_picture(crop, side, region)
    low, high = limits(attribution.values, attribution.signed, view)
    figure.add_heatmap(
        z=attribution.values,
        zmin=low,
        zmax=high,
        colorscale=colour_scale(attribution.signed, view),
        showscale=False,
        hovertemplate="score %{z:.3g}<br>x %{x} px, y %{y} px<extra></extra>",
    )
    figure.data = (figure.data[-1], *figure.data[:-1])  # the heatmap under the region's outline
    return figure
