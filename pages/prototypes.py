"""Is it ordinary? One decision beside all others of its class."""

import streamlit as st

from components.chosen_case import choose_case
from components.following import settle
from components.headline import draw_headline
from components.plain_text import plain
from components.prototypes import family as families
from components.prototypes.views import ALL_CASES, choose_view, draw_case, views_of_case
from components.telling_errors import telling_errors

if st.query_params.get("view") in ALL_CASES:  # what links from before there was a page for all cases say
    st.switch_page("pages/strategies.py", query_params=st.query_params.to_dict())
settle(fragment=False)
with telling_errors():
    chosen = choose_case()
    scene, count = families.choose_scene(chosen)
    draw_headline(
        chosen.info, chosen.prediction, scene.target, chosen.picture, "Here it is compared with other cases of **{}**."
    )
    if chosen.versus:
        st.caption("Cases of one class are compared here, so *Rather than* changes nothing.")
    name = plain(scene.name)
    st.page_link("pages/strategies.py", label=f"All cases of {name}: How does it decide?", icon=":material/hub:")
    likely = families.likely_decisions(chosen)
    if asked := draw_case(choose_view(views_of_case(chosen.info)), scene, chosen.workspace, likely, count):
        verdict, beside = asked
        chosen.alone.prefetch(verdict, place=beside.beside)
