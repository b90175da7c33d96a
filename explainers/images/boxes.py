"""Files of boxes (ISO/IEC 14496-12), as HEIC and AVIF are: which they are, and what they declare about colours."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from explainers.images.profiles import Profile, coded

AVIF_BRANDS = (b"avif", b"avis")
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1")

#: What other files are that are built of the same boxes, by the beginning of their first brand.
BRANDS = {
    b"crx": "a camera's raw picture (CR3)",
    b"M4A": "a sound file",
    b"qt": "a video (QuickTime)",
    **dict.fromkeys((b"iso", b"mp4", b"M4V", b"avc", b"3g", b"dash", b"MSNV", b"mmp4", b"f4v"), "a video (MP4)"),
}

#: Boxes that hold boxes on the way to what a picture declares, each with how many bytes go before these.
OUTER = {b"meta": 4, b"iprp": 0, b"ipco": 0}


def sniff_boxes(head: bytes) -> str | None:
    """Tell HEIC and AVIF by the brands at the beginning of a file; None for any other."""
    if head[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(head[:4]), len(head))
    brands = {head[8:12], *(head[place : place + 4] for place in range(16, end - 3, 4))}
    if brands.intersection(AVIF_BRANDS):
        return "AVIF"
    return "HEIC" if brands.intersection(HEIC_BRANDS) else None


def describe_boxes(head: bytes) -> str:
    """Say what a file of boxes is that is no picture."""
    return next((words for brand, words in BRANDS.items() if head[8:].startswith(brand)), "a video or the like")


def boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    """The properties of all pictures in a file of boxes (ISO/IEC 23008-12), each with its kind."""
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1:
            size, head = int.from_bytes(data[start + 8 : start + 16]), 16
        stop = start + size if size else end
        if stop < start + head or stop > end:
            return  # cut short, or something else behind the boxes
        if kind in OUTER:
            yield from boxes(data, start + head + OUTER[kind], stop)
        elif kind in (b"colr", b"pixi"):
            yield kind, data[start + head : stop]
        start = stop


def declared(data: bytes) -> tuple[Profile | None, int]:
    """The colours that the first code points in a file of boxes name, and the most bits that a picture in it has."""
    found = [*boxes(data, 0, len(data))]
    points = [content[4:8] for kind, content in found if kind == b"colr" and content[:4] == b"nclx"]
    depths = [max(content[5 : 5 + content[4]], default=8) for kind, content in found if kind == b"pixi"]
    profile = coded(*struct.unpack(">HH", points[0])) if points else None
    return profile, max(depths, default=8)


def declare(data: bytes, icc: bytes | None) -> tuple[Profile | None, tuple[str, ...]]:
    """What the colours of a HEIC or AVIF file mean, and a note if they had more than 8 bits."""
    profile, bits = declared(data)
    return Profile(icc) if icc else profile, (f"{bits}-bit colours brought to 8 bit",) if bits > 8 else ()
