"""The reference samples of concepts as rows of tiles: chosen from the index, each with its own conditional heatmap."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import streamlit as st
from jaxtyping import Float32, UInt8

from components.following import follow, settle, stop_ticking, wait, wait_and_listen
from components.heatmap import describe
from components.plain_text import plain
from components.references.samples import draw_here, draw_reference
from components.scene import ACTMAX, CLASS, Scene
from components.session import open_picture
from components.tiles import SIDE, Tile, caption_of, draw_tiles, encode_once, keep_once, name_sample
from explainers.cache import Job
from explainers.concepts.heatmaps import ConceptHeatmaps, DrawConcepts
from explainers.errors import ImageError, LightboxError
from explainers.images import Picture
from explainers.index.reading import By
from explainers.subjects import Case
from explainers.targets import Target

#: How many reference samples a concept is shown with.
COUNT = 8

#: How long rows stay as they are while their heatmaps are computed, in seconds, at most.
STEADY = 2.0

#: A concept of a layer.
Concept = tuple[str, int]


@dataclass(frozen=True)
class Reference:
    """A reference sample of a concept: the picture, what the model says of it, and its conditional heatmap to come."""

    picture: Picture
    klass: int
    job: Job[ConceptHeatmaps]


def follow_references(
    view: str, scene: Scene, concepts: Sequence[Concept], by: str, count: int = COUNT
) -> Mapping[Concept, list[Reference]]:
    """Find the reference samples of concepts in the index and ask for their heatmaps; none without an index."""
    found = {(layer, concept): find_samples(scene, layer, concept, by, count) for layer, concept in concepts}
    asked = [
        (
            DrawConcepts(layer=layer, concepts=(concept,)),
            Case(scene.model, picture, Target(scene.info.output_of(klass))),
        )
        for (layer, concept), samples in found.items()
        for picture, klass in samples
    ]
    jobs = iter(follow(view, asked, urgency=1))
    return {
        place: [Reference(picture, klass, next(jobs)) for picture, klass in samples] for place, samples in found.items()
    }


def find_samples(scene: Scene, layer: str, concept: int, by: str, count: int) -> list[tuple[Picture, int]]:
    """Read the pictures of a concept's reference samples, each with the class that the model sees in it."""
    index = scene.index
    if index is None or layer not in index.recipe.layers:
        return []
    measure: By = "activation" if by == ACTMAX else "relevance"
    rows = index.reference_samples(layer, concept, measure, count, scene.klass if by == CLASS else None)
    values = index.concept(layer, concept, measure)
    found = []
    for row in rows[values[rows] > 0].tolist():  # a concept that does not matter in a picture cannot be shown by it
        with suppress(ImageError):  # a file that has gone since the index was built
            found.append((open_picture(index.samples[row]), int(index.table["predicted"][row])))
    return found


def draw_until_done(references: Mapping[Any, Sequence[Reference]], draw: Callable[[], None]) -> None:
    """Draw rows of reference samples, and anew every few seconds until all their heatmaps are computed."""
    jobs = [reference.job for found in references.values() for reference in found]
    waiting, drawn = not wait(jobs, 0), False

    def tick() -> None:
        nonlocal drawn
        settle()
        if waiting and drawn:
            wait_and_listen(jobs, STEADY)  # to draw all rows costs more than to wait for several heatmaps
        done, drawn = wait(jobs, 0), True
        draw()
        if waiting and done:
            stop_ticking()

    st.fragment(tick, run_every=1.0 if waiting else None)()


def make_tiles(scene: Scene, layer: str, concept: int, references: Sequence[Reference]) -> list[Tile]:
    """Draw reference samples as tiles, whole and plain as long as their heatmaps are not there."""
    tiles = []
    for reference in references:
        scores = peek_heatmap(concept, reference)
        key = (scene.info.digest, reference.picture.digest, layer, concept, scores is None)
        address = encode_once(key, partial(draw_cut, scene, reference.picture, scores))
        words = tell_reference(scene, layer, concept, reference)
        names = scene.info.decision_names
        tiles.append(Tile(address, caption_of(names[reference.klass], reference.picture.label, names), words))
    return tiles


def tell_reference(scene: Scene, layer: str, concept: int, reference: Reference) -> str:
    """Say which picture a reference sample is, what the model says of it, and once it is known where the concept is."""
    sample = name_sample(reference.picture.name, reference.picture.label)
    words = f"{sample}: the model says {scene.info.decision_names[reference.klass]}"
    scores = peek_heatmap(concept, reference)
    if scores is None:
        return words
    key = (scene.info.digest, reference.picture.digest, layer, concept, "words")
    return f"{words}. {scene.title(concept, layer)}: {keep_once(key, partial(describe, scores))}"


def draw_cut(scene: Scene, picture: Picture, scores: Float32[np.ndarray, "h w"] | None) -> UInt8[np.ndarray, "h w 3"]:
    """Draw a reference sample cut to its concept, or whole as long as its heatmap is not there."""
    crop = scene.info.preprocessing.view(picture)
    return crop if scores is None else draw_reference(crop, scores, SIDE)


def draw_whole(scene: Scene, concept: int, reference: Reference) -> UInt8[np.ndarray, "h w 3"]:
    """Draw all of a reference sample under its conditional heatmap, once that is there."""
    crop = scene.info.preprocessing.view(reference.picture)
    scores = read_heatmap(concept, reference)
    return crop if scores is None else draw_here(crop, scores)


def peek_heatmap(concept: int, reference: Reference) -> Float32[np.ndarray, "h w"] | None:
    """Read a reference sample's heatmap if it is there by now."""
    return read_heatmap(concept, reference) if reference.job.done else None


def read_heatmap(concept: int, reference: Reference) -> Float32[np.ndarray, "h w"] | None:
    """Wait for a reference sample's heatmap; None if it could not be computed, for the picture alone says something."""
    with suppress(LightboxError):
        return reference.job.result().heatmap(concept)
    return None


@st.dialog("Reference samples", width="large", icon=":material/zoom_in:", on_dismiss="rerun")
def look_closer(scene: Scene, concept: int, references: Sequence[Reference]) -> None:
    """Show reference samples whole, each beside where the concept is in it."""
    st.markdown(f"**{plain(scene.title(concept))}** · {plain(scene.layer)}")
    for start in range(0, len(references), 4):
        part = references[start : start + 4]
        names = [(reference.picture.name, tell_reference(scene, scene.layer, concept, reference)) for reference in part]
        crops = [scene.info.preprocessing.view(reference.picture) for reference in part]
        whole = [
            encode_once((reference.picture.digest, "plain"), partial(np.asarray, crop))
            for reference, crop in zip(part, crops, strict=True)
        ]
        draw_tiles(None, [Tile(address, *words) for address, words in zip(whole, names, strict=True)], 4, grow=False)
        drawn = [
            encode_once(
                (scene.info.digest, reference.picture.digest, scene.layer, concept, "whole"),
                partial(draw_whole, scene, concept, reference),
            )
            for reference in part
        ]
        draw_tiles(
            None, [Tile(address, "where", words[1]) for address, words in zip(drawn, names, strict=True)], 4, grow=False
        )
