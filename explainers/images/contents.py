"""What an upload, an archive or a folder holds: pictures, and files that say something about them."""

from __future__ import annotations

from dataclasses import dataclass

from explainers.images.picture import Picture


@dataclass(frozen=True)
class Attachment:
    """A file that is no picture but may say something about pictures: a table, or annotations as JSON.

    ``name`` is its path inside what it came from, with "/" between the parts.
    """

    name: str
    data: bytes


@dataclass(frozen=True)
class Contents:
    """What was found: pictures, attachments, and sentences on what could not be read and why."""

    pictures: tuple[Picture, ...]
    attachments: tuple[Attachment, ...] = ()
    notes: tuple[str, ...] = ()
