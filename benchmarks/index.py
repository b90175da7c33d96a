"""What an index takes: peak memory while it is built, and how long questions to a large one take."""

from __future__ import annotations

import argparse
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
from torch import nn

from benchmarks.contest import read_memory
from explainers.images import Picture, Sample
from explainers.index import Index, Recipe, open_index
from explainers.index.building import start
from explainers.index.store import COLUMNS, MERGED_ROWS, QUANTITIES, Block, settle_recipe, write_shard
from explainers.preprocessing import Preprocessing


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
        peaks.append(read_memory("VmHWM"))
    print(f"| {count} | {peaks[1]:.0f} | {peaks[1] - peaks[0]:.0f} |", flush=True)


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
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as name:
        if given.memory:
            measure_memory(given.memory, Path(name))
            return
        print("| images in the index | peak memory MiB | over 256 images MiB |\n|---|---|---|", flush=True)
        for count in (1_000, 10_000):
            subprocess.run([sys.executable, "-m", "benchmarks.index", "--memory", str(count)], check=True)
        print("\n| question to 100,000 rows of 2,048 concepts | median s | longest s |\n|---|---|---|")
        time_queries(Path(name), 100_000, 2_048)


if __name__ == "__main__":
    main()
