"""Where did the model look? What it says about a picture, and one heatmap for each way of asking."""

import streamlit as st

from components import controls
from components.drawn_region import explained_region
from components.headline import draw_headline
from components.panels import draw_panels, follow_methods
from components.question import ask_question
from components.session import current_workspace
from explainers import compute
from explainers.errors import LightboxError
from explainers.targets import choose_target

workspace = current_workspace()
model = workspace.model
try:
    asked = ask_question(workspace)
    picture, prediction = asked.picture, asked.prediction
    with st.sidebar:
        methods, unsuitable = compute.methods(), compute.unsuitable_methods(model.info)
        chosen = {
            name: controls.choose_parameters(methods[name], model.info)
            for name in controls.choose_methods(methods, unsuitable)
        }
    region = explained_region(model.info)
    target = choose_target(model.info, prediction, asked.wanted, asked.versus, region)
    draw_headline(model.info, prediction, target, picture)
    draw_panels(model.info, picture, methods, follow_methods(model, picture, target, chosen))
    following = workspace.open_next(asked.index)
    compute.prefetch(model, following, asked.wanted, asked.versus, region, chosen)
except LightboxError as error:
    st.error(str(error), icon=":material/error:")
