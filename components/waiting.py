"""What is drawn while a file is read that takes long: how far that is, and a button to stop it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from components.plain_text import plain
from explainers.images import following

#: After how many seconds it is said what is read.
PATIENCE = 1.0


@contextmanager
def reading(what: str, key: str, stop: Callable[[], None]) -> Iterator[None]:
    """Say what is read, and how far, once that takes a while.

    Closing the page and whatever a person does meanwhile end the reading; ``stop`` is called where that was *Stop*, to
    note that it is not to begin anew.
    """
    place, begun = st.empty(), time.monotonic()
    bars: list[DeltaGenerator] = []

    def look(done: int, total: int) -> None:
        if time.monotonic() - begun < PATIENCE:
            place.empty()  # a call of Streamlit hears that the page is closed or begins anew
            return
        if not bars:
            with place.container():
                bars.append(st.empty())
                st.button("Stop", icon=":material/stop:", key=f"stop-{key}", on_click=stop)
        count = f": {done:,} of {total:,}" if total > 1 else ""
        bars[0].progress(done / max(total, 1), plain(f"Reading {what}{count} …"))

    try:
        with following(look):
            yield
    finally:
        place.empty()
