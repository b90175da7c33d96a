"""The most relevant concepts at a glance: the picture, a bar for each, and what they carry together."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence

import streamlit as st

from components.concepts.bars import Bar, choose_bar
from components.concepts.links import CONCEPT, chart_key, open_view
from components.drawn_region import choose_region
from components.heatmap import View, blend, encode_png
from components.plain_text import file_name, plain, plain_in_chart
from components.scene import Scene
from explainers.concepts.heatmaps import ConceptHeatmaps
from explainers.concepts.relevance import ConceptRelevance
from explainers.regions import Region
from explainers.tables import write_csv

#: The side of the picture in pixels.
SIDE = 290

HINT = "Draw a box on the picture, or a lasso, to ask which concepts matter there."


def draw_overview(
    scene: Scene, found: ConceptRelevance, concepts: Sequence[int], heatmaps: ConceptHeatmaps | None
) -> None:
    """Draw the picture to ask about a region of it, beside the bars of the most relevant concepts."""
    row = st.container(horizontal=True, gap="medium")
    with row.container(width=SIDE):
        region = choose_region(scene.seen, SIDE, HINT)
    with row.container():
        st.markdown(tell_shares(scene, found, region))
        clicked = choose_bar(make_bars(scene, found, concepts), chart_key("bars"), "Relevance of concepts")
        draw_downloads(scene, found, heatmaps)
    if clicked is not None:
        open_view(CONCEPT, scene.layer, concepts[clicked])
        st.rerun()


def tell_shares(scene: Scene, found: ConceptRelevance, region: Region) -> str:
    """Say how few concepts carry most of the relevance."""
    needed, whole = found.needed(0.8), len(found.relevance)
    where = " in the region" if region else ""
    return f"**{needed:,} of {whole:,} concepts carry 80 %** of the decision{where} in the layer {plain(scene.layer)}."


def make_bars(scene: Scene, found: ConceptRelevance, concepts: Sequence[int]) -> list[Bar]:
    """Make a bar for each concept, as long as its share."""
    return [
        Bar(
            scene.title(concept),
            float(found.shares[concept]),
            f"{found.shares[concept]:+.1%}",
            f"{plain_in_chart(scene.title(concept))}<br>"
            f"relevance {found.relevance[concept]:+.3g} {plain_in_chart(scene.info.score_unit)}<br>"
            f"{found.shares[concept]:+.1%} of all relevance<br>click for all about it",
        )
        for concept in concepts
    ]


def draw_downloads(scene: Scene, found: ConceptRelevance, heatmaps: ConceptHeatmaps | None) -> None:
    """Offer the relevance of all concepts as a table, and the heatmaps as pictures."""
    name = f"{scene.seen.name}-{scene.layer}"
    with st.container(horizontal=True):
        st.download_button(
            "Table", lambda: write_table(scene, found), file_name(name, ".csv"), "text/csv", icon=":material/download:",
            on_click="ignore", key="table", help="Relevance, share and activation of every concept of the layer (CSV).",
        )  # fmt: skip
        if heatmaps:
            st.download_button(
                "Heatmaps", lambda: write_heatmaps(scene, heatmaps), file_name(name, ".zip"), "application/zip",
                icon=":material/download:", on_click="ignore", key="heatmaps",
                help="The picture under the heatmap of each concept shown, as PNG files in a zip.",
            )  # fmt: skip


def write_table(scene: Scene, found: ConceptRelevance) -> bytes:
    """Write the relevance of every concept as CSV, the most relevant first."""
    names = {concept: note.name for (layer, concept), note in scene.names.items() if layer == scene.layer}
    numbers = (found.relevance, found.shares, found.maximum, found.mean)
    return write_csv(
        ("layer", "concept", "name", "relevance", "share", "max_activation", "mean_activation"),
        (
            (scene.layer, concept, names.get(concept, ""), *(f"{one[concept]:.6g}" for one in numbers))
            for concept in found.top(len(found.relevance))
        ),
    )


def write_heatmaps(scene: Scene, heatmaps: ConceptHeatmaps) -> bytes:
    """Write the picture under each concept's heatmap as PNG files in a zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for concept in heatmaps.concepts.tolist():
            drawn = encode_png(blend(scene.seen.crop, heatmaps.heatmap(concept), True, View()), 2)
            archive.writestr(f"concept-{concept}.png", drawn)
    return file.getvalue()
