"""What the link of the page of concepts says: which concept is opened, and which are silenced, damped or boosted."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any, cast

import streamlit as st

from components.following import move
from components.link_numbers import read_count
from explainers.info import ModelInfo

#: The views of one concept: all about it, and where it comes from.
CONCEPT, ORIGIN = "concept", "origin"


def opened(view: str) -> int | None:
    """The concept of the chosen layer that a view is opened on, None if it is not."""
    return read_count(st.query_params.get(view, ""))


def open_view(view: str, layer: str, concept: int) -> None:
    """Go in a callback to a view of a concept; the picker takes the layer over."""
    close_views()
    st.session_state["next_layer"] = layer
    st.query_params[view] = str(concept)


def close_views() -> None:
    """Go in a callback back to the decision."""
    st.session_state["views"] = st.session_state.get("views", 0) + 1
    for view in (CONCEPT, ORIGIN):
        st.query_params.pop(view, None)
    move()


def chart_key(name: str) -> str:
    """A key for a chart that opens views: a new one each time, for a chart would remember the click."""
    return f"{name}-{st.session_state.get('views', 0)}"


def _kept(info: ModelInfo) -> MutableMapping[str, Any]:
    """Where it is kept which concepts are changed: in the link, for an uploaded model in the session alone."""
    return cast("MutableMapping[str, Any]", st.session_state if info.private else st.query_params)


def _place(info: ModelInfo, layer: str) -> str:
    return f"{info.name}/{layer}"


def factors(info: ModelInfo, layer: str) -> Mapping[int, float]:
    """By how much concepts of a model's layer are multiplied; those that stay as they are are left out."""
    place, _, text = _kept(info).get("factors", "").rpartition("!")
    pairs = [pair.partition("x") for pair in text.split(",")] if place == _place(info, layer) else []
    return {
        concept: float(factor)
        for text, _, factor in pairs
        if (concept := read_count(text)) is not None and factor in ("0", "0.5", "2")
    }


def set_factors(info: ModelInfo, layer: str, changes: Mapping[int, float]) -> None:
    """Multiply concepts by factors, 1 for as it is, beside those that are changed already."""
    move()
    changed = {**factors(info, layer), **changes}
    text = ",".join(f"{concept}x{factor:g}" for concept, factor in changed.items() if factor != 1)
    if text:
        _kept(info)["factors"] = f"{_place(info, layer)}!{text}"
    else:
        clear_factors(info)


def clear_factors(info: ModelInfo) -> None:
    """Leave all concepts as they are."""
    _kept(info).pop("factors", None)
