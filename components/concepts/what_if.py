"""What the model would say if concepts were weaker or stronger: before and after, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from html import escape

import streamlit as st

from components.concepts.bars import tell_points
from components.concepts.links import clear_factors, factors
from components.following import finished, follow
from components.heatmap import describe
from components.plain_text import plain
from components.prediction import tell_score
from components.references.samples import draw_here
from components.scene import Scene
from components.theme import ACCENT_WORDS
from components.tiles import Tile, draw_tiles, encode_once
from explainers.concepts.what_if import ChangeConcepts, WhatIf
from explainers.info import ModelInfo
from explainers.outputs import NUMBERS

#: What a factor does, as said before a concept's name.
VERBS = {0.0: "without", 0.5: "with less of", 2.0: "with more of"}

#: How many concepts are called by their names.
NAMED = 3

STYLE = f"""<style>
:has(> .st-key-what-if) {{position: sticky; top: 3.75rem; z-index: 90;}}
.st-key-what-if {{background: Canvas; box-shadow: 0 4px 12px #0003;}}
.lightbox-change {{display: grid; grid-template-columns: minmax(0, 1fr) auto auto auto; gap: 3px 12px;
  font-size: 0.88rem; font-variant-numeric: tabular-nums; align-items: center; max-width: 32rem;}}
.lightbox-change .name {{overflow: hidden; text-overflow: ellipsis; white-space: nowrap;}}
.lightbox-change .value {{text-align: right;}}
.lightbox-change .best {{font-weight: 600; color: {ACCENT_WORDS};}}
</style>"""


def draw_what_if(scene: Scene) -> None:
    """Draw prediction and heatmap with and without the changes, if there are any; raises LightboxError."""
    if not (chosen := factors(scene.info, scene.layer)):
        return
    with st.container(border=True, key="what-if"):
        with st.container(horizontal=True, vertical_alignment="center", wrap=False):
            st.markdown(f"**What if?** The model {describe_changes(scene, chosen)}", width="stretch")
            st.button("As it was", icon=":material/undo:", key="undo", on_click=clear_factors, args=(scene.info,))
        question = ChangeConcepts(layer=scene.layer, factors=tuple(chosen.items()))
        (job,) = follow("what if", [(question, scene.case)])
        if finished([job], "Deciding again"):
            _draw(scene, job.result(), (*scene.key, question))


def _draw(scene: Scene, found: WhatIf, key: tuple[object, ...]) -> None:
    table, pictures = st.columns([5, 2], gap="large", vertical_alignment="center")
    with table:
        st.html(f"{STYLE}{tabulate(scene.info, found)}")
    with pictures:
        draw_tiles(
            None,
            [
                Tile(
                    encode_once((key, name), partial(draw_here, scene.seen.crop, found.heatmaps[place])),
                    f"{name} · {found.outputs[place]:.2f} {scene.info.score_unit}",
                    f"What speaks for the class, {name}. {describe(found.heatmaps[place])}",
                )
                for place, name in enumerate(("before", "after"))
            ],
            2,
            grow=False,
        )


def describe_changes(scene: Scene, chosen: Mapping[int, float]) -> str:
    """Say what was done to which concepts, or to how many."""
    parts = []
    for factor, verb in VERBS.items():
        changed = [concept for concept, one in chosen.items() if one == factor]
        if len(changed) > NAMED:
            parts.append(f"{verb} {len(changed)} concepts")
        elif changed:
            parts.append(f"{verb} {', '.join(plain(scene.title(concept)) for concept in changed)}")
    return " and ".join(parts)


def tabulate(info: ModelInfo, found: WhatIf, count: int = 5) -> str:
    """Set the best classes before and after side by side, with how far each has moved."""
    before, after = found.before, found.after
    shown = before.top(count) + [index for index in after.top(count) if index not in before.top(count)]
    rows = []
    for index in shown:
        cells = [(tell_score(info, one, index, 1), one.top(1)[0] == index) for one in (before, after)]
        if info.kind == NUMBERS:
            change = f"{after.logits[index] - before.logits[index]:+,.4g}"
        else:
            change = tell_points(float(before.probabilities[index]), float(after.probabilities[index]))
        rows.append(
            f'<span class="name">{escape(info.class_names[index])}</span>'
            + "".join(f'<span class="value{" best" * best}">{escape(said)}</span>' for said, best in cells)
            + f'<span class="value">{change}</span>'
        )
    names = ("before", "after", "change" if info.kind == NUMBERS else "points")
    head = "<b>Class</b>" + "".join(f'<b class="value">{name}</b>' for name in names)
    return f'<div class="lightbox-change">{head}{"".join(rows)}</div>'
