"""Is it ordinary? One decision beside all others of its class, and the strategies that the class is decided by."""

import streamlit as st

from components import controls
from components.adjusting import adjust
from components.concepts.names import read_current_names
from components.concepts.scene import Scene, choose_layer
from components.headline import draw_empty, draw_headline
from components.prediction import draw_prediction
from components.prototypes import family as families
from components.prototypes.views import choose_view, draw_view
from components.session import current_workspace, open_picture
from components.strip import choose_picture
from explainers import compute
from explainers.errors import LightboxError
from explainers.results import Target
from explainers.targets import choose_target

workspace = current_workspace()
model, pictures = workspace.model, workspace.pictures
if not pictures:
    draw_empty()
    st.stop()
entry = pictures[choose_picture(pictures)]
try:
    with st.sidebar:
        picture = adjust(entry, open_picture(entry))
    with st.spinner("Asking the model …"):
        prediction = compute.predict(model, picture)
    with st.sidebar:
        draw_prediction(model.info, prediction)
        wanted, versus = controls.choose_output(model.info, prediction)
        layer = choose_layer(model, families.default_layer(model))
        count = families.choose_count()
    target = Target(choose_target(model.info, prediction, wanted).index)
    scene = Scene(model, picture, target, layer, read_current_names(model.info))
    draw_headline(model.info, prediction, target, picture)
    if versus:
        st.caption("Strategies are those of one class, so the contrast is left out here.")
    draw_view(choose_view(model.info), scene, workspace, prediction.top(families.LIKELY), count)
except LightboxError as error:
    st.error(str(error), icon=":material/error:")
