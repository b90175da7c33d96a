"""Prototypical parts: the patches that a network compares with, and what it would say without some of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from html import escape

import numpy as np
import streamlit as st
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from components.following import finished, follow
from components.heatmap import View, blend, locate
from components.link_numbers import read_count
from components.plain_text import plain
from components.prediction import tell_score
from components.prototypes.part_sources import LEARNT, find_sample, find_sources, find_splits
from components.scene import Scene
from components.session import open_picture, say_in_link
from components.theme import ACCENT
from components.tiles import SIDE, Tile, draw_tiles, encode_once, name_sample
from explainers.images import Sample
from explainers.index.subjects import ManyInputs
from explainers.predictions import summarise
from explainers.prototypes.parts import contribute, decide, find_counterexample, measure_accuracy
from explainers.prototypes.similarities import CompareParts, CompareSamples, PartMaps, Similarities
from explainers.subjects import Input
from sample_models.cards import Source

#: How many prototypes are shown at first.
SHOWN = 6

Box = tuple[int, int, int, int]
Pixels = UInt8[np.ndarray, "height width 3"]

STYLE = """<style>
.lightbox-points {display: grid; grid-template-columns: minmax(0, 1fr) auto auto; gap: 4px 14px; font-size: 0.92rem;
  font-variant-numeric: tabular-nums;}
