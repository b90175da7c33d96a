"""The strip of pictures to click through, with keys for the next and the previous one."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import lru_cache

import streamlit as st

from components.finding import finding
from components.plain_text import plain
from components.session import SHARED, Workspace, open_picture, say_in_link, went_back
from components.theme import ACCENT
from explainers.errors import ImageError
from explainers.images import Picture, Sample, thumbnail

#: How many thumbnails are shown at once, and their side in pixels.
SHOWN = 8
SIDE = 72


def choose_picture(workspace: Workspace) -> int:
    """Draw the strip of the pictures that the filter lets through; returns the row of the chosen one.

    The link keeps its name unless it is an upload.
    """
    pictures, rows = workspace.pictures, workspace.rows
    place = _find_place(workspace)
    start = max(0, min(place - SHOWN // 2, len(rows) - SHOWN))
    shown = range(start, min(start + SHOWN, len(rows)))
    st.html(_style({index: _thumbnail(pictures[rows[index]]) for index in shown}, place))
    with finding(workspace), st.container(horizontal=True, vertical_alignment="center", width="content", key="strip"):
        _draw_step("Previous", "Left", rows, place - 1)
        for index in shown:
            name, help = plain(pictures[rows[index]].name), _caption(pictures[rows[index]])
            st.button(name, key=f"thumbnail-{index}", on_click=_go, args=(rows, index), help=help)
        _draw_step("Next", "Right", rows, place + 1)
        st.caption(f"{place + 1:,} of {len(rows):,}", width="content")
    chosen: int = rows[place]
    public = isinstance(pictures[chosen], Sample) or st.session_state.get("source") == SHARED
    say_in_link("image", pictures[chosen].name if public else "")
    return chosen


def _find_place(workspace: Workspace) -> int:
    """Find where in the strip the chosen picture is; the first one is chosen where that was filtered out."""
    state, rows = st.session_state, workspace.rows
    names = workspace.dataset.names
    linked, other = st.query_params.get("image", ""), state.get("strip") != names
    if other:  # another set of pictures: start with the linked one, else the first
        state["strip"], state["picture"] = names, rows[0]
    if linked and (other or went_back()) and linked in names:
        state["picture"] = names.index(linked)
    if state["picture"] not in rows:
        if not other:
            name = plain(names[state["picture"]])
            st.toast(f"{name} is not among the pictures that the filter shows; this is the first of them.")
        state["picture"] = rows[0]
    return rows.index(state["picture"])


def _draw_step(word: str, key: str, rows: Sequence[int], place: int) -> None:
    icon = f":material/chevron_{key.lower()}:"
    st.button(word, icon=icon, key=word.lower(), on_click=_go, args=(rows, place), shortcut=key)


def _go(rows: Sequence[int], place: int) -> None:
    st.session_state["picture"] = rows[place % len(rows)]


def _caption(entry: Sample | Picture) -> str:
    return " · ".join(plain(text) for text in (entry.name, entry.label, getattr(entry, "caption", "")) if text)


def _thumbnail(entry: Sample | Picture) -> str:
    """Shrink a picture once, an upload for its session only; returns it as a data address."""
    if isinstance(entry, Sample):
        return _sample_thumbnail(entry)
    known: dict[str, str] = st.session_state.setdefault("thumbnails", {})
    if entry.digest not in known:
        known[entry.digest] = _encode(entry)
    return known[entry.digest]


@lru_cache(maxsize=4096)
def _sample_thumbnail(sample: Sample) -> str:
    try:
        return _encode(open_picture(sample))
    except ImageError:  # told in a sentence when the picture is chosen
        return ""


def _encode(picture: Picture) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(thumbnail(picture, 2 * SIDE)).decode()


def _style(thumbnails: dict[int, str], chosen: int) -> str:
    """Dress the strip's buttons as thumbnails; they stay buttons, for keyboard and screen reader."""
    rules = "".join(
        f".st-key-thumbnail-{index} button {{background-image: url({address});}}"
        for index, address in thumbnails.items()
    )
    return f"""<style>
[class*="st-key-thumbnail-"] button {{width: {SIDE}px; height: {SIDE}px; min-height: 0; padding: 0; border-radius: 6px;
  background-size: cover; background-position: center;}}
:is([class*="st-key-thumbnail-"], .st-key-previous, .st-key-next) button p {{font-size: 0;}}
:is(.st-key-previous, .st-key-next) button {{height: {SIDE}px; padding: 0 0.4rem;}}
.st-key-strip {{flex-wrap: nowrap; overflow-x: auto; padding: 6px; max-width: 100%; gap: 0.5rem;}}
.st-key-strip p {{white-space: nowrap;}}
.st-key-thumbnail-{chosen} button {{outline: 3px solid {ACCENT}; outline-offset: 2px;}}
{rules}
</style>"""
