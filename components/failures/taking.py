"""Cases and slices as CSV files to take along."""

from __future__ import annotations

import streamlit as st

from components.failures.evaluation import Evaluation
from components.plain_text import file_name
from explainers.cases.slices import write_slices
from explainers.cases.table import write_cases


def draw_export(evaluation: Evaluation) -> None:
    """Offer all cases, and all slices, as CSV."""
    name = evaluation.info.name
    with st.container(horizontal=True, gap="small"):
        st.download_button(
            "Export cases", lambda: write_cases(evaluation.table), file_name(name, "-cases.csv"), "text/csv",
            icon=":material/download:", on_click="ignore", key="export_cases",
            help="A row for each picture: name, label, what the model says and how sure it is, tags, all metadata.",
        )  # fmt: skip
        st.download_button(
            "Export slices", lambda: _write_slices(evaluation), file_name(name, "-slices.csv"), "text/csv",
            icon=":material/download:", on_click="ignore", key="export_slices", disabled=not evaluation.figures,
            help="A row for each slice: count, accuracy with its interval, the rest's, p and q.",
        )  # fmt: skip


def _write_slices(evaluation: Evaluation) -> bytes:
    return write_slices(evaluation.slices, evaluation.outcomes, evaluation.table)
