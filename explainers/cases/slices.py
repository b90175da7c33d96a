"""For whom a model fails: cases that share a value of a column, or two, beside all other cases. Free of torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int

from explainers.cases.figures import summarise
from explainers.cases.filters import Filter
from explainers.cases.intervals import Z, wilson
from explainers.cases.levels import Condition, Conditions, Levels, find_levels, read_levels
from explainers.cases.outcomes import Outcomes
from explainers.tables import write_csv

#: Of fewer pictures a slice says nothing.
FEWEST = 5

#: A column with more values is not crossed with others.
CROSSED = 24

#: How much of two slices' cases together must be in both for one to stand for the other, and how many others are named.
ALIKE, NAMED = 0.9, 3

#: Of how many of the worst slices all figures are written.
FIGURED = 100

#: Below this share of false alarms a slice is said to fail.
ALARM = 0.05


@dataclass(frozen=True, eq=False)
class Slices:
    """Slices, first those that fail by more than chance, the worst first, then the surely worst first.

    ``table`` has a row for each: "slice" in words, "count", "right" (how many), "value" (accuracy, of numbers the mean
    absolute error) with "low" and "high", "rest" (the same of all other cases), "p" and "q". ``same`` names other
    slices of the same or nearly the same cases. ``small`` says of which columns how many values have fewer than FEWEST
    cases. ``tested`` is how many slices were compared.
    """

    table: pd.DataFrame
    conditions: tuple[Conditions, ...]
    same: tuple[tuple[str, ...], ...]
    small: Mapping[str, int]
    tested: int

    def __len__(self) -> int:
        return len(self.conditions)

    @cached_property
    def failing(self) -> Int[np.ndarray, " slice"]:
        """The rows of slices that are worse than the rest by more than chance, all tests taken together."""
        return np.flatnonzero(self.table["q"].to_numpy() < ALARM)


def find_slices(outcomes: Outcomes, table: pd.DataFrame) -> Slices:
    """Compare the cases of each value of a column with all others, and those where two columns cross.

    The test is Fisher's exact one, of numbers Mann and Whitney's, each whether the slice is worse; q is p corrected for
    the number of slices (Benjamini and Hochberg 1995, doi:10.1111/j.2517-6161.1995.tb02031.x). Where two columns cross
    a slice is listed if it is also worse than the others that have one of its two values, by Fisher's test, of numbers
    Welch's; of several of nearly the same cases, the one whose columns come first.
    """
    known = np.flatnonzero(outcomes.known)
    judged = outcomes[known]
    levels = [*find_levels(table.iloc[known], judged)]
    counts = count(levels, Scores.of(judged))
    small = count_small(levels)
    tested = counts.drop_same()
    p = tested.compare()
    q = correct(p)
    listed = np.flatnonzero((tested.first == tested.second) | (correct(tested.compare_with_parents()) < ALARM))
    listed, same = merge(tested, listed)
    order = rank(tested.take(listed), q[listed] < ALARM)
    return describe(tested, listed[order], [same[place] for place in order], p, q, small)


@dataclass(frozen=True, eq=False)
class Scores:
    """What is compared: right or wrong as 1 and 0, or by how much numbers are off; and what else is summed up of it."""

    values: Float64[np.ndarray, " case"]
    is_number: bool

    @classmethod
    def of(cls, judged: Outcomes) -> Scores:
        """Read what is compared."""
        return cls(np.abs(judged.errors) if judged.is_number else judged.right.astype(np.float64), judged.is_number)

    @cached_property
    def ranks(self) -> Float64[np.ndarray, " case"]:
        """Mean ranks, from 1."""
        from scipy.stats import rankdata

        return np.asarray(rankdata(self.values), np.float64)

    def p(self, count: np.ndarray, summed: np.ndarray, total: np.ndarray | int, all_summed: np.ndarray) -> np.ndarray:
        """How probable so few right ones of ``count`` are among ``total``, if it made no difference, by Fisher's test.

        One-sided, from the hypergeometric distribution.
        """
        from scipy.stats import hypergeom

        return np.asarray(hypergeom.cdf(summed, total, all_summed, count)).clip(0, 1)

    def p_of_ranks(self, count: np.ndarray, ranked: np.ndarray) -> np.ndarray:
        """How probable such large ranks are, if it made no difference: Mann and Whitney's test for many, one-sided."""
        from scipy.stats import norm

        total = len(self.values)
        _, ties = np.unique(self.values, return_counts=True)
        spread = (total + 1) - (ties.astype(float) ** 3 - ties).sum() / (total * (total - 1))
        deviation = np.sqrt(count * (total - count) / 12 * spread)
        above = ranked - count * (total + 1) / 2 - 0.5
        return np.asarray(norm.sf(np.divide(above, deviation, out=np.zeros_like(above), where=deviation > 0)))


