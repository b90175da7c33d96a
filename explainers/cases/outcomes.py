"""What a model said of many pictures beside what is true of them, as numbers. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int

from explainers.cases.dataset import Dataset
from explainers.cases.predictions import Predictions
from explainers.info import ModelInfo
from explainers.labels import match_label
from explainers.outputs import FINDINGS, NUMBERS

#: What has a row for each case.
ARRAYS = ("said", "truth", "shares", "values", "measured")

#: In place of a decision that is not known.
UNKNOWN = -1


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Decisions on many pictures, by ``info.decision_names``, beside the true ones; UNKNOWN where there is none.

    There is one question to each picture, or one to each finding. ``shares`` are the probabilities of outputs.
    ``values`` are measured numbers and ``measured`` the true ones, NaN where unknown; there are none of other outputs.
    ``finding`` is the one that all is about, None for all of them.
    """

    info: ModelInfo
    said: Int[np.ndarray, "case question"]
    truth: Int[np.ndarray, "case question"]
    shares: Float64[np.ndarray, "case output"]
    values: Float64[np.ndarray, " case"]
    measured: Float64[np.ndarray, " case"]
    finding: int | None = None

    def __len__(self) -> int:
        return len(self.said)

    def __getitem__(self, rows: Int[np.ndarray, " row"] | Bool[np.ndarray, " case"]) -> Outcomes:
        return replace(self, **{name: getattr(self, name)[rows] for name in ARRAYS})

    @cached_property
    def answered(self) -> Bool[np.ndarray, "case question"]:
        """Where it is known whether a decision is right."""
        return np.asarray((self.said != UNKNOWN) & (self.truth != UNKNOWN))

    @cached_property
    def known(self) -> Bool[np.ndarray, " case"]:
        """Which pictures are known to be judged rightly or wrongly; of several findings some may be unknown."""
        if self.is_number:
            return np.asarray(np.isfinite(self.values) & np.isfinite(self.measured))
        return np.asarray(self.answered.any(axis=1))

    @cached_property
    def right(self) -> Bool[np.ndarray, " case"]:
        """Which pictures are judged rightly: in all findings that are known."""
        agrees = (self.said == self.truth) | ~self.answered
        return np.asarray(self.known & agrees.all(axis=1) & (not self.is_number))

    @cached_property
    def errors(self) -> Float64[np.ndarray, " case"]:
        """By how much each number is off, NaN where that is not known."""
        return np.asarray(self.values - self.measured)

    @property
    def is_number(self) -> bool:
        """Whether it is about a number, which is not right or wrong but off by something."""
        return self.info.kind == NUMBERS

    @property
    def by_finding(self) -> bool:
        """Whether it is about several findings at once."""
        return self.info.kind == FINDINGS and self.finding is None

    @cached_property
    def likelihoods(self) -> Float64[np.ndarray, "case question"]:
        """How likely the model takes each of its decisions to be; NaN where it took none."""
        outputs = self.said % max(1, self.shares.shape[1])
        found = np.take_along_axis(self.shares, outputs, axis=1) if self.shares.size else np.zeros(self.said.shape)
        found = np.where(self.said >= self.shares.shape[1], 1 - found, found)
        return np.asarray(np.where(self.said == UNKNOWN, np.nan, found))

    @cached_property
    def confidence(self) -> Float64[np.ndarray, " case"]:
        """How sure the model is of each picture: of several findings, of the one that it is least sure of."""
        if self.is_number:
            return np.full(len(self), np.nan)
        return np.asarray(self.likelihoods.min(axis=1))

    def about(self, finding: int) -> Outcomes:
        """The same about one finding alone."""
        place = slice(finding, finding + 1)
        return replace(self, said=self.said[:, place], truth=self.truth[:, place], finding=finding)


def find_outcomes(info: ModelInfo, dataset: Dataset, predictions: Predictions | None) -> Outcomes:
    """Put what was predicted beside what labels tell; without predictions nothing was said."""
    labels = [entry.label for entry in dataset.entries]
    count, outputs = len(labels), len(info.class_names)
    if predictions is None:
        none = np.full((count, outputs if info.kind == FINDINGS else 1), UNKNOWN)
        empty = np.full(count, np.nan)
        truth = find_truth(info, labels)
        return Outcomes(info, none, truth, np.zeros((count, outputs)), empty, find_numbers(info, labels))
    said = np.where(predictions.read[:, None], decide(info, predictions), UNKNOWN)
    values = np.where(predictions.read, predictions.logits[:, 0].astype(np.float64), np.nan)
    shares = predictions.probabilities.astype(np.float64)
    return Outcomes(info, said, find_truth(info, labels), shares, values, find_numbers(info, labels))


def decide(info: ModelInfo, predictions: Predictions) -> Int[np.ndarray, "case question"]:
    """Decide on all pictures at once, as ``Prediction.decisions`` does on one."""
    outputs = np.arange(predictions.logits.shape[1])
    if info.kind == FINDINGS:
        return np.where(predictions.probabilities < 0.5, outputs + len(outputs), outputs)
    if info.kind == NUMBERS:
        usual = np.array(info.usual or (-np.inf,) * len(outputs))
        return np.where(predictions.logits < usual, outputs + len(outputs), outputs)
    best = predictions.probabilities == predictions.probabilities.max(axis=1, keepdims=True, initial=0)
    return np.asarray(np.where(best, predictions.logits, -np.inf).argmax(axis=1)[:, None])


def find_truth(info: ModelInfo, labels: Sequence[str | None]) -> Int[np.ndarray, "case question"]:
    """Match labels with decisions, each wording once; a map is not compared with the label of a picture."""
    questions = range(len(info.class_names) if info.kind == FINDINGS else 1)
    if info.gives_map:
        return np.full((len(labels), len(questions)), UNKNOWN)
    matched = {label: [match_label(label, info, question) for question in questions] for label in set(labels)}
    return np.array([matched[label] for label in labels], np.int64).reshape(len(labels), len(questions))


def find_numbers(info: ModelInfo, labels: Sequence[str | None]) -> Float64[np.ndarray, " case"]:
    """Read labels as numbers where the model measures one number of a picture; NaN for what is none."""
    if info.kind != NUMBERS or info.gives_map or len(info.class_names) != 1:
        return np.full(len(labels), np.nan)
    return np.array([read_number(label) for label in labels], np.float64)


def read_number(label: str | None) -> float:
    """Read a label as a number; NaN if it is none, or not finite."""
    try:
        number = float(label or "")
    except ValueError:
        return np.nan
    return number if np.isfinite(number) else np.nan
