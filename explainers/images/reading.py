"""From the bytes of an upload to pictures: one file gives one, a zip archive as many as it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from explainers.errors import ImageError
from explainers.images.archive import Entry, EntryError, check_bound, list_entries
from explainers.images.contents import (
    ATTACHMENT_BYTES,
    Attachment,
    Contents,
    is_attachment,
    named_as_attachment,
)
from explainers.images.formats import ACCEPTED, read_file, sniff
from explainers.images.layout import read_layout
from explainers.images.naming import is_junk, named_as_picture, natural_key, split_name, tell_apart
from explainers.images.picture import USUAL, Picture, Reading
from explainers.settings import settings


def read(data: bytes, file_name: str, reading: Reading = USUAL, *, private: bool = True) -> tuple[Picture, ...]:
    """Read the pictures of a file, by its content, whatever its name says.

    In a zip archive folders give labels, and what is no picture is left out. Raises ImageError.
    """
    name = split_name(file_name)[-1]
    if sniff(data) != "ZIP":
        return (read_one(data, name, reading, private),)
    unpacked = unpack(data, name, reading)
    if not unpacked.pictures:
        raise unpacked.refuse(name)
    return unpacked.label(data, private)


def read_contents(data: bytes, file_name: str, reading: Reading = USUAL, *, private: bool = True) -> Contents:
    """Read all that a file holds: pictures, and tables that say something about them. Raises ImageError.

    A name that is a path, as those of a folder that was dropped, stays one.
    """
    parts = split_name(file_name)
    name = "/".join(parts)
    if is_attachment(name, data):
        if len(data) > ATTACHMENT_BYTES:
            raise ImageError(f"{name} is larger than {ATTACHMENT_BYTES >> 20} MiB. Split it, or leave columns out.")
        return Contents((), (Attachment(name, data),))
    if sniff(data) != "ZIP":
        return Contents((read_one(data, name, reading, private),))
    unpacked = unpack(data, parts[-1], reading)
    if not unpacked.pictures and not unpacked.attachments:
        raise unpacked.refuse(parts[-1])
    return Contents(unpacked.label(data, private), tuple(unpacked.attachments), tuple(unpacked.notes(parts[-1])))


@dataclass(frozen=True, eq=False)
class Again:
    """Reads one picture of an upload once more; pictures of an archive share its bytes."""

    data: bytes = field(repr=False)
    entry: Entry | None
    name: str
    label: str | None
    private: bool

    def __call__(self, reading: Reading) -> Picture:
        """Read the picture otherwise; raises ImageError."""
        data = self.entry.read(self.data) if self.entry else self.data
        picture = read_file(data, self.name, reading)
        return replace(picture, label=self.label, private=self.private, again=self)


def read_one(data: bytes, name: str, reading: Reading, private: bool) -> Picture:
    """Read a file that is one picture; raises ImageError."""
    picture = replace(read_file(data, name, reading), private=private)
    return offer_again(picture, data, None)


def offer_again(picture: Picture, data: bytes, entry: Entry | None) -> Picture:
    """Let a picture be read otherwise, if its file holds more than is shown of it."""
    deep = picture.window or any("8 bit" in note or note.startswith("window") for note in picture.notes)
    if picture.frames < 2 and not deep and not picture.profile:
        return picture
    return replace(picture, again=Again(data, entry, picture.name, picture.label, picture.private))


@dataclass
class Unpacked:
    """What was found in an archive: ``refused`` says of each reason which files cannot be read for it."""

    files: int
    entries: list[Entry] = field(default_factory=list)  # those that are pictures, readable or not
    pictures: dict[Entry, Picture] = field(default_factory=dict)
    attachments: list[Attachment] = field(default_factory=list)
    refused: dict[str, list[Entry]] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)

    def take(self, entry: Entry, archive: bytes, reading: Reading) -> None:
        """Read one file of the archive, or note why it cannot be."""
        expected = named_as_picture(entry.name) if not named_as_attachment(entry.name) else False
        try:
            if named_as_attachment(entry.name) and entry.size > ATTACHMENT_BYTES:
                raise EntryError(f"larger than {ATTACHMENT_BYTES >> 20} MiB; split it, or leave columns out")
            data = entry.read(archive)
            if is_attachment(entry.name, data):
                self.attachments.append(Attachment(entry.name, data))
            elif sniff(data) == "ZIP":
                raise EntryError("packed as an archive inside the archive; unpack that first")
            elif expected or sniff(data):
                expected = True
                self.pictures[entry] = read_file(data, entry.name, reading)
            else:
                expected = False
                self.others.append(entry.name)
        except ImageError as error:
            reason = f" is {error}." if isinstance(error, EntryError) else str(error).removeprefix(entry.name)
            self.refused.setdefault(reason, []).append(entry)
        if expected is not False:
            self.entries.append(entry)

    def label(self, data: bytes, private: bool) -> tuple[Picture, ...]:
        """Give the pictures their labels, each by its folders among those of all pictures."""
        labels = dict(zip(self.entries, read_layout([entry.parts for entry in self.entries]).labels, strict=True))
        names = tell_apart([entry.name for entry in self.pictures])
        return tuple(
            offer_again(replace(picture, name=name, label=labels[entry], private=private), data, entry)
            for name, (entry, picture) in zip(names, self.pictures.items(), strict=True)
        )

    def notes(self, name: str) -> list[str]:
        """Say what is left out and why, a sentence for each reason."""
        notes = []
        for reason, entries in self.refused.items():
            pictures = all(entry in self.entries for entry in entries)
            of = f"{len(self.entries):,} pictures" if pictures else f"the {self.files:,} files in {name}"
            is_or_are = "are" if len(entries) > 1 else "is"
            notes.append(f"{len(entries):,} of {of} {is_or_are} left out: {say_reason(entries, reason)}")
        if self.others:
            notes.append(
                f"{len(self.others):,} of the {self.files:,} files in {name} left out as neither pictures nor tables: "
                f"{name_some(self.others)}."
            )
        return notes

    def refuse(self, name: str) -> ImageError:
        """Say why an archive gives nothing."""
        if not self.refused:
            return ImageError(f"None of the {self.files} files in {name} is a picture; put {ACCEPTED} files into it.")
        reasons = " ".join(say_reason(entries, reason) for reason, entries in [*self.refused.items()][:3])
        return ImageError(f"None of the {self.files} files in {name} is a picture that can be read. {reasons}")


def say_reason(entries: Sequence[Entry], reason: str) -> str:
    """Say in a sentence which files cannot be read for a reason, which is the end of a sentence about one."""
    if len(entries) > 1 and reason.startswith(" is "):
        return f"{name_some([entry.name for entry in entries])} are {reason[4:]}"
    alike = f" So it is with {name_some([entry.name for entry in entries[1:]])}." if len(entries) > 1 else ""
    return f"{entries[0].name if reason.startswith(' ') else ''}{reason}{alike}"


def name_some(names: Sequence[str]) -> str:
    """Name the first of several files and count the others."""
    if len(names) <= 2:
        return " and ".join(names)
    return f"{names[0]} and {len(names) - 1:,} others"


def unpack(data: bytes, name: str, reading: Reading) -> Unpacked:
    """Read all files of an archive, sorted by name; nothing is unpacked onto the disk. Raises ImageError."""
    entries = list_entries(data, name)
    kept = sorted((entry for entry in entries if not is_junk(entry.parts)), key=lambda entry: natural_key(entry.parts))
    unpacked, pixels = Unpacked(len(kept)), 0
    for entry in kept:
        unpacked.take(entry, data, reading)
        if entry in unpacked.pictures:
            pixels += unpacked.pictures[entry].pixels.size // 3
            check_bound(name, "pixels", pixels, settings().archive_pixels)
    return unpacked
