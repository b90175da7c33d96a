"""What was damaged on disk gives the same numbers as computed anew, or counts as absent with a note; never others."""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

import sample_models
from explainers.attribution.method import Attribution
from explainers.cache import Cache
from explainers.disk import seal
from explainers.errors import SelectionError
from explainers.graph.model import Model
from explainers.graph.stored import keep
from explainers.index import Index, open_index
from explainers.index.building import start
from explainers.index.store import find_shards
from explainers.prototypes.mixture import Mixture
from explainers.prototypes.strategies import Strategies
from explainers.results import Result, restore, store
from tests.test_index import assert_same, draw, model

KEY, OTHER = "ab" * 32, "cd" * 32
LAYERS = ["2"]

Harm = Callable[[bytes], bytes]


def flip(place: int) -> Harm:
    """Turns one bit over."""
    return lambda data: data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :]


def zero(place: int) -> Harm:
    """Loses a block of the disk, or what of it the file fills."""
    return lambda data: data[:place] + bytes(min(4096, len(data) - place)) + data[place + 4096 :]


def cut(place: int) -> Harm:
    """Loses the end."""
    return lambda data: data[:place]


def harms(size: int, flips: int) -> Iterator[Harm]:
    """Flips spread over a file, every block of it lost (of large ones some), and cuts."""
    yield from (flip(size * number // flips) for number in range(flips))
    yield from (zero(place) for place in range(0, size, max(4096, size // 20)))
    yield from (cut(place) for place in (0, 1, size // 2, size - 1))


@contextmanager
def harmed(file: Path, harm: Harm) -> Iterator[bool]:
    """A file as it is after a harm, until the end; tells whether that is another than before."""
    whole = file.read_bytes()
    file.write_bytes(harm(whole))
    yield file.read_bytes() != whole
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(whole)


def attribution(value: float = 1.0) -> Attribution:
    rng = np.random.default_rng(0)
    values = value * rng.normal(size=(40, 40)).astype(np.float32)
    return Attribution(values, float(values.sum()), None, True, provenance={"method": "a", "seconds": 0.5})


def strategies() -> Strategies:
    """A result with parts."""
    mixture = Mixture(np.ones(2), np.ones((2, 3)), np.eye(3))
    rows = np.arange(5)
    return Strategies(
        0,
        rows,
        rows > 1,
        rows,
        np.ones(5),
        (mixture, mixture),
        np.ones((5, 2)),
        np.ones((2, 3)),
        np.ones(2),
        np.ones(0),
    )


@pytest.mark.parametrize("make", [attribution, strategies])
def test_a_cached_result_that_is_damaged_is_computed_anew_and_kept_again(
    make: Callable[[], Result], tmp_path: Path
) -> None:
    Cache(tmp_path).get(KEY, lambda progress: make(), durable=True)
    (file,) = tmp_path.glob("*/*.npz")
    whole = file.read_bytes()
    for harm in harms(len(whole), 200):
        with harmed(file, harm) as changed:
            cache = Cache(tmp_path)
            assert store(cache.get(KEY, lambda progress: make(), durable=True)) == whole[:-32]
            assert cache.counters.misses == changed
            assert file.read_bytes() == whole


def test_a_file_under_another_key_is_not_served(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for key, value in {KEY: 1.0, OTHER: 2.0}.items():
        cache.get(key, lambda progress, value=value: attribution(value), durable=True)
    first, second = (tmp_path / key[:2] / f"{key}.npz" for key in (KEY, OTHER))
    shutil.copy(second, first)
    found = Cache(tmp_path).get(KEY, lambda progress: attribution(1.0), durable=True)
    np.testing.assert_array_equal(found.values, attribution(1.0).values)


def npz(kind: str = "Attribution", plain: object = None, **arrays: np.ndarray) -> bytes:
    """Bytes as ``store`` makes them, of anything."""
    file, given = io.BytesIO(), {"output": 1.0, "expected": None, "signed": True, "provenance": {}}
    np.savez(file, plain=json.dumps([kind, given if plain is None else plain]), **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def lying() -> bytes:
    """An archive with an array of which the header says that it takes 64 TiB."""
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (4194304, 4194304), }".ljust(117) + "\n"
    made = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    file = io.BytesIO(npz())
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("values.npy", made + bytes(64))
    return file.getvalue()


#: Files that are whole and hold no result that this code can have made.
STRANGE = {
    "nothing": b"",
    "no archive": b"PK\x03\x04 nothing",
    "one array": (lambda file: (np.save(file, np.ones(3)), file.getvalue())[1])(io.BytesIO()),
    "a class that does not exist": npz("Attributions", values=np.ones((2, 2), np.float32)),
    "a class that is no result": npz("Cache", values=np.ones((2, 2), np.float32)),
    "a field too few": npz(),
    "a field too many": npz(values=np.ones((2, 2), np.float32), more=np.ones(2)),
    "another type": npz(values=np.ones((2, 2), np.float64)),
    "another shape": npz(values=np.ones((2, 2, 2), np.float32)),
    "no number": npz(values=np.full((2, 2), np.nan, np.float32)),
    "no mapping": npz(plain=[1, 2], values=np.ones((2, 2), np.float32)),
    "a part that is none": npz(**{"values": np.ones((2, 2), np.float32), "more.0": np.ones(3, np.uint8)}),
    "a header that lies": lying(),
}


@pytest.mark.parametrize("strange", STRANGE.values(), ids=STRANGE)
def test_a_file_that_holds_no_result_is_a_miss_whatever_it_holds(strange: bytes, tmp_path: Path) -> None:
    file = tmp_path / KEY[:2] / f"{KEY}.npz"
    file.parent.mkdir()
    for end in (seal(file, strange), b""):
        file.write_bytes(strange + end)
        found = Cache(tmp_path).get(KEY, lambda progress: attribution(), durable=True)
        np.testing.assert_array_equal(found.values, attribution().values)
        assert restore(file.read_bytes()).provenance["method"] == "a"


def test_a_kept_model_that_is_damaged_is_made_anew(tmp_path: Path, bounds: Callable[..., None]) -> None:
    bounds(cache=tmp_path)
    made: list[int] = []

    def make() -> Model:
        made.append(1)
        return model()

    inputs = next(iter(model().program.parameters())).new_ones(1, 3, 16, 16)
    keep("tiny", "content", make)
    (file,) = (tmp_path / "models").iterdir()
    whole, expected = file.read_bytes(), model()(inputs)
    for harm in harms(len(whole), 60):
        with harmed(file, harm) as changed:
            made.clear()
            found = keep("tiny", "content", make)
            assert len(made) == changed
            assert bool((found(inputs) == expected).all())
    shutil.copy(file, other := file.with_name("other-" + file.name.partition("-")[2]))
    made.clear()
    keep("other", "content", make)
    assert made == [1]
    assert other.exists()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """An index in two shards."""
    folder, place = tmp_path_factory.mktemp("pictures"), tmp_path_factory.mktemp("index")
    samples = draw(folder, 30)
    for count in (20, 30):
        start(model(), samples[:count], place, LAYERS).result(60)
    assert len(find_shards(place)) == 2
    return open_index(place)


def read(index: Index) -> dict[str, tuple[object, ...]]:
    """All that an index says of each picture, by its name."""
    table, values = index.table, [index.relevance("2"), index.relevance("2", "label"), index.activation("2")]
    values.append(index.activation("2", "mean"))
    columns = [name for name in table if name != "name"]
    return {
        name: (*(table[column][row] for column in columns), *(one[row].tobytes() for one in values))
        for row, name in enumerate(table["name"])
    }


FILES = ["manifest.json", *(f"shards/000000-000000/{name}" for name in
         ("shard.json", "table.parquet", "0.predicted.npy", "0.label.npy", "0.max.npy", "0.mean.npy"))]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_index_gives_the_same_numbers_or_lacks_rows_and_says_so(
    name: str, whole: Index, tmp_path: Path
) -> None:
    place, expected = tmp_path / "index", read(whole)
    shutil.copytree(whole.store, place)
    file = place / name
    for harm in harms(file.stat().st_size, 40):
        with harmed(file, harm) as changed:
            if name == "manifest.json" and changed:
                with pytest.raises(SelectionError, match="what is damaged is set aside"):
                    open_index(place)
                continue
            found = read(index := open_index(place))
            assert found.items() <= expected.items()
            assert len(found) == len(expected) or "missing until the index is built again" in index.notes[0]


def test_an_open_index_does_not_read_on_in_a_shard_that_is_damaged_meanwhile(whole: Index, tmp_path: Path) -> None:
    shutil.copytree(whole.store, tmp_path / "index")
    index = open_index(tmp_path / "index")
    file = find_shards(index.store)[0].folder / "0.max.npy"
    times = file.stat()
    file.write_bytes(flip(300)(file.read_bytes()))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(SelectionError, match=r"damaged in 0\.max\.npy"):
        index.activation("2")
    assert len(open_index(index.store)) == 10


def test_two_files_of_an_index_in_each_others_place_are_noticed(whole: Index, tmp_path: Path) -> None:
    shutil.copytree(whole.store, tmp_path / "index")
    folder = find_shards(tmp_path / "index")[0].folder
    shutil.copy(folder / "0.mean.npy", folder / "0.max.npy")
    assert "damaged in 0.max.npy" in open_index(tmp_path / "index").notes[0]


@pytest.mark.parametrize("harm", [cut(100), zero(0), flip(200)])
def test_a_damaged_manifest_is_set_aside_and_the_index_goes_on_with_all_its_rows(
    harm: Harm, whole: Index, tmp_path: Path
) -> None:
    place, samples = tmp_path / "index", list(whole.samples)
    shutil.copytree(whole.store, place)
    file = place / "manifest.json"
    file.write_bytes(damaged := harm(file.read_bytes()))
    built = start(model(), samples, place, LAYERS).result(60)
    assert built.added == 0
    (kept,) = place.glob("set-aside-manifest-*")
    assert kept.name in built.notes[0]
    assert kept.read_bytes() == damaged
    assert_same(open_index(place), whole)


def test_rows_of_another_version_of_torch_are_used_and_told(
    whole: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from explainers import versions as versions_module
    from explainers.index import reading
    from explainers.index import store as store_module

    here = versions_module.versions()
    other = {**here, "torch": "1.0.0"}
    monkeypatch.setattr(store_module, "versions", lambda: other)
    start(model(), list(whole.samples)[:20], tmp_path, LAYERS).result(60)
    monkeypatch.setattr(store_module, "versions", lambda: here)
    index = open_index(tmp_path)
    assert len(index) == 20
    assert f"computed with torch 1.0.0; here are torch {here['torch']}" in index.notes[0]
    monkeypatch.setattr(reading, "versions", lambda: other)
    assert not open_index(tmp_path).notes


def test_answers_of_another_version_of_torch_are_other_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    from explainers import asking
    from explainers.predictions import Predict
    from explainers.subjects import Input

    digits = sample_models.load("digits")
    about = Input(digits, sample_models.models()["digits"].pictures[0].read())
    before = asking.identify(Predict(), about)
    for name in ("torch", "numpy", "pillow"):
        monkeypatch.setattr(asking, "versions", lambda name=name: {**{}, name: "0"})
        assert asking.identify(Predict(), about) != before


def draw_index_of(folder: str, pictures: str) -> None:
    """The state of an index as pages with concepts draw it."""
    from pathlib import Path

    from components.references.index import References, draw_index
    from explainers.images import find
    from tests.test_index import model

    draw_index(model(), ["2"], References(find(Path(pictures)), Path(folder)), 0.1)


def test_a_page_says_that_a_manifest_is_damaged_and_builds_again(tmp_path: Path) -> None:
    pictures, place = tmp_path / "pictures", tmp_path / "index"
    start(model(), draw(pictures, 6), place, LAYERS).result(60)
    (place / "manifest.json").write_bytes((place / "manifest.json").read_bytes()[:50])
    page = AppTest.from_function(draw_index_of, args=(str(place), str(pictures))).run(timeout=60)
    assert not page.exception
    assert "manifest of the index" in page.caption[0].value
    page.button(key="build_index").click().run(timeout=60)
    for job in page.session_state["builds"].values():
        assert job.result(60).added == 0
    page.run(timeout=60)
    assert not page.exception
    assert len(page.button) == 0
    assert len(open_index(place)) == 6
