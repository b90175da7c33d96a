"""Pictures that lie on the server: listed at once, read one by one when they are needed."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path

from explainers.errors import ImageError, SelectionError
from explainers.images.formats import ACCEPTED, read_file, sniff
from explainers.images.naming import is_junk, natural_key
from explainers.images.picture import USUAL, Picture, Reading
from explainers.settings import settings

RASTER = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".heic", ".heif", ".avif", ".jxl")
SUFFIXES = frozenset([*RASTER, ".dcm", ".dicom"])


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
    """A picture in a file; ``box`` (left, top, right, bottom) cuts a part out of it."""

    path: Path
    box: tuple[int, int, int, int] | None = None

    def read(self, reading: Reading = USUAL) -> Picture:
        """Read the file, or what ``box`` cuts out of it; raises ImageError."""
        try:
            if self.path.stat().st_size > settings().picture_bytes:
                raise ImageError(
                    f"{self.name} has more than {settings().picture_bytes / 2**30:g} GiB. Save it smaller."
                )
            data = self.path.read_bytes()
        except OSError as error:
            raise ImageError(f"{self.name} cannot be read from the server: {error.strerror}. List it anew.") from None
        picture = replace(read_file(data, self.name, reading), private=False, label=self.label)
        if not self.box:
            return picture
        left, top, right, bottom = self.box
        pixels = picture.pixels[top:bottom, left:right].copy()
        return replace(picture, pixels=pixels, notes=(*picture.notes, "a part of a larger picture"))


class Samples(tuple[Sample, ...]):
    """Samples in their order, to be had by index or by name."""

    def named(self, name: str) -> Sample:
        """Find a sample by its name; raises SelectionError."""
        for sample in self:
            if sample.name == name:
                return sample
        names = ", ".join(sample.name for sample in self[:20])
        raise SelectionError(f"There is no picture '{name}'. Choose one of {names}{', ...' if len(self) > 20 else ''}.")


def find(folder: Path) -> Samples:
    """List the pictures in a folder and below, sorted by name, without decoding any.

    The first folder below ``folder`` is the label. Links that lead out of the folder are not followed. Raises
    ImageError.
    """
    if not folder.is_dir():
        raise ImageError(f"{folder} is no folder on the server. Give the path of one that holds {ACCEPTED} files.")
    root = folder.resolve()
    paths = [Path(parent, name) for parent, _, names in os.walk(root) for name in names]
    pictures = [path for path in paths if path.resolve().is_relative_to(root) and is_picture(path, root)]
    if not pictures:
        raise ImageError(f"{folder} holds no pictures in any of its {len(paths)} files. Put {ACCEPTED} files into it.")
    relative = sorted((path.relative_to(root) for path in pictures), key=lambda path: natural_key(path.parts))
    return Samples(
        File(path.as_posix(), root / path, label=path.parts[0] if len(path.parts) > 1 else None) for path in relative
    )


def is_picture(path: Path, root: Path) -> bool:
    """Tell by a file's suffix whether it is a picture, and by its first bytes if it has no suffix of letters."""
    if is_junk(path.relative_to(root).parts) or not path.is_file():
        return False
    if path.suffix[1:].isalpha():
        return path.suffix.lower() in SUFFIXES
    with path.open("rb") as file:
        return sniff(file.read(132)) not in (None, "ZIP")
