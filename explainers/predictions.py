"""What a model says of a picture. Free of torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from explainers.asking import ask
from explainers.cache import Cache
from explainers.errors import SelectionError
from explainers.images import Picture
from explainers.info import ModelInfo
from explainers.jobs import Progress
from explainers.outputs import BINARY, CLASSES, FINDINGS, NUMBERS
from explainers.questions import Question
from explainers.regions import Region
from explainers.results import Result, require_finite
from explainers.subjects import Case, Input
from explainers.targets import PREDICTED, Target, choose_target

if TYPE_CHECKING:
    from explainers.graph.model import Model


@dataclass(frozen=True)
class Prediction(Result):
    """A model's outputs for one image: ``logits``, and ``probabilities`` as the kind of output has them.

    These are the softmax of classes, the sigmoid of each finding and of both sides of a yes-or-no; numbers have none.
    Of a map, ``logits`` are the means, and ``probabilities`` the shares of the area: where each class is best, or where
    each finding is more likely than not.
    """

    logits: Float32[np.ndarray, " class"]
    probabilities: Float32[np.ndarray, " likely"]

    def top(self, count: int = 5) -> list[int]:
        """The class indices with the largest probabilities, best first; logits decide where those are equal.

        Numbers, which have none, stay in their order.
        """
        if not len(self.probabilities):
            return [*range(len(self.logits))][:count]
        return [int(index) for index in np.lexsort((-self.logits, -self.probabilities))[:count]]

    def score(self, target: Target) -> float:
        """The score that a target explains: a class's logit or its lead over another."""
        other = 0.0 if target.versus is None else float(self.logits[target.versus])
        return float(self.logits[target.index]) - other - target.usual

    def decisions(self, info: ModelInfo) -> tuple[int, ...]:
        """What the model decides, by ``info.decision_names``: the best class; for each finding, whether it is there."""
        if info.kind in (CLASSES, BINARY):
            return (self.top(1)[0],)
        return tuple(self.decision(info, index) for index in range(len(self.logits)))

    def likelihood(self, info: ModelInfo, decision: int) -> float:
        """The probability of a decision, of a finding that is not there that of not; NaN for numbers."""
        if not len(self.probabilities):
            return float("nan")
        likely = float(self.probabilities[info.output_of(decision)])
        return likely if decision < len(info.class_names) else 1 - likely

    def decision(self, info: ModelInfo, index: int) -> int:
        """The decision that an output is about: its class; for a finding, whether it is there."""
        count = len(info.class_names)
        if info.kind == FINDINGS:
            return index + count * int(self.probabilities[index] < 0.5)
        if info.kind == NUMBERS and info.usual:
            return index + count * int(self.logits[index] < info.usual[index])
        return index


@dataclass(frozen=True)
class Predict(Question[Input, Prediction]):
    """The model's outputs for a picture, in one forward pass."""

    name = "prediction"
    title = "Prediction"
    summary = "What the model says of the picture, class by class."
    citation = "Bridle 1990, doi:10.1007/978-3-642-76153-9_28 (softmax)"
    subject = Input

    def answer(self, about: Input, progress: Progress) -> Prediction:
        """Run the model once."""
        return summarise(about.info, about.model(about.tensor())[0].float().numpy())


def predict(model: Model, picture: Picture, *, cache: Cache | None = None) -> Prediction:
    """Compute, or find, the model's outputs for a picture; raises LightboxError."""
    return ask(Predict(), Input(model, picture), cache=cache).result()


def summarise(info: ModelInfo, outputs: Float32[np.ndarray, "class *places"]) -> Prediction:
    """Make a prediction of a model's outputs for one image; raises ComputationError if they are not finite."""
    require_finite(outputs, "The model gave outputs")
    places = outputs.reshape(len(outputs), -1)
    logits = places.mean(axis=1)
    if info.kind == NUMBERS:
        return Prediction(logits, np.empty(0, np.float32))
    if outputs.ndim == 1:
        return Prediction(logits, _softmax(logits) if info.kind == CLASSES else _sigmoid(logits))
    if info.kind == FINDINGS:
        return Prediction(logits, (places > 0).mean(axis=1, dtype=np.float32))
    best = np.bincount(places.argmax(axis=0), minlength=len(places)) / places.shape[1]
    return Prediction(logits, best.astype(np.float32))


def _softmax(logits: Float32[np.ndarray, " class"]) -> Float32[np.ndarray, " class"]:
    powers = np.exp(logits.astype(np.float64) - logits.max())
    return np.asarray(powers / powers.sum(), np.float32)


def _sigmoid(logits: Float32[np.ndarray, " class"]) -> Float32[np.ndarray, " class"]:
    return np.asarray(np.exp(-np.logaddexp(0, -logits.astype(np.float64))), np.float32)


def prefetch(
    about: Input,
    questions: Iterable[Question[Any, Any]],
    wanted: str = PREDICTED,
    versus: str = "",
    region: Region = (),
    *,
    place: Callable[[Case], Case] = lambda case: case,
    cache: Cache | None = None,
) -> None:
    """Compute ahead what the next click will ask for: the prediction, then questions about the output to explain.

    ``place`` makes of the case what the questions are asked about, such as the case beside those of an index.
    """

    def go_on(prediction: Prediction) -> None:
        with suppress(SelectionError):  # the click itself will tell it, in its place on the page
            target = choose_target(about.info, prediction, wanted, versus, region)
            for question in questions:
                ask(question, place(Case(about.model, about.picture, target)), cache=cache, urgency=1)

    ask(Predict(), about, cache=cache, urgency=1).then(go_on)
