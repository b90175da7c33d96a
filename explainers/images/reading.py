"""From the bytes of an upload to pictures: one file gives one, a zip archive as many as it holds."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import replace

from explainers.errors import ImageError
from explainers.images.contents import Contents
from explainers.images.formats import ACCEPTED, read_file, sniff
from explainers.images.naming import is_junk, natural_key, split_name
from explainers.images.picture import USUAL, Picture, Reading, decoding
from explainers.settings import settings


def read(data: bytes, file_name: str, reading: Reading = USUAL, *, private: bool = True) -> tuple[Picture, ...]:
    """Read the pictures of a file, by its content, whatever its name says.

    In a zip archive folders give labels, and what is no picture is left out. Raises ImageError.
    """
    if sniff(data) == "ZIP":
        pictures = read_zip(data, split_name(file_name)[-1], reading)
    else:
        pictures = [read_file(data, split_name(file_name)[-1], reading)]
    return tuple(replace(picture, private=private) for picture in pictures)


def read_contents(data: bytes, file_name: str, reading: Reading = USUAL, *, private: bool = True) -> Contents:
    """Read all that a file holds: pictures, and tables that say something about them. Raises ImageError."""
    return Contents(read(data, file_name, reading, private=private))


def read_zip(data: bytes, name: str, reading: Reading) -> list[Picture]:
    """Read all pictures of an archive, sorted by name; nothing is unpacked onto the disk."""
    with decoding(name, "a zip archive"):
        check_bound(name, "entries", data.count(b"PK\x01\x02"), settings().archive_entries)
        archive = zipfile.ZipFile(io.BytesIO(data))
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    check_entries(name, entries, len(data))
    paths = {entry: split_name(entry.filename) for entry in entries}
    found: dict[zipfile.ZipInfo, Picture] = {}
    for entry in sorted((entry for entry in entries if not is_junk(paths[entry])), key=lambda e: natural_key(paths[e])):
        picture = read_entry(archive, entry, "/".join(paths[entry]), reading)
        if picture:
            found[entry] = picture
            check_bound(name, "pixels", sum(p.pixels.size // 3 for p in found.values()), settings().archive_pixels)
    if not found:
        raise ImageError(f"None of the {len(entries)} files in {name} is a picture; put {ACCEPTED} files into it.")
    skipped = len(entries) - len(found)
    note = (f"{skipped} of the {len(entries)} files in {name} left out as no readable picture",) if skipped else ()
    labels = label_by_folder([paths[entry] for entry in found])
    return [
        replace(picture, label=label, notes=picture.notes + note)
        for picture, label in zip(found.values(), labels, strict=True)
    ]


def check_entries(name: str, entries: Sequence[zipfile.ZipInfo], packed: int) -> None:
    """Raise ImageError for an archive that is locked or would fill the memory, before any of it is unpacked."""
    if any(entry.flag_bits & 1 for entry in entries):
        raise ImageError(f"{name} is locked with a password. Unpack it and pack it again without one.")
    unpacked = sum(entry.file_size for entry in entries)
    check_bound(name, "bytes when unpacked", unpacked, min(settings().archive_bytes, settings().archive_ratio * packed))


def check_bound(name: str, what: str, found: int, bound: int) -> None:
    """Raise ImageError if an archive holds more of something than it may."""
    if found > bound:
        raise ImageError(
            f"{name} holds {found:,} {what}; {bound:,} are allowed. Split it, or use a folder on the server."
        )


def read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str, reading: Reading) -> Picture | None:
    """Read one picture of an archive; None for what is no readable picture."""
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return None
    try:
        with decoding(name, "a zip entry"):
            data = archive.read(entry)
        return read_file(data, name, reading)
    except ImageError:
        return None


def label_by_folder(paths: Sequence[tuple[str, ...]]) -> list[str | None]:
    """Take each path's folder as its label: the first one below the folders that all paths share."""
    depth = 0
    while all(len(path) > depth + 2 for path in paths) and len({path[depth] for path in paths}) == 1:
        depth += 1
    return [path[depth] if len(path) > depth + 1 else None for path in paths]
