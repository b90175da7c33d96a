"""How far the model's confidence can be relied on, and where it is surely wrong."""

from __future__ import annotations

import streamlit as st

from components.failures.charts import draw_reliability
from components.failures.evaluation import Evaluation
from components.failures.opening import FEW, TILES, Part, choose_part, draw_part, make_tile, open_cases, tell_count
from components.figures import BARE
from components.plain_text import plain
from components.tiles import draw_tiles
from explainers.cases.figures import calibrate, worst_errors
from explainers.cases.intervals import wilson
from explainers.cases.report import tell_share


def draw_calibration(evaluation: Evaluation) -> None:
    """Draw how often decisions of a confidence are right, and what was chosen there."""
    found = calibrate(evaluation.outcomes)
    if found is None:
        st.caption("The model gives no probabilities that could be compared.")
        return
    low, high = wilson(found.right * found.count, found.count)
    bins = list(zip(found.count.tolist(), found.low.tolist(), found.high.tolist(), strict=True))
    says = [
        f"{count:,} decisions, {first:.1%} to {last:.1%} sure: {tell_share(right)} are right ({a:.0%} to {b:.0%})"
        for (count, first, last), right, a, b in zip(bins, found.right, low, high, strict=True)
    ]
    base = evaluation.base.only("right", "yes", "no")
    parts = [
        Part(f"{first:.1%} to {last:.1%} sure", count, base.within("confidence", first, last))
        for count, first, last in bins
    ]
    alt, chart = "Calibration: " + "; ".join(says) + ".", draw_reliability(found, low, high, says)
    part = None
    if evaluation.outcomes.said.shape[1] == 1 and evaluation.outcomes.finding is None:
        part = choose_part(chart, parts, "calibration", alt, "Pictures of a confidence")
    else:  # the confidence of a case is that of all its findings together
        st.plotly_chart(chart, key="calibration_of_findings", config=BARE, alt=alt)
    st.caption(
        f"Expected calibration error {tell_share(found.expected_error)}: by so much confidence and accuracy differ on "
        f"average, in {len(bins)} of 10 equal bins that have cases (Guo et al. 2017). Below the dotted line it is too "
        "sure of itself. The larger a dot, the more decisions."
    )
    draw_part(evaluation, part, "calibration", FEW)


def draw_errors(evaluation: Evaluation) -> None:
    """Show the mistakes that the model is surest of, each to open."""
    rows = worst_errors(evaluation.outcomes)
    if not len(rows):
        st.caption("There is no mistake among these pictures.")
        return
    number = evaluation.outcomes.is_number
    st.caption(
        f"{tell_count(len(rows))}, {'those that are off by most' if number else 'those it is surest of'} first. "
        "Open one to see where the model looked; the others are in the strip behind it."
    )
    shown = rows[:TILES].tolist()
    tiles = [make_tile(evaluation, row) for row in shown]
    draw_tiles(None, [tile for tile in tiles if tile], TILES)
    errors = evaluation.base if number else evaluation.base.only("right", "no")
    for place, column in enumerate(st.columns(TILES, gap="small")[: len(shown)]):
        name = plain(str(evaluation.table["name"].iloc[shown[place]]))
        if column.button(
            "Open", key=f"error_{place}", help=f"Open {name}", width="stretch", icon=":material/open_in_full:"
        ):
            open_cases(evaluation, errors, shown[place])
