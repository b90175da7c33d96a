"""How does it decide? All cases of a class: the strategies they are decided by, a map, and what to look at first."""

import streamlit as st

from components.chosen_case import choose_case
from components.following import settle
from components.plain_text import plain
from components.prototypes import family as families
from components.prototypes.views import ALL_CASES, choose_view, draw_cases
from components.telling_errors import telling_errors

ABOUT = (
    "All cases of a class at once, by the concepts that the model uses in them. The class is that of the picture "
    "chosen above, or the one chosen under *Explain*."
)

settle(fragment=False)
with telling_errors():
    chosen = choose_case()
    scene, count = families.choose_scene(chosen)
    st.markdown(f"# How the model decides for {plain(scene.name)}")
    st.caption(ABOUT)
    likely = families.likely_decisions(chosen)
    draw_cases(choose_view(ALL_CASES), scene, chosen.workspace, likely, count)
