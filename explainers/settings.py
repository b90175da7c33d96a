"""Settings of a server, from the environment or one TOML file. Free of torch."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from explainers.errors import SettingError

GIB = 1024**3


@dataclass(frozen=True)
class Settings:
    """What can be set: as ``LIGHTBOX_NAME`` in the environment, or ``name = value`` in the file LIGHTBOX_SETTINGS.

    The environment goes before the file. Sizes are in bytes, times in seconds.
    """

    #: Where results on server-side pictures and indexes are kept.
    cache: Path = Path.home() / ".cache" / "lightbox"
    #: The file of people's notes; None for one in the folder above.
    notes: Path | None = None
    #: How much the results in memory, and those on disk, may take.
    memory: int = 2 * GIB
    disk: int = 8 * GIB
    #: A folder of pictures that everybody on this server may see.
    data: Path | None = None
    #: What opening an uploaded model may take, in a process of its own.
    upload_memory: int = 6 * GIB
    upload_seconds: int = 180
    #: How many uploaded models are opened at once on this server.
    upload_processes: int = 2
    #: What uploads may hold in memory, of one person and of all: files, pixels, and models' tensors, in bytes.
    person_bytes: int = 4 * GIB
    server_bytes: int = 12 * GIB
    #: How many computations run at once, and what the values of the passes under way may take together.
    workers: int = 3
    pass_memory: int = 2 * GIB
    #: What decoding one picture may take, in a process of its own.
    picture_memory: int = 3 * GIB
    picture_seconds: int = 60
    #: What the pictures of the server that are kept decoded may take.
    picture_cache: int = GIB
    #: What indexes of the server may take on disk.
    index_disk: int = 32 * GIB
    #: The names by which browsers know this server, besides localhost, with commas between them.
    hosts: str = ""
    #: Bounds on a model file: all tensors together, how many, the header of safetensors, and outputs.
    model_bytes: int = 4 * GIB
    model_tensors: int = 20_000
    model_header: int = 16 * 1024**2
    model_classes: int = 100_000
    #: Bounds on a picture: its file, its size (a full-field mammogram has 30 million pixels) and its frames.
    picture_bytes: int = GIB
    picture_pixels: int = 64_000_000
    picture_frames: int = 10_000
    #: Bounds on a zip archive: entries, bytes unpacked, how many times it grows, and pixels of all its pictures.
    archive_entries: int = 10_000
    archive_bytes: int = GIB
    archive_ratio: int = 200
    archive_pixels: int = 400_000_000
    #: How long a session may be idle before what it uploaded is removed.
    idle: int = 3600
    #: The header in which a proxy in front of the server says who somebody is, "" for none.
    user_header: str = ""
    #: What whoever reads the metrics sends as a bearer token, "" to let only people in who may open the pages.
    metrics_token: str = ""
    #: Of which events a line is written: debug, info, warning, off.
    log: str = "info"
    #: How long computations under way may still take when the server is told to stop.
    stop_seconds: int = 3


@cache
def settings() -> Settings:
    """The settings of this process; raises SettingError."""
    file = os.environ.get("LIGHTBOX_SETTINGS")
    given = read_file(Path(file)) if file else {}
    names = [field.name for field in fields(Settings)]
    variables = {
        name: os.environ[f"LIGHTBOX_{name.upper()}"] for name in names if f"LIGHTBOX_{name.upper()}" in os.environ
    }
    return make(given | variables)


def read_file(file: Path) -> dict[str, Any]:
    """Read a TOML file of settings; raises SettingError if it is not one."""
    try:
        return tomllib.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:  # not text, not TOML, or nested without end
        raise SettingError(
            f"The settings in {file} cannot be read: {error}. Mend the file, or unset LIGHTBOX_SETTINGS."
        ) from None


def make(given: Mapping[str, Any]) -> Settings:
    """Check settings by their names and kinds; raises SettingError."""
    kinds = {field.name: {"int": int, "str": str}.get(str(field.type), Path) for field in fields(Settings)}
    if unknown := sorted(given.keys() - kinds):
        raise SettingError(f"There is no setting '{unknown[0]}'. Choose from {', '.join(kinds)}.")
    return Settings(**{name: convert(name, item, kinds[name]) for name, item in given.items()})


def convert(name: str, item: Any, kind: type) -> Any:
    """Read a setting as its kind; raises SettingError."""
    try:
        return kind(item)
    except (TypeError, ValueError, OverflowError):
        wanted = "a whole number" if kind is int else "a path"
        raise SettingError(f"The setting '{name}' is '{item}'; {wanted} was expected. Change it.") from None
