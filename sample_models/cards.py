"""What is written beside shipped weights: how a network was trained and how well it does. Free of torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Source:
    """The training patch that a prototype is: a box (left, top, right, bottom) in pixels of a sample of a split.

    ``place`` is its (row, column) in the map of features.
    """

    prototype: int
    klass: str
    sample: str
    place: tuple[int, int]
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Card:
    """How a network was trained, and its figures: accuracy, or mean intersection over union, on each split."""

    name: str
    network: str
    parameters: int
    data: str
    flaw: str
    accuracy: Mapping[str, float]
    command: str
    seed: int
    prototypes: tuple[Source, ...] = ()


def read_card(name: str) -> Card:
    """Read the card of shipped weights."""
    content = json.loads((WEIGHTS / f"{name}.json").read_text())
    sources = (
        Source(**{**item, "place": tuple(item["place"]), "box": tuple(item["box"])}) for item in content["prototypes"]
    )
    return Card(**{**content, "prototypes": tuple(sources)})


def write_card(card: Card) -> None:
    """Write a card beside the weights."""
    (WEIGHTS / f"{card.name}.json").write_text(json.dumps(asdict(card), indent=1) + "\n")
