"""Pictures read in processes of their own, which can be ended and take no more time and memory than is allowed."""

from __future__ import annotations

import io
import mmap
import os
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict, replace
from typing import Any

import imagecodecs
import numpy as np
from PIL import Image

from explainers import isolation
from explainers.errors import ImageError
from explainers.images.archive import Entry
from explainers.images.contents import Attachment, Contents
from explainers.images.formats import read_file
from explainers.images.picture import USUAL, Picture, Reading
from explainers.images.reading import Again, Found, Reader, Unpacked, expect, give_reason, list_wanted, look
from explainers.isolation import Answer, Job

#: For how long a process reads on in an archive before others have their turn, in seconds; and how many files at most.
SLICE, FILES = 1.0, 200

#: What imagecodecs decodes for pictures, each by a library that it opens when it is first used.
CODECS = (
    "packbits", "lzw", "zlib", "deflate", "lzma", "zstd", "floatpred", "delta", "packints", "jpeg", "jpeg8", "jpeg2k",
    "jpegxl", "lerc", "webp", "png", "cms",
)  # fmt: skip

#: What is called in a process.
Answers = Iterator[Answer]

#: What is told how many files of an archive were read, of how many.
_progress: ContextVar[Callable[[int, int], object]] = ContextVar("progress", default=lambda done, total: None)


@contextmanager
def following(progress: Callable[[int, int], object]) -> Iterator[None]:
    """Have ``progress`` called, many times a second, with how many files were read, of how many, while any are read.

    A file that is one picture is 0 of 1. It may raise, which ends the reading.
    """
    count = [0, 1]

    def keep(done: int, total: int) -> None:
        count[:] = done, total
        progress(done, total)

    token = _progress.set(keep)
    try:
        with isolation.hearing(lambda: progress(*count)):
            yield
    finally:
        _progress.reset(token)


class Apart(Reader):
    """Reads each file in a process of its own; this one only puts together what they find."""

    def decode(self, data: bytes | int, name: str, reading: Reading, entry: Entry | None = None) -> Picture:
        """Decode one picture, from its bytes or an open file; raises ImageError."""
        if entry and isinstance(data, bytes):
            data, entry = entry.cut(data)
        told = {"name": name, "reading": asdict(reading), "entry": entry and asdict(entry)}
        job = make_job(give_picture, data, name, told)
        return receive_picture(job, isolation.answer_once(job))

    def unpack(self, data: bytes, name: str, reading: Reading) -> Unpacked:
        """Read all files of an archive; nothing is unpacked onto the disk. Raises ImageError."""
        with shared(data) as file:
            return unpack_file(file, name, reading)


APART = Apart()

read, read_contents = APART.read, APART.read_contents


def read_folder(files: Sequence[tuple[str, bytes]], name: str = "the folder", reading: Reading = USUAL) -> Contents:
    """Read files, by their paths in a folder, by the rules for a zip of it; raises ImageError."""
    with shared(b"") as file:
        with os.fdopen(os.dup(file), "w+b") as packed, zipfile.ZipFile(packed, "w") as archive:
            for path, data in files:
                archive.writestr(path, data)
            places = [entry.header_offset for entry in archive.infolist()]
        unpacked = unpack_file(file, name, reading)
    found = APART.collect(unpacked, b"", name, private=True)
    own = {place: data for place, (_, data) in zip(places, files, strict=True)}
    return replace(found, pictures=tuple(keep_own(picture, own) for picture in found.pictures))


def keep_own(picture: Picture, files: Mapping[int, bytes]) -> Picture:
    """Have a picture read again from its own file, found by its place in the archive."""
    again = picture.again
    if not isinstance(again, Again) or again.entry is None:
        return picture
    return replace(picture, again=replace(again, data=files[again.entry.start], entry=None))


@contextmanager
def shared(data: bytes) -> Iterator[int]:
    """Bytes as an open file that several processes may be given."""
    file = isolation.share(data)
    try:
        yield file
    finally:
        os.close(file)


def make_job(function: Callable[..., Answers], data: bytes | int, name: str, told: dict[str, Any]) -> Job:
    """Describe what a process is to do with a file."""
    return Job(f"{__name__}:{function.__name__}", (data,), told, name, ImageError)


def unpack_file(file: int, name: str, reading: Reading) -> Unpacked:
    """Read all files of an archive, some in each process; one that ends a process is left out, and the others are not.

    Raises ImageError.
    """
    listed = isolation.answer_once(make_job(give_entries, file, name, {"name": name})).value
    waiting = [to_entry(entry) for entry in listed]
    unpacked = Unpacked(name, len(waiting))
    progress = _progress.get()
    while waiting:
        for found in look_apart(file, waiting[:FILES], reading):
            unpacked.take(waiting.pop(0), found)
            progress(unpacked.files - len(waiting), unpacked.files)
    return unpacked


