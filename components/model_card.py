"""What is known about a model, in words and as a table of its layers."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from components.plain_text import plain
from explainers.info import Layer, ModelInfo
from explainers.outputs import KINDS, MAPS
from explainers.preprocessing import Preprocessing
from sample_models import SampleModel


def draw_model(info: ModelInfo, sample: SampleModel | None) -> None:
    """Draw what a model is, how it sees pictures, and its layers."""
    st.title(sample.title if sample else plain(info.name))
    if sample:
        st.markdown(sample.sentence)
    height, width = info.preprocessing.size
    st.markdown(
        f"**{len(info.class_names):,}** classes · **{info.parameters / 1e6:,.2f}** million parameters · "
        f"**{len(info.layers):,}** layers · input **{width}\u00a0×\u00a0{height}**\u00a0px"
    )
    meanings = MAPS if info.gives_map else KINDS
    st.markdown(f"What it says: {meanings[info.kind]}{f', in {plain(info.unit)}' if info.unit else ''}.")
    st.markdown(describe_preprocessing(info.preprocessing))
    for note in info.notes:
        st.caption(plain(note))
    with st.expander("Layers, under the names their author gave them"):
        st.dataframe(table(info.layers), hide_index=True, alt=f"The layers of {info.name}")
    with st.expander("Classes"):
        st.dataframe(pd.DataFrame({"index": range(len(info.class_names)), "class": info.class_names}), hide_index=True)
    with st.expander("Fingerprints"):
        st.caption("Two models with the same fingerprint give the same results.")
        st.code(f"model   {info.digest}\nweights {info.weights_digest}", language=None)


def describe_preprocessing(preprocessing: Preprocessing) -> str:
    """Say in words how a picture becomes the model's input."""
    height, width = preprocessing.size
    if not preprocessing.resize and preprocessing.borders:
        cut = f"the whole picture is fitted into {width} × {height} px, with borders of the mean colour"
    elif preprocessing.resize:
        cut = f"the shorter side is scaled to {preprocessing.resize} px, the middle {width} × {height} px is cut out"
    else:
        cut = f"the whole picture is squeezed to {width} × {height} px"
    colour = "in colour" if preprocessing.channels == 3 else "as greyscale"
    mean, std = (", ".join(f"{number:g}" for number in numbers) for numbers in (preprocessing.mean, preprocessing.std))
    return f"How it sees a picture: {cut}, {colour}, values 0 to 1 less mean {mean}, divided by {std}."


def table(layers: tuple[Layer, ...]) -> pd.DataFrame:
    """List layers with their kind, channels and places."""
    return pd.DataFrame(
        {
            "layer": [layer.name for layer in layers],
            "kind": [layer.kind for layer in layers],
            "channels": [layer.channels for layer in layers],
            "places (rows × columns)": [
                f"{layer.grid[0]} × {layer.grid[1]}" if layer.spatial else "" for layer in layers
            ],
        }
    )
