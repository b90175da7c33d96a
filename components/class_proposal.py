"""Labels that are no class of the model: said, and where they may be its classes, the orders to choose from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from components.following import begin_anew, follow, stop_ticking, wait
from components.plain_text import plain
from components.session import keep_model, uploaded_models
from explainers.cache import Job
from explainers.cases.dataset import Dataset
from explainers.cases.orders import Order, ask_in_parts, choose_asked, compare, find_orders, rename
from explainers.cases.predictions import PredictAll, Predictions
from explainers.errors import LightboxError
from explainers.labels import tell_strange


def tell_labels(model: Any, dataset: Dataset) -> None:
    """Say which labels are no class of the model; for one's own model, offer to call its classes as the labels are."""
    sentence, orders = _compare_names(model, dataset)
    if not sentence:
        return
    st.info(plain(sentence), icon=":material/label_off:")
    if orders and any(model is own for own in uploaded_models().values()):
        rows = choose_asked(dataset)
        jobs = follow("orders", [(PredictAll(), part) for part in ask_in_parts(model, dataset, rows)], urgency=1)
        if not wait(jobs, 0):
            st.fragment(_draw_waiting, run_every=1.0)(jobs)
            return
        _offer(model, dataset, orders, rows, jobs)


def _compare_names(model: Any, dataset: Dataset) -> tuple[str, Sequence[Order]]:
    """Compare labels with classes once."""
    known = st.session_state.get("labels_told")
    if known is None or known[0] is not dataset.entries or known[1] != model.info:
        labels = [entry.label for entry in dataset.entries]
        found = tell_strange(labels, model.info), find_orders(model.info, dataset)
        known = st.session_state["labels_told"] = (dataset.entries, model.info, found)
    told: tuple[str, Sequence[Order]] = known[2]
    return told


def _draw_waiting(jobs: Sequence[Job[Predictions]]) -> None:
    """Say that the model is asked; the page begins anew when it has answered."""
    if all(job.done for job in jobs):
        begin_anew()
        stop_ticking()
    st.progress(sum(job.done for job in jobs) / len(jobs), "Comparing the labels with what the model says …")


def _offer(
    model: Any, dataset: Dataset, orders: Sequence[Order], rows: Sequence[int], jobs: Sequence[Job[Predictions]]
) -> None:
    """Draw the orders, the one that agrees best first, each with a button that takes it."""
    try:
        parts = [job.result() for job in jobs]
    except LightboxError:  # told where the picture at hand is drawn
        return
    labels = [dataset.entries[row].label for row in rows]
    st.caption("If the classes are the labels in this order, so many of the model's answers are right:")
    for number, order in enumerate(compare(model.info, orders, labels, parts)):
        st.caption(plain(order.sentence))
        if st.button("Call the classes so", key=f"order-{number}", icon=":material/check:"):
            keep_model(rename(model, order.names))
            st.rerun()
