"""What a DICOM header says about how to show its pixels; what cannot be read is noted, and something else used.

Values are parsed from their bytes, because pydicom raises where a value is converted. No note quotes a value but
numbers that were parsed, for anything may stand in a damaged header.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass, field

import numpy as np
from pydicom.datadict import dictionary_description, tag_for_keyword
from pydicom.dataset import Dataset

from explainers.images.picture import DECODER_ERRORS

#: A decimal with a point or a comma, and then no further digit: a unit at most.
DECIMAL = re.compile(r"([+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?)(\D*)", re.ASCII)

#: How many bytes of an attribute of numbers are read.
LONGEST = 4096

#: Representations of numbers that are not text, where decimals are stored in them against the standard.
BINARY = {"FD": "d", "FL": "f", "US": "H", "SS": "h", "UL": "I", "SL": "i"}


@dataclass(frozen=True)
class Header:
    """A data set, or an item of one of its sequences, and the notes on what could not be read in it."""

    dataset: Dataset
    notes: list[str] = field(default_factory=list)

    def note(self, keyword: str, words: str) -> None:
        """Say once what is wrong with an attribute and what was done."""
        told = f"{dictionary_description(keyword)} of the file {words}"
        if told not in self.notes:
            self.notes.append(told)

    def raw(self, keyword: str) -> tuple[bytes, str]:
        """The bytes of an attribute and the format of whole numbers of 16 bits in it; empty without one."""
        tag = tag_for_keyword(keyword)
        element = self.dataset.get_item(tag) if tag is not None and tag in self.dataset else None
        value = getattr(element, "value", None)
        order = "<" if getattr(element, "is_little_endian", True) else ">"
        return (value if isinstance(value, bytes) else b""), f"{order}u2"

    def representation(self, keyword: str) -> str:
        """The value representation that a file states for an attribute; "" if it states none."""
        element = self.dataset.get_item(tag_for_keyword(keyword) or 0)
        return str(getattr(element, "VR", None) or "")

    def text(self, keyword: str) -> str:
        """A code, in upper case; "" without one."""
        value = self.raw(keyword)[0].split(b"\\")[0]
        return value.decode("ascii", "replace").strip(" \0").upper()

    def words(self, keyword: str) -> list[int]:
        """Whole numbers of 16 bits, not negative; none without the attribute."""
        value, order = self.raw(keyword)
        value = value[:LONGEST]
        return [int(number) for number in np.frombuffer(value[: len(value) // 2 * 2], order)]

    def count(self, keyword: str, otherwise: int, allowed: range) -> int:
        """A whole number of 16 bits, or what is used where it is missing or not allowed."""
        found = self.words(keyword)[:1]
        if found and found[0] in allowed:
            return found[0]
        self.note(keyword, f"is {'not valid' if found else 'missing'}; {otherwise} used instead")
        return otherwise

    def decimals(self, keyword: str) -> list[float | None]:
        """Decimal numbers; None in the place of each that cannot be read."""
        if kind := BINARY.get(self.representation(keyword)):
            return self.binary(keyword, kind)
        texts = self.raw(keyword)[0][:LONGEST].decode("ascii", "replace").split("\\")
        return [self.parse(keyword, text.strip(" \0\n\r\t")) for text in texts]

    def binary(self, keyword: str, kind: str) -> list[float | None]:
        """Numbers that are stored in binary, in the format ``kind``; None in the place of each that is not finite."""
        value, order = self.raw(keyword)
        form, size = f"{order[0]}{kind}", struct.calcsize(kind)
        value = value[:LONGEST]
        numbers = struct.iter_unpack(form, value[: len(value) // size * size])
        return [float(number) if math.isfinite(number) else None for (number,) in numbers]

    def parse(self, keyword: str, text: str) -> float | None:
        """Read a decimal number, with a note if it is not written as the standard asks; None for none."""
        match = DECIMAL.fullmatch(text)
        if not match:
            return None
        number = float(match[1].replace(",", "."))
        if not math.isfinite(number):
            return None
        if "," in match[1] or match[2]:
            self.note(keyword, f"is not written as a decimal number; read as {number:g}")
        return number

    def decimal(self, keyword: str, otherwise: float, *, zero: bool = True) -> float:
        """The first decimal number of an attribute, or what is used where it cannot be read."""
        if keyword not in self.dataset:
            return otherwise
        number = self.decimals(keyword)[0:1]
        if number and number[0] is not None and (zero or number[0] != 0):
            return number[0]
        words = "cannot be read" if self.raw(keyword)[0].strip(b" \0") else "is empty"
        self.note(keyword, f"{words if not number or number[0] is None else 'is 0'}; {otherwise:g} used instead")
        return otherwise

    def items(self, keyword: str) -> list[Header]:
        """The items of a sequence, whose notes come here too; none where it cannot be read."""
        try:
            found = list(self.dataset.get(keyword) or [])
        except DECODER_ERRORS:
            self.note(keyword, "cannot be read; left out")
            return []
        return [Header(item, self.notes) for item in found if isinstance(item, Dataset)]
