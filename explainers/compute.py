"""The one way from a model and a picture to results: through the cache, on a worker, counted.

Importing this module is cheap; torch is loaded by the first computation.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache as remember
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from jaxtyping import Float, Float32

from explainers.cache import Cache, Job, R, code_digest, digest
from explainers.errors import ComputationError, SelectionError
from explainers.images import Picture, Sample
from explainers.jobs import Progress
from explainers.parameters import MethodInfo
from explainers.proposal import Proposal
from explainers.prototypes.similarities import PartMaps, Similarities
from explainers.regions import Region
from explainers.results import (
    Attribution,
    ConceptGraph,
    ConceptHeatmaps,
    ConceptRelevance,
    Layer,
    ModelInfo,
    Passes,
    Prediction,
    Target,
    WhatIf,
    passes,
)
from explainers.settings import settings
from explainers.targets import choose_target, explained_output

if TYPE_CHECKING:
    from torch import Tensor

    from explainers.concepts.decision import Decision
    from explainers.concepts.units import Concepts
    from explainers.graph.model import Model
    from explainers.relevance.composites import Composite

#: An answer to a question about concepts.
A = TypeVar("A", ConceptRelevance, ConceptHeatmaps, ConceptGraph, WhatIf)

VERSION = "0.1.0"

_opening = threading.Lock()


def shared_cache() -> Cache:
    """The cache of this process, as the settings say."""
    with _opening:  # sessions that start together must not get a cache each
        return _open_cache()


@remember
def _open_cache() -> Cache:
    chosen = settings()
    return Cache(chosen.cache, chosen.memory, chosen.disk)


@remember
def methods() -> Mapping[str, MethodInfo]:
    """Describe every attribution method, by name."""
    from explainers.attribution.method import methods

    return {name: kind.describe() for name, kind in methods().items()}


def unsuitable_methods(info: ModelInfo) -> dict[str, str]:
    """Say in a sentence, for each method that cannot explain a model, why."""
    from explainers.attribution.method import methods

    reasons = {name: kind.unsuitable(info) for name, kind in methods().items()}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def prepare_upload() -> None:
    """Start the process that will open the next uploaded model, so that it is ready when the file comes."""
    from explainers.graph.sandbox import prepare

    prepare()


def propose(
    data: bytes, file_name: str, architecture: str | None = None, waiting: Callable[[], object] = lambda: None
) -> Proposal:
    """Look at an uploaded model file in a process of its own, with an architecture or the best guess.

    ``waiting`` is called meanwhile, and may raise to stop it. Raises ModelError.
    """
    from explainers.graph.sandbox import propose

    return propose(data, file_name, architecture, waiting)


def load(data: bytes, file_name: str, waiting: Callable[[], object] = lambda: None, **given: Any) -> Model:
    """Make a Model of an uploaded file in a process of its own, see ``explainers.graph.loader.load``.

    ``waiting`` is called meanwhile, and may raise to stop it. Raises ModelError.
    """
    from explainers.graph.sandbox import load

    return load(data, file_name, given, waiting)


def read_class_names(data: bytes, file_name: str) -> tuple[str, ...]:
    """Read class names from a text, CSV or JSON file; raises ModelError."""
    from explainers.graph.class_names import read_class_names

    return read_class_names(data, file_name)


def submit_prediction(
    model: Model, picture: Picture, *, cache: Cache | None = None, urgency: int = 0
) -> Job[Prediction]:
    """Ask for the model's outputs for a picture."""
    return _submit(model, picture, ("prediction",), lambda progress: _predict(model, picture), cache, urgency)


