"""Where a concept comes from: concepts of lower layers below it, joined by as much relevance as flows between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from components.concepts.bars import AGAINST, FOR, shorten
from components.figures import BARE, CLEAR
from components.plain_text import plain_in_chart as fit

#: The height of a level, the side of a node's picture at most, the width that a row must fit, the widest edge, and the
#: height of the words below a node, all in pixels.
LEVEL, SIDE, WIDTH, WIDEST, WORDS = 200, 96, 840, 16, 46


@dataclass(frozen=True)
class Node:
    """A concept in a graph, with its relevance for the concept on top as a share of that one's; "" for no picture."""

    layer: str
    concept: int
    title: str
    share: float
    address: str = ""


@dataclass(frozen=True)
class Edge:
    """How much of the upper node's relevance the lower one passed on, as a share of the top node's."""

    level: int
    upper: int
    lower: int
    share: float


def choose_node(levels: Sequence[Sequence[Node]], edges: Sequence[Edge], key: str) -> Node | None:
    """Draw a graph of levels, the chosen concept on top; returns the node that was clicked on."""
    event = st.plotly_chart(
        draw_graph(levels, edges), key=key, config=BARE, on_select="rerun", selection_mode="points",
        alt=describe_graph(levels, edges),
    )  # fmt: skip
    points = [point for point in event["selection"]["points"] if "customdata" in point]
    if not points:
        return None
    level, place = (int(number) for number in points[0]["customdata"][:2])
    return levels[level][place]


def draw_graph(levels: Sequence[Sequence[Node]], edges: Sequence[Edge]) -> go.Figure:
    """Draw nodes with their pictures in rows, and edges as wide as the relevance that flows."""
    widest = max(len(level) for level in levels)
    side = min(SIDE, 0.8 * WIDTH / widest)
    spots = [
        [((place + 0.5) / len(level), float(-row)) for place in range(len(level))] for row, level in enumerate(levels)
    ]
    strongest = max((abs(edge.share) for edge in edges), default=1.0)
    lines = [
        draw_edge(spots[edge.level][edge.upper], spots[edge.level + 1][edge.lower], edge.share, strongest, side)
        for edge in sorted(edges, key=lambda edge: abs(edge.share))
    ]
    flat = [
        (row, place, *spots[row][place], node) for row, level in enumerate(levels) for place, node in enumerate(level)
    ]
    pictures = [
        {"source": node.address, "x": x, "y": y, "sizex": 1, "sizey": side / LEVEL, "xref": "x", "yref": "y",
         "xanchor": "center", "yanchor": "middle", "layer": "above"}
        for _, _, x, y, node in flat
        if node.address
    ]  # fmt: skip
    return go.Figure([*lines, draw_nodes(flat, side)], _layout(levels, pictures))


def draw_edge(
    upper: tuple[float, float], lower: tuple[float, float], share: float, strongest: float, side: float
) -> go.Scatter:
    """Draw a bent line from below a node to the top of one on the next level."""
    half, steps = side / LEVEL / 2, [step / 12 for step in range(13)]
    start, end = upper[1] - half - WORDS / LEVEL, lower[1] + half
    return go.Scatter(
        x=[upper[0] + (lower[0] - upper[0]) * step**2 * (3 - 2 * step) for step in steps],
        y=[start + (end - start) * step for step in steps],
        mode="lines",
        line={"width": max(1.5, WIDEST * abs(share) / strongest), "color": FOR if share > 0 else AGAINST},
        opacity=0.5,
        hoverinfo="skip",
        showlegend=False,
    )


def draw_nodes(flat: Sequence[tuple[int, int, float, float, Node]], side: float) -> go.Scatter:
    """Draw squares to click on, each with its title and share to its right."""
    return go.Scatter(
        x=[x for _, _, x, _, _ in flat],
        y=[y for _, _, _, y, _ in flat],
        mode="markers+text",
        marker={
            "symbol": "square",
            "size": side + 4,
            "color": "rgba(128,128,128,0.25)",
            "line": {"width": 2, "color": [FOR if node.share > 0 else AGAINST for *_, node in flat]},
        },
        text=[f"{shorten(node.title)}<br>{node.share:+.1%}" for *_, node in flat],
        textposition="bottom center",
        customdata=[(row, place, fit(node.title), fit(node.layer)) for row, place, _, _, node in flat],
        hovertemplate="%{customdata[2]}<br>%{customdata[3]}<br>click: where does it come from?<extra></extra>",
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}},
        cliponaxis=False,
        showlegend=False,
    )


def _layout(levels: Sequence[Sequence[Node]], pictures: list[dict[str, Any]]) -> dict[str, Any]:
    axis = {"visible": False, "fixedrange": True}
    return {
        "images": pictures,
        "height": LEVEL * len(levels),
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        "xaxis": {**axis, "range": [0, 1]},
        "yaxis": {**axis, "range": [0.35 - len(levels), 0.35]},
        "dragmode": False,
        **CLEAR,
        "annotations": [
            {
                "text": fit(level[0].layer),
                "x": 0,
                "y": 0.3 - row,
                "xanchor": "left",
                "showarrow": False,
                "opacity": 0.7,
            }
            for row, level in enumerate(levels)
        ],
    }


def describe_graph(levels: Sequence[Sequence[Node]], edges: Sequence[Edge]) -> str:
    """Say a graph in words, for those who cannot see it."""
    parts = [
        f"{levels[edge.level + 1][edge.lower].title} gives {edge.share:+.1%} to {levels[edge.level][edge.upper].title}"
        for edge in edges
    ]
    return "Where relevance comes from: " + "; ".join(parts) + "."
