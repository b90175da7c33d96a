"""Names of files as people expect to see them: safe to show, sorted with 2 before 10, junk left out."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence


def words(text: str) -> frozenset[str]:
    """The words of a text, such as endings of files."""
    return frozenset(text.split())


#: What files of pictures are called; by their content they are read.
SUFFIXES = words(".png .jpg .jpeg .jpe .jfif .tif .tiff .webp .bmp .gif .dcm .dicom .ima .heic .heif .hif .avif .jxl")

#: Characters that count as printable and show nothing, by which two names could look the same.
INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def tidy(text: str) -> str:
    """Make a name fit to show: composed (NFC), without characters that control, turn round or show nothing."""
    if text.isascii() and text.isprintable():
        return text
    spaced = "".join(" " if unicodedata.category(one) == "Zs" else one for one in text)
    shown = "".join(character for character in spaced if character.isprintable())
    return unicodedata.normalize("NFC", INVISIBLE.sub("", shown))


def split_name(file_name: str) -> tuple[str, ...]:
    """Split a name from a form or an archive into parts fit to show; it must never be used as a path."""
    return tuple(part for part in re.split(r"[/\\]", tidy(file_name)) if part not in ("", ".", "..")) or ("picture",)


def tell_apart(names: Sequence[str]) -> list[str]:
    """Number names that look the same, so that each is found by its own."""
    taken: set[str] = set()
    found = []
    for name in names:
        number, own = 1, name
        while own in taken:
            number += 1
            own = f"{name} ({number})"
        taken.add(own)
        found.append(own)
    return found


def is_junk(parts: Sequence[str]) -> bool:
    """Whether a file is hidden or what an operating system leaves behind."""
    return any(part.startswith(".") or part in ("__MACOSX", "Thumbs.db", "desktop.ini") for part in parts)


def named_as_picture(name: str) -> bool | None:
    """Whether a file's name is one of a picture; None if it has no ending of letters and only the content can tell."""
    _, dot, ending = name.rpartition(".")
    return f".{ending.lower()}" in SUFFIXES if dot and ending.isalpha() else None


def natural_key(parts: Sequence[str]) -> list[tuple[list[str | int], str]]:
    """A key that sorts numbers within names by their value."""
    runs = [re.split(r"(\d+)", part.lower()) for part in parts]
    return [
        ([int(run[:4000]) if run.isdecimal() else run for run in split], part)  # Python reads no longer number
        for split, part in zip(runs, parts, strict=True)
    ]