def submit_attribution(
    model: Model,
    picture: Picture,
    method: str,
    target: Target,
    parameters: Mapping[str, Any] | None = None,
    *,
    cache: Cache | None = None,
    urgency: int = 0,
) -> Job[Attribution]:
    """Ask for the attribution of one output for a picture; raises SelectionError if the method cannot give it."""
    if method not in methods():
        raise SelectionError(f"There is no method '{method}'. Choose one of {', '.join(methods())}.")
    checked = methods()[method].check(parameters or {})
    if method in (reasons := unsuitable_methods(model.info)):
        raise SelectionError(reasons[method])
    # A map is not kept whole in the cache, so its mean in a region takes a pass of its own.
    output = None if model.info.gives_map else explained_output(predict(model, picture, cache=cache), target)
    return _submit(
        model,
        picture,
        ("attribution", method, checked, vars(target)),
        lambda progress: _attribute(model, picture, method, target, checked, output, progress),
        cache,
        urgency,
    )


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


def submit_parts(model: Model, picture: Picture, *, cache: Cache | None = None) -> Job[PartMaps]:
    """Ask how alike the places of a picture are to the prototypes of a model that has them; raises SelectionError."""
    from explainers.graph.prototypical import compare, find_head

    weights = find_head(model)[1].numpy()

    def compute(progress: Progress) -> PartMaps:
        return PartMaps(compare(model, _inputs(model, picture))[0].numpy(), weights.copy())

    return _submit(model, picture, ("parts",), compute, cache, 0)


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
            values.append(compare(model, _inputs(model, sample.read())).amax((2, 3))[0].numpy())
        return Similarities(np.stack(values), np.array([classes.get(sample.label or "", -1) for sample in samples]))

    asked = [code_digest(), model.info.digest, vars(model.info.preprocessing), [write_sample(one) for one in samples]]
    return (cache or shared_cache()).submit(
        digest("similarities", *asked),
        compute,
        durable=not model.info.private,
        about=_private(model.info),
        urgency=urgency,
    )


def forget(content: str) -> None:
    """Drop all results and recorded passes of a picture or model, by its digest, when its session ends."""
    from explainers.concepts.tapes import TAPES

    shared_cache().forget(content)
    TAPES.forget(content)


def prefetch(
    model: Model,
    picture: Picture,
    wanted: str,
    versus: str,
    region: Region,
    chosen: Mapping[str, Mapping[str, Any]],
    *,
    cache: Cache | None = None,
) -> None:
    """Compute ahead what the next click will ask for: the prediction, then each chosen method with its parameters."""

    def attribute(prediction: Prediction) -> None:
        with suppress(SelectionError):  # the click itself will tell it, in its place on the page
            target = choose_target(model.info, prediction, wanted, versus, region)
            for method, parameters in chosen.items():
                submit_attribution(model, picture, method, target, parameters, cache=cache, urgency=1)

    submit_prediction(model, picture, cache=cache, urgency=1).then(attribute)


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


def predict(model: Model, picture: Picture, *, cache: Cache | None = None) -> Prediction:
    """Compute, or find, the model's outputs for a picture."""
    return submit_prediction(model, picture, cache=cache).result()


def explain(
    model: Model,
    picture: Picture,
    method: str,
    target: Target,
    parameters: Mapping[str, Any] | None = None,
    *,
    cache: Cache | None = None,
) -> Attribution:
    """Compute, or find, the attribution of one output for a picture; raises LightboxError."""
    return submit_attribution(model, picture, method, target, parameters, cache=cache).result()


def _submit(
    model: Model,
    picture: Picture,
    asked: tuple[Any, ...],
    compute: Callable[[Progress], R],
    cache: Cache | None,
    urgency: int,
) -> Job[R]:
    """Ask the cache for a result on a model and a picture; nothing of an upload reaches the disk."""
    return (cache or shared_cache()).submit(
        digest(*_content(model, picture), *asked),
        compute,
        durable=not picture.private and not model.info.private,
        about=_private(model.info, picture),
        urgency=urgency,
    )


def _private(*contents: ModelInfo | Picture) -> list[str]:
    """The digests of what was uploaded."""
    return [content.digest for content in contents if content.private]


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
            _require_finite(values, f"The concepts of {layer} gave {name}")
        made = _provenance(model, picture, target, start, layer=layer, parameters=checked, note=note, **asked)
        return replace(found, provenance={**made, "citation": "Achtibat et al. 2023, arXiv:2206.03208"})

    return _submit(model, picture, ("concepts", layer, asked, checked, vars(target)), compute, cache, urgency)


