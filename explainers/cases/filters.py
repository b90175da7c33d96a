"""Which pictures are looked at, and in which order: by name, by what is known of them, by what a model said of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import inf, isnan
from typing import Any
from urllib.parse import parse_qsl, urlencode

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from explainers.labels import compose, fold

#: Columns of metadata are called so in the table of cases.
METADATA = "data."

#: The longest text of a filter that is read from a link, and how many conditions it may hold.
LONGEST, MOST = 4000, 200

#: What the columns of the table of cases are called in a sentence; those of metadata go by their names.
WORDS = {"decision": "prediction", "right": "right or wrong", "truth": "known to be", "tags": "tag"}

#: What stands in a sentence for the values of the column ``right``.
ANSWERS = {"yes": "right", "no": "wrong", "": "right or wrong unknown"}

DIGITS = re.compile(r"\d+")

Chosen = tuple[tuple[str, tuple[str, ...]], ...]
Ranges = tuple[tuple[str, float, float], ...]


@dataclass(frozen=True)
class Filter:
    """Conditions that a case must meet, all of them, and the order of those that do.

    All words of ``text`` must be in its name. ``chosen`` has columns with values of which a case must have one, ""
    where nothing is known; a cell that is a tuple has all values in it. ``ranges`` has columns with the lowest and the
    highest number. ``sort`` is a column, "" for the order as it is.
    """

    text: str = ""
    chosen: Chosen = ()
    ranges: Ranges = ()
    sort: str = ""
    descending: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the table that it asks about, without "name"."""
        named = [column for column, _ in self.chosen] + [column for column, _, _ in self.ranges]
        return tuple(dict.fromkeys([*named, *([self.sort] if self.sort not in ("", "name") else [])]))

    def apply(self, table: pd.DataFrame) -> Int[np.ndarray, " row"]:
        """Find the rows of the cases that meet all conditions, in order; conditions on absent columns are left out."""
        meets = [_has_words(table["name"], self.text)] if self.text.strip() else []
        meets += [_has_value(table[column], values) for column, values in self.chosen if column in table]
        meets += [_is_within(table[column], low, high) for column, low, high in self.ranges if column in table]
        rows = np.flatnonzero(reduce(np.logical_and, meets, np.ones(len(table), bool)))
        return rows[_order(table[self.sort].iloc[rows], self.descending)] if self.sort in table else rows

    def fit(self, columns: Collection[str]) -> tuple[Filter, str]:
        """Leave out what asks about absent columns; returns the rest and a sentence that says so, "" if all is there.

        The sentence may hold any text that a link brought.
        """
        absent = [column for column in self.columns if column not in columns]
        if not absent:
            return self, ""
        fitting = replace(
            self,
            chosen=tuple(one for one in self.chosen if one[0] in columns),
            ranges=tuple(one for one in self.ranges if one[0] in columns),
            sort="" if self.sort in absent else self.sort,
        )
        names = ", ".join(f"“{title_of_column(column)}”" for column in absent)
        return fitting, f"Nothing is known here of {names}, so the filter does not ask about it."

    def only(self, column: str, *values: str) -> Filter:
        """The same filter with these values of a column, instead of what it asked about the column before."""
        others = tuple(one for one in self.chosen if one[0] != column)
        return replace(self, chosen=(*others, (column, values)) if values else others)

    def within(self, column: str, low: float = -inf, high: float = inf) -> Filter:
        """The same filter with this range of a column, instead of what it asked about the column before."""
        others = tuple(one for one in self.ranges if one[0] != column)
        bounded = low > -inf or high < inf
        return replace(self, ranges=(*others, (column, low, high)) if bounded else others)

    def write(self) -> str:
        """Write the filter as a text for a link; "" for one that lets everything through as it is."""
        pairs = [("text", self.text)] if self.text.strip() else []
        pairs += [(f"is.{column}", value) for column, values in self.chosen for value in values]
        pairs += [(f"in.{column}", f"{low!r}..{high!r}") for column, low, high in self.ranges]
        pairs += [("down" if self.descending else "up", self.sort)] if self.sort else []
        return urlencode(pairs)

    @staticmethod
    def read(text: str) -> Filter:
        """Read what ``write`` wrote; what cannot be read is left out, and of a text that is too long all of it."""
        try:
            pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MOST) if len(text) <= LONGEST else []
        except ValueError:
            return Filter()
        chosen: dict[str, list[str]] = {}
        for key, value in pairs:
            if key.startswith("is."):
                chosen.setdefault(key[3:], []).append(value)
        ranges = {key[3:]: _read_range(value) for key, value in pairs if key.startswith("in.")}
        words = dict(pairs)
        return Filter(
            words.get("text", "").strip(),
            tuple((column, tuple(dict.fromkeys(values))) for column, values in chosen.items()),
            tuple((column, *bounds) for column, bounds in ranges.items() if bounds),
            words.get("down") or words.get("up") or "",
            bool(words.get("down")),
        )

    def sentence(self, shown: int, count: int) -> str:
        """Say how many cases of how many are shown, and which: plain text that may hold whatever a link brought."""
        said = [f"name has “{self.text}”"] if self.text.strip() else []
        said += [_tell_values(column, values) for column, values in self.chosen]
        said += [_tell_range(column, low, high) for column, low, high in self.ranges]
        if self.sort:
            said.append(f"sorted by {title_of_column(self.sort)}{', last first' if self.descending else ''}")
        cases = f"{shown:,} of {count:,} pictures" if shown < count else f"All {count:,} pictures"
        return f"{cases}: {', '.join(said)}" if said else cases


