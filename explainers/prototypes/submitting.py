"""Strategies of an index, computed once for everybody: through the cache, named by what the index holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int

from explainers.cache import Cache, Job, R, code_digest, digest
from explainers.compute import shared_cache
from explainers.index import Index
from explainers.prototypes.maps import Map, draw_map
from explainers.prototypes.strategies import Strategies, fit_strategies
from explainers.prototypes.vectors import FEWEST, Vectors, embed
from explainers.settings import settings

#: How many classes a decision is compared with at most.
COMPARED = 20


@dataclass(frozen=True)
class Decisions:
    """What a layer did in every decision of an index.

    ``classes`` is the true class where it is known, else the predicted one; ``relevance`` is for that class. ``learnt``
    tells the samples that the model decides rightly, which strategies are found from (Dreyer et al. 2024).
    """

    relevance: Float32[np.ndarray, "sample concept"]
    classes: Int[np.ndarray, " sample"]
    learnt: Bool[np.ndarray, " sample"]


def read_decisions(index: Index, layer: str) -> Decisions:
    """Read a layer's decisions from an index; raises SelectionError for a layer that it does not have."""
    labels, predicted = index.table["label"].to_numpy(), index.table["predicted"].to_numpy()
    relevance = index.relevance(layer)
    known = (labels >= 0) & (labels != predicted)
    if known.any():
        relevance = relevance.copy()
        relevance[known] = index.relevance(layer, of="label")[known]
    classes = np.where(labels >= 0, labels, predicted).astype(np.int64)
    return Decisions(relevance, classes, classes == predicted)


def find_row(index: Index, digest: str) -> int | None:
    """Find the row of a picture in an index, by its digest; None if it is not there."""
    rows = np.flatnonzero(index.table["digest"] == digest)
    return int(rows[0]) if len(rows) else None


def submit_vectors(index: Index, layer: str, *, cache: Cache | None = None) -> Job[Vectors]:
    """Ask for the vectors of a layer's decisions, see ``embed``."""

    def compute(_: object) -> Vectors:
        found = read_decisions(index, layer)
        return embed(found.relevance, found.classes, found.learnt)

    return _submit(index, ("vectors", layer), compute, cache)


def submit_strategies(
    index: Index, layer: str, vectors: Vectors, klass: int, count: int | None = None, *, cache: Cache | None = None
) -> Job[Strategies]:
    """Ask for the strategies of one class, see ``fit_strategies``; those of a public index are kept on disk.

    ``vectors`` are the layer's.
    """

    def compute(_: object) -> Strategies:
        return fit_strategies(vectors, read_decisions(index, layer).relevance, klass, count)

    return _submit(index, ("strategies", layer, klass, count), compute, cache, _is_public(index))


def submit_map(
    index: Index, layer: str, vectors: Vectors, classes: Sequence[int], method: str, *, cache: Cache | None = None
) -> Job[Map]:
    """Ask for a map of the samples of some classes, see ``draw_map``; that of a public index is kept on disk."""

    def compute(_: object) -> Map:
        return draw_map(vectors, np.flatnonzero(np.isin(vectors.classes, classes)), method)

    return _submit(index, ("map", layer, sorted(classes), method), compute, cache, _is_public(index))


def comparable_classes(vectors: Vectors, first: Sequence[int] = (), most: int = COMPARED) -> tuple[int, ...]:
    """List the classes of enough samples to find strategies of: those named ``first``, then those of most samples."""
    classes, counts = np.unique(vectors.classes[vectors.learnt], return_counts=True)
    large = classes[np.argsort(-counts, kind="stable")][: (counts >= FEWEST).sum()].tolist()
    return tuple(dict.fromkeys([klass for klass in first if klass in large] + large))[:most]


def _is_public(index: Index) -> bool:
    """Whether an index lies where everybody's do; those of uploads lie elsewhere."""
    return index.store.resolve().is_relative_to(settings().cache.resolve())


def _submit(
    index: Index, asked: tuple[Any, ...], compute: Callable[[object], R], cache: Cache | None, durable: bool = False
) -> Job[R]:
    content = ["\n".join(index.table[column]) for column in ("digest", "label_name")]
    key = digest(code_digest(), index.recipe.key, *content, *asked)
    about = () if _is_public(index) else (index.recipe.digest, *index.table["digest"])
    return (cache or shared_cache()).submit(key, compute, durable=durable, about=about)
