"""The most relevant concepts of a decision: where each is seen here, and in which other pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html import escape
from typing import Any

import streamlit as st

from components.concepts.bars import AGAINST_WORDS, FOR_WORDS
from components.concepts.links import CONCEPT, ORIGIN, factors, open_view, set_factors
from components.drawn_region import current_region
from components.following import call_dialog
from components.heatmap import describe
from components.names import signature
from components.references.rows import COUNT, Concept, Reference, draw_until_done, make_tiles
from components.references.samples import draw_here
from components.scene import CHOICES, Scene
from components.tiles import Tile, draw_tiles, encode_once, keep_once
from explainers.concepts.heatmaps import ConceptHeatmaps
from explainers.concepts.relevance import ConceptRelevance
from explainers.info import ModelInfo

#: What can be done to a concept, and the factor that does it.
CHANGES = {"Silence": 0.0, "Damp": 0.5, "Boost": 2.0}


def draw_cards(
    scene: Scene,
    found: ConceptRelevance,
    heatmaps: ConceptHeatmaps,
    concepts: Sequence[int],
    references: Mapping[Concept, Sequence[Reference]],
) -> None:
    """Draw a card for each concept; their reference samples come as they are computed."""
    draw_until_done(references, partial(_draw, scene, found, heatmaps, concepts, references))


def _draw(
    scene: Scene,
    found: ConceptRelevance,
    heatmaps: ConceptHeatmaps,
    concepts: Sequence[int],
    references: Mapping[Concept, Sequence[Reference]],
) -> None:
    with st.container(horizontal=True, vertical_alignment="center", wrap=False):
        st.caption(tell_tiles(scene), width="stretch")
        st.button(
            f"Silence all {len(concepts)}",
            key="silence-all",
            on_click=set_factors,
            args=(scene.info, scene.layer, dict.fromkeys(concepts, 0.0)),
            help="What would the model say without all of the concepts shown here?",
        )
    for concept in concepts:
        with st.container(border=True, gap="small", key=f"card-{concept}"):
            _draw_head(scene, concept, float(found.shares[concept]), references[scene.layer, concept])
            here = encode_once(
                (*scene.key, concept, current_region(), "here"),
                partial(draw_here, scene.seen.crop, heatmaps.heatmap(concept)),
            )
            words = keep_once(
                (*scene.key, concept, current_region(), "words"), partial(describe, heatmaps.heatmap(concept))
            )
            first = Tile(here, "here", f"{scene.title(concept)} here. {words}")
            tiles = make_tiles(scene, scene.layer, concept, references[scene.layer, concept])
            draw_tiles(first, tiles, COUNT, explain_absence(scene))


def tell_tiles(scene: Scene) -> str:
    """Say what the pictures on a card are."""
    here = "The first picture shows where the concept is **here**"
    if not scene.index:
        return f"{here}: red speaks for the class, blue against it."
    choice = CHOICES[scene.by].partition(" (")[0]
    return (
        f"{here}: red speaks for the class, blue against it. The others are its reference samples out of "
        f"{scene.index.pictures:,} pictures: {choice[0].lower()}{choice[1:]}, cut to the concept and dark around it."
    )


def explain_absence(scene: Scene) -> str:
    """Say why a concept has no reference samples."""
    if not scene.index:
        return "Reference samples appear here once the index is built."
    return (
        "In none of the reference pictures did it speak for what the model said. Choose other reference samples in the "
        "sidebar."
    )


def _draw_head(scene: Scene, concept: int, share: float, references: Sequence[Reference]) -> None:
    """Draw a card's first line: name and share, and what can be done."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"head-{concept}"):
        note = scene.names.get((scene.layer, concept))
        colour, word = (FOR_WORDS, "for") if share > 0 else (AGAINST_WORDS, "against")
        signed = f"<small>named by {escape(signature(note))}</small>" if note else ""
        st.html(
            f'<div style="line-height:1.25"><b>{escape(scene.title(concept))}</b> '
            f'<span style="color:{colour};font-weight:600">{abs(share):.1%} {word}</span><br>'
            f'<span style="opacity:0.7">{signed}</span></div>',
            width="stretch",
        )
        place = (scene.layer, concept)
        _draw_button("Name", "edit", concept, "Say what it is.", call_dialog, "name", concept)
        _draw_button(
            "Closer", "zoom_in", concept, "The reference samples whole, each beside where the concept is in it.",
            call_dialog, "closer", concept, disabled=not references,
        )  # fmt: skip
        _draw_button(
            "Open", "open_in_full", concept, "All about it, in a view with a link of its own.",
            open_view, CONCEPT, *place,
        )  # fmt: skip
        _draw_button(
            "Origin", "account_tree", concept, "From which concepts of earlier layers it comes.",
            open_view, ORIGIN, *place,
        )  # fmt: skip
        _choose_change(scene.info, scene.layer, concept)


def _draw_button(
    title: str, icon: str, concept: int, help: str, call: Callable[..., None], *about: Any, disabled: bool = False
) -> None:
    st.button(
        title, icon=f":material/{icon}:", key=f"{title.lower()}-{concept}", type="tertiary", help=help,
        on_click=call, args=about, disabled=disabled,
    )  # fmt: skip


def _choose_change(info: ModelInfo, layer: str, concept: int) -> None:
    """Draw the choice of what would be if the concept were weaker or stronger."""
    names = {factor: name for name, factor in CHANGES.items()}
    key = f"change-{layer}-{concept}"
    st.session_state[key] = names.get(factors(info, layer).get(concept, 1.0))

    def change() -> None:
        set_factors(info, layer, {concept: CHANGES.get(st.session_state[key], 1.0)})

    st.segmented_control("What if", list(CHANGES), key=key, on_change=change, label_visibility="collapsed")