@dataclass(frozen=True, eq=False)
class Counts:
    """Slices as pairs of the values ``first`` and ``second``, the same for the cases of one value, and what is in them.

    ``has`` tells of each case which values it has. ``sums`` are of scores, their squares and ranks, and of marks that
    are the same for the same cases alone.
    """

    has: Float64[np.ndarray, "case value"]
    conditions: Conditions
    scores: Scores
    first: Int[np.ndarray, " slice"]
    second: Int[np.ndarray, " slice"]
    count: Float64[np.ndarray, " slice"]
    sums: Mapping[str, Float64[np.ndarray, " slice"]]

    @property
    def values(self) -> Float64[np.ndarray, " slice"]:
        """Accuracies, or mean absolute errors."""
        return np.asarray(self.sums["score"] / self.count)

    def take(self, rows: np.ndarray) -> Counts:
        """Some of the slices."""
        sums = {name: values[rows] for name, values in self.sums.items()}
        return Counts(
            self.has, self.conditions, self.scores, self.first[rows], self.second[rows], self.count[rows], sums
        )

    def drop_same(self) -> Counts:
        """Leave one slice of those that are of the same cases, and none of all cases."""
        _, firsts = np.unique(self.sums["mark"], return_index=True)
        firsts = np.sort(firsts)
        return self.take(firsts[self.count[firsts] < len(self.has)])

    def compare(self) -> Float64[np.ndarray, " slice"]:
        """How probable it is that each slice is so much worse than the rest by chance."""
        if self.scores.is_number:
            return self.scores.p_of_ranks(self.count, self.sums["rank"])
        total, right = len(self.has), self.scores.values.sum()
        return self.scores.p(self.count, self.sums["score"], total, right)

    def compare_with_parents(self) -> Float64[np.ndarray, " slice"]:
        """The same in place of the rest for those that share one value, the worse comparison of both; 1 for singles."""
        counts, sums = self.has.sum(axis=0), self.scores.values @ self.has
        squares = self.scores.values**2 @ self.has
        found = np.zeros(len(self.count))
        for parent in (self.first, self.second):
            if self.scores.is_number:
                p = self.welch(counts[parent], sums[parent], squares[parent])
            else:
                p = self.scores.p(self.count, self.sums["score"], counts[parent], sums[parent])
            found = np.maximum(found, p)
        return np.where(self.first == self.second, 1.0, found)

    def welch(self, total: np.ndarray, summed: np.ndarray, squared: np.ndarray) -> Float64[np.ndarray, " slice"]:
        """How probable so large a mean is beside the others of a total, by Welch's test for many; 1 for few others."""
        from scipy.stats import norm

        few = total - self.count < FEWEST
        rest = np.where(few, FEWEST, total - self.count)
        means = self.values, (summed - self.sums["score"]) / rest
        inside = (self.sums["square"] / self.count - means[0] ** 2).clip(0) / (self.count - 1)
        outside = ((squared - self.sums["square"]) / rest - means[1] ** 2).clip(1e-12) / (rest - 1)
        return np.where(few, 1.0, norm.sf((means[0] - means[1]) / np.sqrt(inside + outside)))

    def ends(self) -> tuple[Float64[np.ndarray, " slice"], Float64[np.ndarray, " slice"]]:
        """The ends of 95 % intervals."""
        if not self.scores.is_number:
            return wilson(self.sums["score"], self.count)
        variance = (self.sums["square"] / self.count - self.values**2).clip(0) * self.count / (self.count - 1)
        half = Z * np.sqrt(variance / self.count)
        return (self.values - half).clip(0), self.values + half

    def cases(self, row: int) -> Bool[np.ndarray, " case"]:
        """The cases of a slice."""
        return np.asarray(self.has[:, self.first[row]] * self.has[:, self.second[row]] > 0)

    def conditions_of(self, row: int) -> Conditions:
        """The conditions of a slice."""
        return tuple(self.conditions[place] for place in dict.fromkeys((int(self.first[row]), int(self.second[row]))))


