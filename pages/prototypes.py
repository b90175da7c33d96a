"""Is it ordinary? One decision beside all others of its class, and the strategies that the class is decided by."""

import streamlit as st

from components.concepts.names import read_current_names
from components.concepts.scene import Scene, choose_layer
from components.following import settle
from components.headline import draw_headline
from components.prototypes import family as families
from components.prototypes.views import choose_view, draw_view
from components.question import ask_question
from components.session import current_workspace
from explainers import compute
from explainers.errors import LightboxError
from explainers.results import Target
from explainers.targets import choose_target

settle(fragment=False)
workspace = current_workspace()
model = workspace.model
try:
    asked = ask_question(workspace)
    picture, prediction = asked.picture, asked.prediction
    with st.sidebar:  # a layer of its own: which one is looked into elsewhere must not change the verdict
        layer = choose_layer(model, families.default_layer(model), "strategy_layer")
        count = families.choose_count()
    target = Target(choose_target(model.info, prediction, asked.wanted).index)
    scene = Scene(model, picture, target, layer, read_current_names(model.info))
    draw_headline(model.info, prediction, target, picture, "Here it is compared with other cases of **{}**.")
    if asked.versus:
        st.caption("Cases of one class are compared here, so *Rather than* changes nothing.")
    if draw_view(choose_view(model.info), scene, workspace, prediction.top(families.LIKELY), count):
        following = workspace.open_next(asked.index)
        compute.prefetch_concepts(model, following, asked.wanted, layer)
except LightboxError as error:
    st.error(str(error), icon=":material/error:")
