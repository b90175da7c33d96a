"""What cases have in common: the values of each column, or ranges of its numbers. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int

from explainers.cases.filters import METADATA, title_of_column, values_of
from explainers.cases.outcomes import Outcomes
from explainers.outputs import FINDINGS

#: Of a column with more different numbers slices are quarters.
NUMBERS = 8


@dataclass(frozen=True)
class Condition:
    """What the cases of a slice have in common: a value of a column, "" for none known, or a range of numbers."""

    column: str
    value: str = ""
    range: tuple[float, float] | None = None

    @property
    def words(self) -> str:
        """Say it, such as "age is 40 to 60"; plain text that may hold anything."""
        if self.column in ("tags", "truth"):
            return f"{'tagged' if self.column == 'tags' else 'known to be'} {self.value}"
        return f"{title_of_column(self.column)} is {self.words_of_value}"

    @property
    def words_of_value(self) -> str:
        """Say the value alone."""
        if self.range is None:
            return self.value or "unknown"
        low, high = self.range
        return f"{low:.6g}" if low == high else f"{low:.6g} to {high:.6g}"


Conditions = tuple[Condition, ...]


@dataclass(frozen=True, eq=False)
class Levels:
    """The values of a column, and which of them each case has: its place, -1 for none."""

    column: str
    conditions: Conditions
    places: Int[np.ndarray, " case"]


def find_levels(table: pd.DataFrame, outcomes: Outcomes) -> Iterator[Levels]:
    """List the columns by which cases are cut: metadata, tags, what labels say, and last what repeats these."""
    label = read_levels(table["label"], outcomes.is_number)
    metadata = [read_levels(table[column]) for column in table.columns if column.startswith(METADATA)]
    repeats = [np.array_equal(one.places, label.places) for one in metadata]
    yield from (one for one, repeat in zip(metadata, repeats, strict=True) if not repeat)
    yield from read_tuples(table["tags"])
    if outcomes.info.kind == FINDINGS:
        yield from read_tuples(table["truth"])
    else:
        yield label
    yield from (one for one, repeat in zip(metadata, repeats, strict=True) if repeat)


def read_levels(column: pd.Series, numeric: bool = True) -> Levels:
    """Find the values of a column; many different numbers are cut into quarters of the cases, where it is numeric."""
    name, numbers = str(column.name), as_numbers(column) if numeric else None
    if numbers is None:
        places, values = pd.factorize(np.array(["\n".join(values_of(cell)) for cell in column], object))
        return Levels(name, tuple(Condition(name, str(value)) for value in values), places)
    different = np.unique(numbers[~np.isnan(numbers)])
    if len(different) > NUMBERS:
        edges = np.quantile(numbers[~np.isnan(numbers)], (0.25, 0.5, 0.75))
        groups = np.where(np.isnan(numbers), -1, np.searchsorted(edges, numbers, side="left"))
    else:
        groups = np.where(np.isnan(numbers), -1, np.searchsorted(different, numbers))
    found = [group for group in np.unique(groups).tolist() if group >= 0]
    ranges = [numbers[groups == group] for group in found]
    conditions = [Condition(name, range=(float(part.min()), float(part.max()))) for part in ranges]
    places = np.searchsorted(found, groups) if found else np.zeros(len(groups), int)
    missing = groups < 0
    return Levels(name, (*conditions, *(Condition(name),) * bool(missing.any())), np.where(missing, len(found), places))


def as_numbers(column: pd.Series) -> Float64[np.ndarray, " case"] | None:
    """Read a column as numbers, NaN where nothing is known; None if it holds anything else."""
    if pd.api.types.is_bool_dtype(column):
        return None
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    empty = np.array([values_of(cell) == ("",) for cell in column])
    return numbers if (empty | np.isfinite(numbers)).all() and not empty.all() else None


def read_tuples(column: pd.Series) -> Iterator[Levels]:
    """List every value of cells that hold several: a case has it, or is none of the slice."""
    cells = column.tolist()
    for value in sorted({value for cell in set(cells) for value in cell}):
        has = {cell: value in cell for cell in set(cells)}
        places = np.array([0 if has[cell] else -1 for cell in cells], int)
        yield Levels(str(column.name), (Condition(str(column.name), value),), places)
