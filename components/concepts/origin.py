"""Where a concept comes from in this decision: the graph of concepts of earlier layers, to click down through."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from components.concepts.graph import Edge, Node, choose_node
from components.concepts.links import ORIGIN, chart_key, close_views, open_view
from components.following import finished, follow
from components.plain_text import plain
from components.references.index import add_index
from components.references.rows import follow_references, make_tiles
from components.scene import Scene
from components.session import Workspace
from explainers.concepts.layers import list_layers
from explainers.concepts.parents import ConceptGraph, TraceConcepts

#: How many parents a concept is shown with, and how many layers down.
PARENTS, LEVELS = 3, 2


def draw_origin(scene: Scene, workspace: Workspace, concept: int) -> None:
    """Draw the view of where a concept comes from; raises LightboxError."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Back to the decision", icon=":material/arrow_back:", shortcut="Escape", on_click=close_views)
        st.markdown(f"## Where does {plain(scene.title(concept))} come from?", width="stretch")
    below = list_layers(scene.model).below[scene.layer][:LEVELS]
    if not below:
        st.info(f"There is no earlier layer to look into below {plain(scene.layer)}.", icon=":material/info:")
        return
    question = TraceConcepts(layer=scene.layer, concepts=(concept,), below=below, count=PARENTS)
    (job,) = follow("origin", [(question, scene.case)])
    if not finished([job], "Tracing the concept down"):
        return
    found = job.result()
    st.caption(
        f"For **{plain(scene.info.class_names[scene.target.index])}** in this picture. Each line carries relevance "
        "from a concept of an earlier layer; the wider, the more. Percentages are shares of the relevance of the "
        "concept on top. Click a concept, or choose it here, to go on from there."
    )
    _draw_graph(add_index(scene, workspace), found)


def _draw_graph(scene: Scene, found: ConceptGraph) -> None:
    nodes = [(found.layers[level], int(concept)) for level, concept in zip(found.levels, found.concepts, strict=True)]
    references = follow_references("origin references", scene, nodes, scene.by, count=1)
    finished([reference.job for few in references.values() for reference in few], "Finding reference samples")
    pictures = {
        node: make_tiles(scene, *node, references[node])[0].address if references[node] else "" for node in nodes
    }
    levels = make_levels(scene, found, nodes, pictures)
    below = [node for level in levels[1:] for node in level]
    named = st.selectbox(
        "Go on from", below, None, format_func=lambda node: f"{node.title} of {node.layer}", key=chart_key("below"),
        placeholder="A concept below", width=320, label_visibility="collapsed",
    )  # fmt: skip
    clicked = choose_node(levels, make_edges(found), chart_key("graph")) or named
    if clicked:
        open_view(ORIGIN, clicked.layer, clicked.concept)
        st.rerun()


def make_levels(
    scene: Scene, found: ConceptGraph, nodes: Sequence[tuple[str, int]], pictures: dict[tuple[str, int], str]
) -> list[list[Node]]:
    """Sort the nodes of a graph into levels, with shares of the topmost relevance."""
    whole = abs(float(found.relevance[0])) or 1.0
    levels: list[list[Node]] = [[] for _ in found.layers]
    for place, (layer, concept) in enumerate(nodes):
        share = float(found.relevance[place]) / whole
        node = Node(layer, concept, scene.title(concept, layer), share, pictures[layer, concept])
        levels[int(found.levels[place])].append(node)
    return levels


def make_edges(found: ConceptGraph) -> list[Edge]:
    """Turn the edges of a graph into places on their levels and shares of the topmost relevance."""
    whole = abs(float(found.relevance[0])) or 1.0
    starts = [found.levels.tolist().index(level) for level in range(len(found.layers))]
    return [
        Edge(level := int(found.levels[upper]), upper - starts[level], lower - starts[level + 1], weight / whole)
        for upper, lower, weight in zip(
            found.uppers.tolist(), found.lowers.tolist(), found.weights.tolist(), strict=True
        )
    ]