def _decide(model: Model, picture: Picture, target: Target, rules: Composite) -> Decision:
    """Find the tape of a picture, or record it."""
    from explainers.concepts.decision import Decision
    from explainers.concepts.tapes import TAPES
    from explainers.relevance.tape import record

    key = (model.info.digest, picture.digest, digest(vars(model.info.preprocessing)))
    tape = TAPES.get(key, lambda budget: record(model, _inputs(model, picture), budget))
    return Decision(tape, (target,), rules)


def _content(model: Model, picture: Picture) -> tuple[Any, ...]:
    return code_digest(), model.info.digest, vars(model.info.preprocessing), picture.digest


def _inputs(model: Model, picture: Picture) -> Float[Tensor, "1 channel height width"]:
    import torch

    preprocessing = model.info.preprocessing
    return torch.from_numpy(preprocessing.normalise(preprocessing.crop(picture.pixels)))[None]


def _predict(model: Model, picture: Picture) -> Prediction:
    return summarise(model.info, model(_inputs(model, picture))[0].float().numpy())


def summarise(info: ModelInfo, outputs: Float32[np.ndarray, "class *places"]) -> Prediction:
    """Make a prediction of a model's outputs for one image; raises ComputationError if they are not finite."""
    _require_finite(outputs, f"The model {info.name} gave outputs")
    places = outputs.reshape(len(outputs), -1)
    best = np.bincount(places.argmax(axis=0), minlength=len(places)) / places.shape[1]
    logits = places.mean(axis=1)
    return Prediction(logits, best.astype(np.float32) if outputs.ndim > 1 else _probabilities(logits))


def _probabilities(logits: Float32[np.ndarray, " class"]) -> Float32[np.ndarray, " class"]:
    """Softmax, or for a single output the sigmoid."""
    pair = np.append(logits, 0) if len(logits) == 1 else logits
    powers = np.exp(pair.astype(np.float64) - pair.max())
    return np.asarray(powers / powers.sum(), np.float32)[: len(logits)]


def _attribute(
    model: Model,
    picture: Picture,
    name: str,
    target: Target,
    parameters: Mapping[str, Any],
    output: float | None,
    progress: Progress,
) -> Attribution:
    from explainers.attribution.method import method
    from explainers.graph.model import score

    start = time.perf_counter()
    chosen, inputs = method(name, parameters), _inputs(model, picture)
    scores = chosen.attribute(model, inputs, [target], progress)
    values = scores.values.detach().sum(dim=1)[0].float().numpy()
    _require_finite(values, f"The method {chosen.title} gave scores")
    return Attribution(
        values=values,
        output=float(score(model(inputs), [target])[0]) if output is None else output,
        expected=None if scores.expected is None else float(scores.expected[0]),
        signed=chosen.signed,
        provenance=_provenance(
            model,
            picture,
            target,
            start,
            method=name,
            parameters=dict(parameters),
            unit=chosen.unit,
            citation=chosen.citation,
            details=dict(scores.details[0]) if scores.details else {},
            note=scores.note,
        ),
    )


def _provenance(model: Model, picture: Picture, target: Target, start: float, **details: Any) -> dict[str, Any]:
    """Say how a result came to be that was begun at ``start``."""
    return {
        "model": model.info.name,
        "model_digest": model.info.digest,
        "weights_digest": model.info.weights_digest,
        "picture_digest": picture.digest,
        "preprocessing": vars(model.info.preprocessing),
        "target": vars(target),
        **details,
        "passes": vars(passes.get(Passes())),
        "seconds": round(time.perf_counter() - start, 3),
        "computed": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": {name: version(name) for name in ("torch", "numpy")} | {"lightbox": VERSION},
    }


def _require_finite(values: np.ndarray, what: str) -> None:
    broken = int(values.size - np.isfinite(values).sum())
    if broken:
        raise ComputationError(
            f"{what} of which {broken} of {values.size} are not finite numbers. "
            "Check the model's weights and its normalisation, or choose another method."
        )
