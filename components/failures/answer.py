"""The answer in a sentence, and the figures that it stands on."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import streamlit as st

from components.failures.evaluation import Evaluation
from components.plain_text import plain
from explainers.cases.figures import Figure, tell_unmatched, why_nothing
from explainers.cases.filters import Filter
from explainers.cases.report import tell_ends, tell_share, tell_value

STYLE = """<style>
dl.lightbox-figures {display: grid; padding: 0 !important; width: 100%; gap: 8px;
  margin: 0 !important; grid-template-columns: repeat(auto-fill, minmax(168px, 1fr));}
.lightbox-figures div {border: 1px solid #8886; border-radius: 8px; padding: 8px 12px;}
.lightbox-figures dt {font-size: 0.85rem; font-weight: 400;}
.lightbox-figures dd {margin: 0; font-size: 0.78rem; line-height: 1.35;}
.lightbox-figures dd.value {font-size: 1.5rem; line-height: 1.3; font-variant-numeric: tabular-nums;}
</style>"""

#: What to do without labels.
LABELS = (
    "Labels come from folders named by their class, or from a column of a table (CSV, Excel) beside the pictures. "
    "Add them in the sidebar, or choose a sample model, whose pictures have labels."
)


def draw_answer(evaluation: Evaluation) -> bool:
    """Say in a sentence how right the model is and where it fails most; tells whether there is more to show."""
    if reason := why_nothing(evaluation.outcomes):
        st.markdown("# Where does it fail?")
        draw_reason(evaluation, reason)
        draw_filtered(evaluation)
        return False
    st.markdown(f"# {tell_whole(evaluation)}")
    st.markdown(tell_worst(evaluation))
    if left := tell_left(evaluation):
        st.caption(left)
    draw_filtered(evaluation)
    return True


def draw_reason(evaluation: Evaluation, reason: str) -> None:
    """Say why there is nothing to show, and what to do."""
    info = evaluation.info
    if info.gives_map or (evaluation.outcomes.is_number and len(info.class_names) > 1):
        st.info(plain(reason), icon=":material/info:")
        return
    labels = [str(label) for label in evaluation.table["label"]]
    strange = list(tell_unmatched(evaluation.outcomes, labels))
    if strange:
        names = ", ".join(strange[:5]) + (f" and {len(strange) - 5:,} more" if len(strange) > 5 else "")
        classes = ", ".join(info.class_names[:5]) + (" …" if len(info.class_names) > 5 else "")
        reason += f" The labels are {names}; the model's classes are {classes}."
    elif not any(labels):
        reason = f"None of the {len(labels):,} pictures has a label, so nobody can say where the model is wrong."
    st.info(f"{plain(reason)} {LABELS}", icon=":material/info:")


def tell_whole(evaluation: Evaluation) -> str:
    """Say how right the model is, fit for Markdown."""
    first, outcomes = evaluation.figures[0], evaluation.outcomes
    whole = first.value or 0.0
    ends = plain(tell_ends(first.low or 0.0, first.high or 0.0, first.unit))
    if outcomes.is_number:
        return f"The model is off by {plain(tell_value(whole, first.unit))} on average ({ends})"
    what = "in all findings of" if outcomes.by_finding else "in"
    if outcomes.finding is not None:
        what = f"about {plain(evaluation.info.class_names[outcomes.finding])} in"
    return f"The model is right {what} {plain(tell_share(whole))} of {first.count:,} pictures ({ends})"


def tell_worst(evaluation: Evaluation) -> str:
    """Say where it fails most, fit for Markdown."""
    slices = evaluation.slices
    if not len(slices):
        return "All that is known of the pictures is the same for all, so they cannot be compared with each other."
    if not len(slices.failing):
        return f"It is nowhere worse by more than chance: {slices.tested:,} slices were compared with the rest."
    worst = slices.table.iloc[0]
    unit = evaluation.figures[0].unit
    share = "off by " if evaluation.outcomes.is_number else ""
    ends = plain(tell_ends(worst["low"], worst["high"], unit))
    more = len(slices.failing) - 1
    others = f" So it does in {more:,} more slice{'s' * (more > 1)}." if more else ""
    return (
        f"It fails most where **{plain(worst['slice'])}**: **{share}{plain(tell_value(worst['value'], unit))} of "
        f"{worst['count']:,}** ({ends}), elsewhere {plain(tell_value(worst['rest'], unit))}.{others}"
    )


def tell_left(evaluation: Evaluation) -> str:
    """Say which pictures are left out, and why, fit for Markdown."""
    outcomes = evaluation.outcomes
    unknown = int((~outcomes.known).sum())
    said = (
        f"{unknown:,} of {len(outcomes):,} pictures are left out: no label says what is true of them" if unknown else ""
    )
    if evaluation.unreadable:
        said += (
            f"{', or' if said else 'Left out are pictures that'} could not be read, such as: {evaluation.unreadable[0]}"
        )
    return plain(said.rstrip(".")) + "." * bool(said)


def draw_filtered(evaluation: Evaluation) -> None:
    """Say that the filter leaves pictures out, with a way to take all in."""
    shown, count = len(evaluation.rows), len(evaluation.workspace.pictures)
    if shown < count:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f":material/filter_alt: {plain(evaluation.base.sentence(shown, count))}.", width="content")
            st.button("Show all", key="fail_all", type="tertiary", icon=":material/close:", on_click=show_all)


def show_all() -> None:
    """Let the filter let everything through, in a callback."""
    st.session_state["filter"] = Filter()


def draw_figures(figures: Sequence[Figure]) -> None:
    """Draw figures with intervals and counts, in words where there is none."""
    parts = "".join(_draw_figure(figure) for figure in figures)
    st.html(f'{STYLE}<dl class="lightbox-figures">{parts}</dl>')


def _draw_figure(figure: Figure) -> str:
    if figure.value is None or figure.low is None or figure.high is None:
        rows = [f"No figure: {figure.note}"]
        value = "–"
    else:
        value = tell_value(figure.value, figure.unit) if figure.unit != "" else f"{figure.value:.2f}"
        bare = figure.unit == "%"
        ends = f"{tell_precise(figure.low, bare)} to {tell_precise(figure.high, bare)}"
        rows = [f"{ends} (95 %)", f"{figure.count:,} pictures" + (f", {figure.note}" if figure.note else "")]
        if figure.title in ("AUROC", "Average precision"):
            value = f"{figure.value:.3f}"
            rows[0] = f"{figure.low:.3f} to {figure.high:.3f} (95 %)"
    said = "".join(f"<dd>{escape(row)}</dd>" for row in rows)
    return f'<div><dt>{escape(figure.title)}</dt><dd class="value">{escape(value)}</dd>{said}</div>'


def tell_precise(value: float, share: bool) -> str:
    """Write the end of an interval."""
    return f"{100 * value:.1f} %" if share else f"{value:.3g}"
