"""Lightbox: put a model on the light and see where it looks."""

import streamlit as st

from components.session import Workspace, choose_model, choose_pictures
from components.theme import apply_theme, draw_icon
from explainers.errors import LightboxError

st.set_page_config(page_title="Lightbox", page_icon=draw_icon(), layout="wide")
apply_theme()
page = st.navigation(
    [
        st.Page("pages/attribution.py", title="Where did it look?", icon=":material/visibility:", default=True),
        st.Page("pages/model.py", title="Model", icon=":material/account_tree:"),
        st.Page("pages/activity.py", title="Activity", icon=":material/speed:"),
    ],
    position="top",
)
with st.sidebar:
    try:
        model = choose_model()
        pictures = choose_pictures(model.info.name)
    except LightboxError as error:
        st.error(str(error), icon=":material/error:")
        st.stop()
st.session_state["workspace"] = Workspace(model, pictures)
page.run()
