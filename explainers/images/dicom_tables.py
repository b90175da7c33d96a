"""Look-up tables of DICOM files, of values, greys and colours (PS3.3 C.7.6.3.1.5, C.7.9.2, C.11.1.1, C.11.2.1.1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from jaxtyping import Real, UInt16

from explainers.images.dicom_header import Header

#: What is said of a table that is left out.
SHORT = "holds too few entries; left out"

#: How many segments of a table are followed, and how many of its bytes.
STEPS, LONGEST = 2**17, 2**20


@dataclass(frozen=True)
class Table:
    """Entries for the values from ``first`` on, each of at most ``bits`` bits."""

    entries: UInt16[np.ndarray, "entry"]
    first: int
    bits: int

    @property
    def largest(self) -> int:
        """What the largest entry could be."""
        return int(2**self.bits - 1)

    def look_up(self, values: Real[np.ndarray, "h w"]) -> UInt16[np.ndarray, "h w"]:
        """The entry of each value; the first one for those below the table, the last one for those above."""
        if values.dtype.kind == "f":
            values = np.rint(np.nan_to_num(values).clip(self.first, self.first + len(self.entries)))
        places = values.astype(np.int32 if values.dtype.itemsize < 4 else np.int64) - self.first
        np.clip(places, 0, len(self.entries) - 1, out=places)
        found: UInt16[np.ndarray, "h w"] = self.entries[places]
        return found


@dataclass(frozen=True)
class Descriptor:
    """How many entries a table has, the value of the first, and the bits of each."""

    entries: int
    first: int
    bits: int


def read_descriptor(header: Header, keyword: str, *, negative: bool) -> Descriptor | None:
    """Read a table's descriptor; ``negative`` if what is looked up can be below 0. None without three numbers."""
    words = header.words(keyword)
    if len(words) != 3:
        return None
    entries, first, bits = words
    signed = first > 32767 and (negative or header.representation(keyword) == "SS")
    return Descriptor(entries or 65536, first - 65536 if signed else first, bits)


def read_table(items: list[Header], keyword: str, *, negative: bool) -> Table | None:
    """Read the table in the first item of the sequence ``keyword``; None with a note where it cannot be."""
    if not items:
        return None
    header = items[0]
    descriptor = read_descriptor(header, "LUTDescriptor", negative=negative)
    if not descriptor:
        header.note(keyword, "has no descriptor of three numbers; left out")
        return None
    entries = read_entries(header, "LUTData", descriptor.entries)
    if len(entries) < descriptor.entries:
        header.note(keyword, SHORT)
        return None
    return Table(entries, descriptor.first, check_bits(header, keyword, entries, descriptor.bits))


def read_entries(header: Header, keyword: str, count: int) -> UInt16[np.ndarray, "entry"]:
    """Read up to ``count`` entries: bytes where there is no room for more, else words of 16 bits."""
    value, order = header.raw(keyword)
    if len(value) >= 2 * count:
        return np.frombuffer(value[: 2 * count], order).astype(np.uint16)
    entries = np.frombuffer(value, np.uint8)
    if order == ">u2":  # bytes in big-endian words
        entries = entries[: len(entries) // 2 * 2].reshape(-1, 2)[:, ::-1].ravel()
    return entries[:count].astype(np.uint16)


def check_bits(header: Header, keyword: str, entries: UInt16[np.ndarray, "entry"], stated: int) -> int:
    """The bits of a table's entries as stated, or with a note those of the largest one where that cannot be."""
    needed = max(int(entries.max()).bit_length(), 1)
    if 1 <= stated <= 16 and needed <= stated and (stated < 16 or needed > 8):
        return stated
    likely = next(bits for bits in (8, 10, 12, 14, 16) if bits >= needed)
    header.note(keyword, f"states {stated} bits, which its entries do not have; {likely} used instead")
    return likely


def read_palette(header: Header, *, negative: bool) -> tuple[Table, Table, Table] | None:
    """Read the tables of red, green and blue; None with a note where they cannot be read."""
    found = [read_colour(header, colour, negative=negative) for colour in ("Red", "Green", "Blue")]
    tables = [table for table in found if table]
    if len(tables) < 3:
        header.note("RedPaletteColorLookupTableDescriptor", "leads to no colours; its numbers are shown as greys")
        return None
    largest, stated = max(int(table.entries.max()) for table in tables), tables[0].bits
    bits = stated if stated in (8, 16) else 16
    if bits == 16 and largest <= 255:
        header.note("RedPaletteColorLookupTableDescriptor", "states 16 bits, but no entry has more than 8; read as 8")
        bits = 8
    elif largest > 2**bits - 1 or bits != stated:
        header.note("RedPaletteColorLookupTableDescriptor", f"states {stated} bits, which is wrong; read as 16")
        bits = 16
    red, green, blue = (Table(table.entries, table.first, bits) for table in tables)
    return red, green, blue


def read_colour(header: Header, colour: str, *, negative: bool) -> Table | None:
    """Read the table of one colour, written out or in segments; what is missing at its end repeats the last entry."""
    keyword = f"{colour}PaletteColorLookupTableDescriptor"
    descriptor = read_descriptor(header, keyword, negative=negative)
    if not descriptor:
        return None
    entries = read_entries(header, f"{colour}PaletteColorLookupTableData", descriptor.entries)
    if not len(entries):
        value, order = header.raw(f"Segmented{colour}PaletteColorLookupTableData")
        order = order if descriptor.bits > 8 else "u1"
        numbers = np.frombuffer(value[: min(len(value), LONGEST) // 2 * 2], order).tolist()
        entries = expand(numbers, descriptor.entries, wide=descriptor.bits > 8)
    if len(entries) and len(entries) < descriptor.entries:
        header.note(keyword, f"states {descriptor.entries} entries; only {len(entries)} were found")
    return Table(entries, descriptor.first, descriptor.bits) if len(entries) else None


def expand(numbers: list[int], count: int, *, wide: bool) -> UInt16[np.ndarray, "entry"]:
    """Write out up to ``count`` entries of a table in segments: numbers, straight lines, and repetitions (C.7.9.2)."""
    found: list[int] = []
    for place in islice(walk_segments(numbers, wide=wide), STEPS):
        if len(found) >= count:
            break
        length = numbers[place + 1]
        if numbers[place] == 0:
            found += numbers[place + 2 : place + 2 + length]
        elif found and length and place + 2 < len(numbers):
            step = (numbers[place + 2] - found[-1]) / length
            found += np.rint(np.linspace(found[-1] + step, numbers[place + 2], length)).astype(int).tolist()
    return np.array(found[:count], np.uint16)


def walk_segments(numbers: list[int], *, wide: bool) -> Iterator[int]:
    """Where each segment that writes entries begins, those that are repeated again."""
    place = 0
    while place + 1 < len(numbers) and numbers[place] in (0, 1, 2):
        if numbers[place] < 2:
            yield place
            place += size_of(numbers, place)
            continue
        # A byte offset of 32 bits, least part first.
        parts = numbers[place + 2 : place + (4 if wide else 6)]
        inner = sum(part << ((16 if wide else 8) * at) for at, part in enumerate(parts)) // (2 if wide else 1)
        for _ in range(numbers[place + 1]):
            if inner + 1 >= len(numbers) or numbers[inner] not in (0, 1):
                break
            yield inner
            inner += size_of(numbers, inner)
        place += 4 if wide else 6


def size_of(numbers: list[int], place: int) -> int:
    """How many numbers a segment takes that writes entries."""
    return 2 + numbers[place + 1] if numbers[place] == 0 else 3
