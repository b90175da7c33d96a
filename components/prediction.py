"""What the model says: its best classes with their probabilities."""

from __future__ import annotations

from html import escape

import streamlit as st

from components.theme import ACCENT
from explainers.info import ModelInfo
from explainers.outputs import FINDINGS, NUMBERS
from explainers.predictions import Prediction

STYLE = f"""<style>
.lightbox-bars {{display: grid; grid-template-columns: 1fr auto; gap: 2px 12px; font-size: 0.9rem; line-height: 1.35;}}
.lightbox-bars .name {{overflow: hidden; text-overflow: ellipsis; white-space: nowrap;}}
.lightbox-bars .value {{text-align: right; font-variant-numeric: tabular-nums;}}
.lightbox-bars .track {{grid-column: 1 / 3; height: 5px; border-radius: 3px; margin-bottom: 5px;
  background: color-mix(in srgb, currentColor 12%, transparent);}}
.lightbox-bars .fill {{height: 5px; border-radius: 3px; background: {ACCENT}; min-width: 2px;}}
</style>"""


#: How many findings are shown, which are read each by itself.
FINDINGS_SHOWN = 14


def draw_prediction(info: ModelInfo, prediction: Prediction, count: int = 5) -> None:
    """Draw the classes with the largest probabilities as bars; numbers as they are."""
    rows = []
    for index in prediction.top(FINDINGS_SHOWN if info.kind == FINDINGS else count):
        name, value = escape(info.class_names[index]), escape(tell_score(info, prediction, index, 1))
        rows.append(f'<span class="name" title="{name}">{name}</span><span class="value">{value}</span>')
        if len(prediction.probabilities):
            width = f"width:{prediction.probabilities[index]:.1%}"
            rows.append(f'<span class="track"><div class="fill" style="{width}"></div></span>')
    words = escape(summary(info, prediction), quote=True)
    st.html(f'{STYLE}<div class="lightbox-bars" role="img" aria-label="{words}">{"".join(rows)}</div>')
    if len(prediction.logits) > FINDINGS_SHOWN and info.kind == FINDINGS:
        st.caption(f"The {FINDINGS_SHOWN} likeliest of {len(prediction.logits):,} findings.")


def summary(info: ModelInfo, prediction: Prediction) -> str:
    """Say the best class and its probability in words."""
    best = prediction.top(1)[0]
    return f"{info.class_names[best]}, {tell_score(info, prediction, best)}"


def tell_score(info: ModelInfo, prediction: Prediction, index: int, digits: int = 0) -> str:
    """Say how likely an output is, in per cent; of a number its value, with its unit."""
    if info.kind == NUMBERS:
        return tell_number(info, float(prediction.logits[index]))
    return tell_share(float(prediction.probabilities[index]), digits)


def tell_number(info: ModelInfo, value: float) -> str:
    """Write a measured number with its unit."""
    return f"{value:,.4g} {info.unit}".rstrip()


def tell_share(share: float, digits: int = 0) -> str:
    """Write a share in per cent; only all of it is 100%."""
    whole = f"{share:.{digits}%}"
    return f"over {1 - 10.0 ** -(digits + 2):.{digits}%}" if share < 1 and whole == f"{1:.{digits}%}" else whole