def count(levels: Sequence[Levels], scores: Scores) -> Counts:
    """Count the cases of each value and each pair of values, singles first, pairs in the order of columns."""
    has, conditions, crossed = mark(levels, len(scores.values))
    narrow, singles = np.flatnonzero(crossed), np.arange(len(conditions))
    names = np.array([conditions[place].column for place in narrow], object)
    rows, columns = np.triu_indices(len(narrow), 1)
    rows, columns = (places[names[rows] != names[columns]] for places in (rows, columns))
    first, second = np.concatenate([singles, narrow[rows]]), np.concatenate([singles, narrow[columns]])
    marks = np.random.default_rng(0).integers(1, 2**40, len(has)).astype(np.float64)
    weights = {"count": np.ones(len(has)), "score": scores.values, "square": scores.values**2}
    weights |= {"rank": scores.ranks, "mark": marks}
    both = has[:, narrow]
    sums = {
        name: np.concatenate([values @ has, (both.T @ (both * values[:, None]))[rows, columns]])
        for name, values in weights.items()
        if scores.is_number or name not in ("square", "rank")
    }
    counted = Counts(has, conditions, scores, first, second, sums.pop("count"), sums)
    return counted.take(np.flatnonzero(counted.count >= FEWEST))


def mark(
    levels: Sequence[Levels], cases: int
) -> tuple[Float64[np.ndarray, "case value"], Conditions, Bool[np.ndarray, " value"]]:
    """Tell which of the values that are frequent enough each case has, and which are crossed with others."""
    columns, conditions, crossed = list[np.ndarray](), list[Condition](), list[bool]()
    for one in levels:
        counts = np.bincount(one.places[one.places >= 0], minlength=len(one.conditions))
        for place in np.flatnonzero(counts >= FEWEST).tolist():
            columns.append(one.places == place)
            conditions.append(one.conditions[place])
            crossed.append(len(one.conditions) <= CROSSED)
    has = np.array(columns, np.float64).reshape(len(columns), cases).T
    return np.ascontiguousarray(has), tuple(conditions), np.array(crossed, bool)


def count_small(levels: Iterable[Levels]) -> Mapping[str, int]:
    """Count the values of each column that too few cases have."""
    small = dict[str, int]()
    for one in levels:
        counts = np.bincount(one.places[one.places >= 0], minlength=len(one.conditions))
        if few := int(((counts > 0) & (counts < FEWEST)).sum()):
            small[one.column] = small.get(one.column, 0) + few
    return small


def correct(p: Float64[np.ndarray, " slice"]) -> Float64[np.ndarray, " slice"]:
    """Correct for the number of slices."""
    from scipy.stats import false_discovery_control

    return np.asarray(false_discovery_control(p)) if len(p) else p


def merge(counts: Counts, listed: Int[np.ndarray, " slice"]) -> tuple[np.ndarray, list[tuple[str, ...]]]:
    """Put one slice in the place of several of nearly the same cases: the first; returns those and the others' words.

    A slice of one value stays, and stands for pairs.
    """
    kept, same = list[int](), list[tuple[str, ...]]()
    for row in listed.tolist():
        cases, single = counts.cases(row), counts.first[row] == counts.second[row]
        near = np.flatnonzero(
            np.minimum(counts.count, counts.count[row]) >= ALIKE * np.maximum(counts.count, counts.count[row])
        )
        both = (counts.has[cases][:, counts.first[near]] * counts.has[cases][:, counts.second[near]]).sum(axis=0)
        twins = near[both >= ALIKE * (counts.count[near] + counts.count[row] - both)]
        chosen = row if single else int(twins[0])
        if chosen not in kept:
            kept.append(chosen)
            same.append(tuple(tell(counts.conditions_of(twin)) for twin in twins.tolist() if twin != chosen)[:NAMED])
    return np.array(kept, int), same


