"""Where did the model look? What it says about a picture, and one heatmap for each way of asking."""

import streamlit as st

from components import controls
from components.adjusting import adjust
from components.drawn_region import explained_region
from components.headline import draw_empty, draw_headline
from components.panels import draw_panels, follow_methods
from components.prediction import draw_prediction
from components.session import current_workspace, open_picture
from components.strip import choose_picture
from explainers import compute
from explainers.errors import LightboxError
from explainers.targets import choose_target

workspace = current_workspace()
model, pictures = workspace.model, workspace.pictures
if not pictures:
    draw_empty()
    st.stop()
index = choose_picture(pictures)
try:
    with st.sidebar:
        picture = adjust(pictures[index], open_picture(pictures[index]))
    with st.spinner("Asking the model …"):
        prediction = compute.predict(model, picture)
    with st.sidebar:
        draw_prediction(model.info, prediction)
        wanted, versus = controls.choose_output(model.info, prediction)
        methods, unsuitable = compute.methods(), compute.unsuitable_methods(model.info)
        chosen = {
            name: controls.choose_parameters(methods[name], model.info)
            for name in controls.choose_methods(methods, unsuitable)
        }
    region = explained_region(model.info)
    target = choose_target(model.info, prediction, wanted, versus, region)
    draw_headline(model.info, prediction, target, picture)
    if draw_panels(model.info, picture, methods, follow_methods(model, picture, target, chosen)):
        following = open_picture(pictures[(index + 1) % len(pictures)])
        compute.prefetch(model, following, wanted, versus, region, chosen)
except LightboxError as error:
    st.error(str(error), icon=":material/error:")
