"""Where, and for whom, does it fail? All pictures by what the model says of them and what is true."""

import streamlit as st

from components.failures.answer import draw_answer, draw_figures
from components.failures.asking import ask_all
from components.failures.evaluation import evaluate
from components.failures.findings import choose_finding
from components.failures.matrix import draw_matrix
from components.failures.slice_view import draw_crossing, draw_slices
from components.failures.surety import draw_calibration, draw_errors
from components.failures.taking import draw_export
from components.headline import draw_empty
from components.session import current_workspace
from components.telling_errors import telling_errors

with telling_errors():
    workspace = current_workspace()
    if not workspace.pictures:
        draw_empty()
        st.stop()
    if ask_all(workspace) is None:
        st.stop()
    evaluation = choose_finding(evaluate(workspace))
    if draw_answer(evaluation):
        draw_figures(evaluation.figures)
        left, right = st.columns([3, 2], gap="large")
        with left:
            st.markdown("## For whom does it fail?")
            draw_slices(evaluation)
        with right:
            if not evaluation.outcomes.is_number and not evaluation.outcomes.by_finding:
                st.markdown("## What does it take for what?")
                draw_matrix(evaluation)
        st.markdown("## Its surest mistakes")
        draw_errors(evaluation)
        left, right = st.columns([3, 2], gap="large")
        with left:
            st.markdown("## Two things crossed")
            draw_crossing(evaluation)
        with right:
            if not evaluation.outcomes.is_number:
                st.markdown("## Is it as right as it is sure?")
                draw_calibration(evaluation)
    draw_export(evaluation)