def rank(listed: Counts, fails: Bool[np.ndarray, " slice"]) -> Int[np.ndarray, " slice"]:
    """Order slices: first those that fail by how bad they are, then the others by how bad they are at least."""
    low, high = listed.ends()
    values, least = (-listed.values, -low) if listed.scores.is_number else (listed.values, high)
    return np.lexsort((-listed.count, np.where(fails, values, least), ~fails))


def describe(
    counts: Counts,
    rows: np.ndarray,
    same: Sequence[tuple[str, ...]],
    p: np.ndarray,
    q: np.ndarray,
    small: Mapping[str, int],
) -> Slices:
    """Put slices into a table."""
    found, total = counts.take(rows), len(counts.has)
    rest = (counts.scores.values.sum() - found.sums["score"]) / (total - found.count)
    low, high = found.ends()
    conditions = tuple(found.conditions_of(row) for row in range(len(rows)))
    columns = {
        "slice": [tell(one) for one in conditions],
        "count": found.count.astype(int),
        "right": found.sums["score"].round().astype(int),
        "value": found.values,
        "low": low,
        "high": high,
        "rest": rest,
        "p": p[rows],
        "q": q[rows],
    }
    return Slices(pd.DataFrame(columns), conditions, tuple(same), small, len(p))


def tell(conditions: Conditions) -> str:
    """Say which cases a slice has; plain text that may hold anything."""
    return " and ".join(one.words for one in conditions)


def to_filter(conditions: Conditions, base: Filter | None = None) -> Filter:
    """Make the filter that lets just these cases through, of those that a base does."""
    found = base or Filter()
    for one in conditions:
        found = found.only(one.column, one.value) if one.range is None else found.within(one.column, *one.range)
    return found


def rows_of(table: pd.DataFrame, outcomes: Outcomes, conditions: Conditions) -> Int[np.ndarray, " row"]:
    """Find the cases of a slice that are known to be judged rightly or wrongly."""
    rows = to_filter(conditions).apply(table)
    return np.asarray(rows[outcomes.known[rows]])


@dataclass(frozen=True, eq=False)
class Crossing:
    """Two columns crossed: for each pair of values how many cases, and their accuracy or mean absolute error."""

    first: Levels
    second: Levels
    counts: Int[np.ndarray, "first second"]
    values: Float64[np.ndarray, "first second"]

    def conditions(self, row: int, column: int) -> Conditions:
        """The conditions of a cell."""
        return self.first.conditions[row], self.second.conditions[column]


def cross(outcomes: Outcomes, table: pd.DataFrame, first: str, second: str) -> Crossing:
    """Cross two columns; NaN stands where there is no case."""
    known: Bool[np.ndarray, " case"] = outcomes.known
    judged, cells = outcomes[known], table[known]
    rows, columns = (read_levels(cells[name], name != "label" or judged.is_number) for name in (first, second))
    shape = len(rows.conditions), len(columns.conditions)
    places = rows.places * shape[1] + columns.places
    scores = np.abs(judged.errors) if judged.is_number else judged.right.astype(np.float64)
    counts = np.bincount(places, minlength=shape[0] * shape[1])
    sums = np.bincount(places, scores, minlength=len(counts))
    values = np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    return Crossing(rows, columns, counts.reshape(shape), values.reshape(shape))


def write_slices(slices: Slices, outcomes: Outcomes, table: pd.DataFrame) -> bytes:
    """Write slices as CSV, the worst with all figures that the whole has, empty where a slice is too small for one."""
    titles = [figure.title for figure in summarise(outcomes)[1:]]
    parts = [f"{title}{end}" for title in titles for end in ("", " low", " high")]
    columns = ["slice", "count", "right", "value", "low", "high", "rest", "p", "q", "nearly the same", *parts]
    rows = []
    for place, row in enumerate(slices.table.itertuples(index=False)):
        cases = outcomes[rows_of(table, outcomes, slices.conditions[place])] if place < FIGURED else None
        figures = {figure.title: figure for figure in (summarise(cases) if cases else ())}
        found = [figures.get(title) for title in titles]
        cells = [(one.value, one.low, one.high) if one and one.value is not None else ("",) * 3 for one in found]
        rows.append((*row, "; ".join(slices.same[place]), *(cell for part in cells for cell in part)))
    return write_csv(columns, rows)
