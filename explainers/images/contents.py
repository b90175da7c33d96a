"""What an upload, an archive or a folder holds: pictures, and files that say something about them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from explainers.images.formats import sniff
from explainers.images.naming import SUFFIXES, is_junk, natural_key, split_name, words
from explainers.images.picture import Picture
from explainers.settings import settings

#: Endings of tables and of files of annotations. Text counts if it is a table, or a list of pictures.
ATTACHED = words(".csv .tsv .txt .xlsx .xls .ods .parquet .feather .json .jsonl .ndjson .xml")

#: How large one may be.
ATTACHMENT_BYTES = 64 * 1024**2


@dataclass(frozen=True)
class Attachment:
    """A file that is no picture but may say something about pictures: a table, or annotations as JSON or XML.

    ``name`` is its path inside what it came from, with "/" between the parts.
    """

    name: str
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Contents:
    """What was found: pictures, attachments, and sentences on what could not be read and why."""

    pictures: tuple[Picture, ...]
    attachments: tuple[Attachment, ...] = ()
    notes: tuple[str, ...] = ()


def named_as_attachment(name: str) -> bool:
    """Whether a file's name is one of a table or of annotations."""
    return PurePosixPath(name).suffix.lower() in ATTACHED


def is_attachment(name: str, data: bytes) -> bool:
    """Whether a file is a table or annotations, by its name and, where that can mislead, its content."""
    if not named_as_attachment(name) or sniff(data) not in (None, "BMP", "ZIP"):  # "BMI,age"; Excel's are zips
        return False
    return not name.lower().endswith(".txt") or is_listing(data)


def is_listing(data: bytes) -> bool:
    """Whether text is a table, with the same signs between the cells of each line, or lists pictures."""
    lines = [line for line in data[:4096].decode("utf-8-sig", "replace").splitlines()[:8] if line.strip()]
    lines = lines[: max(1, len(lines) - 1)] if len(data) > 4096 else lines
    table = any(
        len({line.count(sign) for line in lines}) == 1 and lines[0].count(sign) for sign in "\t,;|" if len(lines) > 1
    )
    named = [re.split(r"[\s,;|]+", line.strip())[0] for line in lines]
    pictures = sum(PurePosixPath(name).suffix.lower() in SUFFIXES for name in named)
    return table or 2 * pictures > len(lines)


def find_attachments(folder: Path) -> tuple[Attachment, ...]:
    """Read the tables and annotations in a folder on the server and below, sorted by name.

    Links that lead out of the folder are not followed. What is too large, alone or together, is left out.
    """
    root, found, total = folder.resolve(), [], 0
    for path in sorted(walk(root), key=lambda path: natural_key(path.parts)):
        data = path.read_bytes()
        if total + len(data) <= settings().archive_bytes and is_attachment(path.name, data):
            found.append(Attachment("/".join(split_name(path.relative_to(root).as_posix())), data))
            total += len(data)
    return tuple(found)


def walk(root: Path) -> Iterator[Path]:
    """Go through the files of a folder that are named as attachments and small enough to be read."""
    for parent, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not is_junk([name])]
        for name in names:
            if not named_as_attachment(name) or is_junk([name]):
                continue
            path = Path(parent, name)
            inside = not path.is_symlink() or path.resolve().is_relative_to(root)
            if inside and path.is_file() and os.access(path, os.R_OK) and path.stat().st_size <= ATTACHMENT_BYTES:
                yield path
