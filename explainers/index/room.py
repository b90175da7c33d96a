"""The indexes of the server, what they take on disk, and how one is removed. Free of torch.

A new one is refused where they would take more than they may, rather than the oldest removed: building takes minutes to
hours, and names, tags and links refer to what an index shows, so a person decides which one goes.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from explainers.errors import LimitError, SelectionError
from explainers.settings import GIB, settings


@dataclass(frozen=True)
class Stored:
    """An index of the server on disk: what it is of, when it was begun (seconds since 1970), and its size in bytes."""

    folder: Path
    model: str
    layers: tuple[str, ...]
    begun: float
    bytes: int


def place() -> Path:
    """Where the indexes of the server lie."""
    return settings().cache / "indexes"


def list_indexes() -> list[Stored]:
    """List the indexes of the server, the largest first."""
    folders = list[Path]()
    with suppress(OSError):
        folders += [Path(entry) for entry in os.scandir(place()) if entry.is_dir()]
    return sorted(map(describe, folders), key=lambda one: -one.bytes)


def describe(folder: Path) -> Stored:
    """Say what an index is of, as far as its manifest tells, and how large it is."""
    model, layers, begun = "", tuple[str, ...](), 0.0
    with suppress(OSError, ValueError, KeyError, TypeError):
        file = folder / "manifest.json"
        plain = json.loads(file.read_bytes())
        model, layers, begun = str(plain["model"]), tuple(map(str, plain["layers"])), file.stat().st_mtime
    return Stored(folder, model, layers, begun, measure(folder))


def measure(folder: Path) -> int:
    """The bytes of all files in a folder and below; what goes meanwhile counts nothing."""
    return sum(sizes(folder))


def sizes(folder: Path) -> Iterator[int]:
    """The bytes of each file in a folder and below."""
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                yield (Path(path) / name).stat().st_size


def say_size(count: int) -> str:
    """Say how many bytes something takes."""
    return f"{count / GIB:,.1f} GiB" if count >= GIB / 10 else f"{count / 2**20:,.1f} MiB"


def require_room(store: Path) -> None:
    """Raise LimitError if the indexes of the server take all that they may, unless ``store`` is none of them."""
    if not store.resolve().is_relative_to(place().resolve()):
        return
    taken, limit = measure(place()), settings().index_disk
    if taken >= limit:
        raise LimitError(
            f"The indexes of this server take {say_size(taken)}, of at most {say_size(limit)}, so this one cannot "
            "grow. Remove one that is no longer needed on the page Activity, or ask who runs the server."
        )


def remove_index(folder: Path) -> None:
    """Remove an index of the server; raises SelectionError while it is being built, or if it cannot be removed."""
    try:
        with FileLock(folder / "lock", timeout=0):
            gone = folder.rename(folder.with_name(f"removed-{folder.name}-{time.time_ns()}"))
        shutil.rmtree(gone)
    except Timeout:
        raise SelectionError("This index is being built now. Stop that, or wait for its end, and try again.") from None
    except OSError as error:
        raise SelectionError(f"This index cannot be removed: {error.strerror}. Ask who runs the server.") from None
