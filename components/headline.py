"""What the page says in words before it shows pictures."""

from __future__ import annotations

import streamlit as st

from components.plain_text import plain
from components.prediction import tell_number, tell_score
from explainers.images import Picture
from explainers.info import ModelInfo
from explainers.outputs import BINARY, FINDINGS, NUMBERS
from explainers.predictions import Prediction
from explainers.targets import Target, name_target

#: How many findings the headline names.
NAMED = 4

#: What is said about the explained class, where nothing else is.
SHOWS = "The heatmaps show what speaks for **{}**."


def draw_headline(
    info: ModelInfo, prediction: Prediction, target: Target, picture: Picture, about: str = SHOWS
) -> None:
    """Say what the model says, and ``about`` the explained class, whose name takes the place of {}."""
    st.markdown(f"# The model {tell_decision(info, prediction)}")
    label = f" The picture's own label is {plain(picture.label)}." if picture.label else ""
    st.caption(
        f"{about.format(plain(name_target(info, target)))}{label}"
        + "".join(f" {plain(note[0].upper() + note[1:])}." for note in picture.notes)
    )


def tell_decision(info: ModelInfo, prediction: Prediction) -> str:
    """Say what the model says, as its kind of outputs has it, fit for Markdown."""
    best = prediction.top(1)[0]

    def tell(index: int, joint: str = ", ") -> str:
        return f"{plain(info.class_names[index])}{joint}{plain(tell_score(info, prediction, index))}"

    if info.kind == NUMBERS:
        return "measures " + "; ".join(
            tell(index, ": ") + tell_usual(info, prediction, index) for index in prediction.top()
        )
    if info.gives_map:
        shown = [1] if info.kind == BINARY else prediction.top(3) if info.kind == FINDINGS else [best]
        parts = [
            f"{plain(tell_score(info, prediction, index))} of the picture as {plain(info.class_names[index])}"
            for index in shown
        ]
        return f"marks {' and '.join(parts)}"
    if info.kind != FINDINGS:
        return f"says {tell(best)}"
    found = [index for index in prediction.top(len(prediction.logits)) if prediction.probabilities[index] >= 0.5]
    if not found:
        return f"finds none of {len(prediction.logits):,} findings; the likeliest is {tell(best)}"
    more = f" and {len(found) - NAMED:,} more" if len(found) > NAMED else ""
    return f"finds {'; '.join(tell(index) for index in found[:NAMED])}{more}"


def tell_usual(info: ModelInfo, prediction: Prediction, index: int) -> str:
    """Say how far a number is from its usual value, "" where that is not known."""
    if not info.usual:
        return ""
    beyond = float(prediction.logits[index]) - info.usual[index]
    return f" ({plain(tell_number(info, abs(beyond)))} {'more' if beyond >= 0 else 'less'} than usual)"


def draw_empty() -> None:
    """Say what to do where there are no pictures."""
    st.info("There are no pictures here yet. Add your own in the sidebar, or choose **Samples** there.")
