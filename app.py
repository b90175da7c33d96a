"""Lightbox: put a model on the light and see where it looks."""

import streamlit as st

from components.access import require_user
from components.belongings import remove_leftovers, use
from components.session import Workspace, choose_model, choose_pictures
from components.theme import apply_theme, draw_icon
from explainers.errors import LightboxError

st.set_page_config(page_title="Lightbox", page_icon=draw_icon(), layout="wide")
apply_theme()
remove_leftovers()
page = st.navigation(
    [
        st.Page("pages/attribution.py", title="Where did it look?", icon=":material/visibility:", default=True),
        st.Page("pages/concepts.py", title="What did it use?", icon=":material/interests:"),
        st.Page("pages/prototypes.py", title="Is it ordinary?", icon=":material/balance:"),
        st.Page("pages/model.py", title="Model", icon=":material/account_tree:"),
        st.Page("pages/activity.py", title="Activity", icon=":material/speed:"),
    ],
    position="top",
)
require_user()
use()
with st.sidebar:
    try:
        model = choose_model()
        pictures = choose_pictures(model.info.name)
    except LightboxError as error:
        st.error(str(error), icon=":material/error:")
        st.stop()
st.session_state["workspace"] = Workspace(model, pictures)
page.run()
