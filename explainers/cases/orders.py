"""In which order labels may be a model's classes, where they are not called alike, and what speaks for it.

Free of torch until a model is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from explainers.asking import ask
from explainers.cache import Cache
from explainers.cases.dataset import Dataset
from explainers.cases.predictions import PredictAll, Predictions, ask_about
from explainers.images.naming import natural_key
from explainers.index.subjects import ManyInputs
from explainers.info import ModelInfo
from explainers.labels import find_strange, list_names, match_label, quote
from explainers.outputs import NUMBERS

if TYPE_CHECKING:
    from explainers.graph.model import Model

#: How many labelled pictures are asked about, and how many at once, so that others need not wait for long.
ASKED, TOGETHER = 200, 16


@dataclass(frozen=True)
class Order:
    """Names of classes in one order: how it came about, and how many of the ``known`` answers are ``right`` with it."""

    names: tuple[str, ...]
    how: str
    right: int = 0
    known: int = 0

    @property
    def sentence(self) -> str:
        """Say the order and what speaks for it."""
        return f"{quote(self.names)} ({self.how}): {self.right:,} of {self.known:,} right"


def find_orders(info: ModelInfo, dataset: Dataset) -> list[Order]:
    """List the orders in which labels may be a model's classes, the likeliest first.

    There is none where all labels are classes, or where they are not as many.
    """
    labels = [entry.label for entry in dataset.entries]
    if info.kind == NUMBERS or info.gives_map or not find_strange(labels, info):
        return []
    names = list_names(labels, info)
    order = dataset.order if {*names} <= {*dataset.order} else ()
    count = len(info.class_names)
    if len(names) != count and len(order) != count:
        return []
    names = order if len(names) != count else names
    ways = {
        "alphabetical, as torchvision's ImageFolder sorts": tuple(sorted(names)),
        "alphabetical, numbers by their value": tuple(sorted(names, key=lambda name: natural_key([name]))),
        "as the columns come" if order else "as the data comes": tuple(order) or names,
    }
    found: dict[tuple[str, ...], str] = {}
    for how, own in ways.items():
        if len(own) == count:
            found.setdefault(own, how)
    return [Order(own, how) for own, how in found.items()]


def choose_asked(dataset: Dataset) -> list[int]:
    """Choose the labelled pictures that a model is asked about, spread over all of them."""
    rows = [row for row, entry in enumerate(dataset.entries) if entry.label is not None]
    places = np.linspace(0, max(0, len(rows) - 1), min(ASKED, len(rows))).astype(int)
    return [rows[place] for place in places.tolist()]


def ask_in_parts(model: Model, dataset: Dataset, rows: Sequence[int]) -> list[ManyInputs]:
    """Make of some pictures what a model is asked about, part by part."""
    entries = [dataset.entries[row] for row in rows]
    return [ask_about(model, entries[first : first + TOGETHER]) for first in range(0, len(entries), TOGETHER)]


def compare(
    info: ModelInfo, orders: Sequence[Order], labels: Sequence[str | None], parts: Sequence[Predictions]
) -> list[Order]:
    """Count for each order how many answers of a model about labelled pictures are right with it, the best first."""
    said = [part[row].decisions(info) if part.read[row] else () for part in parts for row in range(len(part))]
    counted = [count_right(order, info, labels, said) for order in orders]
    return sorted(counted, key=lambda order: -order.right)


def count_right(order: Order, info: ModelInfo, labels: Sequence[str | None], said: Sequence[Sequence[int]]) -> Order:
    """Count how many decisions are right if the classes are called so."""
    renamed = replace(info, class_names=order.names)
    truth: dict[tuple[str | None, int], int] = {}
    right, known = 0, 0
    for label, decisions in zip(labels, said, strict=True):
        for decision in decisions:
            key = (label, info.output_of(decision))
            if key not in truth:
                truth[key] = match_label(label, renamed, decision)
            known += truth[key] >= 0
            right += truth[key] == decision
    return replace(order, right=right, known=known)


def compare_orders(model: Model, dataset: Dataset, cache: Cache | None = None) -> list[Order]:
    """Find the orders, ask the model, and count; waits for it."""
    orders = find_orders(model.info, dataset)
    if not orders:
        return []
    rows = choose_asked(dataset)
    parts = [ask(PredictAll(), about, cache=cache).result() for about in ask_in_parts(model, dataset, rows)]
    return compare(model.info, orders, [dataset.entries[row].label for row in rows], parts)


def rename(model: Any, names: Sequence[str]) -> Any:
    """Call a model's classes otherwise; its results do not depend on that."""
    return replace(model, info=replace(model.info, class_names=tuple(names)))
