"""The region that a person draws on the picture with box or lasso, and that the link keeps."""

from __future__ import annotations

from typing import Any

import streamlit as st

from components.figures import TOOLS, Seen, draw_picture
from components.heatmap import NINTHS
from components.link_numbers import read_whole
from components.session import say_in_link, went_back
from explainers.info import ModelInfo
from explainers.regions import Region, shares_of

#: A lasso is thinned out to this many corners, so that it fits a link.
CORNERS = 40

#: No corner is farther out than this, in pixels.
FARTHEST = 1_000_000
HINT = "Draw a box on the picture, or a lasso (tool at its top right), to measure the share inside."
CONFIG = {**TOOLS, "modeBarButtons": [["select2d", "lasso2d", "zoom2d", "pan2d", "resetScale2d"]]}


def current_region() -> Region:
    """The region drawn on the picture, at first the link's, in pixels of what the model sees."""
    state, linked = st.session_state, parse_region(st.query_params.get("region", ""))
    if "region" not in state or (went_back() and state["region"] != linked):
        state["region"], state["regions"] = linked, state.get("regions", -1) + 1
    region: Region = state["region"]
    return region


def explained_region(info: ModelInfo) -> Region:
    """The region that a model's map of scores is explained in, as shares of width and height; () for other models."""
    return shares_of(current_region(), info.preprocessing.size) if info.gives_map else ()


def choose_region(seen: Seen, side: int, hint: str = HINT) -> Region:
    """Draw what the model sees, to draw a region on, with a hint what for; returns the region."""
    region = current_region()
    event = st.plotly_chart(
        draw_picture(seen, side, region),
        key=f"picture-{st.session_state['regions']}",
        width="content",
        config=CONFIG,
        on_select="rerun",
        selection_mode=("box", "lasso"),
        alt=f"The picture {seen.name} as the model sees it.",
    )
    drawn = read_selection(event)
    if drawn and drawn != region:
        _set_region(drawn)
    say_in_link("region", format_region(region))
    if region:
        if st.button("Clear region", icon=":material/close:"):
            _set_region(())
    else:
        st.caption(hint)
        ninth = st.selectbox(
            "Part of the picture", NINTHS, None, key=f"ninth-{st.session_state['regions']}",
            placeholder="Or choose a part", label_visibility="collapsed",
        )  # fmt: skip
        if ninth:
            _set_region(outline_ninth(ninth, *seen.crop.shape[:2]))
    return region


def outline_ninth(name: str, height: int, width: int) -> Region:
    """The corners of a ninth of a picture, for those who cannot draw."""
    row, column = divmod(NINTHS.index(name), 3)
    top, bottom = (float(round((row + end) * height / 3)) for end in (0, 1))
    left, right = (float(round((column + end) * width / 3)) for end in (0, 1))
    return ((left, top), (right - 1, top), (right - 1, bottom - 1), (left, bottom - 1))


def _set_region(region: Region) -> None:
    """Begin the page anew with another region, in a chart that has forgotten Plotly's selection, which would dim it."""
    st.session_state["region"] = region
    st.session_state["regions"] += 1
    st.rerun()


def format_region(region: Region) -> str:
    """Write a region's corners for a link."""
    return ",".join(str(round(number)) for point in region for number in point)


def parse_region(text: str) -> Region:
    """Read a region from a link; anything else than three corners or more, as many as are drawn, is no region."""
    found = [number for number in map(read_whole, text.split(",")) if number is not None and abs(number) < FARTHEST]
    if not 3 <= len(found) / 2 <= 2 * CORNERS or len(found) % 2 or len(found) != text.count(",") + 1:
        return ()
    return tuple((float(x), float(y)) for x, y in zip(found[::2], found[1::2], strict=True))


def read_selection(event: Any) -> Region:
    """Read the corners of the last box or lasso from a chart's selection event, () if there is none."""
    shapes = event["selection"]["lasso"] or event["selection"]["box"]
    if not shapes:
        return ()
    x, y = shapes[-1]["x"], shapes[-1]["y"]
    if len(x) == 2:  # a box is told by two opposite corners
        x, y = (x[0], x[1], x[1], x[0]), (y[0], y[0], y[1], y[1])
    corners = tuple((float(round(a)), float(round(b))) for a, b in zip(x, y, strict=True))
    return corners[:: -(-len(corners) // CORNERS)]
