"""The computations that one browser session looks at: begun when they come into view, stopped when they leave it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from explainers import compute
from explainers.cache import Job
from explainers.images import Picture
from explainers.results import Attribution, Target

Followed = dict[tuple[Any, ...], Job[Attribution]]


def follow(
    model: Any, picture: Picture, target: Target, chosen: Mapping[str, Mapping[str, Any]]
) -> dict[str, Job[Attribution]]:
    """Ask for the attribution by each chosen method, once while it stays in view; a stopped one stays stopped.

    Raises SelectionError if a method cannot explain the model.
    """
    before: Followed = st.session_state.get("followed", {})
    followed: Followed = {}
    for name, parameters in chosen.items():
        key = (model.info.digest, picture.digest, target, name, *parameters.items())
        followed[key] = before.get(key) or compute.submit_attribution(model, picture, name, target, parameters)
    for key, job in before.items():
        if key not in followed:
            job.cancel()
    st.session_state["followed"] = followed
    return dict(zip(chosen, followed.values(), strict=True))


def forget(job: Job[Attribution]) -> None:
    """Let a job be asked for again."""
    followed: Followed = st.session_state["followed"]
    st.session_state["followed"] = {key: other for key, other in followed.items() if other is not job}
