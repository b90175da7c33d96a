"""Which frame of a series, through which window of brightness and in which colours a picture is seen."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from math import floor, log10
from typing import Any

import streamlit as st

from components.belongings import own
from components.plain_text import plain
from components.waiting import reading
from explainers.errors import ImageError
from explainers.images import Picture, Reading, Sample
from explainers.images.picture import USUAL, Window

#: How many pictures are kept that were read otherwise than usual.
KEPT = 8

#: How many times as wide as a picture's own window, or as narrow, one that was set for another of its series may be.
ALIKE = 20


def adjust(entry: Sample | Picture, picture: Picture) -> Picture:
    """Draw controls for a picture with frames, more than 8 bits or a colour profile; returns it as they are set.

    What is set for one picture of a series holds for the others, too. Raises ImageError.
    """
    deep = picture.window is not None and picture.window[0] > 0
    parts = [word for word, there in (("Frame", picture.frames > 1), ("Brightness", deep)) if there]
    parts += ["Colours"] if picture.profile else []
    if not parts or (isinstance(entry, Picture) and picture.again is None):
        return picture
    with st.expander(" and ".join((parts[0], *map(str.lower, parts[1:]))), expanded=picture.frames > 1):
        frame = _choose_frame(picture) if picture.frames > 1 else 1
        profile = _choose_colours(picture) if picture.profile else True
        shown = _read(entry, picture, Reading(frame, None, profile))
        window = _choose_window(picture, shown.window) if deep and shown.window else None
    return _read(entry, picture, Reading(frame, window, profile))


def _choose_frame(picture: Picture) -> int:
    key, series = f"frame-{picture.digest}", _series(picture)
    frame = st.slider(
        "Frame", 1, picture.frames, _kept("frame", series) or 1, key=key, help="Of the series in this file.",
        on_change=_keep, args=("frame", series, key),
    )  # fmt: skip
    return int(frame)


def _choose_window(picture: Picture, usual: tuple[float, float]) -> Window:
    """Draw the window, at first the one that the picture is shown through; returns None as long as it is that."""
    series = _series(picture)
    width, centre = kept if _is_alike(kept := _kept("window", series), usual) else usual
    keys = [f"{name}-{picture.digest}-{usual}" for name in ("width", "centre")]
    step, call, help = 10.0 ** floor(log10(usual[0] / 10)), (_keep, ("window", series, *keys)), "In the file's units."
    left, right = st.columns(2)
    chosen = (
        left.number_input("Width", 1e-9, None, width, step, "%g", keys[0], help, call[0], call[1]),
        right.number_input("Centre", None, None, centre, step, "%g", keys[1], help, call[0], call[1]),
    )
    if chosen == usual:
        return None
    st.button("Reset the window", icon=":material/undo:", key="reset_window", on_click=_reset, args=(series, keys))
    return chosen


def _choose_colours(picture: Picture) -> bool:
    return st.toggle(
        "Convert colours to sRGB", True, key=f"profile-{picture.digest}",
        help=f"From the file's own profile, {plain(picture.profile)}; else its numbers are taken as they are.",
    )  # fmt: skip


def _series(picture: Picture) -> Hashable:
    """What pictures of one series share: where they come from, their folder and the number of their frames."""
    return st.session_state.get("source"), picture.name.rpartition("/")[0], picture.frames


def _kept(what: str, series: Hashable) -> Any:
    """What was set for a picture of a series, None if nothing was."""
    return st.session_state.get("readings", {}).get((what, series))


def _keep(what: str, series: Hashable, *keys: str) -> None:
    """Keep what widgets say for all pictures of a series."""
    values = tuple(st.session_state[key] for key in keys)
    st.session_state.setdefault("readings", {})[what, series] = values if len(values) > 1 else values[0]


def _reset(series: Hashable, keys: list[str]) -> None:
    st.session_state["readings"].pop(("window", series), None)
    for key in keys:
        del st.session_state[key]


def _is_alike(kept: Window, usual: tuple[float, float]) -> bool:
    """Whether a window of another picture of a series may suit values that are usually seen through this one."""
    return kept is not None and usual[0] / ALIKE <= kept[0] <= usual[0] * ALIKE


def _read(entry: Sample | Picture, picture: Picture, how: Reading) -> Picture:
    """Read a picture otherwise than usual, once as long as it is among the last ones; raises ImageError."""
    if how == USUAL:
        return picture
    known: dict[Hashable, Picture | str] = st.session_state.setdefault("read_otherwise", {})
    key = (entry, how)
    if key not in known:
        said = f"Reading {picture.name} was stopped. Choose another frame, window or colours."
        with reading(picture.name, "otherwise", lambda: known.update({key: said})):
            known[key] = _read_again(entry, picture, how)
        while len(known) > KEPT:
            del known[next(iter(known))]
    found = known[key]
    if isinstance(found, str):
        raise ImageError(found)
    return found


def _read_again(entry: Sample | Picture, picture: Picture, how: Reading) -> Picture | str:
    """Read a picture otherwise, or say why it cannot be."""
    again = entry.read if isinstance(entry, Sample) else picture.again
    assert again is not None  # there are no controls without it
    try:
        found = again(how)
    except ImageError as error:
        return str(error)
    found = replace(found, name=picture.name, label=picture.label, private=picture.private, again=picture.again)
    if picture.private:
        own(found)
    return found
