"""Reading an index: what a concept is, from arrays alone. Free of torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float32, Int

from explainers.cache import digest
from explainers.errors import SelectionError
from explainers.index.recipe import Recipe
from explainers.index.samples import StoredSamples, Upload
from explainers.index.store import COLUMNS, Shard, find_shards, mistaken, read_manifest
from explainers.settings import settings
from explainers.versions import versions

By = Literal["relevance", "activation"]
Of = Literal["predicted", "label"]
Kind = Literal["max", "mean"]


@dataclass(frozen=True)
class Decisions:
    """What a layer did in every decision of an index.

    ``classes`` is the true class where it is known, else the predicted one; ``relevance`` is for that class. ``learnt``
    tells the samples that the model decides rightly, which strategies are found from (Dreyer et al. 2024).
    """

    relevance: Float32[np.ndarray, "sample concept"]
    classes: Int[np.ndarray, " sample"]
    learnt: Bool[np.ndarray, " sample"]


def open_index(store: Path, uploads: Sequence[Upload] = (), anywhere: bool = True) -> Index:
    """Open an index as it is at this moment, also while it is being built; raises SelectionError.

    ``uploads`` are the session's own pictures, if the index was built from them. ``anywhere`` follows it to files
    wherever they are, with no other rights than whoever calls this has; a server follows it only into folders that it
    shows to everybody.
    """
    recipe = read_manifest(store)
    if recipe is None:
        raise SelectionError(f"There is no index in {store}. Build one first.")
    return Index(store, recipe, uploads, anywhere)


class Index:
    """Concept relevances and activations of a reference set; rows that are added later need an index opened anew.

    ``table`` has a row a sample: name, digest (of the picture), label and predicted (class indices, -1 for none),
    label_name, output (the predicted class's logit), probability. ``samples[row]`` reads the picture. ``notes`` say
    what is wrong. Layers are those of ``recipe.layers``; every method raises SelectionError for others, and for
    concepts that there are not.
    """

    def __init__(self, store: Path, recipe: Recipe, uploads: Sequence[Upload], anywhere: bool = True) -> None:
        self.store = store
        self.recipe = recipe
        found, tables = read_tables(store, recipe)
        self._shards = [shard for shard, damage in found.items() if not damage]
        self.versions = tell_apart(one for shard in self._shards for one in shard.versions)
        self.notes = (
            *(
                f"The shard {shard.folder.name} {damage}; its rows are missing until the index is built again."
                for shard, damage in found.items()
                if damage
            ),
            *tell_versions(self.versions),
        )
        empty = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in COLUMNS.items()})
        table = pd.concat([empty, *tables], ignore_index=True)
        own = {one.picture.digest: one.picture for one in uploads}
        self.samples = StoredSamples(list(table.pop("sample")), own, anywhere)
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def identity(self) -> tuple[str, str]:
        """What the index holds, by recipe, versions and content, wherever it lies."""
        content = ("\n".join(self.table[column]) for column in ("digest", "label_name"))
        return self.recipe.key, digest(self.versions, *content)

    @property
    def public(self) -> bool:
        """Whether it lies where everybody's do; those of uploads lie elsewhere."""
        return self.store.resolve().is_relative_to(settings().cache.resolve())

    @cached_property
    def pictures(self) -> int:
        """How many pictures there are; of each there is a row for every decision on it."""
        return len(self.table[["digest", "label_name"]].drop_duplicates())

    def find_row(self, picture: str, decisions: Sequence[int] = ()) -> int | None:
        """Find the row of a picture by its digest, where there are several one of those decisions; None if none."""
        rows = np.flatnonzero(self.table["digest"] == picture)
        if len(rows) > 1 and decisions:
            rows = rows[np.isin(self.table["predicted"].to_numpy()[rows], decisions)]
        return int(rows[0]) if len(rows) else None

    def decisions(self, layer: str) -> Decisions:
        """What a layer did in every decision, each for its true class."""
        labels, predicted = self.table["label"].to_numpy(), self.table["predicted"].to_numpy()
        relevance = self.relevance(layer)
        mistakes = mistaken(self.table)
        if mistakes.any():
            relevance = relevance.copy()
            relevance[mistakes] = self.relevance(layer, of="label")[mistakes]
        classes = np.where(labels >= 0, labels, predicted).astype(np.int64)
        return Decisions(relevance, classes, classes == predicted)

    def relevance(self, layer: str, of: Of = "predicted") -> Float32[np.ndarray, "sample concept"]:
        """Sum of relevance over places of every concept, for the predicted or the true class (NaN without one)."""
        return self._relevance(layer, of).T

    def activation(self, layer: str, kind: Kind = "max") -> Float32[np.ndarray, "sample concept"]:
        """Maximum or mean over places of every concept's activation."""
        return self._join(layer, kind)[:, : len(self)].T

    def concept(
        self, layer: str, concept: int, by: By = "relevance", of: Of = "predicted", kind: Kind = "max"
    ) -> Float32[np.ndarray, " sample"]:
        """One concept's values over the samples."""
        if by == "relevance":
            return self._relevance(layer, of, concept)
        return self._join(layer, kind, concept)[: len(self)]

    def reference_samples(
        self,
        layer: str,
        concept: int,
        by: By = "relevance",
        count: int = 8,
        klass: int | None = None,
        of: Of = "predicted",
        kind: Kind = "max",
    ) -> Int[np.ndarray, " row"]:
        """Rows of the samples in which a concept is strongest, the strongest first.

        RelMax ``by`` relevance ``of`` the predicted or true class, ActMax by activation (Achtibat et al. 2023,
        arXiv:2206.03208); among all samples, or those ``of`` one class.
        """
        values = self.concept(layer, concept, by, of, kind)
        rows = np.arange(len(values)) if klass is None else np.flatnonzero(self.table[of] == klass)
        rows = rows[~np.isnan(values[rows])]
        if klass is None and self.pictures < len(self):  # of several decisions on a picture the one it serves most
            rows = rows[np.argsort(-values[rows], kind="stable")]
            rows = rows[np.sort(np.unique(self.table["digest"].to_numpy()[rows], return_index=True)[1])]
        if len(rows) > count:
            least = np.partition(values[rows], -count)[-count]
            rows = rows[values[rows] >= least]
        ranked: np.ndarray = rows[np.argsort(-values[rows], kind="stable")[:count]]
        return ranked

    def by_class(self, layer: str, concept: int, of: Of = "predicted") -> pd.DataFrame:
        """Which decisions a concept serves: by class the ``samples``, their mean ``relevance``, and its parts.

        Sorted by relevance; ``positive`` (for the class) and ``negative`` (against it) add up to it.
        """
        values = self.concept(layer, concept, of=of)
        parts = {"relevance": values, "positive": values.clip(0), "negative": values.clip(None, 0)}
        groups = pd.DataFrame({"class": self.table[of], **parts}).dropna().groupby("class")
        found = groups.mean()
        found.insert(0, "samples", groups.size())
        return found.sort_values("relevance", ascending=False)

    def usage(self, layer: str, share: float = 0.01) -> Float[np.ndarray, " concept"]:
        """In which share of the samples each concept carries more than ``share`` of all absolute relevance."""
        used, samples = np.zeros(self._concepts(layer)), 0
        for part in self._read(layer, "predicted"):
            size = np.abs(part)
            used += (size > share * size.sum(axis=0)).sum(axis=1)
            samples += size.shape[1]
        return used / max(1, samples)

    def similar(
        self, layer: str, concept: int, count: int = 8
    ) -> tuple[Int[np.ndarray, " concept"], Float[np.ndarray, " concept"]]:
        """The concepts whose relevances over the samples are most alike, and their cosines, the nearest first."""
        products, squares = np.zeros((2, self._concepts(layer)))
        for part, one in zip(self._read(layer, "predicted"), self._read(layer, "predicted", concept), strict=True):
            products += part @ one
            squares += np.einsum("cs,cs->c", part, part)
        lengths = np.sqrt(squares * squares[concept])
        cosines = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
        others = np.delete(np.arange(len(cosines)), concept)
        nearest = others[np.argsort(-cosines[others], kind="stable")[:count]]
        return nearest, cosines[nearest]

    def _concepts(self, layer: str) -> int:
        if layer not in self.recipe.layers:
            raise SelectionError(f"The index has no layer '{layer}'; it has {', '.join(self.recipe.layers)}.")
        return self.recipe.layers[layer]

    def _read(self, layer: str, quantity: str, concept: int | None = None) -> list[np.ndarray]:
        """Map a layer's values, shard by shard; they may go on beyond the rows of this index."""
        concepts = self._concepts(layer)
        if concept is not None and not 0 <= concept < concepts:
            raise SelectionError(f"Concept {concept} was asked for, but the layer {layer} has 0 to {concepts - 1}.")
        place = list(self.recipe.layers).index(layer)
        chosen = slice(None) if concept is None else concept
        while True:
            try:
                return [shard.values(place, quantity)[chosen] for shard in self._shards]
            except FileNotFoundError:  # merged meanwhile, which keeps the order of the rows
                found = find_shards(self.store)
                if found == self._shards or sum(shard.rows for shard in found) < len(self):
                    raise SelectionError(f"The index in {self.store} has lost rows. Open or build it again.") from None
                self._shards = found

    def _join(self, layer: str, quantity: str, concept: int | None = None) -> Float32[np.ndarray, "*concept sample"]:
        """Read a layer's values, or those of one concept, into memory."""
        empty = np.empty((self._concepts(layer), 0) if concept is None else 0, np.float32)
        return np.concatenate([empty, *self._read(layer, quantity, concept)], axis=-1)

    def _relevance(self, layer: str, of: Of, concept: int | None = None) -> Float32[np.ndarray, "*concept sample"]:
        found = self._join(layer, "predicted", concept)[..., : len(self)]
        if of == "label":
            mistakes = mistaken(self.table)
            found[..., mistakes] = self._join(layer, "label", concept)[..., : mistakes.sum()]
            found[..., self.table["label"] < 0] = np.nan
        return found


def read_tables(store: Path, recipe: Recipe) -> tuple[dict[Shard, str], list[pd.DataFrame]]:
    """Read the tables of all shards, and what is damaged; again if a build merges shards meanwhile."""
    while True:
        found = {shard: shard.damage(recipe, thorough=False) for shard in find_shards(store)}
        with suppress(FileNotFoundError):
            tables = [shard.table() for shard, damage in found.items() if not damage]
            if find_shards(store) == list(found):
                return found, tables


def tell_apart(found: Iterable[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Leave of equal versions one, in an order of their own."""
    return sorted({digest(one): one for one in found}.values(), key=digest)


def tell_versions(found: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """Say that rows were computed by other versions than those that are here."""
    here = versions()
    names = [name for name in here for one in found if one.get(name, here[name]) != here[name]]
    if names:
        others = sorted({f"{name} {one[name]}" for one in found for name in set(names) if name in one})
        yield (
            f"Some rows were computed with {', '.join(others)}; here are "
            f"{', '.join(f'{name} {here[name]}' for name in sorted(set(names)))}. Numbers may differ in their last "
            "digits; remove the index on the page Activity and build it again where that matters."
        )
