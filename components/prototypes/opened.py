"""One sample of the index opened, or several in a gallery, without running the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import isnan

import streamlit as st

from components.plain_text import plain
from components.prediction import tell_share
from components.prototypes.deviations import CONCEPTS, draw_bars_of
from components.prototypes.family import Family
from components.prototypes.pictures import draw_sample, make_samples
from components.prototypes.tags import draw_tag_form, draw_tags_of, notes_of
from components.telling_errors import tell_error, telling_errors
from components.tiles import draw_tiles
from explainers.errors import ImageError
from explainers.notes import Tag
from explainers.prototypes.decisions import judge

#: How many pictures a gallery shows.
GALLERY = 24


def draw_selection(family: Family, rows: Sequence[int], tags: Mapping[str, tuple[Tag, ...]], hint: str) -> None:
    """Draw what was selected: a sample, a gallery, or a hint how to."""
    if not rows:
        st.caption(hint)
        return
    samples = family.index.table["digest"].iloc[list(rows)].tolist()
    if len(rows) == 1:
        draw_opened(family, rows[0])
    else:
        draw_gallery(family, rows)
    with telling_errors():
        draw_tags_of(notes_of(family), tags.get(samples[0], ()) if len(rows) == 1 else ())
        draw_tag_form(notes_of(family), samples)


def draw_gallery(family: Family, rows: Sequence[int]) -> None:
    """Draw several samples as tiles, as many as fit."""
    st.markdown(f"**{len(rows):,} pictures**" + (f", the first {GALLERY} of them" if len(rows) > GALLERY else ""))
    shown = rows[:GALLERY]
    for start in range(0, len(shown), 4):
        draw_tiles(None, make_samples(family, shown[start : start + 4]), 4)


def draw_opened(family: Family, row: int) -> None:
    """Draw one sample: the picture, what is known about it, and where its decision differs from its strategy."""
    one = family.index.table.iloc[row]
    st.markdown(f"**{plain(str(one['name']))}**")
    try:
        tile = draw_sample(family, row)
    except ImageError as error:
        tell_error(error, "broken_image")
        return
    says = escape(tile.says, quote=True)
    st.html(f'<img src="{tile.address}" alt="{says}" style="width:100%;max-width:260px;border-radius:6px">')
    sure = "" if isnan(one["probability"]) else f", {tell_share(one['probability'])}"
    said = f"The model says **{family.call(int(one['predicted']))}**{sure}."
    st.markdown(f"{said} Its label is **{plain(one['label_name'])}**." if one["label_name"] else said)
    klass = int(family.vectors.classes[row])
    if klass not in family.strategies:
        return
    relevance = family.index.decisions(family.scene.layer).relevance[row]
    decision = judge(family.vectors, family.strategies, klass, relevance, row)
    st.markdown(
        f"As a {family.call(klass)} case it is **{decision.verdict}**: {decision.percentile:.0f} of 100 are less "
        f"typical. Nearest is strategy {decision.nearest + 1}; from it, it differs most in"
    )
    usual = family.strategies[klass].means[decision.nearest]
    draw_bars_of(family.scene, decision, decision.deviating_concepts(CONCEPTS), usual)
