"""Which row of a table is about which picture, by what a column says of its file. Free of torch."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from explainers.labels import fold

#: Endings of names of pictures, which tables often leave out.
ENDING = r"(?i)\.(?:png|jpe?g|tiff?|webp|bmp|gif|dcm|dicom|heic|heif|avif|jxl|jp2|nii|npy|gz)$"

#: In place of a picture: there is none, or it could be one of several.
NONE, SEVERAL = -1, -2

#: How many folders above a file tell files apart at most.
DEEPEST = 8


@dataclass(frozen=True, eq=False)
class Names:
    """The names of pictures, to be found by what a table says of them."""

    names: Sequence[str]

    @cached_property
    def parts(self) -> list[list[str]]:
        """Each name's folders and file, as ``split_path`` gives them."""
        return [split_path(name) for name in self.names]

    @cached_property
    def stems(self) -> frozenset[str]:
        """The files' names as they are compared last."""
        return frozenset(loose_stem(parts[-1]) for parts in self.parts)

    @cached_property
    def by_end(self) -> dict[tuple[str, ...], list[int]]:
        """The pictures by the ends of their paths, of every length."""
        found = defaultdict[tuple[str, ...], list[int]](list)
        for place, parts in enumerate(self.parts):
            loose = loosen_path(parts)
            for first in range(max(0, len(loose) - DEEPEST), len(loose)):
                found[loose[first:]].append(place)
        return found

    def find(self, value: str) -> tuple[int, tuple[int, int]]:
        """Find the picture that a text means: the one whose path ends most alike, then as exactly.

        Returns NONE or SEVERAL in place of a picture where there is not one alone; and how alike they are.
        """
        parts = split_path(value)
        loose = loosen_path(parts)
        for first in range(max(0, len(loose) - DEEPEST), len(loose)):
            places = self.by_end.get(loose[first:])
            if places:
                rates = [rate(parts[-1], self.parts[place][-1]) for place in places]
                best = [place for place, rated in zip(places, rates, strict=True) if rated == max(rates)]
                return best[0] if len(best) == 1 else SEVERAL, (len(loose) - first, max(rates))
        return NONE, (0, 0)


def split_path(path: str) -> list[str]:
    """Split what a table says of a file into folders and the file's name."""
    return [part for part in re.split(r"[/\\]", path.strip()) if part not in ("", ".")] or [""]


def loosen_path(parts: Sequence[str]) -> tuple[str, ...]:
    """Write a path as it is compared: folders without case, the file without ending and zeros before a number."""
    return (*(fold(part) for part in parts[:-1]), loose_stem(parts[-1]))


def loose_stem(file: str) -> str:
    """Write a file's name as it is compared last: without case, ending, and zeros before a number."""
    return fold(re.sub(ENDING, "", file)).lstrip("0")


def rate(one: str, other: str) -> int:
    """Rate how alike the names of two files are that are the same when written loosely."""
    if one == other:
        return 3
    stems = re.sub(ENDING, "", one), re.sub(ENDING, "", other)
    if stems[0] == stems[1]:
        return 2
    return 1 if fold(stems[0]) == fold(stems[1]) else 0


def loosen_files(column: pd.Series[Any]) -> list[str]:
    """Write each cell as ``loose_stem`` does the name of its file; quick, as a table may have many columns."""
    stems = column.str.replace(r"^.*[/\\]", "", regex=True).str.replace(ENDING, "", regex=True).str.strip()
    folded: list[str] = stems.str.casefold().str.lstrip("0").tolist()
    return folded


def could_be_files(column: pd.Series[Any], names: Names) -> list[bool]:
    """Mark the cells that may name a picture."""
    stems, cells = names.stems, column.tolist()
    return [stem in stems and cell != "" for stem, cell in zip(loosen_files(column), cells, strict=True)]


def pair(column: pd.Series[Any], names: Names) -> Int[np.ndarray, " row"]:
    """Find the picture of each row; NONE where there is none, SEVERAL where it could be one of several.

    Of two texts that both may mean a picture, the one that is more like its path does.
    """
    codes, values = pd.factorize(column)
    found = np.full(len(values) + 1, NONE)
    likeness: dict[int, list[tuple[tuple[int, int], int]]] = defaultdict(list)
    texts = pd.Series(values, dtype="str")
    for place, (text, possible) in enumerate(zip(texts.tolist(), could_be_files(texts, names), strict=True)):
        if not possible:
            continue
        picture, alike = names.find(text)
        found[place] = picture
        if picture >= 0:
            likeness[picture].append((alike, place))
    for claims in likeness.values():
        best = max(claims)[0]
        winners = [place for alike, place in claims if alike == best]
        for alike, place in claims:
            if alike != best:
                found[place] = NONE
            elif len(winners) > 1:
                found[place] = SEVERAL
    return found[codes]


def join_columns(table: pd.DataFrame, columns: Iterable[str]) -> pd.Series[Any]:
    """Join the columns that together say which file a row is about, folders first."""
    joined: pd.Series[Any] | None = None
    for name in columns:
        joined = table[name] if joined is None else joined + "/" + table[name]
    return pd.Series("", index=table.index, dtype="str") if joined is None else joined


def guess_file(table: pd.DataFrame, names: Names) -> tuple[str, ...]:
    """Guess the column that says which picture a row is about, or two: of the folder and the file; () if none does.

    It is the one in which most pictures are named, if that are half of them or half of its cells.
    """
    counts = {name: count_named(table[name], names) for name in table.columns}
    best = max(counts, key=counts.__getitem__, default="")
    if not counts or not any(counts[best]):
        return ()
    if counts[best][0] * 2 < len(names.stems) and counts[best][1] * 2 < (table[best] != "").sum():
        return ()
    folders = {fold(part) for parts in names.parts for part in parts[:-1]}
    if not folders or len(names.stems) == len(names.names):
        return (best,)
    alone = pair(table[best], names)
    if (alone == SEVERAL).any():
        for other in table.columns.drop(best):
            if table[other].str.casefold().isin(folders).mean() > 0.5:
                together = pair(join_columns(table, (other, best)), names)
                if (together >= 0).sum() > (alone >= 0).sum():
                    return (str(other), best)
    return (best,)


def count_named(column: pd.Series[Any], names: Names) -> tuple[int, int]:
    """Count the pictures' names that a column may mean, and the cells that may mean one."""
    stems, cells = names.stems, column.tolist()
    named = [stem for stem, cell in zip(loosen_files(column), cells, strict=True) if stem in stems and cell != ""]
    return len(set(named)), len(named)
