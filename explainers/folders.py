"""Folders that nobody else may read, in memory, which go with the process that made them. Free of torch."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from explainers.errors import SettingError

#: Where the system keeps files in memory, None where it has no such place.
MEMORY = Path("/dev/shm") if os.access("/dev/shm", os.W_OK | os.X_OK) else None

#: How the names of private folders begin, and the file in each that its process holds: both together are our mark.
PREFIX = "private-"
HELD = "held"


def own_place() -> Path:
    """The one folder of this user, of mode 0700, in which all private folders lie; made if it is not there.

    Raises SettingError if something else stands in its place: a link, or what others own or may read.
    """
    place = (MEMORY or Path(tempfile.gettempdir())) / f".lightbox-{os.getuid()}"
    with suppress(FileExistsError):
        place.mkdir(mode=0o700)
    found = place.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise SettingError(
            f"{place} is needed for private files, but it is a link, or others own it or may read it. Move it away, "
            "or make it a folder of your own of mode 0700."
        )
    return place


class PrivateFolder(tempfile.TemporaryDirectory[str]):
    """A folder of mode 0700 that is held as long as this process lives, see ``remove_leftovers``."""

    def __init__(self) -> None:
        place = own_place()
        with FileLock(place / "lock"):  # or somebody who removes leftovers finds it before it is held
            super().__init__(prefix=PREFIX, dir=place)
            self.holder = FileLock(Path(self.name) / HELD, thread_local=False)  # another thread will let it go
            self.holder.acquire()

    def cleanup(self) -> None:
        """Remove the folder, and hold it no more."""
        super().cleanup()
        self.holder.release()


def remove_leftovers() -> None:
    """Remove the private folders that processes of this user left when they were killed: nobody holds them.

    What does not carry our mark stays, and so does what links point to. Raises SettingError, see ``own_place``.
    """
    place = own_place()
    with FileLock(place / "lock"):
        for folder in place.glob(f"{PREFIX}*"):
            if is_marked(folder):
                with suppress(OSError, Timeout), FileLock(folder / HELD, timeout=0):
                    shutil.rmtree(folder)


def is_marked(folder: Path) -> bool:
    """Whether a folder is one that ``PrivateFolder`` made, and no link to one."""
    mark = folder / HELD
    return not folder.is_symlink() and folder.is_dir() and not mark.is_symlink() and mark.is_file()
