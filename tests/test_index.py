"""The index: the same numbers as one image at a time, nothing lost, nothing doubled, nothing computed twice."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from explainers.errors import CancelledError, ImageError, SelectionError
from explainers.graph.export import export
from explainers.graph.model import Model
from explainers.images import Picture, Reading, Sample, Samples, find
from explainers.images.picture import USUAL
from explainers.index import Index, Upload, open_index
from explainers.index import store as store_module
from explainers.index.building import Built, builds, start
from explainers.index.store import find_shards
from explainers.preprocessing import Preprocessing
from explainers.relevance.propagation import relevance
from explainers.relevance.seeds import seed_targets
from explainers.relevance.tape import record
from explainers.targets import Target
from sample_models import lesions
from tests.conftest import ROOT

SIDE = 16
LAYERS = ("0", "2", "4")
CLASSES = ("ant", "bee", "cat")


@cache
def model() -> Model:
    torch.manual_seed(1)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 3, stride=2), nn.ReLU(), nn.Conv2d(6, 12, 3),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 3),
    )  # fmt: skip
    with torch.no_grad():
        inputs = torch.randn(64, 3, 1, 1) + 0.3 * torch.randn(64, 3, SIDE, SIDE)
        module[-1].bias -= module(inputs).mean(0)
    return export(module, "tiny", Preprocessing((SIDE, SIDE), SIDE), CLASSES)


def draw(folder: Path, count: int, first: int = 0) -> Samples:
    """Write pictures of noise around different colours, in folders named after classes and one other."""
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        pixels = (rng.normal(rng.uniform(0, 255, 3), 40, (SIDE, SIDE, 3))).clip(0, 255).astype(np.uint8)
        label = (*CLASSES, "dog")[number % 4]
        (folder / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return find(folder)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    return draw(tmp_path_factory.mktemp("data"), 40)


def build(samples: Samples | list[Sample], store: Path, **options: object) -> Built:
    return start(model(), samples, store, LAYERS, **options).result(60)


@pytest.fixture(scope="module")
def index(samples: Samples, tmp_path_factory: pytest.TempPathFactory) -> Index:
    store = tmp_path_factory.mktemp("index")
    build(samples, store)
    return open_index(store)


def observe(sample: Sample, layer: str, label: int | None = None) -> tuple[int, np.ndarray, np.ndarray]:
    """The slow way: class, relevance and greatest activation of one picture, layer by layer."""
    steps = model().info.preprocessing
    tape = record(model(), torch.from_numpy(steps.normalise(steps.crop(sample.read().pixels)))[None])
    best = int(tape.output.argmax()) if label is None else label
    found = relevance(tape, seed_targets(tape.output, [Target(best)]), stop=layer)[0, 0]
    activation = tape.kept[model().info.layer(layer).node][0]
    return best, found.sum((1, 2)).numpy(), activation.amax((1, 2)).numpy()


def test_rows_are_those_of_one_image_at_a_time(index: Index, samples: Samples) -> None:
    assert len(index) == len(samples) == 40
    for row, sample in enumerate(samples):
        for layer in LAYERS:
            best, used, active = observe(sample, layer)
            assert index.table["predicted"][row] == best
            np.testing.assert_allclose(index.relevance(layer)[row], used, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(index.activation(layer)[row], active, rtol=1e-5, atol=1e-6)


def test_the_table_says_what_was_predicted_and_what_is_true(index: Index, samples: Samples) -> None:
    table = index.table
    assert list(table["name"]) == [sample.name for sample in samples]
    assert list(table["digest"]) == [sample.read().digest for sample in samples]
    assert [CLASSES[label] if label >= 0 else "dog" for label in table["label"]] == [one.label for one in samples]
    assert table["predicted"].nunique() > 1
    assert table["probability"].between(1 / 3, 1).all()


def test_relevance_for_the_true_class_is_that_of_a_pass_for_it(index: Index, samples: Samples) -> None:
    mistakes = index.table.query("label >= 0 and label != predicted").index
    assert len(mistakes) > 5
    found = index.relevance("2", of="label")
    for row in mistakes:
        used = observe(samples[row], "2", int(index.table["label"][row]))[1]
        np.testing.assert_allclose(found[row], used, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(index.concept("2", 3, of="label")[row], found[row, 3])
    same = index.table.query("label == predicted").index
    np.testing.assert_array_equal(found[same], index.relevance("2")[same])
    assert np.isnan(found[index.table["label"] < 0]).all()


def test_batches_of_one_and_of_many_give_the_same_rows(index: Index, samples: Samples, tmp_path: Path) -> None:
    build(samples, tmp_path, batch=1)
    assert_same(open_index(tmp_path), index)


def assert_same(one: Index, other: Index) -> None:
    assert one.table.drop(columns=["output", "probability"]).equals(other.table.drop(columns=["output", "probability"]))
    assert [one.samples[row] for row in range(len(one))] == [other.samples[row] for row in range(len(other))]
    np.testing.assert_allclose(one.table["output"], other.table["output"], rtol=1e-4, atol=1e-5)
    for layer in other.recipe.layers:
        for of in ("predicted", "label"):
            np.testing.assert_allclose(one.relevance(layer, of), other.relevance(layer, of), rtol=1e-4, atol=1e-5)
        for kind in ("max", "mean"):
            np.testing.assert_allclose(one.activation(layer, kind), other.activation(layer, kind), rtol=1e-4, atol=1e-5)


def test_more_pictures_cost_themselves_only(samples: Samples, tmp_path: Path) -> None:
    assert build(samples[:30], tmp_path).added == 30
    before = builds().counters
    assert build(samples, tmp_path).added == 10
    again = int((open_index(tmp_path).table.query("label >= 0 and label != predicted").index >= 30).sum())
    assert builds().counters.images - before.images == 10 + again
    before = builds().counters
    assert build(samples, tmp_path).added == 0
    assert builds().counters.forward == before.forward


def test_a_picture_that_comes_twice_is_a_row_for_each_of_its_labels(samples: Samples, tmp_path: Path) -> None:
    twice = [samples[0], replace(samples[0], name="copy"), replace(samples[0], name="other", label="cat"), *samples[:3]]
    assert build(twice, tmp_path, batch=2).added == 4
    assert list(open_index(tmp_path).table["name"]) == [samples[0].name, "other", samples[1].name, samples[2].name]


def test_what_cannot_be_read_is_told_and_left_out(samples: Samples, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    built = build([*samples[:3], *find(tmp_path)], tmp_path / "store")
    assert built.added == 3
    assert len(built.unreadable) == 1
    assert "broken.png" in built.unreadable[0]


def test_samples_are_found_again(index: Index, samples: Samples, tmp_path: Path) -> None:
    assert [index.samples[row] for row in (0, 39)] == [replace(samples[row], stamp=None) for row in (0, 39)]
    drawn = list(lesions.samples("moved-test", 3, size=96))
    build(drawn, tmp_path)
    stored = open_index(tmp_path)
    assert stored.samples[2] == drawn[2]
    assert stored.samples[2].read().digest == stored.table["digest"][2]


def test_of_uploads_the_store_holds_no_pixels_and_the_session_finds_them_again(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    upload = Upload("mine", label="bee", picture=Picture("mine.png", pixels))
    build([upload], tmp_path)
    assert open_index(tmp_path, [upload]).samples[0].read().label == "bee"
    with pytest.raises(ImageError, match="session that has ended"):
        open_index(tmp_path).samples[0]
    assert not any(pixels.tobytes()[:64] in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def test_a_store_that_was_built_otherwise_is_refused_in_a_sentence(index: Index, samples: Samples) -> None:
    for change, told in (
        ({"composite": "epsilon"}, "composite epsilon-plus-flat"),
        ({"layers": ("0",)}, "layers 0, 2, 4"),
        ({"model": replace(model(), info=replace(model().info, digest="other"))}, "model tiny"),
    ):
        options = {"model": model(), "samples": samples, "layers": LAYERS, **change}
        with pytest.raises(SelectionError, match=told):
            start(store=index.store, **options)  # type: ignore[arg-type]


def test_wrong_layers_and_missing_indexes_are_told(index: Index, samples: Samples, tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match="no layer 'attic'"):
        start(model(), samples, tmp_path, ["attic"])
    with pytest.raises(SelectionError, match="no layer 'attic'"):
        index.relevance("attic")
    with pytest.raises(SelectionError, match="has 0 to 7"):
        index.concept("0", 8)
    with pytest.raises(SelectionError, match="Build one first"):
        open_index(tmp_path)


@pytest.mark.parametrize("harm", ["cut", "flip", "lose", "foreign"])
def test_a_damaged_or_foreign_shard_is_named_and_set_aside_and_its_pictures_come_again(
    harm: str, index: Index, samples: Samples, tmp_path: Path
) -> None:
    for end in (20, 30, 35):
        build(samples[:end], tmp_path)
    (first, _, _) = find_shards(tmp_path)
    file = first.folder / "1.max.npy"
    if harm == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    elif harm == "flip":
        file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    elif harm == "lose":
        file.unlink()
    else:
        text = (first.folder / "shard.json").read_text()
        (first.folder / "shard.json").write_text(text.replace(first.description["recipe"], "0" * 64))
    damaged = open_index(tmp_path)
    assert first.folder.name in damaged.notes[0]
    assert damaged.relevance("2").shape == (15, 6)
    built = build(samples, tmp_path)
    assert built.added == 25
    assert first.folder.name in built.notes[0]
    assert len(list(tmp_path.glob("set-aside-*"))) == 1
    assert sorted(open_index(tmp_path).table["name"]) == sorted(index.table["name"])


class Slow(Sample):
    """A picture that is read when the test lets it."""

    gate = threading.Event()

    def read(self, reading: Reading = USUAL) -> Picture:
        assert self.gate.wait(60)
        return Picture(self.name, np.full((SIDE, SIDE, 3), int(self.name), np.uint8), private=False)


@pytest.fixture
def slow() -> Callable[[int], list[Sample]]:
    Slow.gate.clear()
    return lambda count: [Slow(str(number)) for number in range(count)]


def test_a_second_session_joins_the_running_build(slow: Callable[[int], list[Sample]], tmp_path: Path) -> None:
    before = builds().counters
    jobs = [start(model(), slow(20), tmp_path, LAYERS) for _ in range(2)]
    jobs[0].cancel()
    Slow.gate.set()
    assert jobs[1].result(60).added == 20
    after = builds().counters
    assert (after.joined - before.joined, after.images - before.images) == (1, 20)
    assert (jobs[1].steps.done, jobs[1].steps.total) == (20, 20)


def test_two_builds_into_one_store_come_one_after_the_other(samples: Samples, tmp_path: Path) -> None:
    jobs = [start(model(), part, tmp_path, LAYERS) for part in (samples[:30], samples[10:])]
    assert sum(job.result(60).added for job in jobs) == 40
    assert open_index(tmp_path).table["name"].is_unique


def test_a_cancelled_build_keeps_what_was_done_and_is_readable_meanwhile(
    samples: Samples, slow: Callable[[int], list[Sample]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "ROWS", 16)
    job = start(model(), [*samples[:32], *slow(80)], tmp_path, LAYERS)
    while job.steps.done < 32:
        assert not job.wait(0.01)
    assert len(open_index(tmp_path)) == 32
    job.cancel()
    Slow.gate.set()
    with pytest.raises(CancelledError):
        job.result(60)
    assert 32 <= len(open_index(tmp_path)) < 112


def test_an_open_index_stays_readable_while_shards_are_merged(samples: Samples, tmp_path: Path) -> None:
    build(samples[:20], tmp_path)
    early = open_index(tmp_path)
    before = early.relevance("4")
    build(samples, tmp_path)
    assert len(find_shards(tmp_path)) == 1
    np.testing.assert_array_equal(early.relevance("4"), before)
    np.testing.assert_array_equal(early.concept("4", 2, of="label"), early.relevance("4", "label")[:, 2])
    assert len(early) == 20


class Killed(BaseException):
    """Stands for a kill: nothing of the writer runs any more."""


def test_a_kill_between_any_two_steps_on_disk_loses_and_doubles_nothing(
    samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(model(), samples[:30], tmp_path / "whole", ["2"]).result(60)
    index = open_index(tmp_path / "whole")
    (shard,) = find_shards(index.store)
    monkeypatch.setattr(store_module, "ROWS", 1)
    blocks = [shard.block(index.recipe).take(range(first, first + 10)) for first in range(0, 30, 10)]
    steps = [0]

    def die_at_zero(call: Callable[..., None]) -> Callable[..., None]:
        def step(*arguments: object, **options: object) -> None:
            steps[0] -= 1
            if steps[0] == 0:
                raise Killed
            call(*arguments, **options)

        return step

    monkeypatch.setattr(store_module, "synchronise", die_at_zero(lambda path: None))
    monkeypatch.setattr(store_module.shutil, "rmtree", die_at_zero(store_module.shutil.rmtree))
    for moment in range(1, 200):
        store = tmp_path / str(moment)
        steps[0] = moment
        for _ in range(2):
            try:
                store.mkdir(exist_ok=True)
                writer = store_module.Writer(store, store_module.settle_recipe(store, index.recipe))
                for block in blocks:
                    writer.add(block)
            except Killed:
                continue
            break
        assert writer.notes == []
        assert_same(open_index(store), index)
        if steps[0] > 0:
            break
    assert 25 < moment < 199


def test_reference_samples_are_those_with_the_greatest_values(index: Index) -> None:
    for by, values in (("relevance", index.relevance("4")), ("activation", index.activation("4"))):
        expected = np.argsort(-values[:, 5], kind="stable")
        assert list(index.reference_samples("4", 5, by, count=8)) == list(expected[:8])
        assert list(index.reference_samples("4", 5, by, count=99)) == list(expected)
        of_class = [row for row in expected if index.table["predicted"][row] == 1]
        assert list(index.reference_samples("4", 5, by, count=3, klass=1)) == of_class[:3]
    ranked = index.reference_samples("4", 5, of="label", count=99)
    assert sorted(ranked) == list(np.flatnonzero(index.table["label"] >= 0))


def test_a_concept_is_told_by_class(index: Index) -> None:
    values, predicted = index.relevance("4")[:, 5], index.table["predicted"]
    found = index.by_class("4", 5)
    for klass, row in found.iterrows():
        of_class = values[predicted == klass]
        assert row["samples"] == len(of_class)
        assert row["relevance"] == pytest.approx(of_class.mean(), rel=1e-4)
        assert row["positive"] + row["negative"] == pytest.approx(row["relevance"], rel=1e-4)
    assert list(found["relevance"]) == sorted(found["relevance"], reverse=True)


def test_usage_is_the_share_of_samples_in_which_a_concept_carries_relevance(index: Index) -> None:
    shares = np.abs(index.relevance("4"))
    shares /= shares.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(index.usage("4", 0.1), (shares > 0.1).mean(axis=0))


def test_similar_concepts_are_those_with_the_nearest_relevances(index: Index) -> None:
    values = index.relevance("4").astype(np.float64)
    lengths = np.linalg.norm(values, axis=0)
    cosines = values.T @ values[:, 2] / np.maximum(lengths * lengths[2], 1e-30)
    cosines[2] = -2
    concepts, found = index.similar("4", 2, count=4)
    np.testing.assert_allclose(found, np.sort(cosines)[::-1][:4], atol=1e-5)
    np.testing.assert_allclose(cosines[concepts], found, atol=1e-5)


def test_reading_needs_no_torch(index: Index) -> None:
    code = f"""
import sys
from pathlib import Path
from explainers.index import building, open_index
index = open_index(Path({str(index.store)!r}))
index.reference_samples("4", 0), index.usage("4"), index.similar("4", 0), index.samples[0].read()
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_map_of_classes_is_indexed_by_the_class_that_covers_most(samples: Samples, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1))
    maps = export(module, "maps", Preprocessing((SIDE, SIDE), SIDE), CLASSES)
    start(maps, samples[:5], tmp_path, ["1"]).result(60)
    found = open_index(tmp_path)
    steps = maps.info.preprocessing
    output = maps(torch.from_numpy(steps.normalise(steps.crop(samples[0].read().pixels)))[None])[0]
    assert found.table["predicted"][0] == output.argmax(0).flatten().bincount(minlength=3).argmax()
    assert found.relevance("1").shape == (5, 8)
    assert found.table["output"][0] == pytest.approx(float(output[found.table["predicted"][0]].mean()), rel=1e-4)