.lightbox-points .value {text-align: right;}
</style>"""


def rejected_prototypes() -> set[int]:
    """The prototypes that the link rejects."""
    found = map(read_count, st.query_params.get("reject", "").split(","))
    return {number for number in found if number is not None}


def draw_parts(scene: Scene) -> None:
    """Draw the view of prototypical parts; raises LightboxError."""
    sources = find_sources(scene.info)
    (job,) = follow("parts", [(CompareParts(), Input(scene.model, scene.picture))])
    if not finished([job], "Comparing with the prototypes"):
        return
    found, rejected = job.result(), rejected_prototypes() & set(range(len(sources)))
    points = contribute(found.similarities[None], found.weights)[0]
    order = np.argsort(-np.abs(points[scene.target.index]), kind="stable").tolist()
    left, right = st.columns([5, 3], gap="large")
    with left:
        st.markdown("## This looks like that")
        st.caption(
            f"The model compares every place of the picture with {len(sources)} patches that it has learnt from, and "
            "adds up points. Those that count most here come first. Reject one to see what it would say without."
        )
        for prototype in order[:SHOWN]:
            draw_prototype(scene, found, sources[prototype], points[:, prototype], rejected)
        with st.expander(f"The other {len(order) - SHOWN} prototypes"):
            for prototype in order[SHOWN:]:
                draw_prototype(scene, found, sources[prototype], points[:, prototype], rejected)
    with right:
        draw_effects(scene, found, rejected)


def draw_prototype(
    scene: Scene, found: PartMaps, source: Source, points: np.ndarray, rejected: Collection[int]
) -> None:
    """Draw a prototype: where it is seen here, the training patch that it is, and its points."""
    number = source.prototype
    with st.container(border=True, gap="small", key=f"part-{number}"):
        with st.container(horizontal=True, vertical_alignment="center"):
            given = " · ".join(
                f"{value:+.1f} for {plain(name)}" for name, value in zip(scene.info.class_names, points, strict=True)
            )
            out = number in rejected
            words = f"~~Prototype {number + 1}~~ rejected" if out else f"**Prototype {number + 1}** · {given}"
            st.markdown(f"{words} · similarity {found.similarities[number]:.1f}", width="stretch")
            st.checkbox("Reject", out, key=f"reject-{number}", on_change=_toggle, args=(number, rejected))
        draw_tiles(None, make_tiles(scene, found, source), 4)


def _toggle(prototype: int, rejected: Collection[int]) -> None:
    _reject(set(rejected) ^ {prototype})


def _reject(prototypes: Collection[int]) -> None:
    say_in_link("reject", ",".join(str(one) for one in sorted(prototypes)))


def make_tiles(scene: Scene, found: PartMaps, source: Source) -> list[Tile]:
    """Draw the patch here and where it is, beside the training patch and the picture that it comes from."""
    sample = open_picture(find_sample(source))
    there = scene.info.preprocessing.view(sample)
    here, number = scene.seen.crop, source.prototype
    box = box_around(found.place(number), found.maps.shape[1:], here.shape[:2], source.box)
    key = (scene.info.digest, scene.picture.digest, number)
    origin = name_sample(source.sample, sample.label)
    most_alike, _ = locate(found.maps[number] - found.maps[number].min())
    return [
        Tile(encode_once((*key, "patch"), partial(cut, here, box)), "this", "The place here that is most alike"),
        Tile(
            encode_once((*key, "map"), partial(draw_similarity, here, found.maps[number], box)),
            "where it is here",
            f"How alike every place here is to the prototype: most in the {most_alike}.",
        ),
        Tile(encode_once((*key, "prototype"), partial(cut, there, source.box)), "looks like that", origin),
        Tile(encode_once((*key, "origin"), partial(outline, there, source.box)), f"from {source.klass}", origin),
    ]


def box_around(place: tuple[int, int], grid: tuple[int, ...], size: tuple[int, ...], like: Box) -> Box:
    """The box around a place of a map, as large as another box, within the picture."""
    middles = [(index + 0.5) * length / count for index, length, count in zip(place, size, grid, strict=True)]
    reach = max(like[2] - like[0], like[3] - like[1]) / 2
    top, left = (max(0, round(middle - reach)) for middle in middles)
    bottom, right = (min(length, round(middle + reach)) for middle, length in zip(middles, size, strict=True))
    return left, top, right, bottom


def cut(pixels: Pixels, box: Box) -> Pixels:
    """Cut a patch out of a picture and enlarge it."""
    return np.asarray(Image.fromarray(pixels).crop(box).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def outline(pixels: Pixels, box: Box) -> Pixels:
    """Draw a frame around a patch of a picture."""
    image = Image.fromarray(pixels)
    scale = max(1, round(2 * SIDE / image.width))
    image = image.resize((image.width * scale, image.height * scale), Image.Resampling.BICUBIC)
    corners = [scale * corner for corner in box]
    ImageDraw.Draw(image).rectangle((corners[0], corners[1], corners[2] - 1, corners[3] - 1), outline=ACCENT, width=6)
    return np.asarray(image)


def draw_similarity(pixels: Pixels, similarities: np.ndarray, box: Box) -> Pixels:
    """Lay a map of similarities over a picture, with a frame around the most similar place."""
    size = (pixels.shape[1], pixels.shape[0])
    image = Image.fromarray(similarities.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
    values = np.asarray(image, np.float32)
    return outline(blend(pixels, values - values.min(), False, View(opacity=0.6)), box)


def draw_change(scene: Scene, found: PartMaps, rejected: Collection[int], typical: np.ndarray | float) -> None:
    """Draw what the model says, with all prototypes and without the rejected ones."""
    before, after = (
        summarise(scene.info, decide(found.similarities[None], found.weights, without, typical)[0].astype(np.float32))
        for without in ((), rejected)
    )
    rows = [
        (name, tell_score(scene.info, before, index), tell_score(scene.info, after, index))
        for index, name in enumerate(scene.info.class_names)
    ]
    draw_table("this picture", rows)


def draw_table(title: str, rows: Sequence[tuple[str, str, str]]) -> None:
    """Draw figures with all prototypes and without the rejected ones."""
    cells = "".join(
        f"<span>{escape(name)}</span><span class='value'>{before}</span><b class='value'>{after}</b>"
        for name, before, after in rows
    )
    head = f"<b>{title}</b><b class='value'>with all</b><b class='value'>without rejected</b>"
    st.html(f'{STYLE}<div class="lightbox-points">{head}{cells}</div>')


def _tell_rejected(rejected: Collection[int]) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        names = ", ".join(str(number + 1) for number in sorted(rejected))
        st.caption(f"Rejected: {names}.", width="stretch")
        if st.button("Take all back", icon=":material/undo:", type="tertiary", key="unreject"):
            for key in [str(key) for key in st.session_state if str(key).startswith("reject-")]:
                del st.session_state[key]
            _reject(())
            st.rerun()


def draw_effects(scene: Scene, found: PartMaps, rejected: Collection[int]) -> None:
    """Draw what rejecting prototypes changes: what the model says, and how often it is right on each split."""
    st.markdown("## What rejecting changes")
    splits = find_splits(scene.info)
    asked = [(CompareSamples(), ManyInputs(scene.model, samples)) for samples in splits.values()]
    jobs = follow("similarities", asked, urgency=1)
    if rejected:
        _tell_rejected(rejected)
    if not finished(jobs, "Comparing reference and test pictures, once"):
        return
    known = {split: job.result() for split, job in zip(splits, jobs, strict=True)}
    typical = known[LEARNT].typical
    draw_change(scene, found, rejected, typical)
    rows = []
    for split, one in known.items():
        before, after = (
            measure_accuracy(decide(one.values, found.weights, without, typical), one.labels)
            for without in ((), rejected)
        )
        change = f" ({100 * (after - before):+.1f})" if rejected else ""
        rows.append((split, f"{before:.1%}", f"{after:.1%}{change}"))
    draw_table("how often it is right", rows)
    st.caption("A rejected prototype counts as much as in a typical picture, so that it tells nothing about this one.")
    draw_check(scene, found, splits, known)


def draw_check(
    scene: Scene, found: PartMaps, splits: Mapping[str, Sequence[Sample]], known: Mapping[str, Similarities]
) -> None:
    """Say whether two pictures with the same explanation always get the same class, or show two that do not."""
    st.markdown("## Same explanation, same class?")
    values = np.concatenate([one.values for one in known.values()])
    samples = [sample for split in splits.values() for sample in split]
    classes = decide(values, found.weights).argmax(axis=1)
    pair = find_counterexample(values, classes)
    if pair is None:
        st.markdown(
            f":material/check: Yes: of {len(values):,} pictures, all that have the same three most similar "
            "prototypes, equally similar within 5 %, get the same class."
        )
        return
    names = ", ".join(str(prototype + 1) for prototype in pair.prototypes)
    st.markdown(
        f":material/warning: No. These two have the same most similar prototypes ({names}), to within "
        f"{max(0.01, pair.difference):.2f}, yet the model decides differently: the three do not explain all."
    )
    tiles = []
    for row, klass in zip(pair.samples, pair.classes, strict=True):
        picture = open_picture(samples[row])
        crop = partial(scene.info.preprocessing.view, picture)
        name = scene.info.class_names[klass]
        tiles.append(Tile(encode_once((scene.info.digest, picture.digest, "crop"), crop), name, picture.name))
    draw_tiles(None, tiles, 2, grow=False)
