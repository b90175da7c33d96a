"""A folder that cannot be written: all is answered the same, with the reason, and kept again once that can be done."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from playwright.sync_api import Browser, expect
from streamlit.testing.v1 import AppTest

from explainers.cache import Cache
from explainers.disk import Disk, tell_troubles
from explainers.errors import CancelledError, LimitError, SelectionError
from explainers.graph.stored import keep
from explainers.index import open_index
from explainers.index.building import find_store, start
from explainers.index.room import list_indexes, remove_index
from explainers.predictions import Prediction
from tests.conftest import running_app
from tests.test_cache import prediction
from tests.test_index import draw, model

KEYS = ["ab" * 32, "cd" * 32]


@contextmanager
def mounted(place: Path, options: str) -> Iterator[None]:
    """A small file system of its own at a place; skips the test where that is not allowed."""
    place.mkdir()
    if (
        not shutil.which("mount")
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=False, capture_output=True
        ).returncode
    ):
        pytest.skip("this machine does not let a test mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


Mend = Callable[[], object]


def wait_for_pruning() -> None:
    for thread in threading.enumerate():
        if thread.name == "pruning":
            thread.join()


@contextmanager
def full(place: Path) -> Iterator[Mend]:
    """A disk of 1 MiB that something else has filled."""
    with mounted(place, "size=1m"):
        with suppress(OSError), (place / "others").open("wb", buffering=0) as stream:
            while True:
                stream.write(bytes(4096))
        yield (place / "others").unlink


@contextmanager
def without_inodes(place: Path) -> Iterator[Mend]:
    """A disk on which no further file can be made."""
    with mounted(place, "size=1m,nr_inodes=4"):
        for number in range(3):
            (place / f"others{number}").touch()
        yield lambda: subprocess.run(["mount", "-o", "remount,nr_inodes=1000", place], check=True)


@contextmanager
def read_only(place: Path) -> Iterator[Mend]:
    """A disk on which nothing can be written."""
    with mounted(place, "size=1m,ro"):
        yield lambda: subprocess.run(["mount", "-o", "remount,rw", place], check=True)


@contextmanager
def of_another_user(place: Path) -> Iterator[Mend]:
    """A folder in which only another user may read and write."""
    place.mkdir()
    place.chmod(0)
    user = os.geteuid()
    if user == 0:  # who may do all
        os.seteuid(65534)
    try:
        yield lambda: (os.seteuid(user), place.chmod(0o700))
    finally:
        os.seteuid(user)


@contextmanager
def files_inside(place: Path) -> Iterator[Mend]:
    """Files where all folders in it should be."""
    place.mkdir()
    files = [place / name for name in ("locks", "models", "indexes", *(key[:2] for key in KEYS))]
    for file in files:
        file.touch()
    yield lambda: [file.unlink() for file in files]


HARMS = {
    full: "No space left",
    without_inodes: "No space left",
    read_only: "Read-only file system",
    of_another_user: "Permission denied",
    files_inside: "Not a directory|File exists",
}


@pytest.fixture
def untroubled() -> Iterator[None]:
    """Troubles of this test alone."""
    from explainers import disk

    disk._troubles.clear()
    yield
    disk._troubles.clear()


@pytest.mark.usefixtures("untroubled")
@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
def test_a_cache_that_cannot_write_answers_says_why_and_goes_on_trying(
    harm: Callable[[Path], AbstractContextManager[Mend]], tmp_path: Path, bounds: Callable[..., None]
) -> None:
    place = tmp_path / "cache"
    bounds(cache=place)
    with harm(place) as mend:
        cache = Cache(place, memory_limit=0)
        for key in KEYS * 2:
            assert cache.get(key, lambda progress: prediction(7), durable=True).logits[0] == 7
        assert keep("tiny", "content", model).info == model().info
        assert list_indexes() == []
        told = tell_troubles()
        assert 1 < len(told) <= 4
        for sentence in told:
            assert str(place) in sentence
            assert any(reason in sentence for reason in HARMS[harm].split("|"))
        assert not cache.counters.errors
        mend()
        for key in KEYS * 2:
            assert cache.get(key, lambda progress: prediction(8), durable=True).logits[0] == 8
        assert cache.counters.disk_hits == 2
        wait_for_pruning()
        keep("tiny", "content", model)
        assert tell_troubles() == ()
        assert len(list(place.glob("models/*"))) == 1
        assert not list(place.rglob("*.tmp"))


@pytest.mark.usefixtures("untroubled")
def test_a_folder_that_is_deleted_while_the_server_runs_is_made_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", memory_limit=0)
    for value in (1, 2):
        for _ in range(2):
            found = cache.get(KEYS[0], lambda progress, value=value: prediction(value), durable=True)
            assert found.logits[0] == value
        shutil.rmtree(tmp_path / "cache")
    assert (cache.counters.misses, cache.counters.disk_hits) == (2, 2)
    assert tell_troubles() == ()


def test_who_waits_for_another_process_can_be_stopped(tmp_path: Path) -> None:
    disk, looks = Disk(tmp_path, 1 << 30), list[int]()

    def check() -> None:
        looks.append(1)
        if len(looks) > 2:
            raise CancelledError("Stopped.")

    with disk.hold(KEYS[0]), pytest.raises(CancelledError), disk.hold(KEYS[0], check):
        pytest.fail("two hold the same")
    with disk.hold(KEYS[0]):
        pass


def test_the_disk_is_pruned_while_results_are_written_by_two_who_share_it(tmp_path: Path) -> None:
    caches = [Cache(tmp_path, memory_limit=0, disk_limit=100_000) for _ in range(2)]
    for number in range(100):
        key = f"{number:064x}"[::-1]
        caches[number % 2].get(key, lambda progress: Noise.draw(), durable=True)
        wait_for_pruning()
        assert sum(file.stat().st_size for file in tmp_path.glob("*/*.npz")) <= 100_000 * (1 + 2 / 16)
    kept = list(tmp_path.glob("*/*.npz"))
    assert len(kept) > 50
    assert tmp_path / key[:2] / f"{key}.npz" in kept


class Noise:
    """Results that cannot be compressed, of about 1,500 bytes."""

    @staticmethod
    def draw() -> Prediction:
        numbers = np.random.default_rng().random(100).astype(np.float32)
        return Prediction(numbers, numbers)


def test_what_killed_writers_left_unfinished_is_removed_and_what_is_being_written_is_not(tmp_path: Path) -> None:
    (tmp_path / "ab").mkdir()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left, old, new = (tmp_path / "ab" / f"{KEYS[0]}.{name}.tmp" for name in (f"{ended.pid}-1", "1-1", "1-2"))
    for file in (left, old, new):
        file.write_bytes(b"PK")
    os.utime(old, (time.time() - 3600,) * 2)
    Cache(tmp_path)
    assert list(tmp_path.glob("ab/*")) == [new]


def test_an_index_does_not_grow_beyond_what_indexes_may_take_and_one_can_be_removed(
    tmp_path: Path, bounds: Callable[..., None]
) -> None:
    bounds(cache=tmp_path / "cache")
    samples = draw(tmp_path / "pictures", 12)
    store = find_store(model(), ["2"], "pictures")
    start(model(), samples[:8], store, ["2"]).result(60)
    (one,) = list_indexes()
    assert (one.model, one.layers) == ("tiny", ("2",))
    assert one.bytes == sum(file.stat().st_size for file in store.rglob("*") if file.is_file())
    bounds(cache=tmp_path / "cache", index_disk=one.bytes)
    other = find_store(model(), ["4"], "pictures")
    for place, layers in ((store, ["2"]), (other, ["4"])):
        with pytest.raises(LimitError, match=r"take 0\.\d MiB, of at most 0\.\d MiB.*on the page Activity"):
            start(model(), samples, place, layers).result(60)
    assert len(open_index(store)) == 8
    start(model(), samples, tmp_path / "elsewhere", ["4"]).result(60)
    with FileLock(store / "lock"), pytest.raises(SelectionError, match="being built now"):
        remove_index(store)
    for stored in list_indexes():
        remove_index(stored.folder)
    assert list_indexes() == []
    assert start(model(), samples, other, ["4"]).result(60).added == 12


@pytest.mark.exhaustive
def test_every_page_works_over_a_folder_that_cannot_be_written(tmp_path: Path, browser: Browser) -> None:
    place = tmp_path / "small"
    with read_only(place), running_app(tmp_path, LIGHTBOX_CACHE=str(place)) as address:
        page = browser.new_page()
        page.set_default_timeout(60_000)
        page.goto(f"{address}/?model=digits")
        expect(page.get_by_role("heading", name="The model says")).to_be_visible()
        expect(page.get_by_text("Explained output")).to_be_visible()
        for place, words in {
            "concepts": "Build the index", "prototypes": "Build the index", "failures": "Its surest mistakes",
            "model": "Bring your own",
        }.items():  # fmt: skip
            page.goto(f"{address}/{place}?model=digits")
            expect(page.get_by_text(words).first).to_be_visible()
        page.goto(f"{address}/prototypes?model=digits")
        page.get_by_role("button", name="Build the index").click()
        expect(page.get_by_text("cannot be written").first).to_be_visible()
        page.goto(f"{address}/activity")
        expect(page.get_by_text("Results cannot be kept").first).to_be_visible()
        page.close()


def draw_activity() -> None:
    """The page *Activity* of a server whose folder is a file, and a page that shows names."""
    import sample_models
    from components.kept import draw_indexes, draw_troubles
    from components.names import read_current_names

    assert read_current_names(sample_models.load("digits").info) == {}
    draw_troubles()
    draw_indexes()


@pytest.mark.usefixtures("untroubled")
def test_activity_tells_the_trouble_with_what_to_do_and_pages_go_on_without_notes(
    tmp_path: Path, bounds: Callable[..., None]
) -> None:
    bounds(cache=tmp_path / "cache")
    with files_inside(tmp_path / "cache"):
        (tmp_path / "cache" / "notes.sqlite").mkdir()
        page = AppTest.from_function(draw_activity).run(timeout=60)
    assert not page.exception
    told = plain_again(" ".join(one.value for one in page.warning))
    assert "notes cannot be used now" in plain_again(page.error[0].value)
    assert "Opened models cannot be kept" in told
    assert "Move away the file that is where a folder should be" in told


def plain_again(text: str) -> str:
    """A text without the signs that keep it from being read as Markdown."""
    return text.replace("\\", "")


def draw_list() -> None:
    """The indexes on the page *Activity*."""
    from components.kept import draw_indexes

    draw_indexes()


def test_activity_lists_the_indexes_with_their_sizes_and_removes_one(
    tmp_path: Path, bounds: Callable[..., None]
) -> None:
    bounds(cache=tmp_path / "cache")
    for layer in ("2", "4"):
        place = find_store(model(), [layer], "pictures")
        start(model(), draw(tmp_path / "pictures", 3), place, [layer]).result(60)
    page = AppTest.from_function(draw_list).run(timeout=60)
    assert sum("1 layer " in one.value for one in page.markdown) == 2
    page.button(key=f"remove-{place.name}").click().run(timeout=60)
    assert not page.exception
    assert [one.layers for one in list_indexes()] == [("2",)]
    assert not place.exists()
