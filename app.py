"""Lightbox: put a model on the light and see where it looks."""

import streamlit as st

from components.access import require_user
from components.arrivals import Arrivals
from components.belongings import use, work_for_session
from components.class_proposal import tell_labels
from components.finding import filter_workspace
from components.navigation import choose_page, draw_beside
from components.server.serving import serve
from components.session import Workspace, choose_model, choose_pictures
from components.telling_errors import require_settings, tell_error
from components.theme import apply_theme, draw_icon
from explainers.errors import LightboxError

require_settings()


def choose_workspace() -> Workspace:
    """Draw the pickers of model and pictures; in a function, for what a run names beside it outlives the session."""
    model = choose_model()
    dataset = choose_pictures(model.info)
    tell_labels(model, dataset)
    return filter_workspace(Workspace(model, dataset, range(len(dataset.entries))))


if __name__ != "__main__":  # `streamlit run` asks for the server, which then runs this file for each session
    app = st.App(__file__, **serve(Arrivals))
else:
    st.set_page_config(page_title="Lightbox", page_icon=draw_icon(), layout="wide")
    apply_theme()
    require_user()
    page = choose_page()
    use()
    work_for_session()
    with st.sidebar:
        try:
            st.session_state["workspace"] = choose_workspace()
        except LightboxError as error:
            tell_error(error)
            st.stop()
    draw_beside(page.title)
    page.run()
