"""The index beside zennit-crp's FeatureVisualization, its peak memory, and its queries on a large reference set.

Both contestants read the same picture files with the same preprocessing, in batches of 16, and explain the predicted
class; they run in turn. Run it with ``.venv-bench/bin/python -m benchmarks.index``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from explainers.images import Picture, Sample, Samples, find
from explainers.index import Index, Recipe, open_index
from explainers.index.building import BATCH, start
from explainers.index.store import COLUMNS, MERGED_ROWS, QUANTITIES, Block, settle_recipe, write_shard
from explainers.preprocessing import Preprocessing
from sample_models import lesions

LAYERS = {
    "resnet18": (("layer1", "layer2", "layer3", "layer4"), ("layer3", "layer4")),
    "resnet50": (("layer1", "layer2", "layer3", "layer4"), ("layer3", "layer4")),
    "vgg16": (("features.14", "features.21", "features.28"), ("features.28",)),
}


class Labelled:
    """The pictures as the dataset that zennit-crp reads, each with the class that the network says."""

    def __init__(self, samples: Samples, preprocessing: Preprocessing, classes: list[int]) -> None:
        self.samples, self.preprocessing, self.classes = samples, preprocessing, classes

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        pixels = self.samples[row].read().pixels
        return torch.from_numpy(self.preprocessing.normalise(self.preprocessing.crop(pixels))), self.classes[row]


def build_ours(model: object, samples: Samples, layers: tuple[str, ...], store: Path) -> Index:
    shutil.rmtree(store, ignore_errors=True)
    start(model, samples, store, layers, composite="epsilon-plus-flat").result()
    return open_index(store)


def build_theirs(module: nn.Module, canonizer: object, data: Labelled, layers: tuple[str, ...], folder: Path) -> object:
    from crp.attribution import CondAttribution
    from crp.concepts import ChannelConcept
    from crp.visualization import FeatureVisualization
    from zennit.composites import EpsilonPlusFlat

    shutil.rmtree(folder, ignore_errors=True)
    attribution = CondAttribution(module, no_param_grad=False)
    concepts = {layer: ChannelConcept() for layer in layers}
    found = FeatureVisualization(attribution, data, concepts, abs_norm=False, path=str(folder))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        found.run(EpsilonPlusFlat(canonizers=[canonizer()]), 0, len(data), BATCH)
    return found


def compare(name: str, layers: tuple[str, ...], count: int, pairs: int, folder: Path) -> None:
    """Print images per second of both, and assert that they find the same eight samples for every concept."""
    from crp.helper import load_maximization

    from benchmarks.relevance import NETWORKS, build, ratio

    module, model = build(name)
    samples = find(draw(folder / "pictures", count))
    index = build_ours(model, samples, layers, folder / "ours")
    data = Labelled(samples, model.info.preprocessing, list(index.table["predicted"]))
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(pairs):
        for contestant, run in (
            ("ours", lambda: build_ours(model, samples, layers, folder / "ours")),
            ("theirs", lambda: build_theirs(module, NETWORKS[name][1], data, layers, folder / "theirs")),
        ):
            begin = time.perf_counter()
            made = run()
            seconds[contestant].append(time.perf_counter() - begin)
    same, index = [], open_index(folder / "ours")
    for layer in layers:
        rows, _, _ = load_maximization(made.RelMax.PATH, layer)
        same += [
            agree(index.concept(layer, concept), np.asarray(rows[:8, concept])) for concept in range(rows.shape[1])
        ]
    print(
        f"| {name} {', '.join(layers)} | {count} | {count / statistics.median(seconds['ours']):.1f} "
        f"| {count / statistics.median(seconds['theirs']):.1f} | {ratio(seconds['theirs'], seconds['ours']):.1f} "
        f"| {sum(same)} of {len(same)} |",
        flush=True,
    )


def agree(values: np.ndarray, theirs: np.ndarray) -> bool:
    """Tell whether both rank the same samples first; assert that at least those they rank have the same relevance."""
    ours = np.argsort(-values, kind="stable")[:8]
    np.testing.assert_allclose(values[theirs], values[ours], rtol=1e-3, atol=1e-5 * np.abs(values).max() + 1e-12)
    return bool((ours == theirs).all())


def draw(folder: Path, count: int) -> Path:
    """Write drawn lesions as picture files, those that are not there yet."""
    folder.mkdir(exist_ok=True)
    for sample in lesions.samples("clean-test", count):
        if not (file := folder / f"{sample.name}.png").exists():
            Image.fromarray(sample.read().pixels).save(file)
    return folder


@dataclass(frozen=True)
class Noise(Sample):
    """A small picture of noise."""

    def read(self, **options: object) -> Picture:
        """Draw it."""
        pixels = np.random.default_rng(int(self.name)).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        return Picture(self.name, pixels, private=False)


def measure_memory(count: int, store: Path) -> None:
    """Print by how many MiB the process grows over what it takes for 256 images."""
    from explainers.graph.export import export

    module = nn.Sequential(
        nn.Conv2d(3, 16, 4, stride=4), nn.ReLU(), nn.Conv2d(16, 1024, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(1024, 9),
    )  # fmt: skip
    model = export(module, "tiny", Preprocessing((32, 32), 32))
    peaks = []
    for number, size in enumerate((256, count)):
        start(model, [Noise(str(name)) for name in range(size)], store / str(number), ["0", "2"]).result()
        peaks.append(peak())
    print(f"| {count} | {peaks[1]:.0f} | {peaks[1] - peaks[0]:.0f} |", flush=True)


def peak() -> float:
    """The most memory that this process ever held, in MiB; getrusage counts what its parent held as well."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


