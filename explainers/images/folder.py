"""Pictures that lie on the server: listed at once, read one by one when they are needed."""

from __future__ import annotations

import os
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path

from explainers.errors import ImageError, SelectionError
from explainers.images.apart import APART
from explainers.images.encodings import guess_encoding
from explainers.images.formats import ACCEPTED, sniff
from explainers.images.layout import read_layout
from explainers.images.naming import is_junk, named_as_picture, natural_key, split_name, tell_apart
from explainers.images.picture import USUAL, Picture, Reading
from explainers.settings import settings

#: Size in bytes, and when it was changed last in nanoseconds: they tell a changed file from what it was.
Stamp = tuple[int, int]

#: The folders whose pictures this process lists; what lies elsewhere is nobody's to see, whoever names it.
shown: set[Path] = set()


@dataclass(frozen=True)
class Sample(ABC):
    """A picture on the server that has not been read yet."""

    name: str
    _: KW_ONLY
    label: str | None = None
    caption: str = ""

    @abstractmethod
    def read(self, reading: Reading = USUAL) -> Picture:
        """Read the picture; raises ImageError."""


@dataclass(frozen=True)
class File(Sample):
    """A picture in a file; ``box`` (left, top, right, bottom) cuts a part out of it.

    ``stamp`` makes it another sample once the file is changed; how to find the picture again does not tell it.
    """

    path: Path
    box: tuple[int, int, int, int] | None = None
    stamp: Stamp | None = field(default=None, kw_only=True, metadata={"finds": False})

    def read(self, reading: Reading = USUAL) -> Picture:
        """Read the file, or what ``box`` cuts out of it; raises ImageError."""
        try:
            if self.path.stat().st_size > settings().picture_bytes:
                raise ImageError(
                    f"{self.name} has more than {settings().picture_bytes / 2**30:g} GiB. Save it smaller."
                )
            file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise ImageError(f"{self.name} cannot be read from the server: {error.strerror}. List it anew.") from None
        try:
            picture = replace(APART.decode(file, self.name, reading), private=False, label=self.label)
        finally:
            os.close(file)
        if not self.box:
            return picture
        left, top, right, bottom = self.box
        pixels = picture.pixels[top:bottom, left:right].copy()
        return replace(picture, pixels=pixels, notes=(*picture.notes, "a part of a larger picture"))


class Samples(tuple[Sample, ...]):
    """Samples in their order, to be had by index or by name."""

    def named(self, name: str) -> Sample:
        """Find a sample by its name; raises SelectionError."""
        composed = unicodedata.normalize("NFC", name)
        for sample in self:
            if sample.name in (name, composed):
                return sample
        names = ", ".join(sample.name for sample in self[:20])
        raise SelectionError(f"There is no picture '{name}'. Choose one of {names}{', ...' if len(self) > 20 else ''}.")


def find(folder: Path, level: int | None = None) -> Samples:
    """List the pictures in a folder and below, sorted by name, without decoding any.

    Folders give labels as ``read_layout`` says; ``level`` chooses another one than it does. Links that lead out of the
    folder are not followed. Raises ImageError.
    """
    if not folder.is_dir():
        raise ImageError(f"{folder} is no folder on the server. Give the path of one that holds {ACCEPTED} files.")
    root = folder.resolve()
    shown.add(root)
    counts, found = 0, []
    for place, parts in walk(root):
        files = [entry for entry in list_folder(place) if not entry.is_dir(follow_symlinks=False)]
        counts, key = counts + len(files), natural_key(parts)
        for entry in [] if is_junk(parts) else files:
            if stamp := stamp_picture(entry, root):
                name = split_disk_name(entry.name)
                found.append((key + natural_key(name), (*parts, *name), entry.path, stamp))
    if not found:
        raise ImageError(f"{folder} holds no pictures in any of its {counts} files. Put {ACCEPTED} files into it.")
    found.sort()
    # With its own name on top, as in a zip of the folder.
    labels = read_layout([(root.name, *parts) for _, parts, _, _ in found], level).labels
    names = tell_apart(["/".join(parts) for _, parts, _, _ in found])
    return Samples(
        File(name, Path(path), label=label, stamp=stamp)
        for name, label, (_, _, path, stamp) in zip(names, labels, found, strict=True)
    )


def split_disk_name(name: str) -> tuple[str, ...]:
    """Make a name on the server fit to show; one that is not in UTF-8 is guessed."""
    raw = name if name.isascii() else os.fsencode(name)
    return split_name(raw if isinstance(raw, str) else raw.decode(guess_encoding(raw), "replace"))


def walk(root: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Go through a folder and those below it, with the parts of their paths below it."""
    waiting: list[tuple[str, tuple[str, ...]]] = [(str(root), ())]
    while waiting:
        place, parts = waiting.pop()
        yield place, parts
        folders = (entry for entry in list_folder(place) if entry.is_dir(follow_symlinks=False))
        waiting += [(entry.path, parts + split_disk_name(entry.name)) for entry in folders]


def list_folder(place: str) -> list[os.DirEntry[str]]:
    """List what is in a folder, nothing where it is not for this user to read."""
    try:
        with os.scandir(place) as entries:
            return list(entries)
    except OSError:
        return []


def stamp_picture(entry: os.DirEntry[str], root: Path) -> Stamp | None:
    """Give size and time of a picture, by a file's name or, if that does not tell, its first bytes; None for others."""
    named = named_as_picture(entry.name)
    if named is False or is_junk([entry.name]):
        return None
    try:
        if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(root):
            return None
        if not entry.is_file() or (named is None and not begins_as_picture(entry.path)):
            return None
        status = entry.stat()
    except OSError:  # gone since, or not for this user to read
        return None
    return status.st_size, status.st_mtime_ns


def begins_as_picture(path: str) -> bool:
    """Whether a file's first bytes are those of a picture."""
    with Path(path).open("rb") as file:
        return sniff(file.read(132)) not in (None, "ZIP")
