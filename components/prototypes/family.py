"""The strategies of the explained class, and of the classes that it is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import streamlit as st
from jaxtyping import Float, Int

import sample_models
from components.concepts.scene import Scene
from components.following import finished, follow
from components.headline import plain
from components.session import Workspace
from explainers import compute
from explainers.index import Index
from explainers.prototypes.mixture import PROTOTYPES
from explainers.prototypes.strategies import Prototype, Strategies, describe
from explainers.prototypes.submitting import comparable_classes, submit_strategies, submit_vectors
from explainers.prototypes.vectors import FEWEST, Vectors

#: The view of one decision, which other views lead to.
DECISION = "This decision"

AUTOMATIC = "Automatic"

#: How many typical samples a strategy is shown with, and how many of the classes likely for a picture are compared.
TYPICAL, LIKELY = 8, 10

#: Colours of strategies and classes that people with any colour vision can tell apart, Okabe and Ito 2008.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b3a100", "#888888")


@dataclass(frozen=True)
class Family:
    """The strategies in an index: those of the explained class, and of others by class."""

    scene: Scene
    index: Index
    vectors: Vectors
    strategies: Mapping[int, Strategies]

    @property
    def own(self) -> Strategies:
        """The strategies of the explained class."""
        return self.strategies[self.klass]

    @property
    def klass(self) -> int:
        """The explained class."""
        return self.scene.target.index

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
        return self.scene.info.class_names[klass] if klass >= 0 else "none"


def own_references(workspace: Workspace) -> Workspace:
    """What decisions are compared with: a sample model's own reference pictures, else those in the strip."""
    info = workspace.model.info
    known = None if info.private else sample_models.models().get(info.name)
    return replace(workspace, pictures=known.pictures) if known else workspace


def default_layer(model: Any) -> str:
    """Choose a layer that still tells things apart, the one before the last: later ones merge them to evidence."""
    last = compute.default_concept_layer(model)
    return next(iter(compute.layers_below(model, last, 1)), last)


def choose_count() -> int | None:
    """Draw the picker of how many strategies a class has; None for as many as the samples show."""
    chosen = st.selectbox(
        "Strategies of a class",
        [AUTOMATIC, *(str(number) for number in range(1, PROTOTYPES + 1))],
        key="strategies",
        bind="query-params",
        help="How many ways to decide for the class are told apart. Automatic: as many as its samples show "
        "(Bayesian information criterion).",
    )
    return None if chosen == AUTOMATIC else int(str(chosen))


def find_family(scene: Scene, likely: Sequence[int], count: int | None) -> Family | None:
    """Find the strategies of the explained class and of others, the ``likely`` ones first; None until there are any.

    Says so if there are too few samples. Raises LightboxError.
    """
    index = scene.index
    if index is None or not len(index) or scene.layer not in index.recipe.layers:
        return None
    size = len(index)
    (reading,) = follow("vectors", {(index.store, scene.layer, size): partial(submit_vectors, index, scene.layer)})
    if not finished([reading], "Reading the index"):
        return None
    vectors, klass = reading.result(), scene.target.index
    classes = comparable_classes(vectors, (klass, *likely))
    if klass not in classes:
        _explain_lack(scene, vectors, classes)
        return None
    jobs = follow(
        "strategies",
        {
            (index.store, scene.layer, size, other, count * (other == klass) if count else None): partial(
                submit_strategies, index, scene.layer, vectors, other, count if other == klass else None
            )
            for other in classes
        },
    )
    if not finished(jobs, "Finding the strategies"):
        return None
    return Family(scene, index, vectors, {other: job.result() for other, job in zip(classes, jobs, strict=True)})


def _explain_lack(scene: Scene, vectors: Vectors, classes: Sequence[int]) -> None:
    name = plain(scene.info.class_names[scene.target.index])
    right = int((vectors.learnt & (vectors.classes == scene.target.index)).sum())
    enough = plain(", ".join(scene.info.class_names[one] for one in classes[:6]))
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
