"""Files are read in processes of their own, which end when they should and take no more than they may."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from explainers import isolation
from explainers.cases.arranging import read_material
from explainers.errors import CancelledError, ImageError, ModelError
from explainers.graph.class_names import read_class_names
from explainers.images import Attachment, Contents, File, Kept, Picture, Reading, following, read, read_contents
from explainers.images import reading as here
from explainers.images.apart import read_folder
from explainers.isolation import Job, Turns, answer_once, hearing
from explainers.notes import read_names
from explainers.opening import open_class_names, open_material, open_names
from tests import table_files
from tests.fuzz import LAYERS, NAMES
from tests.picture_files import PHOTO, SEEDS, archive, dicom, many_scans, photo, save

Bounds = Callable[..., None]

ROOT = Path(__file__).parent.parent

#: Takes a decoder many seconds, from half a megabyte.
SLOW = many_scans(8000, 5000)


def processes(module: str = "explainers.images.apart") -> list[psutil.Process]:
    """The zygote of a module, and those that it forked that have not ended."""
    zygote = psutil.Process(isolation.prepare(module).process.pid)
    return [zygote, *(one for one in zygote.children() if one.status() != psutil.STATUS_ZOMBIE)]


def wait_until(true: Callable[[], bool]) -> None:
    for _ in range(600):
        if true():
            return
        time.sleep(0.05)
    raise AssertionError("It did not come.")


def spend() -> float:
    """The processor time of all that reads pictures, once it stands still: raises if it does not."""
    wait_until(lambda: len(processes()) == 1)
    return sum(processes()[0].cpu_times()[:2])


def describe(picture: Picture) -> tuple[object, ...]:
    bands = None if picture.bands is None else picture.bands.tobytes()
    known = (picture.name, picture.label, picture.private, picture.notes, picture.frames, picture.window)
    return (*known, picture.profile, picture.pixels.shape, picture.pixels.tobytes(), bands, picture.again is None)


def same(first: Contents, second: Contents) -> bool:
    pictures = [list(map(describe, one.pictures)) for one in (first, second)]
    return pictures[0] == pictures[1] and (first.attachments, first.notes) == (second.attachments, second.notes)


# What is read is what is read in this process


@pytest.mark.parametrize("name", SEEDS)
def test_a_file_read_apart_is_what_it_is_here(name: str):
    assert same(read_contents(SEEDS[name], "a"), here.read_contents(SEEDS[name], "a"))


def test_what_is_wrong_with_a_file_is_said_as_here():
    damaged = b"\x89PNG\r\n\x1a\n"
    for data in (b"", b"nothing", damaged, archive({"a.txt": b"a"}), archive({"a.png": damaged})):
        said = []
        for way in (read, here.read):
            with pytest.raises(ImageError) as told:
                way(data, "a")
            said.append(str(told.value))
        assert said[0] == said[1]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.csv", b"id,label,age\na,dog,1\nb,,2\n"),
        ("t.xlsx", table_files.write_excel()),
        ("t.parquet", table_files.write_parquet()),
        ("t.json", table_files.COCO),
        ("t.xml", table_files.VOC.encode()),
        ("empty.csv", b""),
        ("broken.xlsx", b"PK\3\4"),
    ],
)
def test_a_table_read_apart_is_what_it_is_here(name: str, data: bytes):
    apart, told = open_material([Attachment(name, data)]), read_material([Attachment(name, data)])
    assert (apart.boxes, apart.notes) == (told.boxes, told.notes)
    assert [table.to_csv() for table in apart.tables.values()] == [table.to_csv() for table in told.tables.values()]


def test_names_read_apart_are_what_they_are_here():
    yaml = b"names:\n  0: cat\n  1: dog\n"
    assert open_class_names(yaml, "a.yaml") == read_class_names(yaml, "a.yaml")
    assert open_names("digest", LAYERS, NAMES) == read_names("digest", LAYERS, NAMES)


def test_a_frame_of_a_dropped_folder_is_read_again_from_its_own_file():
    clip = dicom(np.stack([PHOTO[..., 0], PHOTO[..., 1]]))
    found = read_folder([("f/a.png", photo("PNG")), ("f/b.dcm", clip)])
    assert same(found, here.read_contents(archive({"f/a.png": photo("PNG"), "f/b.dcm": clip}), "the folder"))
    again = found.pictures[1].again
    assert isinstance(again, here.Again)
    assert again.data is clip
    assert (again(Reading(frame=2)).pixels[..., 0] == PHOTO[..., 1]).all()


def test_a_frame_in_a_zip_is_read_again():
    clip = dicom(np.stack([PHOTO[..., 0], PHOTO[..., 1]]))
    found = read_contents(archive({"a.png": photo("PNG"), "b.dcm": clip}), "a.zip")
    assert found.pictures[1].again is not None
    assert (found.pictures[1].again(Reading(frame=2)).pixels[..., 0] == PHOTO[..., 1]).all()


# Bounds


def test_a_picture_that_takes_too_long_ends_in_a_sentence_and_so_does_its_process(bounds: Bounds):
    read(photo("PNG"), "a.png")
    bounds(picture_seconds=1)
    with pytest.raises(ImageError, match=r"scan.jpg took longer than 1 seconds.*LIGHTBOX_PICTURE_SECONDS"):
        read(SLOW, "scan.jpg")
    before = spend()
    time.sleep(0.3)
    assert spend() == before
    assert (read(photo("PNG"), "a.png")[0].pixels == PHOTO).all()


def test_a_slow_picture_of_an_archive_is_left_out_and_the_others_are_read(bounds: Bounds):
    bounds(picture_seconds=1)
    found = read_contents(archive({"a.png": photo("PNG"), "b.jpg": SLOW, "c.png": photo("PNG")}), "a.zip")
    assert [picture.name for picture in found.pictures] == ["a.png", "c.png"]
    assert found.notes[0].startswith("1 of 3 pictures is left out: b.jpg took longer than 1 seconds")


def test_a_picture_that_takes_too_much_memory_ends_in_a_sentence(bounds: Bounds):
    bounds(picture_memory=64 * 2**20)
    with pytest.raises(ImageError, match=r"^a.png .*more than 0.0625 GiB of memory.*LIGHTBOX_PICTURE_MEMORY"):
        read(save(Image.new("RGB", (6000, 6000)), "PNG"), "a.png")


def test_a_table_and_class_names_that_take_too_much_end_in_a_sentence(bounds: Bounds):
    bounds(picture_seconds=1, picture_memory=64 * 2**20)
    nested = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]\n"
        for before, after in zip("abcdefg", "bcdefgh", strict=True)
    )
    with pytest.raises(ModelError):
        open_class_names(nested.encode(), "a.yaml")
    table = b"a,b\n" + b"1,2\n" * 900_000
    assert "t.csv " in open_material([Attachment("t.csv", table)]).notes[0]


def test_the_server_takes_no_more_memory_than_a_picture_has(tmp_path: Path):
    (tmp_path / "small.png").write_bytes(photo("PNG"))
    (tmp_path / "large.png").write_bytes(save(Image.new("L", (6000, 6000)), "PNG"))
    code = """
