"""All about one concept, whatever the picture: what it stands for, which decisions it serves, what is like it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import streamlit as st

from components.concepts.bars import Bar, choose_bar
from components.concepts.links import CONCEPT, chart_key, close_views, open_view
from components.following import call_dialog, called_dialog
from components.names import current_notes, draw_history, edit_name
from components.plain_text import plain, plain_in_chart
from components.references.index import add_index
from components.references.rows import COUNT, Concept, Reference, draw_until_done, follow_references, make_tiles
from components.scene import ACTMAX, CLASS, RELMAX, Scene
from components.session import Workspace
from components.telling_errors import telling_errors
from components.tiles import draw_tiles
from explainers.index import Index

#: How many classes and similar concepts are shown.
CLASSES, SIMILAR = 10, 4

ROWS = {
    RELMAX: "Where it mattered most (RelMax)",
    ACTMAX: "Where it was most active (ActMax)",
    CLASS: "Where it mattered most for {}",
}


def draw_profile(scene: Scene, workspace: Workspace, concept: int) -> None:
    """Draw the view of one concept; raises LightboxError."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Back to the decision", icon=":material/arrow_back:", shortcut="Escape", on_click=close_views)
        st.markdown(f"## {plain(scene.title(concept))} of {plain(scene.layer)}", width="stretch")
        st.button("Name", icon=":material/edit:", key="name-opened", on_click=call_dialog, args=("name", concept))
    with telling_errors():  # of notes, without which all else is the same
        draw_history(current_notes(scene.info).history(scene.info.digest, scene.layer, concept))
    scene = add_index(scene, workspace)
    if not scene.index:
        return
    _draw_references(scene, concept)
    left, right = st.columns(2, gap="large")
    with left:
        draw_classes(scene, scene.index, concept)
    with right:
        draw_similar(scene, scene.index, concept)
    if called_dialog():
        edit_name(scene.info, scene.layer, concept)


def _draw_references(scene: Scene, concept: int) -> None:
    place = (scene.layer, concept)
    rows = {by: follow_references(f"profile {by}", scene, [place], by)[place] for by in ROWS}
    draw_until_done(rows, partial(_draw_rows, scene, concept, rows))


def _draw_rows(scene: Scene, concept: int, rows: dict[str, list[Reference]]) -> None:
    for by, references in rows.items():
        st.markdown(f"**{ROWS[by].format(plain(scene.name))}**")
        words = "In none of the reference pictures."
        draw_tiles(None, make_tiles(scene, scene.layer, concept, references), COUNT, words)


def draw_classes(scene: Scene, index: Index, concept: int) -> None:
    """Draw which decisions a concept serves, and how often it is used."""
    found = index.by_class(scene.layer, concept)
    used = float(index.usage(scene.layer)[concept])
    st.markdown("**Which decisions it serves**")
    st.caption(
        f"Mean relevance ({plain(scene.info.score_unit)}) by the class that the model sees, for and against it. "
        f"It carries more than 1 % of the relevance in **{used:.0%}** of {index.pictures:,} reference pictures."
    )
    strongest = found.loc[found["relevance"].abs().nlargest(CLASSES).index].sort_values("relevance", ascending=False)
    bars = [
        Bar(
            scene.info.decision_names[klass],
            row["relevance"],
            f"{row['relevance']:+.2f}",
            f"{plain_in_chart(scene.info.decision_names[klass])}<br>{row['samples']:.0f} pictures<br>"
            f"for {row['positive']:+.3f}, against {row['negative']:+.3f} {plain_in_chart(scene.info.score_unit)}",
        )
        for klass, row in zip(strongest.index.tolist(), strongest.to_dict("records"), strict=True)
    ]
    choose_bar(bars, chart_key("classes"), "Mean relevance by class")


def draw_similar(scene: Scene, index: Index, concept: int) -> None:
    """Draw the concepts that matter in the same pictures."""
    st.markdown("**Most similar concepts**")
    st.caption("Those whose relevance goes up and down with this one's over the reference pictures (cosine).")
    concepts, cosines = index.similar(scene.layer, concept, SIMILAR)
    places = [(scene.layer, int(other)) for other in concepts]
    references = follow_references("similar", scene, places, scene.by, 4)
    draw_until_done(references, partial(_draw_similar, scene, places, cosines.tolist(), references))


def _draw_similar(
    scene: Scene,
    places: Sequence[Concept],
    cosines: Sequence[float],
    references: Mapping[Concept, Sequence[Reference]],
) -> None:
    for place, cosine in zip(places, cosines, strict=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"{plain(scene.title(place[1]))} · {cosine:.2f}", width="stretch")
            st.button(
                "Open", icon=":material/open_in_full:", key=f"similar-{place[1]}", type="tertiary",
                on_click=open_view, args=(CONCEPT, *place),
            )  # fmt: skip
        draw_tiles(None, make_tiles(scene, *place, references[place]), 4)
