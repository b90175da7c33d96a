"""What the server keeps on disk: why that cannot be done where it cannot, and its indexes with a way to remove one."""

from __future__ import annotations

import time

import streamlit as st

from components.plain_text import plain
from components.telling_errors import tell_error
from explainers.disk import tell_troubles
from explainers.errors import SelectionError
from explainers.index.room import Stored, list_indexes, remove_index, say_size
from explainers.settings import settings


def draw_troubles() -> None:
    """Say what cannot be kept on disk at this time, and what to do about it."""
    for sentence in tell_troubles():
        st.warning(plain(sentence), icon=":material/hard_drive:")


def draw_indexes() -> None:
    """List the indexes of the server with their sizes, each with a way to remove it."""
    indexes = list_indexes()
    if not indexes:
        return
    st.markdown("## Indexes on this server")
    taken = sum(one.bytes for one in indexes)
    st.caption(
        f"They take {say_size(taken)} on disk, of at most {say_size(settings().index_disk)}. When they take all of it, "
        "no index grows until one is removed. Those of uploads are not among them: they go with their session."
    )
    for one in indexes:
        with st.container(horizontal=True, vertical_alignment="center"):
            layers = f"{len(one.layers)} layer{'s' * (len(one.layers) != 1)}"
            begun = time.strftime("%Y-%m-%d", time.gmtime(one.begun)) if one.begun else "begun at an unknown time"
            name = plain(one.model) if one.model else "Its manifest cannot be read"
            st.markdown(f"**{name}** · {layers} · {say_size(one.bytes)} · {begun}", width=520)
            with st.popover("Remove", icon=":material/delete:"):
                st.markdown("Everybody on this server needs it for concepts and verdicts until it is built again.")
                st.button("Remove this index", key=f"remove-{one.folder.name}", on_click=_remove, args=(one,))


def _remove(one: Stored) -> None:
    try:
        remove_index(one.folder)
    except SelectionError as error:
        tell_error(error)
