"""Concept layers: which layers of a model can be looked into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from explainers.asking import ask
from explainers.info import Layer
from explainers.jobs import Progress
from explainers.questions import Question
from explainers.results import Result
from explainers.subjects import Network

if TYPE_CHECKING:
    from explainers.graph.model import Model


@dataclass(frozen=True)
class ConceptLayers(Result):
    """The layers whose channels are concepts, in the order of computation, then those of attention heads.

    ``default`` is a late one that knows much and still has places. ``below`` names for each those in which to look for
    the parents of its concepts, nearest first.
    """

    layers: tuple[Layer, ...]
    default: str
    below: Mapping[str, tuple[str, ...]]

    def named(self, name: str) -> Layer | None:
        """Find a layer by its name; None if it holds no concepts."""
        return next((layer for layer in self.layers if layer.name == name), None)


@dataclass(frozen=True)
class ListLayers(Question[Network, ConceptLayers]):
    """The layers whose channels, attention heads or hidden units are concepts; takes no pass of the model."""

    name = "concept-layers"
    title = "Concept layers"
    summary = "Which layers of the model can be looked into, and which lie below each."
    citation = "Achtibat et al. 2023, arXiv:2206.03208"
    subject = Network
    durable = False
    instant = True

    def answer(self, about: Network, progress: Progress) -> ConceptLayers:
        """Read the graph."""
        from explainers.relevance.concepts.layers import concept_layers, default_layer, layers_below

        layers, model = concept_layers(about.model), about.model
        below = {layer.name: layers_below(model, layer.name) for layer in layers}
        return ConceptLayers(layers, default_layer(model), below)


def list_layers(model: Model) -> ConceptLayers:
    """List the layers of a model that can be looked into; raises SelectionError if there are none."""
    return ask(ListLayers(), Network(model)).result()
