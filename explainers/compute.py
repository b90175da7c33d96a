"""The one way from a model and a picture to results: through the cache, on a worker, counted.

Importing this module is cheap; torch is loaded by the first computation.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache as remember
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float32

from explainers.cache import DISK_LIMIT, MEMORY_LIMIT, Cache, Job, digest
from explainers.errors import ComputationError, SelectionError
from explainers.images import Picture
from explainers.jobs import Progress
from explainers.parameters import MethodInfo
from explainers.proposal import Proposal
from explainers.regions import Region
from explainers.results import Attribution, ModelInfo, Passes, Prediction, Target, passes
from explainers.targets import choose_target, explained_output

if TYPE_CHECKING:
    from torch import Tensor

    from explainers.graph.model import Model

VERSION = "0.1.0"

_opening = threading.Lock()


def shared_cache() -> Cache:
    """The cache of this process; sizes and folder follow LIGHTBOX_MEMORY, LIGHTBOX_DISK (bytes), LIGHTBOX_CACHE."""
    with _opening:  # sessions that start together must not get a cache each
        return _open_cache()


@remember
def _open_cache() -> Cache:
    default = Path.home() / ".cache" / "lightbox"
    return Cache(
        Path(os.environ.get("LIGHTBOX_CACHE", default)),
        int(os.environ.get("LIGHTBOX_MEMORY", MEMORY_LIMIT)),
        int(os.environ.get("LIGHTBOX_DISK", DISK_LIMIT)),
    )


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


def propose(data: bytes, file_name: str, architecture: str | None = None) -> Proposal:
    """Look at an uploaded model file without running it, with an architecture or the best guess; raises ModelError."""
    from explainers.graph.loader import propose

    return propose(data, file_name, architecture)


def load(data: bytes, file_name: str, **settings: Any) -> Model:
    """Make a Model of an uploaded file, see ``explainers.graph.loader.load``; raises ModelError."""
    from explainers.graph.loader import load

    return load(data, file_name, **settings)


def read_class_names(data: bytes, file_name: str) -> tuple[str, ...]:
    """Read class names from a text, CSV or JSON file; raises ModelError."""
    from explainers.graph.class_names import read_class_names

    return read_class_names(data, file_name)


def submit_prediction(
    model: Model, picture: Picture, *, cache: Cache | None = None, urgency: int = 0
) -> Job[Prediction]:
    """Ask for the model's outputs for a picture."""
    return (cache or shared_cache()).submit(
        digest("prediction", *_content(model, picture)),
        lambda progress: _predict(model, picture),
        durable=not picture.private and not model.info.private,
        urgency=urgency,
    )


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
    return (cache or shared_cache()).submit(
        digest("attribution", *_content(model, picture), method, checked, vars(target)),
        lambda progress: _attribute(model, picture, method, target, checked, output, progress),
        durable=not picture.private and not model.info.private,
        urgency=urgency,
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


@remember
def _code() -> str:
    """SHA-256 of Lightbox's own code: results that other code computed are not mixed with these."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    return digest(*(file.read_text() for file in files))


def _content(model: Model, picture: Picture) -> tuple[Any, ...]:
    return _code(), model.info.digest, vars(model.info.preprocessing), picture.digest


def _inputs(model: Model, picture: Picture) -> Float[Tensor, "1 channel height width"]:
    import torch

    preprocessing = model.info.preprocessing
    return torch.from_numpy(preprocessing.normalise(preprocessing.crop(picture.pixels)))[None]


def _predict(model: Model, picture: Picture) -> Prediction:
    outputs = model(_inputs(model, picture))[0].float().numpy()
    _require_finite(outputs, f"The model {model.info.name} gave outputs")
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
    counts = passes.get(Passes())
    return Attribution(
        values=values,
        output=float(score(model(inputs), [target])[0]) if output is None else output,
        expected=None if scores.expected is None else float(scores.expected[0]),
        signed=chosen.signed,
        provenance={
            "model": model.info.name,
            "model_digest": model.info.digest,
            "weights_digest": model.info.weights_digest,
            "picture_digest": picture.digest,
            "preprocessing": vars(model.info.preprocessing),
            "method": name,
            "parameters": dict(parameters),
            "target": vars(target),
            "unit": chosen.unit,
            "citation": chosen.citation,
            "details": dict(scores.details[0]) if scores.details else {},
            "note": scores.note,
            "passes": vars(counts),
            "seconds": round(time.perf_counter() - start, 3),
            "computed": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "versions": {name: version(name) for name in ("torch", "numpy")} | {"lightbox": VERSION},
        },
    )


def _require_finite(values: np.ndarray, what: str) -> None:
    broken = int(values.size - np.isfinite(values).sum())
    if broken:
        raise ComputationError(
            f"{what} of which {broken} of {values.size} are not finite numbers. "
            "Check the model's weights and its normalisation, or choose another method."
        )
