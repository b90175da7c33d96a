"""The views of the page of prototypes, one at a time, each with a link."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from components.concepts.scene import Scene
from components.prototypes.class_map import draw_map
from components.prototypes.decision_view import draw_decision
from components.prototypes.family import DECISION, find_family, own_references
from components.prototypes.part_sources import find_sources
from components.prototypes.part_view import draw_parts
from components.prototypes.strategy_rows import draw_strategies
from components.prototypes.suspect_tables import draw_tables
from components.references.index import add_index
from components.session import Workspace
from explainers.results import ModelInfo

#: The views; the link says them as the picker does.
STRATEGIES, MAP, SUSPECTS, PARTS = "Strategies", "Map", "Outliers and suspects", "This looks like that"
VIEWS = (DECISION, STRATEGIES, MAP, SUSPECTS)

#: Beyond this many pixels rows of pictures only grow.
WIDTH = 1180


def choose_view(info: ModelInfo) -> str:
    """Draw the picker of the view; prototypical parts come first for models that have them."""
    views = (PARTS, *VIEWS) if find_sources(info) else VIEWS
    if st.session_state.get("view", views[0]) not in views:  # of another model
        del st.session_state["view"]
    chosen = st.segmented_control(
        "View",
        views,
        default=None if "view" in st.session_state else views[0],
        required=True,
        key="view",
        bind="query-params",
        label_visibility="collapsed",
    )
    return str(chosen or views[0])


def draw_view(view: str, scene: Scene, workspace: Workspace, likely: Sequence[int], count: int | None) -> bool:
    """Draw a view, or what is missing for it; tells whether it judges the decision. Raises LightboxError."""
    if view == PARTS:
        draw_parts(scene)
        return False
    scene = add_index(scene, own_references(workspace))
    family = find_family(scene, likely, count)
    if family is None:
        return False
    if view == MAP:
        draw_map(family)
    elif view == SUSPECTS:
        draw_tables(family, workspace)
    else:
        with st.container(width=WIDTH):
            (draw_decision if view == DECISION else draw_strategies)(family)
    return view == DECISION
