"""What goes wrong on a page, as a sentence in its place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from explainers.errors import LightboxError


@contextmanager
def telling_errors() -> Iterator[None]:
    """End what is drawn at an error of Lightbox, and say that in a sentence."""
    try:
        yield
    except LightboxError as error:
        st.error(str(error), icon=":material/error:")
