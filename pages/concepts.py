"""What did the model use? The concepts of a layer behind one decision, and what each of them stands for."""

import streamlit as st

from components.concepts.decision import draw_decision
from components.concepts.links import CONCEPT, ORIGIN, opened
from components.concepts.names import draw_exchange, read_current_names
from components.concepts.origin import draw_origin
from components.concepts.profile import draw_profile
from components.concepts.scene import Scene, choose_layer, choose_references
from components.drawn_region import explained_region
from components.following import settle
from components.headline import draw_headline
from components.prototypes.part_sources import find_sources
from components.question import ask_question
from components.session import current_workspace
from explainers import compute
from explainers.errors import LightboxError
from explainers.targets import choose_target

ABOUT = "Concepts are what the model has learnt to look for: here, those that speak for **{}** and against it."
PARTS = "This model compares parts of the picture with parts that it has learnt: see which ones"

settle(fragment=False)
workspace = current_workspace()
model = workspace.model
try:
    asked = ask_question(workspace)
    picture, prediction = asked.picture, asked.prediction
    names = read_current_names(model.info)
    with st.sidebar:
        layer = choose_layer(model)
        count, by, references = choose_references(workspace)
        draw_exchange(model.info, compute.concept_layers(model), names)
    region = explained_region(model.info)
    target = choose_target(model.info, prediction, asked.wanted, asked.versus, region)
    scene = Scene(model, picture, target, layer, names, by)
    draw_headline(model.info, prediction, target, picture, ABOUT)
    if find_sources(model.info):
        st.page_link("pages/prototypes.py", label=PARTS, icon=":material/arrow_forward:")
    if (concept := opened(CONCEPT)) is not None:
        draw_profile(scene, references, concept)
    elif (concept := opened(ORIGIN)) is not None:
        draw_origin(scene, references, concept)
    elif draw_decision(scene, references, count):
        following = workspace.open_next(asked.index)
        compute.prefetch_concepts(model, following, asked.wanted, layer, asked.versus, region, count)
except LightboxError as error:
    st.error(str(error), icon=":material/error:")
