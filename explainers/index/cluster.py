"""Building an index on a Dask cluster: workers read and compute, this process writes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial

from explainers.errors import ComputationError, SelectionError
from explainers.graph.model import Model
from explainers.graph.stored import pack, unpack
from explainers.images import Sample
from explainers.index.loading import load, run_ahead
from explainers.index.observing import observe
from explainers.index.recipe import Recipe
from explainers.index.store import Part

try:
    from distributed import Client
    from distributed.client import FutureCancelledError
    from distributed.scheduler import KilledWorker
except ImportError:
    raise SelectionError(
        "This machine lacks Dask, which builds on a cluster. Run: pip install -r requirements-cluster.txt"
    ) from None

#: How long to wait for the scheduler, in seconds.
PATIENCE = 20

#: The models that this worker has opened, by digest.
_models: dict[str, Model] = {}
_opening = threading.Lock()


def compute(
    address: str,
    model: Model,
    chunks: Sequence[Sequence[Sample]],
    recipe: Recipe,
    known: Collection[tuple[str, str]],
    check: Callable[[], None],
) -> Iterator[Part]:
    """Compute chunks of pictures on the workers, in order; those of a worker that dies go to another.

    Workers read the pictures themselves, so files need the same path there. ``check`` may raise to stop it. Raises
    ComputationError.
    """
    try:
        with Client(address, timeout=PATIENCE) as client:  # type: ignore[no-untyped-call]
            given = client.scatter([pack(model), frozenset(known)], broadcast=True, hash=False)
            depth = 2 * max(1, sum(client.nthreads().values()))
            submit = partial(client.submit, compute_part, *given, recipe, pure=False)
            yield from run_ahead(submit, chunks, depth, check)
    except (OSError, TimeoutError, KilledWorker, FutureCancelledError) as error:
        reason = str(error).partition("\n")[0]
        raise ComputationError(
            f"The cluster at {address} failed: {reason} What was finished is kept; build again."
        ) from error


def compute_part(data: bytes, known: frozenset[tuple[str, str]], recipe: Recipe, samples: Sequence[Sample]) -> Part:
    """Compute the rows of some pictures, on a worker."""
    loaded = load(recipe.preprocessing, known, samples)
    return Part(observe(open_model(data, recipe), recipe, loaded) if loaded.samples else None, loaded.unreadable)


def open_model(data: bytes, recipe: Recipe) -> Model:
    """Open the model, once for each worker process."""
    with _opening:
        if recipe.digest not in _models:
            _models[recipe.digest] = unpack(data)
        return _models[recipe.digest]
