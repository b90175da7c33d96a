"""What the model says: its best classes with their probabilities."""

from __future__ import annotations

from html import escape

import streamlit as st

from components.theme import ACCENT
from explainers.info import ModelInfo
from explainers.predictions import Prediction

STYLE = f"""<style>
.lightbox-bars {{display: grid; grid-template-columns: 1fr auto; gap: 2px 12px; font-size: 0.9rem; line-height: 1.35;}}
.lightbox-bars .name {{overflow: hidden; text-overflow: ellipsis; white-space: nowrap;}}
.lightbox-bars .value {{text-align: right; font-variant-numeric: tabular-nums;}}
.lightbox-bars .track {{grid-column: 1 / 3; height: 5px; border-radius: 3px; margin-bottom: 5px;
  background: color-mix(in srgb, currentColor 12%, transparent);}}
.lightbox-bars .fill {{height: 5px; border-radius: 3px; background: {ACCENT}; min-width: 2px;}}
</style>"""


def draw_prediction(info: ModelInfo, prediction: Prediction, count: int = 5) -> None:
    """Draw the classes with the largest probabilities as bars."""
    rows = []
    for index in prediction.top(count):
        name, share = escape(info.class_names[index]), float(prediction.probabilities[index])
        rows.append(
            f'<span class="name" title="{name}">{name}</span><span class="value">{share:.1%}</span>'
            f'<span class="track"><div class="fill" style="width:{share:.1%}"></div></span>'
        )
    st.html(
        f'{STYLE}<div class="lightbox-bars" role="img" aria-label="{summary(info, prediction)}">{"".join(rows)}</div>'
    )


def summary(info: ModelInfo, prediction: Prediction) -> str:
    """Say the best class and its probability in words."""
    best = prediction.top(1)[0]
    return f"{escape(info.class_names[best])}, {prediction.probabilities[best]:.0%}"
