"""Feature maps: where the channels of a layer are active, whatever the output."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int

from explainers.jobs import Progress
from explainers.parameters import parameter
from explainers.questions import Question
from explainers.results import Result
from explainers.subjects import Input


@dataclass(frozen=True)
class FeatureMaps(Result):
    """The activations of some channels of a layer in their places, as the layer gives them."""

    channels: Int[np.ndarray, " channel"]
    values: Float32[np.ndarray, "channel rows columns"]


@dataclass(frozen=True)
class MapFeatures(Question[Input, FeatureMaps]):
    """The activations of a layer's channels, named or the strongest by their mean size; one forward pass."""

    name = "feature-maps"
    title = "Feature maps"
    summary = "Where in the picture the channels of a layer are active."
    citation = "Zeiler and Fergus 2014, arXiv:1311.2901"
    subject = Input

    layer: str = parameter(
        "", "Layer", "The layer that is shown; empty for a late one with places.", kind="concept layer"
    )
    channels: tuple[int, ...] = parameter((), "Channels", "Those shown; empty for the strongest.", kind="concepts")
    count: int = parameter(8, "How many", "How many are shown if none is named.", low=1, high=100)

    def answer(self, about: Input, progress: Progress) -> FeatureMaps:
        """Run the model once and lay the layer's values out as maps."""
        import torch

        from explainers.graph.model import spatial_map
        from explainers.relevance.concepts.layers import choose_concepts

        concepts = choose_concepts(about.model, self.layer)
        with torch.no_grad():
            values = about.model.run(about.tensor(), keep=[concepts.layer.node])[1][concepts.layer.node]
        maps = spatial_map(values, concepts.layer)[0].float().numpy()
        strongest = np.argsort(-np.abs(maps).mean(axis=(1, 2)), kind="stable")[: self.count]
        chosen = np.array(concepts.check(self.channels) or strongest)
        return FeatureMaps(chosen, maps[chosen], provenance={"layer": concepts.layer.name})
