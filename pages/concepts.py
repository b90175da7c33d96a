"""What did the model use? The concepts of a layer behind one decision, and what each of them stands for."""

import streamlit as st

from components import controls
from components.adjusting import adjust
from components.concepts.decision import draw_decision
from components.concepts.links import CONCEPT, ORIGIN, opened
from components.concepts.names import draw_exchange, read_current_names
from components.concepts.origin import draw_origin
from components.concepts.profile import draw_profile
from components.concepts.scene import Scene, choose_layer, choose_references
from components.drawn_region import explained_region
from components.following import settle
from components.headline import draw_empty, draw_headline
from components.prediction import draw_prediction
from components.session import current_workspace, open_picture
from components.strip import choose_picture
from explainers import compute
from explainers.errors import LightboxError
from explainers.targets import choose_target

settle(fragment=False)
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
    names = read_current_names(model.info)
    with st.sidebar:
        draw_prediction(model.info, prediction)
        wanted, versus = controls.choose_output(model.info, prediction)
        layer = choose_layer(model)
        count, by, references = choose_references(workspace)
        draw_exchange(model.info, compute.concept_layers(model), names)
    target = choose_target(model.info, prediction, wanted, versus, explained_region(model.info))
    scene = Scene(model, picture, target, layer, names, by)
    draw_headline(model.info, prediction, target, picture)
    if (concept := opened(CONCEPT)) is not None:
        draw_profile(scene, references, concept)
    elif (concept := opened(ORIGIN)) is not None:
        draw_origin(scene, references, concept)
    else:
        draw_decision(scene, references, count)
except LightboxError as error:
    st.error(str(error), icon=":material/error:")