def title_of_column(column: str) -> str:
    """Call a column of the table of cases as a person would."""
    return WORDS.get(column) or column.removeprefix(METADATA) or "?"


def _tell_values(column: str, values: Sequence[str]) -> str:
    if column == "right":
        return " or ".join(ANSWERS.get(value, value) for value in values)
    return f"{title_of_column(column)} {' or '.join(value or 'unknown' for value in values)}"


def _tell_range(column: str, low: float, high: float) -> str:
    factor, unit = (100, " %") if column == "confidence" else (1, "")
    ends = [f"{factor * end:.6g}" for end in (low, high)]
    if low == -inf:
        return f"{title_of_column(column)} up to {ends[1]}{unit}"
    words = f"{ends[0]}{unit} or more" if high == inf else f"{ends[0]} to {ends[1]}{unit}"
    return f"{title_of_column(column)} {words}"


def _read_range(text: str) -> tuple[float, float] | None:
    """Read two numbers; None if these are not two, or not in order."""
    try:
        low, high = map(float, text.split(".."))
    except ValueError:
        return None
    return None if isnan(low) or isnan(high) or low > high else (low, high)


def _has_words(names: pd.Series[Any], text: str) -> Bool[np.ndarray, " row"]:
    folded = [fold(name) for name in names.tolist()]
    found = [np.fromiter((word in name for name in folded), bool, len(folded)) for word in fold(text).split()]
    return reduce(np.logical_and, found)


def _has_value(column: pd.Series[Any], values: Sequence[str]) -> Bool[np.ndarray, " row"]:
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        found = column.isin([number for number in map(_read_number, values) if number is not None])
        return (found | (column.isna() if "" in values else False)).to_numpy(bool)
    wanted, cells = frozenset(map(compose, values)), column.tolist()
    meets = {cell: not wanted.isdisjoint(values_of(cell)) for cell in set(cells)}
    return np.fromiter(map(meets.__getitem__, cells), bool, len(cells))


def _is_within(column: pd.Series[Any], low: float, high: float) -> Bool[np.ndarray, " row"]:
    if pd.api.types.is_bool_dtype(column):
        return np.zeros(len(column), bool)
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(float, na_value=np.nan)
    return (numbers >= low) & (numbers <= high)


def values_of(cell: Any) -> tuple[str, ...]:
    """The values in a cell as texts in NFC, those of a tuple each; ("",) where nothing is known."""
    if isinstance(cell, tuple):
        return tuple(map(compose, cell)) or ("",)
    if isinstance(cell, str):
        return (compose(cell),)
    if cell is None or cell is pd.NA or cell != cell:
        return ("",)
    return (str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell),)


def _read_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _order(column: pd.Series[Any], descending: bool) -> Int[np.ndarray, " row"]:
    """Sort stably; what is not known comes last in either direction."""
    if pd.api.types.is_numeric_dtype(column):
        numbers = column.to_numpy(float, na_value=np.nan)
        return np.argsort(-numbers if descending else numbers, kind="stable")
    cells = column.tolist()
    written = {cell: natural_text(", ".join(sorted(values_of(cell)))) for cell in set(cells)}
    keys = [written[cell] for cell in cells]
    known = [row for row, key in enumerate(keys) if key]
    unknown = [row for row, key in enumerate(keys) if not key]
    return np.array(sorted(known, key=keys.__getitem__, reverse=descending) + unknown, int)


def natural_text(text: str) -> str:
    """Write a text so that numbers in it sort by their values, and folders before what begins like them."""
    return DIGITS.sub(_pad, text.lower().replace("/", "\0"))


def _pad(digits: re.Match[str]) -> str:
    return digits[0].zfill(20)
