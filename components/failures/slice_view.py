"""For whom it fails: slices as bars, the worst first, and two columns crossed; both open their pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from components.failures.charts import Bar, Cells, draw_bars, draw_cells
from components.failures.evaluation import Evaluation
from components.failures.opening import Part, choose_part, draw_part
from components.plain_text import plain
from explainers.cases.figures import FEWEST
from explainers.cases.filters import METADATA, title_of_column
from explainers.cases.levels import Conditions
from explainers.cases.report import tell_value
from explainers.cases.slices import CROSSED, Crossing, Slices, cross, tell, to_filter

#: How many bars are shown, and how many slices in the list.
BARS, LISTED = 10, 300

#: Those of which it is known whether they are right.
JUDGED = ("yes", "no")


def draw_slices(evaluation: Evaluation) -> None:
    """Draw the worst slices as bars, and what was chosen of them."""
    slices, unit = evaluation.slices, evaluation.figures[0].unit
    if not len(slices):
        st.caption("Nothing is known of the pictures by which they could be told apart. Add a table of what is known.")
        return
    bars = [make_bar(slices, place, unit) for place in range(min(BARS, len(slices)))]
    parts = [
        make_part(evaluation, slices.conditions[place], int(slices.table["count"].iloc[place]))
        for place in range(min(LISTED, len(slices)))
    ]
    whole = evaluation.figures[0].value or 0.0
    most = 1.0 if unit == "%" else max(bar.high for bar in bars)
    alt = "Slices, the worst first: " + "; ".join(f"{bar.title}, {bar.label}" for bar in bars) + "."
    part = choose_part(draw_bars(bars, whole, most, unit), parts, "slices", alt, "Pictures of a slice")
    st.caption(tell_test(evaluation))
    draw_part(evaluation, part, "slices", figures=True)


def make_bar(slices: Slices, place: int, unit: str) -> Bar:
    """Make the bar of a slice."""
    row, alarm = slices.table.iloc[place], place in slices.failing
    label = f"{tell_value(row['value'], unit)} of {row['count']:,}"
    says = [
        str(row["slice"]),
        f"{label} ({tell_value(row['low'], unit)} to {tell_value(row['high'], unit)}), "
        f"the rest {tell_value(row['rest'], unit)}",
        f"{'worse' if alarm else 'not worse'} than the rest by more than chance (q = {row['q']:.2g})",
        *(f"nearly the same: {other}" for other in slices.same[place]),
    ]
    mark = " ▲" if alarm else ""
    return Bar(str(row["slice"]), row["value"], row["low"], row["high"], label + mark, says, alarm, place)


def make_part(evaluation: Evaluation, conditions: Conditions, count: int) -> Part:
    """What a slice opens: its cases that could be judged."""
    chosen, outcomes = to_filter(conditions, evaluation.base), evaluation.outcomes
    if outcomes.finding is not None:
        names = evaluation.info.decision_names[outcomes.finding :: len(evaluation.info.class_names)]
        chosen = chosen.only("truth", *names) if "truth" not in chosen.columns else chosen
    elif has_unknown(evaluation):
        chosen = chosen.only("right", *JUDGED)
    return Part(" and ".join(one.words for one in conditions), count, chosen)


def has_unknown(evaluation: Evaluation) -> bool:
    """Whether some cases cannot be judged, and are no part of any slice."""
    return not evaluation.outcomes.is_number and not bool(evaluation.outcomes.known.all())


def tell_test(evaluation: Evaluation) -> str:
    """Say how slices were compared, fit for Markdown."""
    slices = evaluation.slices
    test = "Mann and Whitney's test" if evaluation.outcomes.is_number else "Fisher's exact test"
    small = ", ".join(f"{count:,} of {title_of_column(column)}" for column, count in slices.small.items())
    compared = f"{test}, corrected for all {slices.tested:,} slices that were compared"
    return (
        f"▲ worse than all other cases by more than chance ({compared} by Benjamini and Hochberg, q below 5 %). "
        "Whiskers are 95 % intervals, the dotted line is the mean of all."
        + (f" Too small to say anything: {plain(small)}." if small else "")
    )


def draw_crossing(evaluation: Evaluation) -> None:
    """Let two columns be chosen, and draw the figure for each pair of their values."""
    columns = crossable_columns(evaluation)
    if len(columns) < 2:
        st.caption("Two columns are needed to cross; of the pictures only one thing is known.")
        return
    found = cross(evaluation.outcomes, evaluation.table, *choose_columns(evaluation, columns))
    if max(found.counts.shape) > CROSSED:
        st.caption(f"One of these columns has more than {CROSSED} values; choose another.")
        return
    places = [(int(row), int(column)) for row, column in np.argwhere(found.counts)]
    parts = [make_part(evaluation, found.conditions(*place), int(found.counts[place])) for place in places]
    alt = "Two columns crossed: " + "; ".join(f"{part.words}, {part.count:,}" for part in parts[:12]) + "."
    chart = draw_cells(make_cells(evaluation, found, places))
    draw_part(evaluation, choose_part(chart, parts, "crossing", alt, "Pictures of a cell"), "crossing", figures=True)


def choose_columns(evaluation: Evaluation, columns: Sequence[str]) -> tuple[str, str]:
    """Draw the pickers of two columns; they begin with those where it fails most."""
    worst = [one.column for one in evaluation.slices.conditions[0]] if len(evaluation.slices) else []
    start = [column for column in dict.fromkeys([*worst, *columns]) if column in columns]
    left, right = st.columns(2)
    with left:
        first = _pick("Rows", columns, start[0], "cross_rows")
    with right:
        others = [column for column in columns if column != first]
        second = _pick("Columns", others, start[1] if start[1] in others else others[0], "cross_columns")
    return first, second


def _pick(title: str, columns: Sequence[str], start: str, key: str) -> str:
    if st.session_state.get(key) not in columns:
        st.session_state[key] = start
    return str(st.selectbox(title, columns, format_func=title_of_column, key=key))


def make_cells(evaluation: Evaluation, found: Crossing, places: Sequence[tuple[int, int]]) -> Cells:
    """Lay out the cells of a crossing: shaded by how much worse or better they are than all cases."""
    whole, unit = evaluation.figures[0].value or 0.0, evaluation.figures[0].unit
    shape, first, second = found.counts.shape, found.first, found.second
    number = np.full(shape, -1)
    texts, says = ([[""] * shape[1] for _ in range(shape[0])] for _ in range(2))
    for index, (row, column) in enumerate(places):
        number[row, column] = index
        texts[row][column] = tell_cell(found.values[row, column], int(found.counts[row, column]), unit)
        says[row][column] = f"{tell(found.conditions(row, column))}: {texts[row][column]}"
    shades = np.where(found.counts >= FEWEST, np.nan_to_num(shade(found.values, whole, unit)), 0)
    rows, columns = ([one.words_of_value for one in levels.conditions] for levels in (first, second))
    titles = title_of_column(first.column), title_of_column(second.column)
    return Cells(rows, columns, *titles, shades, texts, says, number)


def shade(values: np.ndarray, whole: float, unit: str) -> np.ndarray:
    """Shade values from -1 (far worse than all cases together) to 1 (far better)."""
    if unit == "%":
        return np.where(values < whole, (values - whole) / max(whole, 0.01), (values - whole) / max(1 - whole, 0.01))
    return ((whole - values) / max(whole, 1e-9)).clip(-1, 1)


def tell_cell(value: float, count: int, unit: str) -> str:
    """Say what is in a cell; of few cases the count alone."""
    if not count:
        return ""
    return f"{tell_value(value, unit)} of {count:,}" if count >= FEWEST else f"only {count}"


def crossable_columns(evaluation: Evaluation) -> list[str]:
    """The columns that can be crossed: of metadata, and the label."""
    table = evaluation.table
    columns = [str(column) for column in table.columns if column.startswith(METADATA)]
    return [column for column in [*columns, "label"] if table[column].nunique(dropna=False) > 1]
