"""How right a model is and for whom it fails, in sentences for a terminal. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator

from explainers.cases.figures import Figure
from explainers.cases.outcomes import Outcomes
from explainers.cases.slices import Slices


def tell_share(share: float) -> str:
    """Write a share in per cent; only all is 100 %, and only nothing 0 %."""
    rounded = round(100 * share)
    if (rounded == 100 and share < 1) or (rounded == 0 and share > 0):
        return f"{100 * share:.1f} %" if 0.0005 <= share < 0.9995 else "over 99.9 %" if share > 0.5 else "under 0.1 %"
    return f"{rounded} %"


def tell_value(value: float, unit: str) -> str:
    """Write a figure: a share in per cent, else with its unit."""
    return tell_share(value) if unit == "%" else f"{value:.3g} {unit}".rstrip()


def tell_ends(low: float, high: float, unit: str) -> str:
    """Write an interval, the unit of shares once; more exactly where its ends would look the same."""
    first, last = tell_value(low, unit), tell_value(high, unit)
    if first == last and unit == "%":
        first, last = f"{100 * low:.1f} %", f"{100 * high:.1f} %"
    return f"{first.removesuffix(' %') if unit == '%' else first} to {last}"


def tell_figure(figure: Figure) -> str:
    """Write a figure with its interval and count, or why there is none."""
    if figure.value is None or figure.low is None or figure.high is None:
        return f"{figure.title:20} no figure: {figure.note}"
    note = f"; {figure.note}" if figure.note else ""
    value = f"{figure.value:.4g} ({figure.low:.4g} to {figure.high:.4g}"
    return f"{figure.title:20} {value}{'' if figure.unit in ('%', '') else ' ' + figure.unit}; {figure.count:,}{note})"


def tell_summary(outcomes: Outcomes, first: Figure, slices: Slices) -> Iterator[str]:
    """Say in sentences how right the model is, by its first figure, and where it fails most."""
    whole, ends = first.value or 0.0, tell_ends(first.low or 0.0, first.high or 0.0, first.unit)
    if outcomes.is_number:
        yield f"The model is off by {tell_value(whole, first.unit)} on average ({ends}) in {first.count:,} pictures."
    else:
        yield f"The model is right in {tell_share(whole)} of {first.count:,} pictures ({ends})."
    if not len(slices.failing):
        yield f"It is nowhere worse by more than chance: {slices.tested:,} slices were compared with the rest."
    else:
        yield f"It fails most where {tell_slice(slices, 0, first.unit)}."


def tell_slice(slices: Slices, place: int, unit: str) -> str:
    """Say a slice with its figure, interval and count, and that of the rest."""
    row = slices.table.iloc[place]
    ends = tell_ends(row["low"], row["high"], unit)
    rest = tell_value(row["rest"], unit)
    return f"{row['slice']}: {tell_value(row['value'], unit)} of {row['count']:,} ({ends}), elsewhere {rest}"


def tell_slices(slices: Slices, unit: str, count: int) -> Iterator[str]:
    """Say the worst slices, one to a line; those that fail by more than chance are marked."""
    for place in range(min(count, len(slices))):
        mark = "worse" if place in slices.failing else ""
        yield f"{mark:6}{tell_slice(slices, place, unit)} (q = {slices.table['q'].iloc[place]:.2g})"
