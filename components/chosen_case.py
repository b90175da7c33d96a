"""What every page about a decision begins with: a picture of the strip, what the model says, and what is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from components import controls
from components.adjusting import adjust
from components.finding import draw_none
from components.following import answer
from components.headline import draw_empty
from components.metadata import draw_metadata
from components.prediction import draw_prediction
from components.session import Workspace, current_workspace, open_picture
from components.strip import choose_picture
from explainers.images import Picture
from explainers.info import ModelInfo
from explainers.predictions import Predict, Prediction, prefetch
from explainers.questions import Question
from explainers.regions import Region
from explainers.subjects import Case, Input
from explainers.targets import Target, choose_target


@dataclass(frozen=True)
class ChosenCase:
    """The picture, by its ``index`` in the workspace too, the prediction, and the class asked about, as wanted."""

    workspace: Workspace
    index: int
    picture: Picture
    prediction: Prediction
    wanted: str
    versus: str

    @property
    def model(self) -> Any:
        """The chosen model."""
        return self.workspace.model

    @property
    def info(self) -> ModelInfo:
        """What is known about the model."""
        info: ModelInfo = self.model.info
        return info

    @property
    def alone(self) -> ChosenCase:
        """The same without a contrast."""
        return replace(self, versus="")

    def target(self, region: Region = ()) -> Target:
        """The output to explain; raises SelectionError."""
        return choose_target(self.info, self.prediction, self.wanted, self.versus, region)

    def prefetch(
        self,
        *questions: Question[Any, Any],
        region: Region = (),
        place: Callable[[Case], Case] = lambda case: case,
    ) -> None:
        """Compute ahead what the page will ask about the picture behind this one, see ``predictions.prefetch``."""
        following = Input(self.model, self.workspace.open_next(self.index))
        prefetch(following, questions, self.wanted, self.versus, region, place=place)


def choose_case() -> ChosenCase:
    """Draw the strip and the sidebar's first part; ends the page where there are no pictures. Raises LightboxError."""
    workspace = current_workspace()
    model, pictures = workspace.model, workspace.pictures
    if not pictures:
        draw_empty()
        st.stop()
    if not workspace.rows:
        draw_none(workspace)
        st.stop()
    index = choose_picture(workspace)
    with st.sidebar:
        picture = adjust(pictures[index], open_picture(pictures[index]))
    prediction = answer("prediction", Predict(), Input(model, picture), "Asking the model")
    with st.sidebar:
        draw_prediction(model.info, prediction)
        wanted, versus = controls.choose_output(model.info, prediction)
        draw_metadata(workspace.dataset, index)
    return ChosenCase(workspace, index, picture, prediction, wanted, versus)
