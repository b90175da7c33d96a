"""Questions about the concepts of a layer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from explainers.cache import Cache, Job, digest
from explainers.compute.attributions import methods
from explainers.compute.predictions import submit_prediction, summarise
from explainers.compute.shared import provenance, require_finite, submit, to_inputs
from explainers.errors import SelectionError
from explainers.images import Picture
from explainers.jobs import Progress
from explainers.regions import Region
from explainers.results import ConceptGraph, ConceptHeatmaps, ConceptRelevance, Layer, Prediction, Target, WhatIf
from explainers.targets import choose_target

if TYPE_CHECKING:
    from explainers.concepts.decision import Decision
    from explainers.concepts.units import Concepts
    from explainers.graph.model import Model
    from explainers.relevance.composites import Composite

#: An answer to a question about concepts.
A = TypeVar("A", ConceptRelevance, ConceptHeatmaps, ConceptGraph, WhatIf)


def concept_layers(model: Model) -> tuple[Layer, ...]:
    """List the layers whose channels are concepts, and the attention heads, see ``explainers.concepts.layers``."""
    from explainers.concepts.layers import concept_layers

    return concept_layers(model)


def default_concept_layer(model: Model) -> str:
    """Choose a late layer that knows much and still has places; raises SelectionError."""
    from explainers.concepts.layers import default_layer

    return default_layer(model)


def layers_below(model: Model, layer: str, count: int = 3) -> tuple[str, ...]:
    """Choose layers in which to look for the parents of a layer's concepts, nearest first; raises SelectionError."""
    from explainers.concepts.layers import layers_below

    return layers_below(model, layer, count)


def submit_concepts(
    model: Model,
    picture: Picture,
    target: Target,
    layer: str,
    parameters: Mapping[str, Any] | None = None,
    *,
    region: Region = (),
    cache: Cache | None = None,
    urgency: int = 0,
) -> Job[ConceptRelevance]:
    """Ask what every concept of a layer did for one output, everywhere or in a region of what the model sees.

    ``region`` has corners (x, y) as shares of width and height of the cropped picture. ``parameters`` are those of the
    method "lrp" but its layer. Raises SelectionError, as all questions about concepts do.
    """
    from explainers.concepts.answers import tell_concepts

    return _submit_concepts(
        model,
        picture,
        target,
        layer,
        parameters,
        {"question": "relevance", "region": region},
        lambda decision, concepts: tell_concepts(decision, concepts, region),
        cache,
        urgency,
    )


def submit_concept_heatmaps(
    model: Model,
    picture: Picture,
    target: Target,
    layer: str,
    concepts: Sequence[int],
    parameters: Mapping[str, Any] | None = None,
    *,
    region: Region = (),
    cache: Cache | None = None,
    urgency: int = 0,
) -> Job[ConceptHeatmaps]:
    """Ask for the conditional heatmaps of concepts, all in one backward pass from their layer down.

    With a ``region`` only the relevance of the concepts in its places is followed.
    """
    from explainers.concepts.answers import draw_concepts
    from explainers.concepts.layers import find_concepts

    chosen = sorted(set(find_concepts(model, layer).check(concepts)))
    return _submit_concepts(
        model,
        picture,
        target,
        layer,
        parameters,
        {"question": "heatmaps", "concepts": chosen, "region": region},
        lambda decision, concepts: draw_concepts(decision, concepts, chosen, region),
        cache,
        urgency,
    )


def submit_parents(
    model: Model,
    picture: Picture,
    target: Target,
    layer: str,
    concepts: Sequence[int],
    below: Sequence[str],
    parameters: Mapping[str, Any] | None = None,
    *,
    count: int = 3,
    cache: Cache | None = None,
    urgency: int = 0,
) -> Job[ConceptGraph]:
    """Ask from which concepts of the layers ``below`` (nearest first) the relevance of concepts comes.

    One backward pass a layer. ``count`` is how many parents each concept has in the graph.
    """
    from explainers.concepts.answers import tell_parents
    from explainers.concepts.layers import find_concepts

    chosen = sorted(set(find_concepts(model, layer).check(concepts)))
    lower = [find_concepts(model, name) for name in below]
    return _submit_concepts(
        model,
        picture,
        target,
        layer,
        parameters,
        {"question": "parents", "concepts": chosen, "below": list(below), "count": count},
        lambda decision, concepts: tell_parents(decision, concepts, chosen, lower, count),
        cache,
        urgency,
    )


