"""Results on disk, which the processes of a server share. Free of torch.

A file ends with a digest of its name and of all before it: one that was damaged, cut or put in another's place counts
as absent. What cannot be written is done without; ``tell_troubles`` says why, until it can be written again.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from explainers.errors import ComputationError
from explainers.results import Result, restore, store

#: Lock files on disk; two keys of one stripe wait for each other across processes, which costs time but no harm.
STRIPE = 3

#: How often somebody who waits for a lock looks whether to go on, in seconds.
BEAT = 0.2

#: The part of the limit that may be written until the least recently used files are removed.
SHARE = 16

#: After how many seconds without a change an unfinished file has nobody who writes it.
STALE = 60

#: Bytes of the digest at the end of a file.
SEAL = 32

#: What to do about an error of the system's.
ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "Make room there"),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST, errno.EISDIR), "Move away the file that is where a folder should be"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "Let the server's user write there"),
}

_troubles: dict[str, str] = {}


class Disk:
    """Results in a folder by key, no more than ``limit`` bytes of them; where it cannot be used, there are none."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._written = limit
        self._lock = threading.Lock()
        self.prune(limit)

    def holds(self, key: str) -> bool:
        """Tell whether a result is there."""
        return os.path.exists(self._file(key))  # Path.exists raises where a folder may not be read

    @contextmanager
    def hold(self, key: str, check: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Keep other processes from computing the same meanwhile; ``check`` may raise to stop waiting for them."""
        lock = FileLock(self.folder / "locks" / key[:STRIPE])
        with going_on("What is computed cannot be shared with other processes", self.folder):
            while not lock.is_locked:
                check()
                with suppress(Timeout):
                    lock.acquire(timeout=BEAT)
        try:
            yield
        finally:
            lock.release()

    def read(self, key: str) -> Result | None:
        """Read a result; whatever cannot be restored counts as absent and is removed."""
        file = self._file(key)
        if (data := read_sealed(file)) is None:
            return None
        try:
            result = restore(data)
            result.require_finite(file.name)
        except (ValueError, ComputationError):
            discard(file)
            return None
        with suppress(OSError):
            os.utime(file)
        return result

    def write(self, key: str, result: Result) -> None:
        """Write a result, if that can be done; every now and then the least recently used ones make room."""
        data = store(result)
        with going_on("Results cannot be kept", self.folder):
            write_sealed(self._file(key), data)
            if self._is_due(len(data)):
                room = self.limit - self.limit // SHARE
                threading.Thread(target=self.prune, args=(room,), name="pruning", daemon=True).start()

    def _is_due(self, size: int) -> bool:
        """Count what was written; tells whether that is so much that it is time to make room."""
        with self._lock:
            self._written += size
            return self._written * SHARE >= self.limit

    def prune(self, limit: int) -> None:
        """Remove what was not used for longest until the rest fits the limit, unless another process is at it."""
        with going_on("Old results cannot be removed", self.folder):
            with suppress(Timeout), FileLock(self.folder / "locks" / "prune", timeout=0):
                prune(self.folder, limit)
            with self._lock:
                self._written = 0

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npz"


@contextmanager
def going_on(what: str, place: Path) -> Iterator[None]:
    """Go on after an error of the system's; until the same has been done well it is one of the troubles."""
    try:
        yield
    except (OSError, NotImplementedError) as error:  # a file system may know no locks
        number = error.errno if isinstance(error, OSError) and error.errno else 0
        reason = os.strerror(number) if number else str(error)
        _troubles[what] = (
            f"{what} in {place}: {reason}. Everything is shown all the same, but takes longer when it is asked for "
            f"again. {ADVICE.get(number, 'See to this folder')}, or start with LIGHTBOX_CACHE set to another folder."
        )
    else:
        _troubles.pop(what, None)


def tell_troubles() -> tuple[str, ...]:
    """Say in sentences what cannot be kept on disk at this time, and what to do; () if all can."""
    return tuple(_troubles.values())


def write_sealed(file: Path, data: bytes) -> None:
    """Write a file with its seal, so that a reader sees all of it or nothing; raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(f".{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.write(seal(file, data))
        temporary.replace(file)
    except OSError:
        discard(temporary)
        raise


def read_sealed(file: Path) -> bytes | None:
    """Read a file that ``write_sealed`` wrote; one that is not as it was written is removed, and None as if absent."""
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError:
        discard(file)
        return None
    content = data[:-SEAL]
    if data[-SEAL:] == seal(file, content):
        return content
    discard(file)
    return None


def seal(file: Path, data: bytes) -> bytes:
    """The digest of a file's name and content: what is under another name was written for another purpose."""
    digest = hashlib.blake2b(file.name.encode() + b"\0", digest_size=SEAL)
    digest.update(data)
    return digest.digest()


def discard(file: Path) -> None:
    """Remove a file that is of no use, where that can be done."""
    with suppress(OSError):
        file.unlink()


def prune(folder: Path, limit: int) -> None:
    """Remove the files that were not used for longest until the rest fits the limit, and what was left unfinished."""
    for file in folder.glob("*/*.tmp"):
        if is_left(file):
            discard(file)
    files = list[tuple[float, int, Path]]()
    for file in folder.glob("*/*.npz"):
        with suppress(FileNotFoundError):  # another process may have removed it
            status = file.stat()
            files.append((status.st_mtime, status.st_size, file))
    excess = sum(size for _, size, _ in files) - limit
    for _, size, file in sorted(files):
        if excess <= 0:
            break
        file.unlink(missing_ok=True)
        excess -= size


def is_left(file: Path) -> bool:
    """Whether the process that wrote an unfinished file has ended: it is not there, or nothing came for long."""
    writer = file.suffixes[-2].partition("-")[0].removeprefix(".") if len(file.suffixes) > 1 else ""
    try:
        if writer.isdecimal():
            os.kill(int(writer), 0)
        return time.time() - file.stat().st_mtime > STALE
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # another user's process, or the file is gone
        return False