import resource, sys
from pathlib import Path
from explainers.images import read
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
small, large = (Path(path).read_bytes() for path in sys.argv[1:])
read(small, "small.png")
before = peak()
(picture,) = read(large, "large.png")
print(peak() - before - picture.pixels.nbytes)
"""
    files = [str(tmp_path / name) for name in ("small.png", "large.png")]
    more = subprocess.run([sys.executable, "-c", code, *files], cwd=ROOT, check=True, capture_output=True, text=True)
    assert int(more.stdout) < 8 * 2**20


def test_processes_share_nothing_and_all_end():
    for _ in range(3):
        read(photo("PNG"), "a.png")
    wait_until(lambda: len(processes()) == 1)
    assert processes()[0].num_threads() == 1


# Stopping


def test_who_waits_can_stop_and_the_process_is_gone():
    calls = []

    def stop() -> None:
        calls.append(len(processes()))
        if len(calls) > 3:
            raise CancelledError("Stopped.")

    with hearing(stop), pytest.raises(CancelledError):
        read(SLOW, "scan.jpg")
    assert calls[-1] == 2
    before = spend()
    time.sleep(0.3)
    assert spend() == before


def test_progress_counts_the_files_of_an_archive():
    counts = []
    with following(lambda done, total: counts.append((done, total))):
        read_contents(archive({f"{number}.png": photo("PNG") for number in range(3)}), "a.zip")
    assert [count for count in dict.fromkeys(counts) if count[1] == 3] == [(1, 3), (2, 3), (3, 3)]


def test_another_zygote_is_started_when_one_has_died():
    old = processes()[0]
    old.kill()
    assert (read(photo("PNG"), "a.png")[0].pixels == PHOTO).all()
    assert processes()[0].pid != old.pid


def test_a_zygote_and_all_that_read_end_with_their_server(tmp_path: Path):
    (tmp_path / "slow.jpg").write_bytes(SLOW)
    code = (
        "import sys; from pathlib import Path; from explainers import isolation; from explainers.images import read\n"
        "print(isolation.prepare('explainers.images.apart').process.pid, flush=True)\n"
        "read(Path(sys.argv[1]).read_bytes(), 'slow.jpg')"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "slow.jpg")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        zygote = psutil.Process(int(server.stdout.readline()))
        wait_until(lambda: bool(zygote.children()))
        child = zygote.children()[0]
        server.kill()
    wait_until(lambda: not zygote.is_running() and not child.is_running())


def test_a_process_that_reads_can_do_nothing_else(tmp_path: Path):
    (tmp_path / "secret").write_bytes(b"secret")
    job = Job("tests.attempts:try_walls", (), {"path": str(tmp_path / "secret")}, "a", ImageError)
    assert answer_once(job).value == []


# Turns


def test_nobody_has_all_places_and_who_has_fewest_goes_first():
    turns, order, go_on = Turns(2, 1), list[str](), threading.Event()

    def work(whose: str) -> None:
        with turns.take(whose):
            order.append(whose)
            go_on.wait(30)

    threads = []
    for whose in ("Ada", "Ada", "Ada", "Ben"):
        threads.append(threading.Thread(target=work, args=(whose,)))
        threads[-1].start()
        if len(threads) == 1:
            wait_until(lambda: bool(order))
    wait_until(lambda: len(order) == 2)
    assert order == ["Ada", "Ben"]
    go_on.set()
    for thread in threads:
        thread.join()
    assert order == ["Ada", "Ben", "Ada", "Ada"]


def test_who_waits_for_a_place_can_stop():
    turns, calls = Turns(1, 1), list[int]()

    def stop() -> None:
        calls.append(1)
        if len(calls) > 2:
            raise CancelledError("Stopped.")

    with turns.take("Ada"), hearing(stop), pytest.raises(CancelledError), turns.take("Ben"):
        pass
    with turns.take("Ben"):
        pass


# Kept pictures


def test_pictures_of_the_server_are_kept_as_far_as_there_is_room(tmp_path: Path, bounds: Bounds):
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for file in files:
        file.write_bytes(photo("PNG"))
    kept, samples = Kept(), [File(file.name, path=file) for file in files]
    bounds(picture_cache=2 * PHOTO.nbytes)
    first = kept.read(samples[0])
    assert kept.read(samples[0]) is first
    for sample in samples[1:]:
        kept.read(sample)
    assert kept.nbytes == 2 * PHOTO.nbytes
    assert kept.read(samples[0]) is not first


def test_a_picture_that_cannot_be_read_is_not_tried_each_time(tmp_path: Path):
    file = tmp_path / "a.png"
    file.write_bytes(b"nothing")
    kept, sample = Kept(), File("a.png", path=file)
    for content in (b"nothing", photo("PNG")):
        file.write_bytes(content)
        with pytest.raises(ImageError):
            kept.read(sample)
