"""From the bytes of an upload to pictures: one file gives one, a zip archive as many as it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from explainers.errors import ImageError
from explainers.images.archive import Archive, Entry, EntryError, check_bound, list_entries
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
    """Read the pictures of a file in this process, see ``explainers.images.read``; raises ImageError."""
    return HERE.read(data, file_name, reading, private=private)


def read_contents(data: bytes, file_name: str, reading: Reading = USUAL, *, private: bool = True) -> Contents:
    """Read all that a file holds in this process, see ``explainers.images.read_contents``; raises ImageError."""
    return HERE.read_contents(data, file_name, reading, private=private)


class Reader:
    """Reads files in this process. One that reads them elsewhere decodes and unpacks otherwise."""

    def read(
        self, data: bytes, file_name: str, reading: Reading = USUAL, *, private: bool = True
    ) -> tuple[Picture, ...]:
        """Read the pictures of a file, by its content, whatever its name says.

        In a zip archive folders give labels, and what is no picture is left out. Raises ImageError.
        """
        name = split_name(file_name)[-1]
        if sniff(data) != "ZIP":
            return (self.read_one(data, name, reading, private),)
        unpacked = self.unpack(data, name, reading)
        if not unpacked.pictures:
            raise unpacked.refuse(name)
        return self.label(unpacked, data, private)

    def read_contents(self, data: bytes, file_name: str, reading: Reading = USUAL, *, private: bool = True) -> Contents:
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
            return Contents((self.read_one(data, name, reading, private),))
        return self.collect(self.unpack(data, parts[-1], reading), data, parts[-1], private)

    def collect(self, unpacked: Unpacked, data: bytes, name: str, private: bool) -> Contents:
        """Put together what was found in an archive; raises ImageError if that is nothing."""
        if not unpacked.pictures and not unpacked.attachments:
            raise unpacked.refuse(name)
        pictures = self.label(unpacked, data, private)
        return Contents(pictures, tuple(unpacked.attachments), tuple(unpacked.notes(name)))

    def read_one(self, data: bytes, name: str, reading: Reading, private: bool) -> Picture:
        """Read a file that is one picture; raises ImageError."""
        picture = replace(self.decode(data, name, reading), private=private)
        return self.offer_again(picture, data, None)

    def label(self, unpacked: Unpacked, data: bytes, private: bool) -> tuple[Picture, ...]:
        """Give the pictures of an archive their labels, each by its folders among those of all pictures."""
        layout = read_layout([entry.parts for entry in unpacked.entries])
        labels = dict(zip(unpacked.entries, layout.labels, strict=True))
        names = tell_apart([entry.name for entry in unpacked.pictures])
        return tuple(
            self.offer_again(replace(picture, name=name, label=labels[entry], private=private), data, entry)
            for name, (entry, picture) in zip(names, unpacked.pictures.items(), strict=True)
        )

    def offer_again(self, picture: Picture, data: bytes, entry: Entry | None) -> Picture:
        """Let a picture be read otherwise, if its file holds more than is shown of it."""
        deep = picture.window or any("8 bit" in note or note.startswith("window") for note in picture.notes)
        if picture.frames < 2 and not deep and not picture.profile:
            return picture
        return replace(picture, again=Again(self, data, entry, picture.name, picture.label, picture.private))

    def decode(self, data: bytes, name: str, reading: Reading, entry: Entry | None = None) -> Picture:
        """Decode one picture, of an archive if an entry of it is given; raises ImageError."""
        return read_file(entry.read(data) if entry else data, name, reading)

    def unpack(self, data: bytes, name: str, reading: Reading) -> Unpacked:
        """Read all files of an archive; nothing is unpacked onto the disk. Raises ImageError."""
        entries = list_wanted(data, name)
        unpacked = Unpacked(name, len(entries))
        for entry in entries:
            unpacked.take(entry, look(entry, data, reading))
        return unpacked


#: Reads in this process.
HERE = Reader()


@dataclass(frozen=True, eq=False)
class Again:
    """Reads one picture of an upload once more, by the same reader; pictures of an archive share its bytes."""

    reader: Reader = field(repr=False)
    data: bytes = field(repr=False)
    entry: Entry | None
    name: str
    label: str | None
    private: bool

    def __call__(self, reading: Reading) -> Picture:
        """Read the picture otherwise; raises ImageError."""
        picture = self.reader.decode(self.data, self.name, reading, self.entry)
        return replace(picture, label=self.label, private=self.private, again=self)


@dataclass(frozen=True)
class Found:
    """What a file in an archive is: a picture, an attachment, neither (None), or not to be read for a ``reason``.

    The reason is the end of a sentence that begins with the name. ``expected``: whether it is a picture, readable or
    not; None where that cannot be told.
    """

    content: Picture | Attachment | None = None
    reason: str = ""
    expected: bool | None = None


def list_wanted(data: bytes, name: str) -> list[Entry]:
    """List the files of an archive that are read, sorted by name; raises ImageError."""
    entries = list_entries(data, name)
    return sorted((entry for entry in entries if not is_junk(entry.parts)), key=lambda entry: natural_key(entry.parts))


def expect(entry: Entry) -> bool | None:
    """Whether a file is a picture, by its name."""
    return False if named_as_attachment(entry.name) else named_as_picture(entry.name)


def look(entry: Entry, archive: Archive, reading: Reading) -> Found:
    """Read one file of an archive, or say why it cannot be."""
    expected = expect(entry)
    try:
        if named_as_attachment(entry.name) and entry.size > ATTACHMENT_BYTES:
            raise EntryError(f"larger than {ATTACHMENT_BYTES >> 20} MiB; split it, or leave columns out")
        data = entry.read(archive)
        if is_attachment(entry.name, data):
            return Found(Attachment(entry.name, data), expected=expected)
        if sniff(data) == "ZIP":
            raise EntryError("packed as an archive inside the archive; unpack that first")
        if not expected and not sniff(data):
            return Found(expected=False)
        expected = True
        return Found(read_file(data, entry.name, reading), expected=True)
    except ImageError as error:
        return Found(reason=give_reason(entry, error), expected=expected)


def give_reason(entry: Entry, error: ImageError) -> str:
    """Say why a file cannot be read, as the end of a sentence that begins with its name."""
    return f" is {error}." if isinstance(error, EntryError) else str(error).removeprefix(entry.name)


@dataclass
class Unpacked:
    """What was found in an archive: ``refused`` says of each reason which files cannot be read for it."""

    name: str
    files: int
    entries: list[Entry] = field(default_factory=list)  # those that are pictures, readable or not
    pictures: dict[Entry, Picture] = field(default_factory=dict)
    attachments: list[Attachment] = field(default_factory=list)
    refused: dict[str, list[Entry]] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    pixels: int = 0

    def take(self, entry: Entry, found: Found) -> None:
        """Keep what a file of the archive is; raises ImageError if the archive holds too many pixels."""
        if isinstance(found.content, Picture):
            self.pictures[entry] = found.content
            self.pixels += found.content.pixels.size // 3
            check_bound(self.name, "pixels", self.pixels, settings().archive_pixels)
        elif found.content is not None:
            self.attachments.append(found.content)
        elif found.reason:
            self.refused.setdefault(found.reason, []).append(entry)
        else:
            self.others.append(entry.name)
        if found.expected is not False:
            self.entries.append(entry)

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
