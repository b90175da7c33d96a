"""What the page says in words before it shows pictures."""

from __future__ import annotations

import streamlit as st

from explainers.images import Picture
from explainers.info import ModelInfo
from explainers.predictions import Prediction
from explainers.targets import Target, name_target

#: What is said about the explained class, where nothing else is.
SHOWS = "The heatmaps show what speaks for **{}**."


def draw_headline(
    info: ModelInfo, prediction: Prediction, target: Target, picture: Picture, about: str = SHOWS
) -> None:
    """Say what the model says, and ``about`` the explained class, whose name takes the place of {}."""
    best = prediction.top(1)[0]
    name, share = plain(info.class_names[best]), tell_share(prediction.probabilities[best])
    says = f"marks {share} of the picture as {name}" if info.gives_map else f"says {name}, {share}"
    st.markdown(f"# The model {says}")
    label = f" The picture's own label is {plain(picture.label)}." if picture.label else ""
    st.caption(
        f"{about.format(plain(name_target(info, target)))}{label}"
        + "".join(f" {note[0].upper()}{note[1:]}." for note in picture.notes)
    )


def tell_share(share: float) -> str:
    """Write a share in whole per cent; only all of it is 100%."""
    return "over 99%" if 0.995 <= share < 1 else f"{share:.0%}"


def draw_empty() -> None:
    """Say what to do where there are no pictures."""
    st.info("There are no pictures here yet. Add your own in the sidebar, or choose **Samples** there.")


def plain(text: str) -> str:
    """Keep names from being read as Markdown."""
    return "".join(f"\\{sign}" if sign in "\\`*_{}[]<>()#+-.!|~$:" else sign for sign in text)
