"""The verdict on one decision in plain words, beside all decisions of its class."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from components.figures import BARE, CLEAR
from components.prototypes.family import Family
from components.theme import ACCENT
from explainers.prototypes.decisions import Decision, Thresholds
from explainers.prototypes.strategies import Strategies

#: What each verdict looks like, legible on light and on dark; the words say it as well.
LOOKS = {"ordinary": (ACCENT, "✓"), "unusual": ("#bd7a00", "!"), "unlike": ("#d6604d", "✕")}

#: The grey of the class, how many bars its histogram has, and above which share of the cases it is drawn in full.
GREY, BARS, SHOWN = "#888888", 40, 0.02

#: The verdict on the last case must not be taken for that on this one: it hides while the page works on it. It comes
#: with the buttons at the latest, which load at a first visit, for who reads it may press their keys at once.
STYLE = """<style>
.lightbox-verdict {display: flex; gap: 14px; align-items: center;}
.lightbox-verdict .sign {flex: none; width: 44px; height: 44px; border-radius: 50%; color: #fff; font-size: 1.5rem;
  font-weight: 700; display: grid; place-items: center;}
.lightbox-verdict .word {font-size: 1.65rem; font-weight: 650; line-height: 1.2;}
.lightbox-verdict .says {font-size: 1.02rem; margin-top: 3px;}
[data-stale="true"] .lightbox-verdict {visibility: hidden; transition: visibility 0s 0.2s;}
.stApp:not(:has(.st-key-next button):has(.stDownloadButton button)) .lightbox-verdict {visibility: hidden;}
</style>"""


def choose_thresholds() -> Thresholds:
    """Draw where a verdict changes; raises SelectionError for thresholds in the wrong order."""
    with st.popover("Thresholds", icon=":material/tune:"):
        st.caption("How many of 100 cases of the class may be less typical than this one before it is called so.")
        default = Thresholds()
        unusual = st.number_input(
            "Unusual below", 0.0, 100.0, default.unusual, 1.0, format="%g", key="unusual", bind="query-params"
        )
        unlike = st.number_input(
            "Unlike anything seen below", 0.0, 100.0, default.unlike, 0.5, format="%g", key="unlike",
            bind="query-params",
        )  # fmt: skip
    return Thresholds(float(unusual), float(unlike))


def draw_verdict(family: Family, decision: Decision) -> None:
    """Draw a verdict as a sign, a word and a sentence."""
    colour, sign = LOOKS[decision.verdict.split()[0]]
    word = escape(decision.verdict[0].upper() + decision.verdict[1:])
    st.html(
        f'{STYLE}<div class="lightbox-verdict"><div class="sign" style="background:{colour}">{sign}</div><div>'
        f'<div class="word">{word}</div><div class="says">{escape(tell_percentile(family, decision))}</div></div></div>'
    )


def tell_percentile(family: Family, decision: Decision) -> str:
    """Say how many cases of the class are less typical."""
    name, cases = family.name(decision.klass), int(family.strategies[decision.klass].learnt.sum())
    if decision.percentile < 50 / cases:
        return f"None of the {cases:,} {name} cases is less typical than this one."
    if decision.percentile < 1:
        return f"Fewer than 1 of 100 {name} cases are less typical than this one."
    return f"{decision.percentile:.0f} of 100 {name} cases are less typical than this one."


def draw_histogram(family: Family, decision: Decision, thresholds: Thresholds) -> None:
    """Draw how typical the cases of the class are, with this one among them."""
    known = family.strategies[decision.klass]
    st.plotly_chart(
        plot_histogram(known, decision, thresholds),
        key=f"histogram-{decision.klass}",
        config=BARE,
        alt=f"How typical the {family.name(decision.klass)} cases are. {tell_percentile(family, decision)}",
    )
    st.caption(
        f"The {int(known.learnt.sum()):,} {family.call(decision.klass)} cases that the model decides rightly, the "
        "least typical at the left. Left of the dashed lines a case is *unusual*, or *unlike anything seen*."
    )


def plot_histogram(known: Strategies, decision: Decision, thresholds: Thresholds) -> go.Figure:
    """Plot the held-out log-likelihoods of a class as bars, from less typical to more typical."""
    values = known.held_out[known.learnt]
    here = place(known, decision)
    usual, high = float(np.quantile(values, SHOWN)), float(values.max())
    low = usual - 0.25 * (high - usual)  # what is less typical is counted in the first bar
    counts, edges = np.histogram(np.clip(values, low, None), BARS, (low, high))
    middles = (edges[:-1] + edges[1:]) / 2
    marked = min(max(here, low), high)
    colour, _ = LOOKS[decision.verdict.split()[0]]
    bars = go.Bar(
        x=middles, y=counts, marker={"color": GREY}, hovertemplate="%{y} cases<extra></extra>", showlegend=False
    )
    figure = go.Figure(bars, _layout(low, high))
    for percent in (thresholds.unusual, thresholds.unlike):
        figure.add_vline(
            max(low, float(np.quantile(values, percent / 100))), line={"color": "#888888", "width": 1, "dash": "4px"}
        )
    figure.add_vline(marked, line={"color": colour, "width": 3})
    figure.add_annotation(
        x=marked, y=1, yref="paper", yanchor="bottom", text="<b>this case</b>", font={"size": 13},
        showarrow=False, xanchor="left" if marked < (low + high) / 2 else "right",
    )  # fmt: skip
    return figure


def place(known: Strategies, decision: Decision) -> float:
    """Where a decision lies among the held-out log-likelihoods of a class, by its percentile."""
    if not 0 < decision.percentile < 100:
        return decision.log_likelihood
    return float(np.quantile(known.held_out[known.learnt], decision.percentile / 100))


def _layout(low: float, high: float) -> dict[str, Any]:
    axis, margin = {"fixedrange": True, "visible": False}, 0.03 * (high - low)
    return {
        "height": 150,
        "margin": {"l": 0, "r": 0, "t": 22, "b": 2},
        "bargap": 0.08,
        "dragmode": False,
        **CLEAR,
        "xaxis": {**axis, "range": [low - margin, high + margin]},
        "yaxis": axis,
    }