def write_synthetic(store: Path, rows: int, concepts: int) -> Index:
    """Write an index of random numbers."""
    recipe = Recipe("random", "0", Preprocessing(), "epsilon", 1e-6, 0.25, {"layer": concepts}, tuple("abcdefghij"))
    settle_recipe(store, recipe)
    rng = np.random.default_rng(0)
    values = rng.normal(size=(concepts, MERGED_ROWS)).astype(np.float32)
    for number, first in enumerate(range(0, rows, MERGED_ROWS)):
        names = [str(row) for row in range(first, min(first + MERGED_ROWS, rows))]
        classes = rng.integers(0, 10, len(names))
        numbers = rng.random(len(names))
        columns = (names, names, "", -1, classes, numbers, numbers, "")
        table = pd.DataFrame(dict(zip(COLUMNS, columns, strict=True))).astype(COLUMNS)
        kept = {("layer", kind): values[:, : 0 if kind == "label" else len(names)] for kind in QUANTITIES}
        write_shard(store, number, number, [Block(table, kept)], recipe)
    return open_index(store)


def time_queries(folder: Path, rows: int, concepts: int) -> None:
    """Print the seconds that each question takes, the median over concepts."""
    (folder / "synthetic" / "shards").mkdir(parents=True)
    index = write_synthetic(folder / "synthetic", rows, concepts)
    questions: dict[str, Callable[[int], object]] = {
        "open": lambda concept: open_index(index.store),
        "reference samples (RelMax)": lambda concept: index.reference_samples("layer", concept),
        "of one class": lambda concept: index.reference_samples("layer", concept, klass=3),
        "reference samples (ActMax)": lambda concept: index.reference_samples("layer", concept, "activation"),
        "by class": lambda concept: index.by_class("layer", concept),
        "similar concepts": lambda concept: index.similar("layer", concept),
        "usage of all concepts": lambda concept: index.usage("layer"),
    }
    for name, ask in questions.items():
        seconds = list(time_each(ask, np.random.default_rng(1).integers(0, concepts, 5 if "concepts" in name else 20)))
        print(f"| {name} | {statistics.median(seconds):.4f} | {max(seconds):.4f} |", flush=True)


def time_each(ask: Callable[[int], object], concepts: np.ndarray) -> Iterator[float]:
    for concept in concepts:
        begin = time.perf_counter()
        ask(int(concept))
        yield time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="*", choices=LAYERS, default=["resnet18"])
    parser.add_argument("--images", type=int, default=200, help="pictures to index (default: 200)")
    parser.add_argument("--pairs", type=int, default=1, help="measured runs of each contestant (default: 1)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default: 2)")
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as name:
        if given.memory:
            measure_memory(given.memory, Path(name))
            return
        print("| network, layers | images | lightbox images/s | zennit-crp images/s | ratio | same RelMax top-8 |")
        print("|---|---|---|---|---|---|")
        for network in given.networks:
            for layers in LAYERS[network]:
                compare(network, layers, given.images, given.pairs, Path(name))
        print("\n| images | peak memory MiB | over 256 images MiB |\n|---|---|---|", flush=True)
        for count in (1_000, 10_000):
            subprocess.run([sys.executable, "-m", "benchmarks.index", "--memory", str(count)], check=True)
        print("\n| question to 100,000 rows of 2,048 concepts | median s | longest s |\n|---|---|---|")
        time_queries(Path(name), 100_000, 2_048)


if __name__ == "__main__":
    main()
