"""Which architecture of timm or torchvision a checkpoint belongs to, told by the names and shapes of its tensors.

Building all of them to compare takes minutes, so a table of fingerprints is shipped. ``python -m
explainers.graph.architectures`` makes it anew; do so when timm or torchvision is upgraded.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import lzma
import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cache
from itertools import compress
from pathlib import Path

from explainers.errors import ModelError
from explainers.graph.networks import Weights
from explainers.graph.zoo import Shapes, all_architectures, kinds, shapes, skeleton
from explainers.proposal import Guess

TABLE = Path(__file__).with_name("architectures.json.xz")

#: How many of an architecture's tensors the table keeps to estimate the overlap with a file.
SKETCH = 12


@dataclass(frozen=True)
class Free:
    """A tensor whose length along ``axis`` the user chooses; ``length`` is that for 1000 classes and 3 channels."""

    name: str
    position: int
    axis: int
    length: int

    def measure(self, found: Shapes, unit: int) -> int:
        """How many classes (``unit`` 1000) or channels (``unit`` 3) a checkpoint has, 0 if it has no such tensor."""
        shape = found.get(self.name) or dict(enumerate(found.values())).get(self.position, ())
        return shape[self.axis] * unit // self.length if self.axis < len(shape) else 0


@dataclass(frozen=True)
class Fingerprint:
    """What the table keeps of an architecture: hashes of its tensors but for the free ones.

    ``named`` adds up the hashes of names and shapes, ``ordered`` those of positions, kinds and shapes (both modulo
    2^64); ``sketch`` holds the smallest of the former, cut to 32 bits (bottom-k sketch, Cohen and Kaplan 2007).
    """

    architecture: str
    tensors: int
    named: int
    ordered: int
    sketch: tuple[int, ...]
    classifier: tuple[Free, ...]
    stem: tuple[Free, ...]


def digest(*parts: object) -> int:
    """A 64-bit hash that is the same in every process."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big")


def hash_names(found: Shapes) -> dict[str, int]:
    """A hash of each tensor's name and shape."""
    return {name: digest(name, shape) for name, shape in found.items()}


def hash_places(found: Shapes) -> list[int]:
    """A hash of each tensor's position, kind ("weight", "bias", ...) and shape."""
    return [digest(place, kind, shape) for place, (kind, shape) in enumerate(kinds(found))]


def find(architecture: str) -> Fingerprint:
    """Look an architecture up by its qualified name; raises ModelError with the nearest names."""
    if architecture not in fingerprints():
        near = difflib.get_close_matches(architecture, fingerprints(), n=3)
        raise ModelError(
            f"There is no architecture '{architecture}'. "
            + (f"Did you mean {' or '.join(near)}?" if near else "Choose one such as timm/resnet50.")
        )
    return fingerprints()[architecture]


def guess(weights: Weights, file_name: str) -> tuple[Guess, ...]:
    """Rank the architectures that a checkpoint may belong to: those that fit exactly, or else the three nearest."""
    found = shapes(weights.tensors)
    by_name, by_place = hash_names(found), hash_places(found) if weights.ordered else []
    exact = [one.architecture for one in fingerprints().values() if fits(one, by_name, by_place)]
    if exact:
        ported = "_conv_stem.weight" in found  # a library whose weights came from TensorFlow, like timm's tf_ ones
        exact.sort(key=lambda architecture: doubts(architecture, file_name, weights.ordered, ported))
        return tuple(Guess(architecture, len(found), len(found)) for architecture in exact)
    guesses = [Guess(one.architecture, overlap(one, found), len(found)) for one in nearest(by_name)]
    return tuple(sorted(guesses, key=lambda one: -one.fitting))


def fits(one: Fingerprint, by_name: Mapping[str, int], by_place: Sequence[int]) -> bool:
    """Whether all tensors of a checkpoint have their places in an architecture, by name or else by position."""
    if len(by_name) != one.tensors:
        return False
    free = {free.name: free.position for free in (*one.classifier, *one.stem)}
    if (sum(by_name.values()) - sum(by_name.get(name, 0) for name in free)) % 2**64 == one.named:
        return True
    placed = sum(by_place) - sum(by_place[place] for place in free.values() if by_place)
    return bool(by_place) and placed % 2**64 == one.ordered


