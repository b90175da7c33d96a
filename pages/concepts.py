"""What did the model use? The concepts of a layer behind one decision, and what each of them stands for."""

import streamlit as st

from components.chosen_case import choose_case
from components.concepts.decision import draw_decision
from components.concepts.links import CONCEPT, ORIGIN, opened
from components.concepts.origin import draw_origin
from components.concepts.profile import draw_profile
from components.drawn_region import explained_region
from components.following import settle
from components.headline import draw_headline
from components.names import draw_exchange, read_current_names
from components.prototypes.part_sources import find_sources
from components.scene import Scene, choose_layer, choose_references
from components.telling_errors import telling_errors
from explainers.concepts.heatmaps import DrawConcepts
from explainers.concepts.layers import list_layers
from explainers.concepts.relevance import RankConcepts

ABOUT = "Concepts are what the model has learnt to look for: here, those that speak for **{}** and against it."
PARTS = "This model compares parts of the picture with parts that it has learnt: see which ones"

settle(fragment=False)
with telling_errors():
    chosen = choose_case()
    names = read_current_names(chosen.info)
    with st.sidebar:
        layer = choose_layer(chosen.model)
        count, by, references = choose_references(chosen.workspace)
        draw_exchange(chosen.info, list_layers(chosen.model).layers, names)
    region = explained_region(chosen.info)
    target = chosen.target(region)
    decision = chosen.prediction.decision(chosen.info, target.index)
    scene = Scene(chosen.model, chosen.picture, target, layer, names, by, decision=decision)
    draw_headline(chosen.info, chosen.prediction, scene.target, chosen.picture, ABOUT)
    if find_sources(chosen.info):
        st.page_link("pages/prototypes.py", label=PARTS, icon=":material/arrow_forward:")
    if (concept := opened(CONCEPT)) is not None:
        draw_profile(scene, references, concept)
    elif (concept := opened(ORIGIN)) is not None:
        draw_origin(scene, references, concept)
    elif draw_decision(scene, references, count):
        chosen.prefetch(RankConcepts(layer=layer), DrawConcepts(layer=layer, count=count), region=region)
