"""How right a model is: figures with intervals and counts, or in words why there is none. Free of torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int

from explainers.cases.intervals import Estimate, Z, boyd, mean_of, newcombe, wilson
from explainers.cases.outcomes import UNKNOWN, Outcomes
from explainers.outputs import BINARY

#: Of fewer pictures no figure is given.
FEWEST = 10

#: How many bins of confidence the calibration has.
BINS = 10


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval and on how many pictures it stands; without a ``value`` the note says why.

    ``note`` says how it was found otherwise. ``unit`` is "%" for shares, else what is measured.
    """

    title: str
    count: int
    value: float | None = None
    low: float | None = None
    high: float | None = None
    note: str = ""
    unit: str = "%"


@dataclass(frozen=True, eq=False)
class Confusion:
    """How often what was true (rows) was called what (columns)."""

    names: tuple[str, ...]
    counts: Int[np.ndarray, "true said"]


@dataclass(frozen=True, eq=False)
class Calibration:
    """How often decisions of a confidence are right: in bins of equal width from 0 to 1, those with pictures in them.

    ``low`` and ``high`` are the lowest and the highest confidence in a bin. ``expected_error`` is the mean distance of
    both, weighed by counts (expected calibration error, Naeini et al. 2015; Guo et al. 2017, arXiv:1706.04599).
    """

    confidence: Float64[np.ndarray, " bin"]
    right: Float64[np.ndarray, " bin"]
    count: Int[np.ndarray, " bin"]
    low: Float64[np.ndarray, " bin"]
    high: Float64[np.ndarray, " bin"]
    expected_error: float


def why_nothing(outcomes: Outcomes) -> str:
    """Say in a sentence why no figure can be given; "" if there are enough pictures for some."""
    if outcomes.info.gives_map:
        return "The model gives a map of classes, which is not compared with the labels of whole pictures."
    if outcomes.is_number and len(outcomes.info.class_names) > 1:
        return "The model gives several numbers, and one label for each picture cannot be compared with them."
    count = int(outcomes.known.sum())
    if count < FEWEST:
        have = f"{count} of {len(outcomes):,} pictures" if count else f"None of the {len(outcomes):,} pictures"
        return f"{have} can be judged by a label; {FEWEST} are needed for a figure."
    return ""


def summarise(outcomes: Outcomes) -> tuple[Figure, ...]:
    """Give the figures that go with a model's kind of outputs; () where ``why_nothing`` says why."""
    if why_nothing(outcomes):
        return ()
    known = outcomes[outcomes.known]
    if known.is_number:
        return measure_numbers(known)
    if known.by_finding:
        return (rate("All findings right", known.right), *average_findings(known))
    binary = known.finding is not None or known.info.kind == BINARY
    return (rate("Accuracy", known.right), *(figures_of_finding(known) if binary else figures_of_classes(known)))


def rate(title: str, right: Bool[np.ndarray, " case"], of: str = "pictures", note: str = "") -> Figure:
    """Give a share with Wilson's interval."""
    count = len(right)
    if count < FEWEST:
        return Figure(title, count, note=f"{count} {of}, too few for a figure")
    low, high = wilson(right.sum(), np.array(count))
    return Figure(title, count, float(right.mean()), float(low), float(high), note)


def figures_of_classes(known: Outcomes) -> tuple[Figure, ...]:
    """Balanced accuracy, and areas of one class against all others, as means over classes."""
    truth, right = known.truth[:, 0], known.right
    classes = [klass for klass in np.unique(truth).tolist() if (truth == klass).sum()]
    count = len(truth)
    if len(classes) < 2:
        note = "all pictures are of one class"
        return tuple(Figure(title, count, note=note) for title in ("Balanced accuracy", "AUROC", "Average precision"))
    recalls = [share(right[truth == klass]) for klass in classes]
    scores = [(truth == klass, known.shares[:, klass]) for klass in classes]
    note = f"mean over {len(classes):,} classes"
    return (
        Figure("Balanced accuracy", count, *mean_of(recalls), note),
        Figure("AUROC", count, *mean_of([area(*one) for one in scores]), f"one class against the rest, {note}"),
        Figure("Average precision", count, *mean_of([precision(*one) for one in scores]), note),
    )


def figures_of_finding(known: Outcomes) -> tuple[Figure, ...]:
    """Balanced accuracy, sensitivity, specificity and areas for a finding, or for the second of two answers."""
    there = find_positives(known)
    answered, output = known.answered[:, 0], 1 if known.finding is None else known.finding
    there, right = there[answered], known.right[answered]
    parts = rate("Sensitivity", right[there], "pictures with it"), rate("Specificity", right[~there], "without it")
    count = len(there)
    if there.all() or not there.any():
        note = "it is in all pictures" if there.all() else "it is in no picture"
        return (*parts, *(Figure(title, count, note=note) for title in ("AUROC", "Average precision")))
    balanced = mean_of([share(right[there]), share(right[~there])])
    scores = known.shares[answered, output]
    return (
        Figure("Balanced accuracy", count, *balanced, "mean of sensitivity and specificity"),
        *parts,
        Figure("AUROC", count, *area(there, scores)),
        Figure("Average precision", count, *precision(there, scores)),
    )


def find_positives(known: Outcomes) -> Bool[np.ndarray, " case"]:
    """Where a finding is there, or the second of two answers is true."""
    return np.asarray(known.truth[:, 0] == (1 if known.finding is None else known.finding))


def average_findings(known: Outcomes) -> tuple[Figure, ...]:
    """The mean over findings of what is known about each."""
    found = [summarise(known.about(finding)) for finding in range(len(known.info.class_names))]
    named = [{figure.title: figure for figure in figures} for figures in found]
    return tuple(average(title, [figures[title] for figures in named if title in figures]) for title in AVERAGED)


