"""Results on disk, which the processes of a server share. Free of torch."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from explainers.results import Result, restore, store

#: Lock files on disk; two keys of one stripe wait for each other across processes, which costs time but no harm.
STRIPE = 3


class Disk:
    """Results in a folder by key, no more than ``limit`` bytes of them."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        (folder / "locks").mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "locks" / "prune"):
            prune(folder, limit)

    def holds(self, key: str) -> bool:
        """Tell whether a result is there."""
        return self._file(key).exists()

    @contextmanager
    def hold(self, key: str) -> Iterator[None]:
        """Keep other processes from computing the same meanwhile."""
        with FileLock(self.folder / "locks" / key[:STRIPE]):
            yield

    def read(self, key: str) -> Result | None:
        """Read a result; a damaged file counts as absent and is removed."""
        file = self._file(key)
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            return None
        try:
            result = restore(data)
        except ValueError:
            file.unlink(missing_ok=True)
            return None
        os.utime(file)
        return result

    def write(self, key: str, result: Result) -> None:
        """Write a result."""
        write_file(self._file(key), store(result))

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npz"


def write_file(file: Path, data: bytes) -> None:
    """Write a file so that a reader sees all of it or nothing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(f".{os.getpid()}-{threading.get_ident()}.tmp")
    temporary.write_bytes(data)
    temporary.replace(file)


def prune(folder: Path, limit: int) -> None:
    """Remove the files that were not used for longest until the rest fits the limit."""
    files = sorted(((file.stat(), file) for file in folder.glob("*/*.npz")), key=lambda item: item[0].st_mtime)
    excess = sum(stat.st_size for stat, _ in files) - limit
    for stat, file in files:
        if excess <= 0:
            break
        file.unlink(missing_ok=True)
        excess -= stat.st_size
