"""How alike pictures are to the prototypes of a network that has them built in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int

from explainers.index.subjects import ManyInputs
from explainers.jobs import Progress
from explainers.questions import Question
from explainers.results import Result
from explainers.subjects import Input, to_tensor


@dataclass(frozen=True)
class PartMaps(Result):
    """How alike every place of one picture is to every prototype, and what each prototype adds to each class."""

    maps: Float32[np.ndarray, "prototype rows columns"]
    weights: Float32[np.ndarray, "class prototype"]

    @property
    def similarities(self) -> Float32[np.ndarray, " prototype"]:
        """The similarity of the place that is most alike to each prototype."""
        return np.asarray(self.maps.max(axis=(1, 2)))

    def place(self, prototype: int) -> tuple[int, int]:
        """The row and column that are most alike to a prototype."""
        row, column = np.unravel_index(self.maps[prototype].argmax(), self.maps.shape[1:])
        return int(row), int(column)


@dataclass(frozen=True)
class Similarities(Result):
    """How alike many pictures are to every prototype at their most similar places; ``labels`` are -1 where unknown."""

    values: Float32[np.ndarray, "sample prototype"]
    labels: Int[np.ndarray, " sample"]

    @property
    def typical(self) -> Float32[np.ndarray, " prototype"]:
        """The mean similarity to each prototype."""
        return np.asarray(self.values.mean(axis=0))


@dataclass(frozen=True)
class CompareParts(Question[Input, PartMaps]):
    """How alike the places of a picture are to the prototypes of a model that has them, in one forward pass."""

    name = "part-similarities"
    title = "This looks like that"
    summary = "How alike the places of the picture are to the prototypical parts that the model has learnt."
    citation = "Chen et al. 2019, arXiv:1806.10574"
    subject = Input

    def answer(self, about: Input, progress: Progress) -> PartMaps:
        """Compare every place with every prototype."""
        from explainers.graph.prototypical import compare, find_head

        weights = find_head(about.model)[1].numpy()
        return PartMaps(compare(about.model, about.tensor())[0].numpy(), weights.copy())


@dataclass(frozen=True)
class CompareSamples(Question[ManyInputs, Similarities]):
    """How alike each of many pictures is to the prototypes of a model that has them, a forward pass each."""

    name = "sample-similarities"
    title = "Similarities of many pictures"
    summary = "How alike each of many pictures is to the prototypical parts that the model has learnt."
    citation = "Chen et al. 2019, arXiv:1806.10574"
    subject = ManyInputs
    reads_labels = True

    def answer(self, about: ManyInputs, progress: Progress) -> Similarities:
        """Compare one picture after the other."""
        from explainers.graph.prototypical import compare

        classes = {name: index for index, name in enumerate(about.info.class_names)}
        values = []
        for done, sample in enumerate(about.samples):
            progress(done, len(about.samples))
            values.append(compare(about.model, to_tensor(about.info, sample.read())).amax((2, 3))[0].numpy())
        return Similarities(
            np.stack(values), np.array([classes.get(sample.label or "", -1) for sample in about.samples])
        )