AVERAGED = ("Accuracy", "Balanced accuracy", "AUROC", "Average precision")


def average(title: str, figures: Sequence[Figure]) -> Figure:
    """The mean of the same figure of several findings, of those that have one."""
    known = [(one.value, one.low or 0.0, one.high or 0.0) for one in figures if one.value is not None]
    count = max((one.count for one in figures), default=0)
    words = "Accuracy of a finding" if title == "Accuracy" else title
    if not known:
        return Figure(words, count, note="no finding has enough pictures with and without it")
    note = f"mean over {len(known):,} finding{'s' * (len(known) > 1)}"
    return Figure(words, count, *mean_of(known), note)


def share(right: Bool[np.ndarray, " case"]) -> Estimate:
    """A share with Wilson's interval."""
    low, high = wilson(right.sum(), np.array(len(right)))
    return float(right.mean()), float(low), float(high)


def area(there: Bool[np.ndarray, " case"], scores: Float64[np.ndarray, " case"]) -> Estimate:
    """The area under the ROC curve, with Newcombe's interval."""
    from sklearn.metrics import roc_auc_score

    return newcombe(float(roc_auc_score(there, scores)), int(there.sum()), int((~there).sum()))


def precision(there: Bool[np.ndarray, " case"], scores: Float64[np.ndarray, " case"]) -> Estimate:
    """The average precision, with the logit interval."""
    from sklearn.metrics import average_precision_score

    return boyd(float(average_precision_score(there, scores)), int(there.sum()))


def measure_numbers(known: Outcomes) -> tuple[Figure, ...]:
    """By how much numbers are off on average, in which direction, and how well they go with the true ones."""
    errors, unit, count = known.errors, known.info.score_unit, len(known)
    figures = (
        Figure("Mean absolute error", count, *mean_with_interval(np.abs(errors)), unit=unit),
        Figure("Bias", count, *mean_with_interval(errors), "above 0: it says too much", unit),
    )
    if known.values.std() == 0 or known.measured.std() == 0:
        return (*figures, Figure("Correlation", count, note="all numbers are equal", unit=""))
    found = float(np.corrcoef(known.values, known.measured)[0, 1])
    middle, half = np.arctanh(np.clip(found, -1 + 1e-12, 1 - 1e-12)), Z / np.sqrt(count - 3)
    ends = float(np.tanh(middle - half)), float(np.tanh(middle + half))
    return (*figures, Figure("Correlation", count, found, *ends, "Pearson's, with Fisher's interval", ""))


def mean_with_interval(values: Float64[np.ndarray, " case"]) -> Estimate:
    """A mean with Student's interval."""
    from scipy.stats import t

    mean = float(values.mean())
    half = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half


def confuse(outcomes: Outcomes) -> Confusion:
    """Count what was called what; of a finding, and of one question alone."""
    from sklearn.metrics import confusion_matrix

    answered = outcomes.answered[:, 0]
    names = outcomes.info.decision_names
    labels = range(len(names))
    if outcomes.finding is not None:
        labels = range(outcomes.finding, len(names), len(outcomes.info.class_names))
    if not answered.any():
        return Confusion(tuple(names[label] for label in labels), np.zeros((len(labels), len(labels)), int))
    counts = confusion_matrix(outcomes.truth[answered, 0], outcomes.said[answered, 0], labels=list(labels))
    return Confusion(tuple(names[label] for label in labels), counts)


def calibrate(outcomes: Outcomes) -> Calibration | None:
    """Put every decision that is known to be right or wrong into a bin by its confidence; None if there is none."""
    answered = outcomes.answered
    sure, right = outcomes.likelihoods[answered], (outcomes.said == outcomes.truth)[answered]
    if not len(sure):
        return None
    places = np.minimum((sure * BINS).astype(int), BINS - 1)
    bins, number, count = np.unique(places, return_inverse=True, return_counts=True)
    confidence, correct = (np.bincount(number, values) / count for values in (sure, right))
    low, high = (_reduce(call, sure, number, len(bins)) for call in (np.minimum, np.maximum))
    error = float((count * np.abs(confidence - correct)).sum() / count.sum())
    return Calibration(confidence, correct, count, low, high, error)


def _reduce(call: Callable[..., object], values: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """The smallest or largest value of each group."""
    found = np.full(count, np.inf if call is np.minimum else -np.inf)
    call.at(found, groups, values)  # type: ignore[attr-defined]  # a ufunc
    return found


def worst_errors(outcomes: Outcomes, count: int | None = None) -> Int[np.ndarray, " row"]:
    """Rows of wrong decisions, the surest first; of numbers, those that are off by most first."""
    if outcomes.is_number:
        off = np.where(outcomes.known, np.abs(outcomes.errors), -1.0)
        rows = np.flatnonzero(off > 0)
        return rows[np.argsort(-off[rows], kind="stable")][:count]
    wrong = outcomes.answered & (outcomes.said != outcomes.truth)
    sure = np.where(wrong, outcomes.likelihoods, -1.0).max(axis=1)
    rows = np.flatnonzero(sure >= 0)
    return rows[np.argsort(-sure[rows], kind="stable")][:count]


def tell_unmatched(outcomes: Outcomes, labels: Sequence[str | None]) -> Iterator[str]:
    """Name labels that say nothing about this model, the most frequent first."""
    unknown = (outcomes.truth == UNKNOWN).all(axis=1) & np.isnan(outcomes.measured)
    found = [label for label, missing in zip(labels, unknown.tolist(), strict=True) if label and missing]
    counts = {label: found.count(label) for label in dict.fromkeys(found)} if len(set(found)) < 100 else {}
    yield from sorted(counts, key=lambda label: -counts[label])
