"""Heatmaps by the attribution methods."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache as remember
from typing import TYPE_CHECKING, Any

from explainers.cache import Cache, Job
from explainers.compute.predictions import predict, submit_prediction
from explainers.compute.shared import provenance, require_finite, submit, to_inputs
from explainers.errors import SelectionError
from explainers.images import Picture
from explainers.jobs import Progress
from explainers.parameters import MethodInfo
from explainers.regions import Region
from explainers.results import Attribution, ModelInfo, Prediction, Target
from explainers.targets import choose_target, explained_output

if TYPE_CHECKING:
    from explainers.graph.model import Model


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
    return submit(
        model,
        [picture],
        ("attribution", method, checked, vars(target)),
        lambda progress: _attribute(model, picture, method, target, checked, output, progress),
        cache,
        urgency,
    )


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
    chosen, inputs = method(name, parameters), to_inputs(model, picture)
    scores = chosen.attribute(model, inputs, [target], progress)
    values = scores.values.detach().sum(dim=1)[0].float().numpy()
    require_finite(values, f"The method {chosen.title} gave scores")
    return Attribution(
        values=values,
        output=float(score(model(inputs), [target])[0]) if output is None else output,
        expected=None if scores.expected is None else float(scores.expected[0]),
        signed=chosen.signed,
        provenance=provenance(
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
