"""The views of the pages of prototypes, one at a time, each with a link."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from components.prototypes.class_map import draw_map
from components.prototypes.decision_view import AskedVerdict, draw_decision
from components.prototypes.family import DECISION, MAP, PARTS, STRATEGIES, SUSPECTS, Family, find_family, own_references
from components.prototypes.part_sources import find_sources
from components.prototypes.part_view import draw_parts
from components.prototypes.strategy_rows import draw_strategies
from components.prototypes.suspect_tables import draw_tables
from components.references.index import add_index
from components.scene import Scene
from components.session import Workspace
from explainers.info import ModelInfo

#: The views of one case, and those of all cases of a class.
ONE_CASE, ALL_CASES = (DECISION,), (STRATEGIES, MAP, SUSPECTS)

#: Beyond this many pixels rows of pictures only grow.
WIDTH = 1180


def views_of_case(info: ModelInfo) -> Sequence[str]:
    """List the views of one case; prototypical parts come first for models that have them."""
    return (PARTS, *ONE_CASE) if find_sources(info) else ONE_CASE


def choose_view(views: Sequence[str]) -> str:
    """Draw the picker of the view, if there are several."""
    state = st.session_state
    if wanted := state.pop("next_view", None):  # by the page that led here
        state["view"] = wanted
    if state.get("view", views[0]) not in views:  # of another model or page
        del state["view"]
    if len(views) == 1:
        return views[0]
    chosen = st.segmented_control(
        "View",
        views,
        default=None if "view" in state else views[0],
        required=True,
        key="view",
        bind="query-params",
        label_visibility="collapsed",
    )
    return str(chosen or views[0])


def draw_case(view: str, scene: Scene, workspace: Workspace, likely: Sequence[int], count: int) -> AskedVerdict | None:
    """Draw a view of one case, or what is missing for it; returns the verdict that was asked for, if one was.

    Raises LightboxError.
    """
    if view == PARTS:
        draw_parts(scene)
        return None
    family = look_up(scene, workspace, likely, count)
    if family is None:
        return None
    with st.container(width=WIDTH):
        return draw_decision(family)


def draw_cases(view: str, scene: Scene, workspace: Workspace, likely: Sequence[int], count: int) -> None:
    """Draw a view of all cases of a class, or what is missing for it. Raises LightboxError."""
    family = look_up(scene, workspace, likely, count)
    if family is None:
        return
    if view == MAP:
        draw_map(family)
    elif view == SUSPECTS:
        draw_tables(family, workspace)
    else:
        with st.container(width=WIDTH):
            draw_strategies(family)


def look_up(scene: Scene, workspace: Workspace, likely: Sequence[int], count: int) -> Family | None:
    """Find the strategies in the index, with what there is of that; None as long as there are none."""
    return find_family(add_index(scene, own_references(workspace)), likely, count)