def look_apart(file: int, entries: Sequence[Entry], reading: Reading) -> Iterator[Found]:
    """Say what the first of some files of an archive are, at least one of them, as one process reads them."""
    told = {"entries": [asdict(entry) for entry in entries], "reading": asdict(reading)}
    job, done = make_job(give_found, file, entries[0].name, told), 0
    with closing(isolation.perform(job)) as answers:
        try:
            for entry, answer in zip(entries, answers, strict=False):
                yield receive_found(job, entry, answer)
                done += 1
            if not done:
                raise job.broken()
        except ImageError as error:
            yield Found(reason=give_reason(entries[0], error), expected=expect(entries[done]))


def receive_found(job: Job, entry: Entry, answer: Answer) -> Found:
    """Take what a process says of a file of an archive."""
    value = answer.value
    content: Picture | Attachment | None = None
    if value["picture"]:
        content = receive_picture(job, replace(answer, value=value["picture"]))
    elif value["attachment"]:
        content = Attachment(entry.name, answer.buffers[0].tobytes())
    return Found(content, str(value["reason"]), value["expected"])


def receive_picture(job: Job, answer: Answer) -> Picture:
    """Take a picture from a process; raises the job's error if it is none."""
    value, (pixels, *bands) = dict(answer.value), answer.buffers
    try:
        value["pixels"] = pixels.reshape(*value.pop("shape"), 3)
        value["bands"] = bands[0].view(np.float32).reshape(*value["pixels"].shape[:2], -1) if bands else None
        return Picture(**{**value, "notes": tuple(value["notes"]), "window": to_window(value["window"])})
    except (ValueError, TypeError, LookupError):
        raise job.broken() from None


def to_window(value: Any) -> tuple[float, float] | None:
    """A window, which JSON knows as a list."""
    return (value[0], value[1]) if value else None


def to_reading(value: Mapping[str, Any]) -> Reading:
    """How a picture is read, from what JSON knows of it."""
    return Reading(**{**value, "window": to_window(value["window"])})


def to_entry(value: Mapping[str, Any]) -> Entry:
    """A file of an archive, from what JSON knows of it."""
    return Entry(**{**value, "parts": tuple(value["parts"])})


# What follows is called in the processes.


def give_picture(files: Sequence[int], name: str, reading: dict[str, Any], entry: dict[str, Any] | None) -> Answers:
    """Decode a picture, of an archive if an entry of it is given."""
    data = isolation.fetch(files[0])
    yield send_picture(read_file(to_entry(entry).read(data) if entry else data, name, to_reading(reading)))


def give_entries(files: Sequence[int], name: str) -> Answers:
    """List the files of an archive that are read."""
    yield Answer([asdict(entry) for entry in list_wanted(isolation.fetch(files[0]), name)])


def give_found(files: Sequence[int], entries: Sequence[dict[str, Any]], reading: dict[str, Any]) -> Answers:
    """Read files of an archive one by one for some time."""
    until, how = time.monotonic() + SLICE, to_reading(reading)
    with mmap.mmap(files[0], 0, prot=mmap.PROT_READ) as archive:
        for entry in map(to_entry, entries):
            yield send_found(look(entry, archive, how))
            if time.monotonic() > until:
                return


def send_found(found: Found) -> Answer:
    """Give what a file of an archive is."""
    content = found.content
    answer = Answer(None)
    if isinstance(content, Picture):
        answer = send_picture(content)
    elif content is not None:
        answer = Answer(None, (np.frombuffer(content.data, np.uint8),))
    told = {"picture": answer.value, "attachment": isinstance(content, Attachment)}
    return Answer(told | {"reason": found.reason, "expected": found.expected}, answer.buffers)


def send_picture(picture: Picture) -> Answer:
    """Give a picture: what is known of it, its pixels, and all channels of a file of many."""
    known = ("name", "label", "private", "notes", "frames", "window", "profile")
    value = {name: getattr(picture, name) for name in known} | {"shape": picture.pixels.shape[:2]}
    arrays = [picture.pixels] if picture.bands is None else [picture.pixels, picture.bands]
    return Answer(value, [np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in arrays])


def warm() -> None:
    """Import what decoders import when they are first used, before any process is forked that would do it again."""
    Image.init()
    for codec in CODECS:
        with suppress(AttributeError):  # built without it
            getattr(imagecodecs, f"{codec}_decode")
    for kind in ("PNG", "TIFF"):
        example = io.BytesIO()
        Image.new("RGB", (8, 8)).save(example, kind)
        read_file(example.getvalue(), "an example")
