"""Settings of a server, from the environment or one TOML file. Free of torch."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from explainers.errors import SettingError

GIB = 1024**3

PREFIX = "LIGHTBOX_"

#: Variables of ours that are no settings: where they are kept, and where tests put pictures of pages.
OTHERS = ("LIGHTBOX_SETTINGS", "LIGHTBOX_SCREENSHOTS")

#: The greatest whole number of each kind that makes sense: seconds (a year), processes, anything else (1 PiB).
MOST = {"seconds": 366 * 86400, "idle": 366 * 86400, "workers": 1024, "processes": 1024, "": 2**50}

#: What may be nothing: what is only kept so as not to be computed again.
MAY_BE_ZERO = ("memory", "disk", "picture_cache", "index_disk")

#: What a header may be called (RFC 9110), and a host, with a port or without.
HEADER = re.compile(r"[\w!#$%&'*+.^`|~-]*", re.ASCII)
HOSTS = re.compile(
    r"\s*([\w.*-]+|\[[\da-f:.]+\])(:\d+)?\s*(,\s*([\w.*-]+|\[[\da-f:.]+\])(:\d+)?\s*)*|\s*", re.IGNORECASE
)


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
    return make(given | read_environment(os.environ))


def read_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Read what an environment sets; raises SettingError for a variable that is meant for us and is none of ours."""
    known = {f"{PREFIX}{name.upper()}": name for name in _names()}
    for variable in environment:
        if variable not in known and variable not in OTHERS and _is_meant(variable, [*known, *OTHERS]):
            raise SettingError(f"There is no setting {variable}. {_suggest(variable, [*known, *OTHERS])}")
    return {name: environment[variable] for variable, name in known.items() if variable in environment}


def _is_meant(variable: str, known: Sequence[str]) -> bool:
    """Tell whether a variable is meant for Lightbox: by the beginning of its name, or as one of ours misspelt."""
    return variable.upper().startswith(PREFIX) or bool(get_close_matches(variable.upper(), known, 1, 0.9))


def _suggest(name: str, known: Sequence[str]) -> str:
    """Say which name is nearest to one that is not known, or where all are."""
    begins = name.upper().startswith(PREFIX)  # which all names share, so that it says nothing about likeness
    like = {one.upper().removeprefix(PREFIX if begins else ""): one for one in known}
    nearest = get_close_matches(name.upper().removeprefix(PREFIX), like, 1)
    return f"Did you mean {like[nearest[0]]}?" if nearest else "The README lists all settings; take this one away."


def read_file(file: Path) -> dict[str, Any]:
    """Read a TOML file of settings; raises SettingError if it is not one."""
    try:
        return tomllib.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:  # not text, not TOML, or nested without end
        raise SettingError(
            f"The settings in {file} cannot be read: {error}. Mend the file, or unset LIGHTBOX_SETTINGS."
        ) from None


def make(given: Mapping[str, Any]) -> Settings:
    """Check settings by their names, their kinds and what is possible; raises SettingError."""
    kinds = {field.name: {"int": int, "str": str}.get(str(field.type), Path) for field in fields(Settings)}
    for name in given:
        if name not in kinds:
            raise SettingError(f"There is no setting {name!r:.80}. {_suggest(name, _names())}")
    made = Settings(**{name: convert(name, item, kinds[name]) for name, item in given.items()})
    check(made)
    return made


def _names() -> list[str]:
    return [field.name for field in fields(Settings)]


def convert(name: str, item: Any, kind: type) -> Any:
    """Read a setting as its kind; raises SettingError."""
    wanted = {int: "a whole number", str: "a text"}.get(kind, "a path")
    try:
        if kind is int:
            return _read_number(name, item)
        if isinstance(item, str | Path) and "\0" not in str(item) and (kind is str or str(item).strip()):
            return kind(item) if kind is str else Path(item).expanduser()
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last where no home is known
        pass
    raise SettingError(f"The setting '{name}' is {str(item)!r:.80}; {wanted} was expected. Change it.")


def _read_number(name: str, item: Any) -> int:
    if isinstance(item, bool) or (isinstance(item, float) and not item.is_integer()):
        raise TypeError
    number = int(item)
    least, most = int(name not in MAY_BE_ZERO), MOST.get(name, MOST.get(name.rpartition("_")[2], MOST[""]))
    if not least <= number <= most:
        raise SettingError(
            f"The setting '{name}' is {str(item)!r:.80}; a number from {least} to {most:,} was expected. Change it."
        )
    return number


def check(made: Settings) -> None:
    """Check settings beside each other and beside what is on the disk; raises SettingError."""
    wrong = {
        f"The setting 'person_bytes' is {made.person_bytes:,}, more than 'server_bytes', {made.server_bytes:,}, which "
        "all persons share. Lower it, or raise the other.": made.person_bytes > made.server_bytes,
        f"The setting 'cache' is {made.cache}, which is no folder. Name a folder.": not _may_be_folder(made.cache),
        f"The setting 'notes' is {made.notes}, which cannot be a file. Name a file.": made.notes
        and (os.path.isdir(made.notes) or not _may_be_folder(made.notes.parent)),
        f"The setting 'data' is {made.data}, which is no folder. Name a folder.": made.data
        and not os.path.isdir(made.data),
        f"The setting 'user_header' is {made.user_header!r:.80}, which no header is called. Name one, such as "
        "X-Remote-User.": not HEADER.fullmatch(made.user_header),
        f"The setting 'hosts' is {made.hosts!r:.80}; names with commas between them were expected, such as "
        "lightbox.example.org. Change it.": not HOSTS.fullmatch(made.hosts),
    }
    for sentence, holds in wrong.items():
        if holds:
            raise SettingError(sentence)


def _may_be_folder(path: Path) -> bool:
    """Tell whether a path is a folder, or could be made one: nothing above it is anything else."""
    # By functions that take for absent what this user may not look at.
    there = next((one for one in (path, *path.absolute().parents) if os.path.exists(one)), path)
    return os.path.isdir(there)
