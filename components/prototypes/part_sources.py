"""Where the prototypes of a sample model come from, and the pictures that it is tested on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import sample_models
from explainers.images import Sample
from explainers.info import ModelInfo
from sample_models import SIZE, lesions
from sample_models.cards import WEIGHTS, Card, Source, read_card

#: What the pictures are called that the model learnt from, and how many of them are compared.
LEARNT, REFERENCES = "learnt from", 400


def find_sources(info: ModelInfo) -> tuple[Source, ...]:
    """List the prototypes that a sample model's card declares; () for other models."""
    card = None if info.private else find_card(info.name)
    return card.prototypes if card else ()


@lru_cache
def find_card(name: str) -> Card | None:
    """Read the card of a sample model, None if it has none."""
    return read_card(name) if (WEIGHTS / f"{name}.json").is_file() else None


def find_sample(source: Source) -> Sample:
    """Find the training picture that a prototype was cut from; raises SelectionError."""
    return lesions.samples(source.sample.rpartition("-")[0], size=SIZE).named(source.sample)


def find_splits(info: ModelInfo) -> Mapping[str, Sequence[Sample]]:
    """Reference pictures of a sample model, and those that its card gives an accuracy on, by split."""
    card = find_card(info.name)
    tests = {split: lesions.samples(split, size=SIZE) for split in (card.accuracy if card else ())}
    return {LEARNT: sample_models.models()[info.name].references[:REFERENCES], **tests}
