"""Compressed frames, walked segment by segment before anything decodes them.

Decoders allocate what the data ask for, so a file of a kilobyte could ask for all the memory there is. What a comment,
a table or a thumbnail holds is no segment, whatever bytes stand in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.uid import (
    JPEG2000,
    UID,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSNearLossless,
    RLELossless,
)

#: Markers of JPEG and JPEG-LS that declare a size: SOF, DHP and SOF55.
FRAMES = frozenset([*range(0xC0, 0xD0), 0xDE, 0xF7]) - {0xC4, 0xC8, 0xCC}

#: A marker with a segment, or the end; no restart, and no value of 255 in compressed data.
MARKER = re.compile(rb"\xff([\x80-\xcf\xd9-\xfe])", re.DOTALL)

END = 0xD9

#: The marker under which JPEG XT keeps boxes, and those of them that hold further codestreams.
BOX, HIDING = 0xEB, (b"RESI", b"RFIN", b"ALFA", b"AFIN")

#: What begins a file in JP2 boxes, and a codestream of JPEG 2000.
BOXES, CODESTREAM = b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"

#: How many bytes of a frame may always be unpacked.
SMALL = 2**28

#: How many segments, boxes or tiles of a frame are followed.
SEGMENTS = 4096


@dataclass(frozen=True)
class Declared:
    """What a codestream says it holds: its size, its channels, the bits of each value, and how it is compressed."""

    width: int
    height: int
    channels: int
    bits: int
    syntax: UID


def declared(data: bytes) -> list[Declared]:
    """All that a compressed frame declares; raises ValueError where it cannot be walked."""
    if data.startswith(b"\xff\xd8"):
        found = [(marker, data[start:end]) for marker, start, end in segments(data)]
        if any(marker == BOX and segment[12:16] in HIDING for marker, segment in found):
            raise ValueError
        return [read_frame(marker, segment) for marker, segment in found if marker in FRAMES]
    if data.startswith(BOXES):
        data = data[find_codestream(data) :]
    if data.startswith(CODESTREAM):
        return [read_size(data[4:])]
    raise ValueError


def segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment of JPEG or JPEG-LS, from the start of the picture to its end.

    What lies between segments, as compressed values do after each start of a scan, is passed over, as decoders do.
    """
    place = 2
    for _ in range(SEGMENTS):
        match = MARKER.search(data, place)
        if not match or match[1][0] == END:
            return
        start = match.end()
        length = int.from_bytes(data[start : start + 2])
        if length < 2:
            raise ValueError
        yield match[1][0], start + 2, start + length
        place = start + length
    raise ValueError


def stated_colours(data: bytes) -> str:
    """The photometric interpretation that a JPEG's own marker states, "" without one.

    As decoders have it: a JFIF marker before one of Adobe's, which pydicom does not look at.
    """
    if not data.startswith(b"\xff\xd8"):
        return ""
    markers = [(marker, data[start:end]) for marker, start, end in segments(data) if marker in (0xE0, 0xEE)]
    if any(segment.startswith(b"JFIF") for _, segment in markers):
        return "YBR_FULL"
    stated = [segment[11] for _, segment in markers if segment.startswith(b"Adobe") and len(segment) >= 12]
    return {0: "RGB", 1: "YBR_FULL"}.get(stated[0], "") if stated else ""


def is_cut(data: bytes) -> bool:
    """Whether a JPEG has no end after its last scan, as where a transfer was broken off: decoders fill up the rest."""
    return data.startswith(b"\xff\xd8") and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")


def read_frame(marker: int, segment: bytes) -> Declared:
    """Read the segment that declares a frame of JPEG or JPEG-LS."""
    if len(segment) < 6:
        raise ValueError
    syntax = {0xC0: JPEGBaseline8Bit, 0xC3: JPEGLosslessSV1, 0xF7: JPEGLSNearLossless}.get(marker, JPEGExtended12Bit)
    height, width = int.from_bytes(segment[1:3]), int.from_bytes(segment[3:5])
    return Declared(width, height, segment[5], segment[0], syntax)


def find_codestream(data: bytes) -> int:
    """Where the codestream begins in JP2 boxes; raises ValueError for boxes that do not lead to it.

    A box of a length that does not lie before the codestream would keep pydicom's own walk from ending; one with a
    palette makes decoders unfold the picture into up to 255 channels.
    """
    for kind, start, end in walk_boxes(data, 0, len(data)):
        if kind == b"jp2c":
            return start
        if kind == b"jp2h" and any(inner == b"pclr" for inner, _, _ in walk_boxes(data, start, end)):
            raise ValueError
    raise ValueError


def walk_boxes(data: bytes, place: int, limit: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end of the content of each JP2 box; raises ValueError for a length that leads nowhere."""
    for _ in range(SEGMENTS):
        if place + 8 > limit:
            return
        length, kind = int.from_bytes(data[place : place + 4]), data[place + 4 : place + 8]
        if kind == b"jp2c":  # the last one, which may reach to the end or have its length in a longer field
            yield kind, place + (16 if length == 1 else 8), limit
            return
        if length < 8 or place + length > limit:
            raise ValueError
        yield kind, place + 8, place + length
        place += length
    raise ValueError


def read_size(segment: bytes) -> Declared:
    """Read the segment SIZ of JPEG 2000, from its length on."""
    if len(segment) < 39:
        raise ValueError
    width, height, left, top, across, down = (int.from_bytes(segment[4 + 4 * part : 8 + 4 * part]) for part in range(6))
    # Decoders take the picture's offset for a part of it, and keep some kilobytes for each tile.
    if left or top or not across or not down or -(-width // across) * -(-height // down) > SEGMENTS:
        raise ValueError
    return Declared(width, height, int.from_bytes(segment[36:38]), (segment[38] & 0x7F) + 1, JPEG2000)


def check_frame_data(data: bytes, syntax: UID, width: int, height: int, channels: int, bits: int) -> int:
    """Raise ValueError unless a compressed frame asks for the very size that its header declares.

    Returns the bits of its values, ``bits`` where the compression does not say.
    """
    if syntax == RLELossless:
        check_runs(data, width * height * channels * max(bits // 8, 1))
        return bits
    found = declared(data)
    if {(one.width, one.height, one.channels) for one in found} != {(width, height, channels)}:
        raise ValueError
    return found[0].bits


def check_runs(data: bytes, expected: int) -> None:
    """Raise ValueError if runs unpack to far more than a frame holds: pydicom unpacks them before it looks."""
    if 64 * len(data) <= SMALL:
        return
    place, unpacked = 64, 0
    while place < len(data):
        count = data[place]
        unpacked += count + 1 if count < 128 else (257 - count) % 129
        place += count + 2 if count < 128 else (1 if count == 128 else 2)
    if unpacked > 2 * expected + SMALL:
        raise ValueError


def guess_syntax(data: bytes) -> UID:
    """Tell a compressed frame's transfer syntax by its first bytes, for a file that names none."""
    if data.startswith((b"\xff\xd8", b"\xff\x4f", BOXES)):
        found = declared(data)
        if not found:
            raise ValueError
        return found[0].syntax
    return RLELossless
