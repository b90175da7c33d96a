"""Of a model of several findings: all of them at once in a table, and the choice of one to look into."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from components.failures.evaluation import Evaluation
from explainers.cases.figures import Figure


def choose_finding(evaluation: Evaluation) -> Evaluation:
    """Draw the choice of a finding, if there are several, and the figures of each; returns what is about the chosen."""
    if not evaluation.findings:
        return evaluation
    names = evaluation.info.class_names
    place = st.selectbox(
        "Finding", [None, *evaluation.findings], key="finding",
        format_func=lambda place: "All findings" if place is None else names[place],
    )  # fmt: skip
    if place is None:
        with st.expander("The figures of each finding"):
            st.dataframe(tabulate_findings(evaluation), hide_index=True)
        return evaluation
    return evaluation.findings[place]


def tabulate_findings(evaluation: Evaluation) -> pd.DataFrame:
    """Make a table of the figures of each finding, with intervals; in words where there is none."""
    names = evaluation.info.class_names
    rows = [
        {"Finding": names[place], **{figure.title: tell_figure(figure) for figure in one.figures}}
        for place, one in evaluation.findings.items()
    ]
    return pd.DataFrame(rows).fillna("too few pictures")


def tell_figure(figure: Figure) -> str:
    """Write a figure with its interval and count."""
    if figure.value is None:
        return figure.note
    return f"{figure.value:.1%} ({figure.low:.1%} to {figure.high:.1%}, {figure.count:,})"
