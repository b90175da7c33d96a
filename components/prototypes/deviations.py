"""In which concepts a decision differs from the strategy that it follows, and where these are seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from html import escape

import numpy as np
import streamlit as st
from jaxtyping import Float

from components.concepts.bars import AGAINST_WORDS, FOR_WORDS, Bar, draw_bars, tell_points
from components.figures import BARE
from components.following import finished, follow
from components.heatmap import describe
from components.plain_text import plain_in_chart
from components.prototypes.family import Family
from components.references.rows import Concept, Reference, draw_until_done, follow_references, make_tiles
from components.references.samples import draw_here
from components.scene import Scene
from components.session import open_picture
from components.tiles import Tile, draw_tiles, encode_once, keep_once
from explainers.concepts.heatmaps import ConceptHeatmaps, DrawConcepts
from explainers.prototypes.decisions import Decision
from explainers.subjects import Case
from explainers.targets import Target

#: How many concepts are shown, and how many reference samples of each.
CONCEPTS, REFERENCES = 5, 4


def draw_bars_of(
    scene: Scene, decision: Decision, concepts: Sequence[int], usual: Float[np.ndarray, " concept"]
) -> None:
    """Draw by how much each concept is over-used or under-used."""
    deviation = decision.deviation[decision.nearest]
    bars = [
        Bar(
            scene.title(concept),
            float(deviation[concept]),
            tell_points(float(usual[concept]), float(usual[concept] + deviation[concept])),
            f"{plain_in_chart(scene.title(concept))}<br>{tell_use(float(deviation[concept]), float(usual[concept]))}",
        )
        for concept in concepts
    ]
    st.plotly_chart(
        draw_bars(bars),
        key="deviations",
        config=BARE,
        alt="Deviation of each concept: " + ", ".join(f"{bar.title} {bar.label}" for bar in bars) + ".",
    )


def tell_use(deviation: float, usual: float) -> str:
    """Say a concept's share of the relevance here and in the strategy."""
    return f"{usual + deviation:+z.1%} of the relevance here, {usual:+z.1%} usually"


def tell_direction(deviation: float, usual: float) -> str:
    """Say whether a concept speaks more or less than usual, and for the class or against it."""
    side = "for" if usual + deviation > 0 else "against"
    return f"speaks {'more' if (deviation > 0) == (side == 'for') else 'less'} {side} the class than usual"


def draw_deviations(family: Family, decision: Decision) -> None:
    """Draw the concepts that deviate most, each here and in a typical sample; raises LightboxError."""
    scene, prototype = family.scene, family.prototypes[decision.klass][decision.nearest]
    concepts = decision.deviating_concepts(CONCEPTS)
    typical = open_picture(family.index.samples[int(prototype.rows[0])])
    question, target = DrawConcepts(layer=scene.layer, concepts=tuple(concepts)), Target(decision.klass)
    jobs = follow("deviations", [(question, Case(scene.model, one, target)) for one in (scene.picture, typical)])
    several = len(family.prototypes[decision.klass]) > 1
    usual = f"in decisions by strategy {decision.nearest + 1}" if several else "is usual"
    st.markdown("## Where it differs")
    st.caption(
        f"Concepts that speak more (red) or less (blue) for the class than {usual}, in points of the share of all "
        "relevance. Each is shown in this picture, in the most typical case, and in its reference samples."
    )
    draw_bars_of(scene, decision, concepts, prototype.mean)
    if not finished(jobs, "Drawing where each concept is"):
        return
    here, there = (job.result() for job in jobs)
    seen = scene.info.preprocessing.view(typical)
    references = follow_references(
        "deviating", scene, [(scene.layer, concept) for concept in concepts], scene.by, REFERENCES
    )
    draw_until_done(
        references, partial(_draw_cards, family, decision, concepts, (here, there), (typical.digest, seen), references)
    )


def _draw_cards(
    family: Family,
    decision: Decision,
    concepts: Sequence[int],
    heatmaps: tuple[ConceptHeatmaps, ConceptHeatmaps],
    typical: tuple[str, np.ndarray],
    references: Mapping[Concept, Sequence[Reference]],
) -> None:
    scene, usual = family.scene, family.prototypes[decision.klass][decision.nearest].mean
    pairs = (("here", scene.picture.digest, scene.seen.crop), ("typical case", *typical))
    for concept in concepts:
        with st.container(border=True, gap="small", key=f"deviation-{concept}"):
            deviation = float(decision.deviation[decision.nearest][concept])
            colour = FOR_WORDS if deviation > 0 else AGAINST_WORDS
            word = tell_direction(deviation, float(usual[concept]))
            st.html(
                f'<b>{escape(scene.title(concept))}</b> <span style="color:{colour};font-weight:600">{word}</span> '
                f'<span style="opacity:0.75">· {tell_use(deviation, float(usual[concept]))}</span>'
            )
            tiles = [
                Tile(
                    encode_once(
                        (*scene.key, digest, concept, "here"), partial(draw_here, crop, found.heatmap(concept))
                    ),
                    caption,
                    f"{scene.title(concept)}, {caption}. "
                    + keep_once((*scene.key, digest, concept, "words"), partial(describe, found.heatmap(concept))),
                )
                for (caption, digest, crop), found in zip(pairs, heatmaps, strict=True)
            ]
            draw_tiles(
                None,
                [*tiles, *make_tiles(scene, scene.layer, concept, references[scene.layer, concept])],
                len(tiles) + REFERENCES,
            )
