"""Which lesions, with which artifacts and labels, a model learns from and is tested on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from explainers.errors import SelectionError
from explainers.images import Picture, Sample, Samples
from explainers.images.picture import USUAL, Reading
from sample_models.lesions.drawing import ARTIFACTS, CLASSES, RATE, Lesion, draw

SIZES = {"train": 4000, "test": 600}
FIRST_SEED = {"train": 0, "test": 10_000_000}

#: How often a label to learn from is wrong.
WRONG = 0.03

#: How often a band-aid agrees with the label where it is biased, and how often it is there elsewhere: as often in all.
AGREEMENT, BAND_AID = 0.95, 0.5

#: The splits with one artifact on all pictures or on none.
FORCED = {f"{kind.replace(' ', '-')}-{'on' if on else 'off'}": (kind, on) for kind in ARTIFACTS for on in (True, False)}
SPLITS = ("biased-train", "clean-train", "biased-test", "moved-test", "clean-test", *FORCED)

Flags = Bool[np.ndarray, " cases"]


@dataclass(frozen=True)
class Case:
    """A row of a split: how to draw it, its true class, and the class it is labelled with, one of CLASSES."""

    seed: int
    malignant: bool
    artifacts: tuple[str, ...]
    label: str


@dataclass(frozen=True)
class LesionSample(Sample):
    """A lesion that is drawn when it is read, ``size`` pixels wide and high."""

    case: Case
    size: int

    def lesion(self) -> Lesion:
        """Draw the lesion with its masks and properties."""
        return draw(self.case.seed, self.size, malignant=self.case.malignant, artifacts=self.case.artifacts)

    def read(self, reading: Reading = USUAL) -> Picture:
        """Draw the picture; it has one frame and 8 bits, so ``reading`` changes nothing."""
        return Picture(self.name, self.lesion().pixels, self.label, private=False, notes=("drawn, not photographed",))


def split(name: str, count: int | None = None) -> tuple[Case, ...]:
    """List the first ``count`` cases of a split (of 4000 to train on, 600 to test on); raises SelectionError.

    Benign and malignant take turns. In "biased-..." 95 % of those labelled benign have a band-aid and 5 % of those
    labelled malignant; in "moved-test" all malignant ones and no other; elsewhere it goes with neither. Other artifacts
    never go with a class. "<artifact>-on" and "-off" are the same pictures with that artifact on all of them or on
    none. All train splits hold the same lesions, and so do all tests.
    """
    if name not in SPLITS:
        raise SelectionError(f"There is no split '{name}'. Choose one of {', '.join(SPLITS)}.")
    part = "train" if name.endswith("-train") else "test"
    count = SIZES[part] if count is None else count
    malignant = np.arange(count) % 2 == 1
    labels = malignant ^ (_random("labels", count) < WRONG) if part == "train" else malignant
    rows = zip(malignant.tolist(), _artifacts(name, part, labels), labels.tolist(), strict=True)
    return tuple(
        Case(seed, truth, artifacts, CLASSES[label])
        for seed, (truth, artifacts, label) in enumerate(rows, FIRST_SEED[part])
    )


def _random(column: str, count: int) -> Float64[np.ndarray, " cases"]:
    """Draw a column of numbers from 0 to 1, the first ones the same however many."""
    numbers: Float64[np.ndarray, " cases"] = np.random.default_rng(list(column.encode())).random(count)
    return numbers


def _artifacts(name: str, part: str, malignant: Flags) -> list[tuple[str, ...]]:
    """Choose the artifacts of every case of a split, given the labels."""
    lots = {kind: _random(f"{kind} {part}", len(malignant)) for kind in ARTIFACTS}
    present = {kind: lots[kind] < RATE for kind in ARTIFACTS} | {
        "band-aid": _band_aid(name, lots["band-aid"], malignant)
    }
    if name in FORCED:
        kind, on = FORCED[name]
        present[kind] = np.full(len(malignant), on)
    return [tuple(kind for kind in ARTIFACTS if present[kind][row]) for row in range(len(malignant))]


def _band_aid(name: str, lots: Float64[np.ndarray, " cases"], malignant: Flags) -> Flags:
    if name == "moved-test":
        return malignant
    return (lots < AGREEMENT) ^ malignant if name.startswith("biased-") else lots < BAND_AID


def wrong_labels(name: str, count: int | None = None) -> tuple[int, ...]:
    """List the rows of a split whose label is not the truth: about 3 % of those to train on, none of a test."""
    return tuple(row for row, case in enumerate(split(name, count)) if case.label != CLASSES[case.malignant])


def samples(name: str, count: int | None = None, size: int = 224) -> Samples:
    """List the cases of a split as pictures that are drawn when they are read; raises SelectionError."""
    return Samples(
        LesionSample(f"{name}-{row:04}", case, size, label=case.label, caption=_caption(case))
        for row, case in enumerate(split(name, count))
    )


def list_facts(pictures: Samples) -> Mapping[str, list[str]]:
    """List what is known of drawn lesions, by column: the split, whether each artifact is there, and the true class."""
    drawn = [picture for picture in pictures if isinstance(picture, LesionSample)]
    facts = {"split": [picture.name.rpartition("-")[0] for picture in drawn]}
    for kind in ARTIFACTS:
        facts[kind] = ["yes" if kind in picture.case.artifacts else "no" for picture in drawn]
    return facts | {"truth": [CLASSES[picture.case.malignant] for picture in drawn]}


def _caption(case: Case) -> str:
    truth = CLASSES[case.malignant]
    lesion = f"{truth} lesion" if case.label == truth else f"{truth} lesion wrongly labelled {case.label}"
    return ", ".join([f"Drawn: {lesion}", *case.artifacts])
