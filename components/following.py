"""The computations that one browser session looks at: begun when they come into view, stopped when they leave it."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.scriptrunner_utils.script_run_context import ThreadState

from components.belongings import use
from components.telling_errors import tell_error
from explainers.asking import ask, identify
from explainers.cache import Job
from explainers.errors import CancelledError, LightboxError
from explainers.questions import A, Question, R

#: How long a page waits before it shows progress, and then from one look at it to the next, in seconds. A press that
#: comes meanwhile is heard at the next look.
PATIENCE, TICK = 0.4, 0.1


def follow(view: str, asked: Iterable[tuple[Question[A, R], A]], urgency: int = 0) -> list[Job[R]]:
    """Ask each question of a view, once while it stays in view; a stopped one stays stopped.

    Raises what asking raises.
    """
    views: dict[str, dict[str, Job[Any]]] = st.session_state.setdefault("followed", {})
    before, followed, jobs = views.get(view, {}), dict[str, Job[Any]](), list[Job[R]]()
    for question, about in asked:
        key = identify(question, about)
        if key not in followed:
            followed[key] = before.get(key) or ask(question, about, urgency=urgency)
        jobs.append(followed[key])
    for key, job in before.items():
        if key not in followed:
            job.cancel()
    views[view] = followed
    return jobs


def forget(job: Job[Any]) -> None:
    """Let a job be asked for again."""
    views: dict[str, dict[str, Job[Any]]] = st.session_state["followed"]
    st.session_state["followed"] = {
        view: {key: other for key, other in jobs.items() if other is not job} for view, jobs in views.items()
    }


def wait(jobs: Collection[Job[Any]], seconds: float = PATIENCE) -> bool:
    """Give jobs a moment to end; tells whether all did."""
    deadline = time.monotonic() + seconds
    return all(job.wait(max(0.0, deadline - time.monotonic())) for job in jobs)


def wait_and_listen(jobs: Collection[Job[Any]], seconds: float) -> bool:
    """Give jobs a moment to end, unless somebody presses anything; tells whether all did."""
    deadline = time.monotonic() + seconds
    while not wait(jobs, TICK) and time.monotonic() < deadline:
        listen()
    return wait(jobs, 0)


def listen() -> None:
    """End this run if somebody has pressed anything meanwhile; Streamlit looks whenever the state is read."""
    st.session_state.get("heard")


def finished(jobs: Collection[Job[Any]], words: str) -> bool:
    """Show how far jobs are until they end, then why one has no result; tells whether all have one.

    What a person does meanwhile begins the page anew all the same.
    """
    place = st.empty()
    if not wait(jobs):
        show_until_done(place, jobs, words)
    place.empty()
    for job in jobs:
        try:
            job.result()
        except LightboxError as error:
            with place:
                tell_error(error)
            return False
    return True


def show_until_done(place: DeltaGenerator, jobs: Collection[Job[Any]], words: str) -> None:
    """Show how far jobs are until they end, whenever that changes; a press meanwhile begins the page anew."""
    said = ""
    while not all(job.done for job in jobs):
        share = sum(1.0 if job.done else job.progress for job in jobs) / len(jobs)
        saying = f"{words} …" + (f" {share:.0%}" if share else "")
        if saying != said:
            place.progress(share, said := saying)
        listen()
        wait(jobs, TICK)


def answer(view: str, question: Question[A, R], about: A, words: str) -> R:
    """Give the answer that a page cannot go on without; shows that it waits, with a way to stop, if that takes long.

    Raises what answering raises. Where it was stopped the page ends, with a way to start again.
    """
    (job,) = follow(view, [(question, about)])
    place = st.empty()
    if not wait([job]):
        with place.container():
            bar = st.empty()
            st.button("Stop", icon=":material/stop:", key=f"stop-{view}", on_click=job.cancel)
        show_until_done(bar, [job], words)
        place.empty()
    try:
        return job.result()
    except CancelledError:
        with place.container():
            st.info("Stopped before the end.")
            st.button("Start again", icon=":material/refresh:", key=f"again-{view}", on_click=forget, args=(job,))
        st.stop()
    except LightboxError:
        forget(job)  # the next run tries again
        raise


def begin_anew() -> None:
    """Begin the page anew, unless that would close a dialog; closing it does so then."""
    if not st.session_state.get("dialog"):
        st.rerun()


def stop_ticking() -> None:
    """End the timer of the fragment under way, which would draw it anew for as long as the page stands.

    Beginning the page anew ends it, too, but cannot be done under a dialog. Streamlit has no call for this alone.
    """
    context, fragment = get_script_run_ctx(), ThreadState.get().fragment_id
    if context is not None and fragment is not None:
        message = ForwardMsg()
        message.stop_auto_rerun.fragment_ids.append(fragment)
        context.enqueue(message)


def move() -> None:
    """Mark in a callback that more than the fragment around the widget is to be drawn anew."""
    st.session_state["moved"] = True


def settle(fragment: bool = True) -> None:
    """Begin the page anew if a callback asked for that; called where a fragment begins, and where the page does."""
    use()
    if st.session_state.pop("moved", False) and fragment:
        st.rerun()


def call_dialog(dialog: str, *about: Any) -> None:
    """Ask in a callback for a dialog; opened by the page itself, for one of a fragment would close with its tick."""
    st.session_state["asked"] = (dialog, *about)
    move()


def called_dialog() -> tuple[Any, ...] | None:
    """The dialog to open now and what it is about, once."""
    found: tuple[Any, ...] | None = st.session_state.pop("asked", None)
    st.session_state["dialog"] = found is not None
    return found