def doubts(architecture: str, file_name: str, torch_file: bool, ported: bool) -> tuple[object, ...]:
    """Sort key among architectures of equal tensors: what the file is named after first, then the plainest name."""
    library, _, name = architecture.partition("/")
    named = name in re.sub(r"\W", "_", file_name.lower())
    habitual = library == ("torchvision" if torch_file else "timm")
    return name.startswith("tf_") != ported, -len(name) if named else 0, not habitual, len(name), name


def nearest(by_name: Mapping[str, int], count: int = 3) -> list[Fingerprint]:
    """The architectures whose sketches share most with a checkpoint; the plainest names first among equals."""
    low = {value >> 32 for value in by_name.values()}
    shared = {name: sum(value in low for value in one.sketch) for name, one in fingerprints().items()}
    near = [one for name, one in fingerprints().items() if shared[name]]
    near.sort(key=lambda one: (-shared[one.architecture], abs(one.tensors - len(by_name)), len(one.architecture)))
    return near[:count]


def overlap(one: Fingerprint, found: Shapes) -> int:
    """How many tensors of a checkpoint have their places in an architecture, the free ones whatever their length."""
    expected = skeleton(one.architecture, 1000)
    free = {free.name for free in (*one.classifier, *one.stem)}
    return sum(expected.get(name) == shape or name in free for name, shape in found.items())


def measure(architecture: str, weights: Weights) -> tuple[int, int]:
    """How many classes and input channels a checkpoint has; 1000 and 3 if that cannot be told."""
    one, found = find(architecture), shapes(weights.tensors)
    classes = [free.measure(found, 1000) for free in one.classifier]
    channels = [free.measure(found, 3) for free in one.stem]
    return next(filter(None, classes), 1000), next(filter(None, channels), 3)


@cache
def fingerprints() -> dict[str, Fingerprint]:
    """Read the table of all architectures."""
    rows = json.loads(lzma.decompress(TABLE.read_bytes()))
    return {row[0]: read_row(*row) for row in rows}


def read_row(
    architecture: str,
    tensors: int,
    named: int,
    ordered: int,
    sketch: list[int],
    classifier: list[tuple[str, int, int, int]],
    stem: list[tuple[str, int, int, int]],
) -> Fingerprint:
    """Read a row of the table."""
    free = [tuple(Free(*row) for row in rows) for rows in (classifier, stem)]
    return Fingerprint(architecture, tensors, named, ordered, tuple(sketch), *free)


def take_fingerprint(architecture: str) -> Fingerprint:
    """Make an architecture's fingerprint; what has other lengths with 7 classes and one channel is free."""
    wide, narrow = skeleton(architecture, 1000, 3), skeleton(architecture, 7, 1)
    free = [
        Free(name, place, axis, length)
        for place, (name, shape) in enumerate(wide.items())
        for axis, length in enumerate(shape)
        if length != narrow[name][axis]
    ]
    classifier = tuple(one for one in free if one.length * 7 == narrow[one.name][one.axis] * 1000)
    stem = tuple(one for one in free if one.length == narrow[one.name][one.axis] * 3)
    fixed = [wide[name] == narrow[name] for name in wide]
    named, ordered = list(compress(hash_names(wide).values(), fixed)), list(compress(hash_places(wide), fixed))
    sketch = tuple(sorted(value >> 32 for value in named)[:SKETCH])
    return Fingerprint(architecture, len(wide), sum(named) % 2**64, sum(ordered) % 2**64, sketch, classifier, stem)


def write_table() -> None:
    """Make the table of all architectures that classify anew; takes a quarter of an hour."""
    rows = [take_fingerprint(architecture) for architecture in all_architectures()]
    TABLE.write_bytes(lzma.compress(json.dumps([astuple(row) for row in rows if row.classifier]).encode()))


if __name__ == "__main__":
    write_table()
