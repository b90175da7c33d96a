"""Asking a model about all pictures at once: beside the page, with progress, a stop, and first a question for many."""

from __future__ import annotations

from typing import Any

import streamlit as st

from components.belongings import use
from components.following import begin_anew, finished, follow, forget, stop_ticking, wait
from components.session import Workspace
from components.telling_errors import tell_error
from explainers.asking import identify
from explainers.cache import Job
from explainers.cases.predictions import CHUNK, PredictAll, Predictions, ask_about, find_predictions
from explainers.errors import CancelledError, LightboxError
from explainers.index.subjects import ManyInputs

#: Of more pictures it is asked first.
LIMIT = 2000

#: How often the progress is drawn anew, in seconds.
TICK = 1.0


def ask_all(workspace: Workspace) -> Predictions | None:
    """Give what the model says of all pictures; None while that is computed, asked for, or was stopped."""
    about = subject_of(workspace)
    if (known := find_predictions(about)) is not None:
        return known
    st.markdown("# Where does it fail?")
    if len(about.samples) > LIMIT and not _is_wanted(about):
        _offer(about)
        return None
    (job,) = follow("predictions", [(PredictAll(), about)])
    if not wait([job]):
        st.fragment(_draw_progress, run_every=TICK)(job, len(about.samples))
        return None
    return _end(job, about)


def subject_of(workspace: Workspace) -> ManyInputs:
    """What is asked about: made once for the same pictures and model."""
    made: tuple[Any, Any, ManyInputs] | None = st.session_state.get("all_inputs")
    if made is None or made[0] is not workspace.dataset or made[1] is not workspace.model:
        made = workspace.dataset, workspace.model, ask_about(workspace.model, workspace.pictures)
        st.session_state["all_inputs"] = made
    return made[2]


def _is_wanted(about: ManyInputs) -> bool:
    return identify(PredictAll(), about) in st.session_state.get("wanted_predictions", ())


def _want(about: ManyInputs) -> None:
    st.session_state.setdefault("wanted_predictions", set()).add(identify(PredictAll(), about))


def _offer(about: ManyInputs) -> None:
    """Say how long it will take, by the first pictures, and offer it."""
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
            key="ask_all", on_click=_want, args=(about,),
        )  # fmt: skip


def _draw_progress(job: Job[Predictions], count: int) -> None:
    """Show how far it is; the page begins anew at the end."""
    use()
    if job.done:
        begin_anew()
        stop_ticking()
    steps = job.steps
    left = "" if steps.seconds_left is None else f" · {say_seconds(steps.seconds_left)} left"
    bar, stop = st.columns([6, 1], vertical_alignment="bottom")
    bar.progress(job.progress, f"Asking the model about all pictures: {steps.done:,} of {count:,}{left}")
    stop.button("Stop", icon=":material/stop:", key="stop_predictions", on_click=job.cancel)


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


def say_seconds(seconds: float) -> str:
    """Say a time as a person would."""
    if seconds < 50:
        return f"about {max(5, 5 * round(seconds / 5))} s"
    minutes = max(1, round(seconds / 60))
    return f"about {minutes} minute{'s' * (minutes > 1)}"
