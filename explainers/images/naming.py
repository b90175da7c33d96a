"""Names of files as people expect to see them: safe to show, sorted with 2 before 10, junk left out."""

from __future__ import annotations

import re
from collections.abc import Sequence


def split_name(file_name: str) -> tuple[str, ...]:
    """Split a name from a form or an archive into parts fit to show; it must never be used as a path."""
    printable = "".join(character for character in file_name if character.isprintable())
    return tuple(part for part in re.split(r"[/\\]", printable) if part not in ("", ".", "..")) or ("picture",)


def is_junk(parts: Sequence[str]) -> bool:
    """Whether a file is hidden or what an operating system leaves behind."""
    return any(part.startswith(".") or part in ("__MACOSX", "Thumbs.db", "desktop.ini") for part in parts)


def natural_key(parts: Sequence[str]) -> list[tuple[list[str | int], str]]:
    """A key that sorts numbers within names by their value."""
    runs = [re.split(r"(\d+)", part.lower()) for part in parts]
    return [
        ([int(run[:4000]) if run.isdecimal() else run for run in split], part)  # Python reads no longer number
        for split, part in zip(runs, parts, strict=True)
    ]
