"""Handwritten digits of 8 x 8 pixels (Alpaydin and Kaynak 1998), enlarged; scikit-learn carries them in its package."""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from explainers.errors import ImageError
from explainers.images import Picture, Sample, Samples
from explainers.images.picture import USUAL, Reading

# Found without importing scikit-learn, which takes long.
FILE = Path(str(distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")))

#: Width and height of the pictures, in pixels.
SIZE = 32

#: The rows behind this one were never learnt from.
TRAIN = 1400


@dataclass(frozen=True)
class Digit(Sample):
    """A digit in a row of the file."""

    row: int

    def read(self, reading: Reading = USUAL) -> Picture:
        """Draw the digit; it has one frame and 8 bits, so ``reading`` changes nothing."""
        rows = read_rows()
        if self.row not in range(len(rows)):
            raise ImageError(f"There is no digit {self.row}; the file has those from 0 to {len(rows) - 1}.")
        grey = draw(rows[self.row])
        return Picture(self.name, np.repeat(grey[..., None], 3, axis=2), self.label, private=False)


def draw(row: UInt8[np.ndarray, " 65"]) -> UInt8[np.ndarray, "32 32"]:
    """Enlarge a row's 64 values from 0 to 16 to a picture."""
    image = Image.fromarray((row[:64].reshape(8, 8) * np.float32(255 / 16)).astype(np.uint8))
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


@cache
def read_rows() -> UInt8[np.ndarray, "row 65"]:
    """Read the file: in each row 64 values and the digit."""
    with gzip.open(FILE, "rt") as file:
        return np.array([[float(value) for value in row] for row in csv.reader(file)]).astype(np.uint8)


def samples(first: int = 0, count: int | None = None) -> Samples:
    """List the digits from a row on."""
    labels = read_rows()[first:, 64].tolist()[:count]
    return Samples(Digit(f"digit-{row:04}", label=str(label), row=row) for row, label in enumerate(labels, first))
