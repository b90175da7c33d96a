"""Where did the model look? What it says about a picture, and one heatmap for each way of asking."""

import streamlit as st

from components import controls
from components.chosen_case import choose_case
from components.drawn_region import explained_region
from components.findings import EACH, draw_findings
from components.headline import SHOWS, draw_headline
from components.panels import draw_panels, follow_methods
from components.telling_errors import telling_errors
from explainers.subjects import Case

with telling_errors():
    chosen = choose_case()
    with st.sidebar:
        methods = controls.choose_methods(chosen.info)
        every = controls.choose_every_finding(chosen.info)
    region = explained_region(chosen.info)
    target = chosen.target(region)
    shows = EACH if every else SHOWS
    draw_headline(chosen.info, chosen.prediction, target, chosen.picture, shows)
    case = Case(chosen.model, chosen.picture, target)
    if every:
        draw_findings(case, chosen.prediction, methods)
    else:
        draw_panels(chosen.info, chosen.picture, follow_methods(case, methods))
        chosen.prefetch(*methods, region=region)
