"""Zip archives: what their files are called, and what is in each, in memory and no more than was declared."""

from __future__ import annotations

import bz2
import io
import lzma
import mmap
import re
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from explainers.errors import ImageError
from explainers.images.encodings import decode_names
from explainers.images.naming import split_name
from explainers.images.picture import decoding
from explainers.settings import settings

#: Compressions by their number in the archive, APPNOTE.TXT 4.4.5.
METHODS = {
    1: "Shrink",
    2: "Reduce",
    3: "Reduce",
    4: "Reduce",
    5: "Reduce",
    6: "Implode",
    9: "Deflate64",
    10: "IBM TERSE",
    16: "IBM CMPSC",
    18: "IBM TERSE",
    19: "LZ77",
    20: "Zstandard",
    93: "Zstandard",
    94: "MP3",
    95: "XZ",
    96: "JPEG",
    97: "WavPack",
    98: "PPMd",
}

#: An archive's bytes, or the file that has them.
Archive = bytes | mmap.mmap

#: How long the header of an entry's own may be.
HEADER = 30 + 2 * 0xFFFF

#: Bits of an entry's flags: locked with a password, in whichever way; its name in UTF-8.
LOCKED, UTF_8 = 0x1 | 0x40 | 0x2000, 0x800


class EntryError(ImageError):
    """Why a file in an archive cannot be read, in words that follow "is" or "are"."""


@dataclass(frozen=True)
class Entry:
    """One file of an archive, by the parts of its path; ``read`` needs the bytes of the whole archive."""

    parts: tuple[str, ...]
    size: int
    packed: int
    start: int
    checksum: int
    method: int
    locked: bool

    @property
    def name(self) -> str:
        """The path, with "/" between its parts."""
        return "/".join(self.parts)

    def cut(self, archive: bytes) -> tuple[bytes, Entry]:
        """Cut out the part of an archive that holds the file, and say where it is in that."""
        return archive[self.start : self.start + self.packed + HEADER], replace(self, start=0)

    def read(self, archive: Archive) -> bytes:
        """Unpack the file, in memory no larger than declared; raises EntryError."""
        if self.locked:
            raise EntryError("locked with a password; pack the zip again without one")
        decompress = find_decompressor(self.method)
        try:
            with decoding(self.name, "a zip entry"):
                data = decompress(self._packed(archive), self.size)
        except (ImageError, lzma.LZMAError):
            data = b""
        if len(data) != self.size or zlib.crc32(data) != self.checksum:
            raise EntryError("damaged inside the zip; pack it again from sound files")
        return data

    def _packed(self, archive: Archive) -> bytes:
        """The compressed bytes, behind a header of the entry's own."""
        signature, name, extra = struct.unpack_from("<4s22xHH", archive, self.start)
        if signature != b"PK\x03\x04":
            raise zipfile.BadZipFile
        start = self.start + 30 + name + extra
        return archive[start : start + self.packed]


def list_entries(data: bytes, name: str) -> list[Entry]:
    """List the files in an archive, within the bounds of the settings, before any is unpacked; raises ImageError."""
    with decoding(name, "a zip archive"):
        check_bound(name, "entries", data.count(b"PK\x01\x02"), settings().archive_entries)
        found = [entry for entry in open_directory(data).infolist() if not is_folder(entry)]
        if sum(entry.compress_size for entry in found) > len(data):  # the same bytes for several files
            raise zipfile.BadZipFile
    unpacked = sum(entry.file_size for entry in found)
    bound = min(settings().archive_bytes, settings().archive_ratio * len(data))
    check_bound(name, "bytes when unpacked", unpacked, bound)
    return [
        Entry(
            split_name(path),
            entry.file_size,
            entry.compress_size,
            entry.header_offset,
            entry.CRC,
            entry.compress_type,
            bool(entry.flag_bits & LOCKED),
        )
        for entry, path in zip(found, read_names(found), strict=True)
    ]


def open_directory(data: bytes) -> zipfile.ZipFile:
    """Open an archive to list it; where names are marked as UTF-8 and are not, the marks are ignored."""
    try:
        return zipfile.ZipFile(io.BytesIO(data))
    except UnicodeDecodeError:
        unmarked = re.sub(rb"(PK\x01\x02.{5})(.)", clear_mark, data, flags=re.DOTALL)
        return zipfile.ZipFile(io.BytesIO(unmarked))


