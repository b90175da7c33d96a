"""Asking a model about all pictures at once: beside the page, with progress, a stop, and first a question for many."""

from __future__ import annotations

import streamlit as st

from components.asking import TICK, draw_progress
from components.cases import Asked, ask_about_all, current_predictions
from components.following import finished, follow, forget, wait
from components.references.index import say_seconds
from components.session import Workspace
from components.telling_errors import tell_error
from explainers.cache import Job
from explainers.cases.predictions import CHUNK, PredictAll, Predictions
from explainers.errors import CancelledError, LightboxError
from explainers.index.subjects import ManyInputs

#: Of more pictures it is asked first.
LIMIT = 2000


def ask_all(workspace: Workspace) -> Predictions | None:
    """Give what the model says of all pictures; None while that is computed, asked for, or was stopped."""
    if (known := current_predictions(workspace)) is not None:
        return known
    title = st.empty()
    title.markdown("# Where does it fail?")
    asked = ask_about_all(workspace)
    if len(asked.about.samples) > LIMIT and asked.key not in st.session_state.get("wanted_predictions", ()):
        _offer(asked)
        return None
    (job,) = follow("predictions", [(PredictAll(), asked.about)])
    if not wait([job]):
        st.fragment(draw_progress, run_every=TICK)(job, len(asked.about.samples))
        return None
    if (found := _end(job, asked.about)) is not None:
        title.empty()  # the answer is the title
    return found


def _want(key: str) -> None:
    st.session_state.setdefault("wanted_predictions", set()).add(key)


def _offer(asked: Asked) -> None:
    """Say how long it will take, by the first pictures, and offer it."""
    about = asked.about
    first = ManyInputs(about.model, about.samples[:CHUNK])
    (job,) = follow("predictions", [(PredictAll(), first)])
    if not finished([job], f"Timing the model on the first {CHUNK} pictures"):
        return
    rest = len(about.samples) - CHUNK
    seconds = float(job.result().provenance["seconds"]) / CHUNK * rest
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.markdown(
            f"**The model was asked about {CHUNK} of {len(about.samples):,} pictures.** To say where it fails it looks "
            "at each once; then all that comes at a click.",
            width=520,
        )
        st.button(
            f"Ask about the other {rest:,} ({say_seconds(seconds)})", type="primary", icon=":material/play_arrow:",
            key="ask_all", on_click=_want, args=(asked.key,),
        )  # fmt: skip


def _end(job: Job[Predictions], about: ManyInputs) -> Predictions | None:
    """Give the predictions, or say why there are none, with a way to go on."""
    try:
        return job.result()
    except CancelledError:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.markdown(
                f"**Stopped** at {job.steps.done:,} of {len(about.samples):,} pictures. What was done is kept.",
                width="content",
            )
            st.button("Go on", type="primary", icon=":material/play_arrow:", key="go_on", on_click=forget, args=(job,))
    except LightboxError as error:
        tell_error(error)
    return None
