"""What questions about an index are asked about: a layer of it, a decision beside it, a model and many pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from explainers.images import Sample
from explainers.index.reading import Index
from explainers.index.samples import Upload, name_samples
from explainers.subjects import Case, Network, Subject


@dataclass(frozen=True)
class IndexLayer(Subject):
    """What a model did in one layer for all pictures of an index."""

    index: Index
    layer: str

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the model's classes are called."""
        return self.index.recipe.class_names

    @property
    def identity(self) -> tuple[Any, ...]:
        """What the index holds, wherever it lies, and the layer."""
        return *self.index.identity, self.layer

    @property
    def uploads(self) -> tuple[str, ...]:
        """The digests of model and pictures, unless the index lies where everybody's do."""
        return () if self.index.public else (self.index.recipe.digest, *self.index.table["digest"])

    @property
    def description(self) -> dict[str, Any]:
        """The model's digest, and how many pictures were compared."""
        recipe = self.index.recipe
        return {
            "model_digest": recipe.digest,
            "index": recipe.key,
            "layer": self.layer,
            "samples": len(self.index),
        }

    @property
    def names(self) -> dict[str, Any]:
        """The model's name."""
        return {"model": self.index.recipe.model}


@dataclass(frozen=True)
class CaseInIndex(Case):
    """One decision beside those of an index, in one layer."""

    index: Index
    layer: str

    def beside(self, case: Case) -> CaseInIndex:
        """Put another decision beside the same ones."""
        return replace(self, model=case.model, picture=case.picture, target=case.target)

    @property
    def identity(self) -> tuple[Any, ...]:
        """The decision, and all that it is compared with."""
        return *super().identity, *self.narrow(IndexLayer).identity

    @property
    def uploads(self) -> tuple[str, ...]:
        """Of model, picture and index, what somebody uploaded."""
        return *super().uploads, *self.narrow(IndexLayer).uploads

    @property
    def description(self) -> dict[str, Any]:
        """The decision, and what it is compared with."""
        return {**self.narrow(IndexLayer).description, **super().description}


@dataclass(frozen=True)
class ManyInputs(Network):
    """Many pictures as inputs of a model."""

    samples: Sequence[Sample]

    @property
    def identity(self) -> tuple[Any, ...]:
        """The model, where the pictures are, and as which versions of their files."""
        return *super().identity, name_samples(tuple(self.samples))

    @property
    def uploads(self) -> tuple[str, ...]:
        """Of model and pictures, those that somebody uploaded."""
        pictures = (one.picture for one in self.samples if isinstance(one, Upload))
        return *super().uploads, *(picture.digest for picture in pictures if picture.private)

    @property
    def description(self) -> dict[str, Any]:
        """The model, and how many pictures."""
        return {**super().description, "samples": len(self.samples)}
