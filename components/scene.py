"""What the page of concepts is about, and the controls that choose it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import streamlit as st

import sample_models
from components.figures import Seen
from components.names import Names, title_of
from components.session import Workspace, say_in_link, went_back
from components.sharing import may_be_in_links
from explainers.concepts.layers import list_layers
from explainers.images import Picture
from explainers.index import Index
from explainers.info import Layer, ModelInfo
from explainers.subjects import Case
from explainers.targets import Target

#: How many concepts are shown at once.
COUNTS = (4, 8, 12, 20)

#: By what reference samples are chosen, Achtibat et al. 2023 (arXiv:2206.03208).
RELMAX, ACTMAX, CLASS = "relevance", "activation", "class"
CHOICES = {
    RELMAX: "Where it mattered most (RelMax)",
    CLASS: "Where it mattered most, explained class only",
    ACTMAX: "Where it was most active (ActMax)",
}


@dataclass(frozen=True)
class Scene:
    """One decision, the layer that is looked into, what its concepts are called, and the index if there is one.

    ``decision`` is what the model decides about the explained output, by ``info.decision_names``; else its class.
    """

    model: Any
    picture: Picture
    target: Target
    layer: str
    names: Names
    by: str = RELMAX
    index: Index | None = None
    decision: int | None = None

    @cached_property
    def seen(self) -> Seen:
        """What the model sees of the picture."""
        return Seen(self.picture.name, self.info.preprocessing.view(self.picture))

    @property
    def klass(self) -> int:
        """The decision: the explained class; of a finding, whether it is there."""
        return self.target.index if self.decision is None else self.decision

    @property
    def name(self) -> str:
        """What the decision is called."""
        return self.info.decision_names[self.klass]

    @property
    def info(self) -> ModelInfo:
        """What is known about the model."""
        info: ModelInfo = self.model.info
        return info

    @property
    def case(self) -> Case:
        """The decision."""
        return Case(self.model, self.picture, self.target)

    @property
    def key(self) -> tuple[Any, ...]:
        """All that results about the decision depend on."""
        return self.info.digest, self.picture.digest, self.target, self.layer

    def title(self, concept: int, layer: str = "") -> str:
        """Call a concept by its name and number."""
        return title_of(self.names, layer or self.layer, concept)


def choose_layer(model: Any, default: str = "", key: str = "layer") -> str:
    """Draw the picker of the layer whose concepts are looked at; raises SelectionError if there is none.

    ``default`` is a layer's name, "" for a late one with places; ``key`` is what links and the session call the choice.
    """
    known = list_layers(model)
    layers = {layer.name: layer for layer in known.layers}
    default = default or known.default
    state, linked = st.session_state, st.query_params.get(key)
    linkable = may_be_in_links(model.info)
    if went_back() and linkable:
        state[key] = linked
    wanted = state.pop("next_layer", None) or state.get(key) or linked
    names = list(layers)
    # The picker begins anew whenever another place sets the layer, and is dropped when its page is left.
    name = st.selectbox(
        "Layer",
        names,
        index=names.index(wanted if wanted in layers else default),
        format_func=lambda name: describe_layer(layers[name]),
        help="Concepts are the channels of a layer. Late layers know things and parts, early ones textures and edges. "
        "The numbers are how many concepts it has, and its rows and columns of places. Type to search.",
    )
    state[key] = name
    say_in_link(key, name if linkable else "")
    return name


def describe_layer(layer: Layer) -> str:
    """Say a layer's name, number of concepts and places."""
    places = f" · {layer.grid[0]}×{layer.grid[1]}" if layer.spatial else ""
    return f"{layer.name} · {layer.channels:,}{places}"


def choose_references(workspace: Workspace) -> tuple[int, str, Workspace]:
    """Draw the pickers of how many concepts are shown, and by what and whence their reference samples are chosen.

    Returns the workspace with the strip that the reference pictures go with.
    """
    count = st.segmented_control(
        "How many concepts", COUNTS, default=COUNTS[1], required=True, key="count", bind="query-params"
    )
    by = st.selectbox(
        "Reference samples",
        list(CHOICES),
        format_func=CHOICES.__getitem__,
        key="by",
        bind="query-params",
        help="Pictures of the reference set that show what a concept stands for: those whose decision it mattered for "
        "most (RelMax), or those that excite it most (ActMax).",
    )
    info = workspace.model.info
    known = None if info.private else sample_models.models().get(info.name)
    if known and workspace.pictures is not known.pictures:
        help = "Otherwise they come from those that the model brings."
        if not st.toggle("From the pictures in the strip", key="from_strip", bind="query-params", help=help):
            workspace = workspace.turn_to(known.pictures)
    return int(count or COUNTS[1]), str(by), workspace


def indexed_layers(model: Any, layer: str) -> Sequence[str]:
    """Which layers go into one index: where possible the model's late ones, else the chosen one and those below it."""
    known = list_layers(model)
    usual = (known.default, *known.below[known.default])
    return usual if layer in usual else (layer, *known.below[layer])
