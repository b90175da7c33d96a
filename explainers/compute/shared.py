"""What every computation shares: the one cache, the key of a result, and where a result comes from."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import cache as remember
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from explainers.cache import Cache, Job, R, code_digest, digest
from explainers.errors import ComputationError
from explainers.images import Picture
from explainers.jobs import Progress
from explainers.results import ModelInfo, Passes, Target, passes
from explainers.settings import settings

if TYPE_CHECKING:
    from torch import Tensor

    from explainers.graph.model import Model

VERSION = "0.1.0"

_opening = threading.Lock()


def shared_cache() -> Cache:
    """The cache of this process, as the settings say."""
    with _opening:  # sessions that start together must not get a cache each
        return _open_cache()


@remember
def _open_cache() -> Cache:
    chosen = settings()
    return Cache(chosen.cache, chosen.memory, chosen.disk)


def submit(
    model: Model,
    pictures: Sequence[Picture],
    asked: Sequence[Any],
    compute: Callable[[Progress], R],
    cache: Cache | None,
    urgency: int,
) -> Job[R]:
    """Ask the cache for a result on a model and pictures; nothing of an upload reaches the disk.

    ``asked`` is the question with all else that the result depends on.
    """
    contents: list[ModelInfo | Picture] = [model.info, *pictures]
    private = [content.digest for content in contents if content.private]
    key = digest(code_digest(), vars(model.info.preprocessing), *(content.digest for content in contents), *asked)
    return (cache or shared_cache()).submit(key, compute, durable=not private, about=private, urgency=urgency)


def to_inputs(model: Model, picture: Picture) -> Float[Tensor, "1 channel height width"]:
    """What the model sees of a picture, as a batch of one."""
    import torch

    preprocessing = model.info.preprocessing
    return torch.from_numpy(preprocessing.normalise(preprocessing.crop(picture.pixels)))[None]


def provenance(model: Model, picture: Picture, target: Target, start: float, **details: Any) -> dict[str, Any]:
    """Say how a result came to be that was begun at ``start``."""
    return {
        "model": model.info.name,
        "model_digest": model.info.digest,
        "weights_digest": model.info.weights_digest,
        "picture_digest": picture.digest,
        "preprocessing": vars(model.info.preprocessing),
        "target": vars(target),
        **details,
        "passes": vars(passes.get(Passes())),
        "seconds": round(time.perf_counter() - start, 3),
        "computed": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": {name: version(name) for name in ("torch", "numpy")} | {"lightbox": VERSION},
    }


def require_finite(values: np.ndarray, what: str) -> None:
    """Raise ComputationError if some values are not finite numbers."""
    broken = int(values.size - np.isfinite(values).sum())
    if broken:
        raise ComputationError(
            f"{what} of which {broken} of {values.size} are not finite numbers. "
            "Check the model's weights and its normalisation, or choose another method."
        )


def forget(content: str) -> None:
    """Drop all results and recorded passes of a picture or model, by its digest, when its session ends."""
    from explainers.concepts.tapes import TAPES

    shared_cache().forget(content)
    TAPES.forget(content)
