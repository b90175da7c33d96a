"""What goes wrong on a page, as a sentence in its place."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from components.plain_text import plain
from explainers.errors import LightboxError, LimitError, SettingError
from explainers.events import tell
from explainers.settings import settings


def tell_error(error: LightboxError | str, icon: str = "error") -> None:
    """Say in a sentence what went wrong, which may quote names and is no Markdown."""
    if isinstance(error, LimitError):
        tell("limit hit")
    elif isinstance(error, LightboxError):
        tell("error told", type(error).__name__, logging.DEBUG)
    st.error(plain(str(error)), icon=f":material/{icon}:")


@contextmanager
def telling_errors() -> Iterator[None]:
    """End what is drawn at an error of Lightbox, and say that in a sentence."""
    try:
        yield
    except LightboxError as error:
        tell_error(error)


def require_settings() -> None:
    """End the server, or a page without ours, at a setting that cannot be used, and say that in a sentence."""
    try:
        settings()
    except SettingError as error:
        if get_script_run_ctx(suppress_warning=True) is None:
            sys.exit(f"error: {error}")
        tell_error(error)
        st.stop()
