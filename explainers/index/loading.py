"""Reading pictures ahead of the model. Free of torch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from jaxtyping import Float32

from explainers.errors import ImageError
from explainers.images import Sample
from explainers.preprocessing import Preprocessing

Item = TypeVar("Item")
Given = TypeVar("Given")
Given_co = TypeVar("Given_co", covariant=True)


@dataclass(frozen=True)
class Loaded:
    """Pictures that are not in the index yet, as the model's inputs; and why others could not be read."""

    samples: Sequence[Sample]
    digests: Sequence[str]
    inputs: Float32[np.ndarray, "sample channel height width"]
    unreadable: Sequence[str]

    def split(self, size: int) -> Iterator[Loaded]:
        """Cut them into parts of at most ``size`` pictures; what could not be read stays out."""
        for first in range(0, len(self.samples), size):
            part = slice(first, first + size)
            yield Loaded(self.samples[part], self.digests[part], self.inputs[part], ())


def load(preprocessing: Preprocessing, known: Container[tuple[str, str]], samples: Sequence[Sample]) -> Loaded:
    """Read pictures and prepare those that are new, each once."""
    found, unreadable = dict[tuple[str, str], tuple[Sample, np.ndarray]](), []
    for sample in samples:
        try:
            picture = sample.read()
            key = (picture.digest, sample.label or "")
            if key not in known and key not in found:
                found[key] = sample, preprocessing.prepare(picture)
        except ImageError as error:
            unreadable.append(str(error))
    inputs = [pixels for _, pixels in found.values()]
    empty = np.empty((0, preprocessing.channels, *preprocessing.size), np.float32)
    return Loaded(
        [sample for sample, _ in found.values()],
        [digest for digest, _ in found],
        np.stack(inputs) if inputs else empty,
        unreadable,
    )


class Pending(Protocol[Given_co]):
    """A result that is on its way."""

    def result(self, timeout: float) -> Given_co:
        """Wait for it; raises TimeoutError after ``timeout`` seconds."""


def run_ahead(
    submit: Callable[[Item], Pending[Given]], items: Iterable[Item], depth: int, check: Callable[[], None]
) -> Iterator[Given]:
    """Submit items up to ``depth`` ahead of who takes the results, and give these in order.

    ``check`` is called while waiting, and may raise to stop it.
    """
    waiting: deque[Pending[Given]] = deque()
    for item in items:
        waiting.append(submit(item))
        if len(waiting) > depth:
            yield wait(waiting.popleft(), check)
    while waiting:
        yield wait(waiting.popleft(), check)


def wait(pending: Pending[Given], check: Callable[[], None]) -> Given:
    """Wait for a result, checking twice a second whether to go on."""
    while True:
        check()
        with suppress(TimeoutError):
            return pending.result(0.5)
