"""What every attribution method is: a question about one decision, answered by a score for every input pixel."""

from __future__ import annotations

import io
import json
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from jaxtyping import Float, Float32, UInt8

from explainers.asking import ask
from explainers.attribution.batch import Batch
from explainers.errors import SelectionError
from explainers.info import Layer, ModelInfo
from explainers.jobs import Progress
from explainers.predictions import Predict
from explainers.questions import Question, questions, refuse_other_outputs
from explainers.results import Result
from explainers.subjects import Case

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Attribution(Result):
    """Scores of every input pixel for one output of one image.

    ``values`` is summed over colours, in the units of the output (logit) for methods that conserve it. ``output`` is
    the explained output, ``expected`` the sum that completeness or conservation demands (None if the method promises
    none).
    """

    values: Float32[np.ndarray, "height width"]
    output: float
    expected: float | None
    signed: bool

    @property
    def total(self) -> float:
        """The sum of all attributions."""
        return float(self.values.sum(dtype=np.float64))

    @property
    def gap(self) -> float | None:
        """How far the sum is from what completeness demands, in the units of the output."""
        return None if self.expected is None else self.total - self.expected


@dataclass(frozen=True)
class Scores:
    """What a method returns for a batch.

    ``values`` are scores of the input's pixels, per colour or already summed over colours. ``expected`` is the sum of
    scores that the method promises for each image (completeness or conservation), None if it promises none.
    ``details`` are further figures for each image, in the units of the output. ``note`` is a sentence on what the
    method chose by itself, and why.
    """

    values: Float[Tensor, "batch channel height width"]
    expected: Float[Tensor, " batch"] | None = None
    details: tuple[Mapping[str, float], ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Method(Question[Case, Attribution]):
    """An attribution method: a question whose scores follow from ``attribute``.

    To add one, put a file with a subclass into this package. ``signed`` tells whether scores speak both for and
    against the target, ``unit`` what a score measures.
    """

    subject = Case
    signed: ClassVar[bool]
    unit: ClassVar[str] = "logit per pixel"

    @abstractmethod
    def attribute(self, batch: Batch) -> Scores:
        """Score every input pixel for the target of its image, reporting progress on the way (see ``Batch.sweep``)."""

    @classmethod
    def unsuitable(cls, info: ModelInfo) -> str | None:
        """Refuse models that give neither a score for each class nor a map of them."""
        return refuse_other_outputs(cls.title, info)

    def answer(self, about: Case, progress: Progress) -> Attribution:
        """Attribute, and say what the explained output is."""
        batch = Batch(about.model, about.tensor(), [about.target], progress)
        scores = self.attribute(batch)
        # A map is not kept whole in the cache, so its mean in a region takes a pass of its own.
        mapped = about.info.gives_map
        output = batch.evaluate(batch.inputs)[0] if mapped else ask(Predict(), about).result().score(about.target)
        return Attribution(
            values=scores.values.detach().sum(dim=1)[0].float().numpy(),
            output=float(output),
            expected=None if scores.expected is None else float(scores.expected[0]),
            signed=self.signed,
            provenance={
                "method": self.name,
                "unit": self.unit,
                "details": dict(scores.details[0]) if scores.details else {},
                "note": scores.note,
            },
        )


def methods() -> Mapping[str, type[Method]]:
    """Find every attribution method, by name."""
    return cast("Mapping[str, type[Method]]", questions("attribution"))


def unsuitable_methods(info: ModelInfo) -> dict[str, str]:
    """Say in a sentence, for each method that cannot explain a model, why."""
    reasons = {name: kind.unsuitable(info) for name, kind in methods().items()}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def make_method(name: str, parameters: Mapping[str, Any]) -> Method:
    """Make a method by its name, with parameters as forms and the command line give them; raises SelectionError."""
    if name not in methods():
        raise SelectionError(f"There is no method '{name}'. Choose one of {', '.join(methods())}.")
    return methods()[name].make(parameters)


def choose_layer(info: ModelInfo, name: str) -> Layer:
    """Find the named spatial layer, or for "" the last one, where maps are the most about content."""
    if name:
        return info.layer(name)
    spatial = [layer for layer in info.layers if layer.spatial]
    if not spatial:
        raise SelectionError("The model has no spatial layer. Choose a method that needs none.")
    return spatial[-1]


def pack(picture: UInt8[np.ndarray, "height width 3"], attribution: Attribution) -> bytes:
    """Write scores, picture and provenance as the bytes of an ``.npz`` file without pickles."""
    file = io.BytesIO()
    provenance = {**attribution.provenance, "output": attribution.output, "expected": attribution.expected}
    arrays: dict[str, Any] = {"values": attribution.values, "picture": picture, "provenance": json.dumps(provenance)}
    np.savez_compressed(file, **arrays)
    return file.getvalue()
