"""What a model says of a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from explainers.cache import Cache, Job
from explainers.compute.shared import require_finite, submit, to_inputs
from explainers.images import Picture
from explainers.results import ModelInfo, Prediction

if TYPE_CHECKING:
    from explainers.graph.model import Model


def submit_prediction(
    model: Model, picture: Picture, *, cache: Cache | None = None, urgency: int = 0
) -> Job[Prediction]:
    """Ask for the model's outputs for a picture."""
    return submit(model, [picture], ("prediction",), lambda progress: _predict(model, picture), cache, urgency)


def predict(model: Model, picture: Picture, *, cache: Cache | None = None) -> Prediction:
    """Compute, or find, the model's outputs for a picture."""
    return submit_prediction(model, picture, cache=cache).result()


def _predict(model: Model, picture: Picture) -> Prediction:
    return summarise(model.info, model(to_inputs(model, picture))[0].float().numpy())


def summarise(info: ModelInfo, outputs: Float32[np.ndarray, "class *places"]) -> Prediction:
    """Make a prediction of a model's outputs for one image; raises ComputationError if they are not finite."""
    require_finite(outputs, f"The model {info.name} gave outputs")
    places = outputs.reshape(len(outputs), -1)
    best = np.bincount(places.argmax(axis=0), minlength=len(places)) / places.shape[1]
    logits = places.mean(axis=1)
    return Prediction(logits, best.astype(np.float32) if outputs.ndim > 1 else _probabilities(logits))


def _probabilities(logits: Float32[np.ndarray, " class"]) -> Float32[np.ndarray, " class"]:
    """Softmax, or for a single output the sigmoid."""
    pair = np.append(logits, 0) if len(logits) == 1 else logits
    powers = np.exp(pair.astype(np.float64) - pair.max())
    return np.asarray(powers / powers.sum(), np.float32)[: len(logits)]
