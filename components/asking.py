"""Asking a model about all pictures at once: offered, beside the page, with progress and a stop."""

from __future__ import annotations

from typing import Any

import streamlit as st

from components.belongings import use
from components.cases import ask_about_all, current_predictions
from components.following import begin_anew, follow, forget, stop_ticking, wait
from components.plain_text import plain
from components.references.index import say_seconds
from components.session import Workspace
from components.telling_errors import tell_error
from explainers.cache import Job
from explainers.cases.predictions import PredictAll
from explainers.errors import CancelledError, LightboxError

#: How often the progress is drawn anew, in seconds.
TICK = 1.0


def offer_asking(workspace: Workspace, key: str) -> None:
    """Offer to ask the model about all pictures, if it was not asked yet; else say which could not be read."""
    predictions = current_predictions(workspace)
    if predictions is None:
        st.button(
            f"Ask the model about all {len(workspace.pictures):,} pictures", key=key, icon=":material/play_arrow:",
            type="primary", on_click=_ask, args=(workspace,), disabled="asking" in st.session_state,
        )  # fmt: skip
    elif predictions.unreadable:
        st.caption(f"{len(predictions.unreadable):,} could not be read. {plain(predictions.unreadable[0])}")


def _ask(workspace: Workspace) -> None:
    st.session_state["asking"] = ask_about_all(workspace).key


def draw_asking(workspace: Workspace) -> None:
    """Show how far the model is with all pictures, and what came of it."""
    state, asked = st.session_state, ask_about_all(workspace)
    if state.get("asking") != asked.key:
        state.pop("asking", None)
        return
    job = follow("all pictures", [(PredictAll(), asked.about)], urgency=1)[0]
    if not wait([job]):
        with st.empty().container():  # the bar goes at once
            st.fragment(draw_progress, run_every=TICK)(job, len(workspace.pictures))
        return
    del state["asking"]
    forget(job)
    try:
        job.result()
    except CancelledError:
        st.toast("Stopped. What the model said so far is kept: it goes on from there.")
    except LightboxError as error:
        tell_error(error)
    else:
        st.rerun()


def draw_progress(job: Job[Any], count: int) -> None:
    """Show how far a job about many pictures is, in a part that ticks; the page begins anew when it is done."""
    use()
    if job.done:
        begin_anew()
        stop_ticking()  # under a dialog, which begins the page anew when it closes
    steps = job.steps
    left = "" if steps.seconds_left is None else f" · {say_seconds(steps.seconds_left)} left"
    bar, stop = st.columns([6, 1], vertical_alignment="bottom")
    bar.progress(job.progress, f"Asking the model about all pictures: {steps.done:,} of {count:,}{left}")
    stop.button("Stop", icon=":material/stop:", key="stop_predictions", on_click=job.cancel)
