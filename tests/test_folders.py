"""Private folders lie in one folder of this user, and only what carries their mark is ever removed."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from explainers import folders
from explainers.errors import SettingError
from explainers.folders import HELD, PREFIX, PrivateFolder, own_place, remove_leftovers


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another place than the system's, for the tests beside this one."""
    monkeypatch.setattr(folders, "MEMORY", tmp_path)
    return tmp_path


def mark(folder: Path) -> Path:
    """Make a folder as a server that was killed leaves it."""
    folder.mkdir()
    (folder / HELD).touch()
    return folder


def test_what_was_left_goes_and_what_is_held_stays():
    left, held = mark(own_place() / f"{PREFIX}left"), PrivateFolder()
    remove_leftovers()
    assert not left.exists()
    assert Path(held.name).exists()
    assert stat.S_IMODE(Path(held.name).stat().st_mode) == stat.S_IMODE(own_place().stat().st_mode) == 0o700
    held.cleanup()
    assert not Path(held.name).exists()


def test_nothing_without_our_mark_is_removed(memory: Path):
    (without := own_place() / f"{PREFIX}without").mkdir()
    others = [
        without,
        mark(own_place() / "mine"),
        mark(memory / f"{PREFIX}elsewhere"),
        mark(memory / "lightbox-work"),
        mark(memory / "lightbox-"),
    ]
    (without / "thesis.txt").write_text("months of work")
    remove_leftovers()
    assert all(one.exists() for one in others)


def test_links_are_not_followed(memory: Path):
    target, other = mark(memory / "target"), memory / "other"
    (own_place() / f"{PREFIX}link").symlink_to(target)
    other.mkdir()
    (other / HELD).touch()
    (marked := own_place() / f"{PREFIX}marked").mkdir()
    (marked / HELD).symlink_to(other / HELD)
    remove_leftovers()
    assert (target / HELD).exists()
    assert (marked / HELD).is_symlink()


@pytest.mark.parametrize(
    "occupy",
    [
        lambda place: place.symlink_to(place.parent),
        lambda place: place.write_text("mine"),
        lambda place: place.mkdir(mode=0o755),
    ],
    ids=["link", "file", "open to others"],
)
def test_what_stands_in_the_place_of_ours_is_left_alone(memory: Path, occupy: Callable[[Path], object]):
    own_place().rmdir()
    occupy(own_path := memory / f".lightbox-{os.getuid()}")
    with pytest.raises(SettingError, match="Move it away"):
        remove_leftovers()
    assert own_path.lstat()
