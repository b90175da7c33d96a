"""Reading what is left of a damaged SQLite file of notes, page by page, without SQLite. Free of torch.

A page holds cells, each a record, and the file's index of a table holds all that the table does, so most records are
there twice (https://www.sqlite.org/fileformat2.html). Records are known by their shape; what does not have it is noise.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = tuple[Any, ...]

#: The kinds of pages with cells: where their cells begin, and what stands in a cell before its record.
TABLE_LEAF, INDEX_LEAF, INDEX_INTERIOR = 13, 10, 2

#: How many bytes the whole numbers of a record have, by their type; types 8 and 9 are 0 and 1.
WIDTHS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}

DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)


@dataclass
class Salvage:
    """The rows that were found, by table and number; a row has several if its copies differ."""

    names: dict[int, set[Row]] = field(default_factory=lambda: defaultdict(set))
    tags: dict[int, set[Row]] = field(default_factory=lambda: defaultdict(set))

    @property
    def found(self) -> int:
        """How many notes were found."""
        return len(self.names) + len(self.tags)

    @property
    def doubtful(self) -> int:
        """Of how many the two copies differ."""
        return sum(len(copies) > 1 for table in (self.names, self.tags) for copies in table.values())

    @property
    def least(self) -> int:
        """How many there were at least: numbers of rows go up from 1 without gaps."""
        return max(self.names, default=0) + max(self.tags, default=0)


def salvage(path: Path) -> Salvage:
    """Read all notes that a damaged file and its journals still show; raises OSError."""
    found = Salvage()
    data, *journals = (_read(Path(f"{path}{suffix}")) for suffix in ("", "-wal", "-journal"))
    for size in {_page_size(data), 4096}:
        pages = {number + 1: data[start : start + size] for number, start in enumerate(range(0, len(data), size))}
        for number, page in pages.items():
            _collect(found, pages, page, 100 if number == 1 else 0)
        for number, page in [*_frames(journals[0], size, 32, 24, 0), *_frames(journals[1], size, 512, 4, 4)]:
            _collect(found, {**pages, number: page}, page, 100 if number == 1 else 0)
    return found


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _page_size(data: bytes) -> int:
    size = int.from_bytes(data[16:18])
    size = 65536 if size == 1 else size
    return size if size >= 512 and size & (size - 1) == 0 else 4096


def _frames(journal: bytes, size: int, start: int, head: int, tail: int) -> Iterator[tuple[int, bytes]]:
    """The pages in a journal with their numbers: each between a head that begins with the number, and a tail."""
    for place in range(start, len(journal) - head - size + 1, head + size + tail):
        yield int.from_bytes(journal[place : place + 4]), journal[place + head : place + head + size]


def _collect(found: Salvage, pages: Mapping[int, bytes], page: bytes, start: int) -> None:
    """Add the notes on one page, whose header begins at ``start``, to those found."""
    kind = page[start] if len(page) > start + 12 else 0
    if kind not in (TABLE_LEAF, INDEX_LEAF, INDEX_INTERIOR):
        return
    pointers = start + (12 if kind == INDEX_INTERIOR else 8)
    for cell in range(int.from_bytes(page[start + 3 : start + 5])):
        pointer = page[pointers + 2 * cell : pointers + 2 * cell + 2]
        with suppress(IndexError, ValueError):  # a cell that is none
            _file(found, *_read_cell(pages, page, kind, int.from_bytes(pointer)))


def _file(found: Salvage, number: int | None, row: Row) -> None:
    """Put a record where its shape says that it belongs; that of an index has the number of its row at the end."""
    if number is None:
        row, number = row[:-1], row[-1]
    match row:
        case (str(), str(), int(), str(), str(), str(date)) if row[2] >= 0 and DATE.fullmatch(date):
            found.names[number].add(row)
        case (str(), str(), 0 | 1, str(), str(date)) if DATE.fullmatch(date):
            found.tags[number].add(row)
        case (str(sample), str(tag), str(date), 0 | 1 as holds, str(author)) if DATE.fullmatch(date):
            found.tags[number].add((sample, tag, holds, author, date))


def _read_cell(pages: Mapping[int, bytes], page: bytes, kind: int, place: int) -> tuple[int | None, Row]:
    """Read the number of a row, None in an index, and its record; raises IndexError or ValueError."""
    size, place = _varint(page, place + 4 * (kind == INDEX_INTERIOR))
    number = None
    if kind == TABLE_LEAF:
        number, place = _varint(page, place)
    return number, _read_record(_gather(pages, page, kind, place, size))


def _gather(pages: Mapping[int, bytes], page: bytes, kind: int, place: int, size: int) -> bytes:
    """Put a payload together, whose end may be on further pages; raises ValueError."""
    usable = len(page)
    most = usable - 35 if kind == TABLE_LEAF else (usable - 12) * 64 // 255 - 23
    if size <= most:
        return page[place : place + size]
    least = (usable - 12) * 32 // 255 - 23
    kept = least + (size - least) % (usable - 4)
    kept = kept if kept <= most else least
    payload, following = page[place : place + kept], page[place + kept : place + kept + 4]
    while len(payload) < size and (rest := pages.get(int.from_bytes(following))):
        payload, following = payload + rest[4:], rest[:4]
    return payload[:size]


def _read_record(payload: bytes) -> Row:
    """Read a record: a header with the type of each value, and the values; raises IndexError or ValueError."""
    end, place = _varint(payload, 0)
    types = []
    while place < end:
        kind, place = _varint(payload, place)
        types.append(kind)
    values: list[Any] = []
    for kind in types:
        width = WIDTHS.get(kind, (kind - 13) // 2 if kind > 12 else 0)
        part = payload[place : place + width]
        if len(part) < width or not (kind in WIDTHS or kind in (8, 9) or (kind > 12 and kind % 2)):
            raise ValueError
        values.append(kind - 8 if kind in (8, 9) else int.from_bytes(part, signed=True) if kind < 8 else part.decode())
        place += width
    return tuple(values)


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Read a number of SQLite's variable length; returns it and where it ends. Raises IndexError."""
    number = 0
    for _ in range(8):
        number = number << 7 | data[place] & 127
        place += 1
        if data[place - 1] < 128:
            return number, place
    return number << 8 | data[place], place + 1
