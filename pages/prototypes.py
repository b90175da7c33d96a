"""Is it ordinary? One decision beside all others of its class, and the strategies that the class is decided by."""

import streamlit as st

from components.concepts.names import read_current_names
from components.concepts.scene import Scene, choose_layer
from components.headline import draw_headline
from components.prototypes import family as families
from components.prototypes.views import choose_view, draw_view
from components.question import ask_question
from components.session import current_workspace
from explainers.errors import LightboxError
from explainers.results import Target
from explainers.targets import choose_target

workspace = current_workspace()
model = workspace.model
try:
    asked = ask_question(workspace)
    picture, prediction = asked.picture, asked.prediction
    with st.sidebar:
        layer = choose_layer(model, families.default_layer(model))
        count = families.choose_count()
    target = Target(choose_target(model.info, prediction, asked.wanted).index)
    scene = Scene(model, picture, target, layer, read_current_names(model.info))
    draw_headline(model.info, prediction, target, picture)
    if asked.versus:
        st.caption("Strategies are those of one class, so the contrast is left out here.")
    draw_view(choose_view(model.info), scene, workspace, prediction.top(families.LIKELY), count)
except LightboxError as error:
    st.error(str(error), icon=":material/error:")
