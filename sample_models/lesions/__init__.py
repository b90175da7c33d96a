"""Drawn stand-ins for dermoscopic pictures whose truth is known: what is found, where it is, what lies beside it."""

from sample_models.lesions.drawing import ARTIFACTS, CLASSES, Lesion, draw
from sample_models.lesions.rule import COLOURS, STRUCTURES, Findings
from sample_models.lesions.splits import SPLITS, Case, LesionSample, list_facts, samples, split, wrong_labels

__all__ = [
    "ARTIFACTS",
    "CLASSES",
    "COLOURS",
    "SPLITS",
    "STRUCTURES",
    "Case",
    "Findings",
    "Lesion",
    "LesionSample",
    "draw",
    "list_facts",
    "samples",
    "split",
    "wrong_labels",
]