def clear_mark(match: re.Match[bytes]) -> bytes:
    """Write the beginning of an entry without the mark of UTF-8, a bit in the upper byte of its flags."""
    return match[1] + bytes([match[2][0] & ~(UTF_8 >> 8) & 0xFF])


def is_folder(entry: zipfile.ZipInfo) -> bool:
    """Whether an entry is a folder; some programs on Windows write their names with a backslash."""
    return entry.is_dir() or (entry.orig_filename.endswith("\\") and not entry.file_size)


def check_bound(name: str, what: str, found: int, bound: int) -> None:
    """Raise ImageError if an archive holds more of something than it may."""
    if found > bound:
        raise ImageError(
            f"{name} holds {found:,} {what}; {bound:,} are allowed. Split it, or use a folder on the server."
        )


def read_names(entries: list[zipfile.ZipInfo]) -> list[str]:
    """Read the names of entries: as they say themselves, else in the encoding that is likeliest for all of them."""
    names = [entry.orig_filename if entry.flag_bits & UTF_8 else read_unicode_path(entry) for entry in entries]
    unsure = [entry for entry, name in zip(entries, names, strict=True) if name is None]
    guessed = iter(decode_names([raw_name(entry) for entry in unsure]))
    return [next(guessed) if name is None else name for name in names]


def raw_name(entry: zipfile.ZipInfo) -> bytes:
    """The bytes of a name without the mark of UTF-8, which zipfile has decoded as the standard says."""
    return entry.orig_filename.encode("cp437")


def read_unicode_path(entry: zipfile.ZipInfo) -> str | None:
    """The name in Info-ZIP's extra field 0x7075, if it belongs to the entry's own name; None without."""
    extra = entry.extra
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind != 0x7075 or len(field) < 5 or field[0] != 1:
            continue
        if struct.unpack_from("<L", field, 1)[0] == zlib.crc32(raw_name(entry)):
            return field[5:].decode("utf-8", "replace")
    return None


def find_decompressor(method: int) -> Callable[[bytes, int], bytes]:
    """What unpacks data to no more than a size, by the number of a compression; raises EntryError."""
    if method == 93 and sys.version_info >= (3, 14):
        return decompress_zstd
    if method not in DECOMPRESSORS:
        kind = f"compressed as {METHODS[method]}" if method in METHODS else f"compressed in an unknown way ({method})"
        raise EntryError(f"{kind}, which is not read; pack the zip again with Deflate")
    return DECOMPRESSORS[method]


def decompress_lzma(data: bytes, size: int) -> bytes:
    """Unpack LZMA as zip archives hold it, APPNOTE.TXT 5.8; the memory follows the declared size, not the header."""
    properties, dictionary = struct.unpack_from("<4xBL", data)
    levels, literal = divmod(properties, 9)
    filters = {
        "id": lzma.FILTER_LZMA1,
        "lc": literal,
        "lp": levels % 5,
        "pb": levels // 5,
        "dict_size": max(min(dictionary, size), 4096),
    }
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[filters]).decompress(data[9:], size or 1)


def decompress_zstd(data: bytes, size: int) -> bytes:
    """Unpack Zstandard, which Python reads from 3.14 on; frames that ask for more than 128 MiB are refused by it."""
    zstd: Any = import_module("compression.zstd")
    try:
        return bytes(zstd.ZstdDecompressor().decompress(data, size or 1))
    except zstd.ZstdError:
        raise ValueError from None


#: The compressions that are read: none, Deflate, BZIP2 and LZMA.
DECOMPRESSORS: dict[int, Callable[[bytes, int], bytes]] = {
    zipfile.ZIP_STORED: lambda data, size: data[: size + 1],
    zipfile.ZIP_DEFLATED: lambda data, size: zlib.decompressobj(-15).decompress(data, size or 1),
    zipfile.ZIP_BZIP2: lambda data, size: bz2.BZ2Decompressor().decompress(data, size or 1),
    zipfile.ZIP_LZMA: decompress_lzma,
}