def submit_what_if(
    model: Model,
    picture: Picture,
    target: Target,
    layer: str,
    factors: Mapping[int, float],
    parameters: Mapping[str, Any] | None = None,
    *,
    cache: Cache | None = None,
    urgency: int = 0,
) -> Job[WhatIf]:
    """Ask how prediction and heatmap change if concepts are multiplied: 0 silences, 0.5 damps, 2 boosts.

    One forward pass from the layer up.
    """
    from explainers.concepts.answers import tell_what_if
    from explainers.concepts.layers import find_concepts

    find_concepts(model, layer).check(list(factors))
    return _submit_concepts(
        model,
        picture,
        target,
        layer,
        parameters,
        {"question": "what if", "factors": sorted(factors.items())},
        lambda decision, concepts: tell_what_if(
            decision, concepts, factors, lambda outputs: summarise(model.info, outputs)
        ),
        cache,
        urgency,
    )


def prefetch_concepts(
    model: Model,
    picture: Picture,
    wanted: str,
    layer: str,
    versus: str = "",
    region: Region = (),
    count: int = 0,
    *,
    cache: Cache | None = None,
) -> None:
    """Compute ahead what the next click will ask for: the prediction, then what each concept of a layer did for it.

    With a ``count`` also where so many of the most relevant ones are.
    """

    def look(prediction: Prediction) -> None:
        with suppress(SelectionError):  # as in prefetch
            target = choose_target(model.info, prediction, wanted, versus, region)
            submit_concepts(model, picture, target, layer, cache=cache, urgency=1).then(partial(draw, target))

    def draw(target: Target, found: ConceptRelevance) -> None:
        if count:
            submit_concept_heatmaps(model, picture, target, layer, found.top(count), cache=cache, urgency=1)

    submit_prediction(model, picture, cache=cache, urgency=1).then(look)


def _submit_concepts(
    model: Model,
    picture: Picture,
    target: Target,
    layer: str,
    parameters: Mapping[str, Any] | None,
    asked: Mapping[str, Any],
    answer: Callable[[Decision, Concepts], A],
    cache: Cache | None,
    urgency: int,
) -> Job[A]:
    """Ask a question about the concepts of a layer, which ``answer`` answers but for the provenance."""
    from explainers.attribution.lrp import Lrp
    from explainers.concepts.layers import find_concepts

    if reason := Lrp.unsuitable(model.info):
        raise SelectionError(reason)
    checked: dict[str, Any] = {**methods()["lrp"].check(parameters or {})}
    (rules, note), concepts = Lrp(**checked).choose_rules(model), find_concepts(model, layer)

    def compute(progress: Progress) -> A:
        start = time.perf_counter()
        found = answer(_decide(model, picture, target, rules), concepts)
        for name, values in found.arrays.items():
            require_finite(values, f"The concepts of {layer} gave {name}")
        made = provenance(model, picture, target, start, layer=layer, parameters=checked, note=note, **asked)
        return replace(found, provenance={**made, "citation": "Achtibat et al. 2023, arXiv:2206.03208"})

    return submit(model, [picture], ("concepts", layer, asked, checked, vars(target)), compute, cache, urgency)


def _decide(model: Model, picture: Picture, target: Target, rules: Composite) -> Decision:
    """Find the tape of a picture, or record it."""
    from explainers.concepts.decision import Decision
    from explainers.concepts.tapes import TAPES
    from explainers.relevance.tape import record

    key = (model.info.digest, picture.digest, digest(vars(model.info.preprocessing)))
    tape = TAPES.get(key, lambda budget: record(model, to_inputs(model, picture), budget))
    return Decision(tape, (target,), rules)
