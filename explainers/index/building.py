"""Building an index: once, however many sessions ask, in the background. Free of torch until it begins."""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache as remember
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from explainers.breakdown import telling_breakdown
from explainers.cache import Cache, Job, digest
from explainers.errors import SelectionError
from explainers.images import Sample
from explainers.index.loading import load, run_ahead
from explainers.index.recipe import Recipe
from explainers.index.room import place
from explainers.index.samples import write_sample
from explainers.index.store import Part, hold, require_recipe
from explainers.jobs import Progress
from explainers.results import Result
from explainers.under_way import computing

if TYPE_CHECKING:
    from explainers.graph.model import Model

#: How many pictures go through the network at once, and how many batches are read ahead of it.
BATCH = 16
AHEAD = 2

#: The rules' numbers unless told otherwise.
EPSILON = 1e-6
GAMMA = 0.25

Chunk = Sequence[Sample]
_opening = threading.Lock()


@dataclass(frozen=True)
class Built(Result):
    """What a build did: how many rows it ``added``, sentences on pictures left ``unreadable``, and ``notes``."""

    added: int
    unreadable: tuple[str, ...]
    notes: tuple[str, ...]


def start(
    model: Model,
    samples: Sequence[Sample],
    store: Path,
    layers: Sequence[str],
    *,
    composite: str = "automatic",
    epsilon: float = EPSILON,
    gamma: float = GAMMA,
    batch: int = BATCH,
    cluster: str = "",
) -> Job[Built]:
    """Begin to add samples to the index in the folder ``store``, or join those who asked for the same.

    Pictures that are in the index already, by digest and label, are read and left out. ``cluster`` is the address of
    a Dask scheduler whose workers compute. The job's ``steps`` count images; the build stops when all who asked have
    cancelled, and what was done stays. ``open_index`` sees it while it grows. Raises SelectionError for unknown layers
    and a store that was built otherwise; ComputationError goes to the job.
    """
    from explainers.index.observing import make_recipe

    if batch < 1:
        raise SelectionError(f"A batch of {batch} was asked for; it takes 1 image at least.")
    recipe = make_recipe(model, layers, composite, epsilon, gamma)
    require_recipe(store, recipe)
    key = digest("index", str(store.resolve()), recipe.key, [write_sample(sample) for sample in samples])
    chunks = [samples[first : first + batch] for first in range(0, len(samples), batch)]
    about = (model.info.digest,) if model.info.private else ()

    def compute(progress: Progress) -> Built:
        with computing("index", progress):
            return build(model, chunks, store, recipe, cluster, progress)

    return builds().submit(key, compute, about=about)


def builds() -> Cache:
    """Where builds run: beside the shared cache, so that they keep no other computation waiting; it counts passes."""
    with _opening:
        return _open_builds()


@remember
def _open_builds() -> Cache:
    return Cache(memory_limit=0)  # a finished build is on disk and nowhere else


def default_store(recipe: Recipe, references: str) -> Path:
    """Where this server keeps the index of a model's public reference set, by the set's name."""
    return place() / digest(recipe.plain, references)


def find_store(model: Model, layers: Sequence[str], references: str) -> Path:
    """Where this server keeps the index of layers of a public model by the automatic rules; raises SelectionError."""
    from explainers.index.observing import make_recipe

    return default_store(make_recipe(model, layers, "automatic", EPSILON, GAMMA), references)


def build(
    model: Model, chunks: Sequence[Chunk], store: Path, recipe: Recipe, cluster: str, progress: Progress
) -> Built:
    """Add the rows of all chunks that are not in the index yet."""
    done, total, unreadable = 0, sum(len(chunk) for chunk in chunks), list[str]()
    with telling_breakdown("Building the index"), hold(store, recipe, progress) as writer:
        parts = compute_on_cluster(cluster) if cluster else compute_here
        for chunk, part in zip(chunks, parts(model, chunks, writer.recipe, writer.known, progress.check), strict=True):
            if part.block is not None:
                writer.add(part.block)
            unreadable += part.unreadable
            done += len(chunk)
            progress(done, total)
    return Built(writer.added, tuple(unreadable), tuple(writer.notes))


def compute_on_cluster(address: str) -> Callable[..., Iterator[Part]]:
    """Compute on the workers of a Dask cluster; raises SelectionError if Dask is not installed."""
    from explainers.index.cluster import compute

    return partial(compute, address)


def compute_here(
    model: Model,
    chunks: Sequence[Chunk],
    recipe: Recipe,
    known: Container[tuple[str, str]],
    check: Callable[[], None],
) -> Iterator[Part]:
    """Compute in this thread, while another one reads pictures ahead; ``check`` may raise to stop it."""
    from explainers.index.observing import observe

    with ThreadPoolExecutor(1, thread_name_prefix="reading") as pool:
        read = partial(load, recipe.preprocessing, known)
        for loaded in run_ahead(lambda chunk: pool.submit(read, chunk), chunks, AHEAD, check):
            yield Part(observe(model, recipe, loaded) if loaded.samples else None, loaded.unreadable)
