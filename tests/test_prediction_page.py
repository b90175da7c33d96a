"""A page that cannot go on without an answer waits with a way to stop, and to start again."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest

TIMEOUT = 60


def page() -> None:
    """What the model says, or why not; the first time somebody stops it."""
    import threading
    from dataclasses import dataclass

    import streamlit as st

    from components.following import PATIENCE, answer
    from components.telling_errors import telling_errors
    from explainers.errors import ComputationError
    from explainers.jobs import Progress
    from explainers.questions import Question
    from explainers.results import Result
    from explainers.subjects import Network
    from sample_models import load

    @dataclass(frozen=True)
    class Said(Result):
        """What was said."""

        words: str

    @dataclass(frozen=True)
    class Say(Question[Network, Said]):
        """Is stopped, fails, and answers in the end."""

        name = "say"
        title = "Saying"
        summary = "Says something."
        citation = "none"
        subject = Network
        durable = False

        def answer(self, about: Network, progress: Progress) -> Said:
            threading.Event().wait(2 * PATIENCE)
            runs = st_runs.pop(0)
            if runs == "stop":
                progress.cancel()
                progress.check()
            if runs == "fail":
                raise ComputationError("It failed.")
            return Said("the end")

    st_runs = st.session_state["runs"]
    with telling_errors():
        st.write(answer("test", Say(), Network(load("digits")), "Asking").words)


def test_a_stopped_prediction_ends_the_page_and_can_be_started_again():
    app = AppTest.from_function(page, default_timeout=TIMEOUT)
    app.session_state["runs"] = ["stop", "fail", "answer"]
    app.run()
    assert [one.value for one in app.info] == ["Stopped before the end."]
    app.button[0].click().run()
    assert [one.value for one in app.error] == ["It failed\\."]
    app.run()
    assert [one.value for one in app.markdown] == ["the end"]
    assert not app.button
