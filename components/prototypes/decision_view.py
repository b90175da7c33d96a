"""One decision: whether it is ordinary, which strategy it follows, and where it differs."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from components.following import finished, follow
from components.plain_text import plain
from components.prototypes.deviations import draw_deviations
from components.prototypes.family import Family
from components.prototypes.pictures import draw_crop, make_samples
from components.prototypes.review import draw_review
from components.prototypes.verdict import choose_thresholds, draw_histogram, draw_verdict, tell_percentile
from components.telling_errors import telling_errors
from components.tiles import Tile, draw_tiles
from explainers.index.subjects import CaseInIndex
from explainers.prototypes.decisions import Decision, JudgeDecision, Thresholds
from explainers.targets import Target

#: How many typical samples stand beside the picture.
BESIDE = 6

#: A verdict as it was asked for, and on what.
AskedVerdict = tuple[JudgeDecision, CaseInIndex]


def draw_decision(family: Family) -> AskedVerdict:
    """Draw the view of one decision; returns what was asked about it. Raises LightboxError."""
    label = label_of(family)
    classes = [family.klass, *([label] if label is not None and label != family.klass else [])]
    waiting = st.container()
    left, right = st.columns([5, 4], gap="large")
    with right:
        chart = st.container()
        thresholds = choose_thresholds()
    with waiting:
        asked = [ask_verdict(family, klass, thresholds) for klass in classes]
        jobs = follow("decisions", asked)
        if not finished(jobs, "Looking at this case"):
            return asked[0]
    decisions = [job.result() for job in jobs]
    with left:
        verdict = st.container()
        with telling_errors():  # of notes, without which the verdict is the same
            draw_review(family, decisions[0])
    with verdict:  # after the buttons whose keys are pressed as soon as it is read
        draw_verdict(family, decisions[0])
        _tell_label(family, decisions[1:])
    with chart:
        draw_histogram(family, decisions[0], thresholds)
    draw_nearest(family, decisions[0])
    draw_deviations(family, decisions[0])
    draw_others(family, decisions[0])
    return asked[0]


def label_of(family: Family) -> int | None:
    """The class that the picture is labelled with, if it has strategies."""
    names = [name.casefold() for name in family.scene.info.decision_names]
    label = (family.scene.picture.label or "").casefold()
    found = names.index(label) if label in names else None
    return found if found in family.strategies else None


def ask_verdict(family: Family, klass: int, thresholds: Thresholds) -> AskedVerdict:
    """Ask whether the picture's decision would be ordinary for a class."""
    scene, count = family.scene, family.count if klass == family.klass else 0
    question = JudgeDecision(tuple(family.strategies), count, thresholds.unusual, thresholds.unlike)
    return question, CaseInIndex(
        scene.model, scene.picture, Target(scene.info.output_of(klass)), family.index, scene.layer
    )


def _tell_label(family: Family, decisions: Sequence[Decision]) -> None:
    for decision in decisions:
        st.markdown(
            f"Its own label is **{family.call(decision.klass)}**. As a {family.call(decision.klass)} case it would be "
            f"**{decision.verdict}**: {plain(tell_percentile(family, decision))}"
        )


def draw_nearest(family: Family, decision: Decision) -> None:
    """Draw the picture beside the most typical samples of the strategy that it follows."""
    prototypes, name = family.prototypes[decision.klass], family.call(decision.klass)
    prototype = prototypes[decision.nearest]
    if len(prototypes) == 1:
        st.markdown(f"## Beside the most typical {name} cases")
        st.caption(f"The model decides for {name} in one way only; these cases are nearest to its middle.")
    else:
        st.markdown(f"## Nearest to strategy {decision.nearest + 1}, by which {prototype.share:.0%} are decided")
        st.caption(
            f"This picture, and the most typical {name} cases of that strategy. {tell_responsibilities(decision)}"
        )
    first = Tile(draw_crop(family.scene.info, family.scene.picture), "this picture", family.scene.picture.name)
    draw_tiles(first, make_samples(family, prototype.rows[:BESIDE].tolist()), BESIDE)


def tell_responsibilities(decision: Decision) -> str:
    """Say how sure it is which strategy a decision follows."""
    sure = [(share, number) for number, share in enumerate(decision.responsibilities.tolist(), 1) if share >= 0.01]
    parts = [f"{share:.0%} strategy {number}" for share, number in sorted(sure, reverse=True)]
    return f"It follows {', '.join(parts)}." if len(parts) > 1 else ""


def draw_others(family: Family, decision: Decision) -> None:
    """Draw which strategy of another class the decision is most like."""
    others = [likeness for likeness in decision.likenesses if likeness.klass != decision.klass]
    if not others:
        return
    other, name = others[0], family.call(others[0].klass)
    nearer = other.log_likelihood > decision.log_likelihood
    st.markdown(
        f"## {'It looks more like' if nearer else 'Of the other classes it is most like'} strategy "
        f"{other.prototype + 1} of {name}"
    )
    st.caption(
        f"{other.percentile:.0f} of 100 {name} cases are less typical for {name} than this one is. "
        + (f"Its use of concepts is likelier there than among {family.call(decision.klass)} cases." * nearer)
    )
    rows = family.prototypes[other.klass][other.prototype].rows[:BESIDE].tolist()
    draw_tiles(None, make_samples(family, rows), BESIDE)
