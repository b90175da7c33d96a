"""Which architecture of timm or torchvision a checkpoint belongs to, told by the names and shapes of its tensors.

Building all of them to compare takes minutes, so a table of fingerprints is shipped. ``python -m
explainers.graph.architectures`` makes it anew; do so when timm or torchvision is upgraded.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import lzma
from dataclasses import astuple, dataclass
from functools import cache
from itertools import compress
from pathlib import Path

from explainers.errors import ModelError
from explainers.graph.zoo import Shapes, all_architectures, kinds, skeleton

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

    def resize(self, shape: tuple[int, ...], count: int, unit: int) -> tuple[int, ...]:
        """The shape of this tensor for so many classes (``unit`` 1000) or channels (``unit`` 3)."""
        return tuple(count * self.length // unit if axis == self.axis else length for axis, length in enumerate(shape))


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
