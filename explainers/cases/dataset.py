"""Pictures with all that is known of each besides its pixels. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from explainers.cases.annotations import Box
from explainers.images import Picture, Sample


@dataclass(frozen=True, eq=False)
class Dataset:
    """Pictures to look into, each with its label in it, and what else is known of them.

    ``metadata`` has a row for each entry, numbered from 0, and columns named as in the table that they came from; cells
    are texts or numbers, "" or NaN where nothing is known. A column "split" says which part of the data a picture
    belongs to. ``notes`` say in sentences what was understood. ``masks`` are pictures that mark places in others, and
    ``boxes`` what is marked in them otherwise, by the number of the entry. ``order`` has the names in labels in the
    order in which the columns of a table or a file of annotations have them, () where there is none.
    """

    entries: Sequence[Sample | Picture]
    metadata: pd.DataFrame
    notes: tuple[str, ...] = ()
    masks: Mapping[int, Sequence[Sample | Picture]] = field(default_factory=dict)
    boxes: Mapping[int, Sequence[Box]] = field(default_factory=dict)
    order: tuple[str, ...] = ()

    @cached_property
    def names(self) -> Sequence[str]:
        """The names of the pictures."""
        return [entry.name for entry in self.entries]

    @cached_property
    def private(self) -> bool:
        """Whether any of it was uploaded, so that nothing of it may stand in a link."""
        return any(isinstance(entry, Picture) for entry in self.entries)


def collect(entries: Sequence[Sample | Picture]) -> Dataset:
    """Make a data set of pictures of which nothing else is known."""
    return Dataset(entries, pd.DataFrame(index=range(len(entries))))
