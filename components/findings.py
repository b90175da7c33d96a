"""A heatmap for every finding at once, as small pictures on one scale of colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import streamlit as st

from components.figures import Seen
from components.following import finished, follow
from components.heatmap import View, blend, describe, limits
from components.prediction import FINDINGS_SHOWN, tell_score
from components.tiles import Tile, draw_tiles, encode_once
from explainers.attribution.method import Attribution, Method
from explainers.predictions import Prediction
from explainers.subjects import Case

#: What is said above the heatmaps of all findings.
EACH = "The heatmaps show what speaks for each finding, the likeliest first."

#: How many stand beside each other.
COLUMNS = 5


def draw_findings(case: Case, prediction: Prediction, methods: Sequence[Method]) -> None:
    """Draw a heatmap of each method for each finding, the likeliest first; raises SelectionError."""
    seen = Seen(case.picture.name, case.info.preprocessing.view(case.picture))
    outputs = prediction.top(FINDINGS_SHOWN)
    if not methods:
        st.info("Choose a method in the sidebar to see where the model looked.")
    for method in methods:
        st.markdown(f"**{method.title}**", help=f"{method.summary} ({method.citation})")
        cases = [replace(case, target=replace(case.target, index=output, versus=None)) for output in outputs]
        jobs = follow(f"findings {method.name}", [(method, one) for one in cases])
        if not finished(jobs, f"{method.title} for {len(jobs)} findings"):
            continue
        found = [job.result() for job in jobs]
        largest = max(limits(one.values, one.signed, View())[1] for one in found)
        tiles = [
            Tile(
                encode_once(
                    ("finding", case.info.digest, case.picture.digest, method, output, largest),
                    partial(blend_on_scale, seen, one, largest),
                ),
                f"{case.info.class_names[output]}\n{tell_score(case.info, prediction, output)}",
                f"{case.info.class_names[output]}. {describe(one.values)}",
            )
            for output, one in zip(outputs, found, strict=True)
        ]
        for start in range(0, len(tiles), COLUMNS):
            draw_tiles(None, tiles[start : start + COLUMNS], COLUMNS)
        st.caption(
            f"All on one scale: the strongest colours are ±{largest:.2g} {method.unit}. "
            "Choose a finding under *Explain* to see it large."
        )


def blend_on_scale(seen: Seen, attribution: Attribution, largest: float) -> np.ndarray:
    """Lay a heatmap over the picture, with colours up to a score that other heatmaps share."""
    return blend(seen.crop, attribution.values, attribution.signed, View(), largest)
