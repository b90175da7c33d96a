"""How alike pictures are to the prototypes of a network of prototypical parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from explainers.cache import Cache, Job
from explainers.compute.shared import submit, to_inputs
from explainers.images import Picture, Sample
from explainers.jobs import Progress
from explainers.prototypes.similarities import PartMaps, Similarities

if TYPE_CHECKING:
    from explainers.graph.model import Model


def submit_parts(model: Model, picture: Picture, *, cache: Cache | None = None) -> Job[PartMaps]:
    """Ask how alike the places of a picture are to the prototypes of a model that has them; raises SelectionError."""
    from explainers.graph.prototypical import compare, find_head

    weights = find_head(model)[1].numpy()

    def compute(progress: Progress) -> PartMaps:
        return PartMaps(compare(model, to_inputs(model, picture))[0].numpy(), weights.copy())

    return submit(model, [picture], ("parts",), compute, cache, 0)


def submit_similarities(
    model: Model, samples: Sequence[Sample], *, cache: Cache | None = None, urgency: int = 0
) -> Job[Similarities]:
    """Ask how alike each of many pictures on the server is to the prototypes of a model; raises SelectionError."""
    from explainers.graph.prototypical import compare, find_head
    from explainers.index.samples import write_sample

    find_head(model)
    classes = {name: index for index, name in enumerate(model.info.class_names)}

    def compute(progress: Progress) -> Similarities:
        values = []
        for done, sample in enumerate(samples):
            progress(done, len(samples))
            values.append(compare(model, to_inputs(model, sample.read())).amax((2, 3))[0].numpy())
        return Similarities(np.stack(values), np.array([classes.get(sample.label or "", -1) for sample in samples]))

    return submit(model, (), ("similarities", [write_sample(one) for one in samples]), compute, cache, urgency)
