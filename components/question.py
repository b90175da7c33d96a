"""What every page about a decision begins with: a picture of the strip, what the model says, and what is asked."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from components import controls
from components.adjusting import adjust
from components.headline import draw_empty
from components.prediction import draw_prediction
from components.session import Workspace, open_picture
from components.strip import choose_picture
from explainers import compute
from explainers.images import Picture
from explainers.results import Prediction


@dataclass(frozen=True)
class Question:
    """The picture, by its ``index`` in the strip too, the prediction, and the class asked about, as wanted."""

    index: int
    picture: Picture
    prediction: Prediction
    wanted: str
    versus: str


def ask_question(workspace: Workspace) -> Question:
    """Draw the strip and the sidebar's first part; ends the page where there are no pictures. Raises LightboxError."""
    model, pictures = workspace.model, workspace.pictures
    if not pictures:
        draw_empty()
        st.stop()
    index = choose_picture(pictures)
    with st.sidebar:
        picture = adjust(pictures[index], open_picture(pictures[index]))
    with st.spinner("Asking the model …"):
        prediction = compute.predict(model, picture)
    with st.sidebar:
        draw_prediction(model.info, prediction)
        return Question(index, picture, prediction, *controls.choose_output(model.info, prediction))
