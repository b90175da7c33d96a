"""What has been computed, and what the cache saved."""

import streamlit as st

from components.counters import draw_counters
from components.kept import draw_indexes, draw_troubles
from components.session import current_workspace
from explainers.cache import shared_cache

current_workspace()
st.title("What has been computed")
st.markdown(
    "Every result is computed once and then kept, for everybody who uses this server. "
    "A view that somebody has seen before costs no pass through the network."
)


@st.fragment(run_every=2)
def show() -> None:
    """Draw the counters, and what is wrong with the disk, anew every two seconds."""
    draw_troubles()
    draw_counters(shared_cache().counters, shared_cache().memory_limit)


show()
draw_indexes()
