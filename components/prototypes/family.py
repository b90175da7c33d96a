"""The strategies of the explained class, and of the classes that it is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import streamlit as st
from jaxtyping import Float, Int

import sample_models
from components.chosen_case import ChosenCase
from components.following import finished, follow
from components.names import read_current_names
from components.plain_text import plain
from components.scene import Scene, choose_layer
from components.session import Workspace
from explainers.concepts.layers import list_layers
from explainers.index import Index
from explainers.index.subjects import IndexLayer
from explainers.prototypes.mixture import PROTOTYPES
from explainers.prototypes.strategies import FindStrategies, Prototype, Strategies, describe
from explainers.prototypes.vectors import FEWEST, EmbedDecisions, Vectors, comparable_classes
from explainers.targets import Target

#: The views; the link says them as the picker does.
DECISION, PARTS = "This decision", "This looks like that"
STRATEGIES, MAP, SUSPECTS = "Strategies", "Map", "Outliers and suspects"

AUTOMATIC = "Automatic"

#: How many typical samples a strategy is shown with, and how many of the classes likely for a picture are compared.
TYPICAL, LIKELY = 8, 10

#: Colours of strategies and classes that people with any colour vision can tell apart, Okabe and Ito 2008.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b3a100", "#888888")


@dataclass(frozen=True)
class Family:
    """The strategies in an index: those of the explained class, and of others by class.

    ``count`` is how many the explained class was given, 0 for as many as its samples show.
    """

    scene: Scene
    index: Index
    vectors: Vectors
    strategies: Mapping[int, Strategies]
    count: int

    @property
    def layer(self) -> IndexLayer:
        """The layer of the index, which questions are asked about."""
        return IndexLayer(self.index, self.scene.layer)

    @property
    def own(self) -> Strategies:
        """The strategies of the explained class."""
        return self.strategies[self.klass]

    @property
    def klass(self) -> int:
        """The explained class."""
        return self.scene.klass

    @cached_property
    def prototypes(self) -> Mapping[int, Sequence[Prototype]]:
        """Describe the strategies of every class."""
        return {klass: describe(known, self.vectors, TYPICAL) for klass, known in self.strategies.items()}

    @cached_property
    def owners(self) -> Int[np.ndarray, " sample"]:
        """The strategy that every sample follows most, counted over its class; -1 in classes without strategies."""
        owners = np.full(len(self.index), -1)
        for known in self.strategies.values():
            owners[known.rows] = known.responsibilities.argmax(axis=1)
        return owners

    @cached_property
    def percentiles(self) -> Float[np.ndarray, " sample"]:
        """How typical every sample is for its class, in percent; NaN in classes without strategies."""
        percentiles = np.full(len(self.index), np.nan)
        for known in self.strategies.values():
            percentiles[known.rows] = known.percentiles
        return percentiles

    def call(self, klass: int) -> str:
        """Name a class, fit for Markdown."""
        return plain(self.name(klass))

    def name(self, klass: int) -> str:
        """Name a class, "none" for no class."""
        return self.scene.info.decision_names[klass] if klass >= 0 else "none"


def own_references(workspace: Workspace) -> Workspace:
    """What decisions are compared with: a sample model's own reference pictures, else those in the strip."""
    info = workspace.model.info
    known = None if info.private else sample_models.models().get(info.name)
    return workspace.turn_to(known.pictures) if known else workspace


def default_layer(model: Any) -> str:
    """Choose a layer that still tells things apart, the one before the last: later ones merge them to evidence."""
    known = list_layers(model)
    return next(iter(known.below[known.default]), known.default)


def choose_count() -> int:
    """Draw the picker of how many strategies a class has; 0 for as many as the samples show."""
    chosen = st.selectbox(
        "Strategies of a class",
        [AUTOMATIC, *(str(number) for number in range(1, PROTOTYPES + 1))],
        key="strategies",
        bind="query-params",
        help="How many ways to decide for the class are told apart. Automatic: as many as its samples show "
        "(Bayesian information criterion).",
    )
    return 0 if chosen == AUTOMATIC else int(str(chosen))


def choose_scene(chosen: ChosenCase) -> tuple[Scene, int]:
    """Draw the pickers of the layer and of how many strategies the class has; returns the scene and the number.

    The layer is one of its own: which one is looked into elsewhere must not change the verdict. Raises LightboxError.
    """
    with st.sidebar:
        layer = choose_layer(chosen.model, default_layer(chosen.model), "strategy_layer")
        count = choose_count()
    target = Target(chosen.alone.target().index)
    decision = chosen.prediction.decision(chosen.info, target.index)
    names = read_current_names(chosen.info)
    return Scene(chosen.model, chosen.picture, target, layer, names, decision=decision), count


def likely_decisions(chosen: ChosenCase) -> Sequence[int]:
    """The decisions that the model comes nearest to, for this picture."""
    return [chosen.prediction.decision(chosen.info, output) for output in chosen.prediction.top(LIKELY)]


def find_family(scene: Scene, likely: Sequence[int], count: int) -> Family | None:
    """Find the strategies of the explained class and of others, the ``likely`` ones first; None until there are any.

    Says so if there are too few samples. Raises LightboxError.
    """
    index = scene.index
    if index is None or not len(index) or scene.layer not in index.recipe.layers:
        return None
    layer = IndexLayer(index, scene.layer)
    (reading,) = follow("vectors", [(EmbedDecisions(), layer)])
    if not finished([reading], "Reading the index"):
        return None
    vectors, klass = reading.result(), scene.klass
    classes = comparable_classes(vectors, (klass, *likely))
    if klass not in classes:
        _explain_lack(scene, vectors, classes)
        return None
    counts = {other: count if other == klass else 0 for other in classes}
    jobs = follow("strategies", [(FindStrategies(other, number), layer) for other, number in counts.items()])
    if not finished(jobs, "Finding the strategies"):
        return None
    family = Family(
        scene, index, vectors, {other: job.result() for other, job in zip(classes, jobs, strict=True)}, count
    )
    remember_strategies(family)
    return family


def remember_strategies(family: Family) -> None:
    """Remember which strategy each picture follows, to find and compare pictures by it on all pages.

    Of several findings a picture has one for each; these are not remembered.
    """
    index, kept = family.index, st.session_state.setdefault("strategies_of", {})
    counts = ((klass, len(known.shares)) for klass, known in family.strategies.items())
    about = (index.identity, family.scene.layer, *counts)
    if st.session_state.get("strategies_about") == about or index.pictures < len(index):
        return
    names = {
        content: f"{family.name(int(klass))} {owner + 1}"
        for content, klass, owner in zip(index.table["digest"], family.vectors.classes, family.owners, strict=True)
        if owner >= 0
    }
    kept[family.scene.info.digest], st.session_state["strategies_about"] = names, about


def _explain_lack(scene: Scene, vectors: Vectors, classes: Sequence[int]) -> None:
    name = plain(scene.name)
    right = int((vectors.learnt & (vectors.classes == scene.klass)).sum())
    enough = plain(", ".join(scene.info.decision_names[one] for one in classes[:6]))
    hint = (
        f"Under **Explain** in the sidebar, choose a class with enough: {enough}."
        if enough
        else "No class has enough: use a model whose reference pictures show many cases of each class."
    )
    st.info(
        f"**Too few reference pictures of {name} to say what is ordinary.** The model decides {right} of them rightly; "
        f"it takes {FEWEST}. {hint}",
        icon=":material/info:",
    )
