"""The pages in their groups: a bar that holds them all, and a row of those of the group at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st
from streamlit.navigation.page import StreamlitPage

#: The groups with their pages: the name of the file, the question that the page answers, and an icon.
GROUPS: Mapping[str, Sequence[tuple[str, str, str]]] = {
    "One case": (
        ("attribution", "Where did it look?", "visibility"),
        ("concepts", "What did it use?", "interests"),
        ("prototypes", "Is it ordinary?", "balance"),
    ),
    "All cases": (
        ("failures", "Where does it fail?", "rule"),
        ("strategies", "How does it decide?", "hub"),
    ),
    "The model": (("model", "Model", "account_tree"),),
    "Activity": (("activity", "What has been computed", "speed"),),
}

#: What the session calls the place at the end of the row of pages.
BESIDE = "beside"

STYLE = """<style>
.st-key-group {flex-wrap: nowrap; overflow-x: auto; border-bottom: 1px solid #8884; padding: 4px 0;}
.st-key-group a {white-space: nowrap;}
</style>"""


def choose_page() -> StreamlitPage:
    """Draw the bar; returns the page that was chosen."""
    return st.navigation({name: [_make_page(*one) for one in pages] for name, pages in GROUPS.items()}, position="top")


def _make_page(file: str, title: str, icon: str) -> StreamlitPage:
    first = next(iter(GROUPS.values()))[0][0]
    return st.Page(f"pages/{file}.py", title=title, icon=f":material/{icon}:", default=file == first)


def draw_beside(title: str) -> None:
    """Draw the row of the pages of a page's group, if it has several; what a page puts at its end goes to BESIDE."""
    pages = next((pages for pages in GROUPS.values() if title in {one[1] for one in pages}), ())
    if len(pages) > 1:
        st.html(STYLE)
        with st.container(horizontal=True, vertical_alignment="center", key="group", gap="small"):
            for file, title, icon in pages:
                st.page_link(f"pages/{file}.py", label=title, icon=f":material/{icon}:", width="content")
            st.session_state[BESIDE] = st.container(horizontal=True, horizontal_alignment="right", gap="small")
