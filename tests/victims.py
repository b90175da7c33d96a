"""Processes that tests kill in the middle of writing.

All are forked from one process that has imported this file, so that each costs milliseconds.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# What pandas and torch import only when they write and compute: here it is once for all.
import pyarrow.dataset  # noqa: F401
import torch.fx.experimental.symbolic_shapes  # noqa: F401

from explainers.graph.model import Model
from explainers.graph.stored import unpack
from explainers.images import Samples
from explainers.index import observing, store
from explainers.index.building import start
from explainers.index.loading import Loaded
from explainers.index.recipe import Recipe
from explainers.index.store import Block, Shard
from explainers.notes import Notes


class Victim:
    """A process at work; ``said`` is what it told on its pipe before its death."""

    def __init__(self, work: Callable[..., None], *arguments: Any) -> None:
        context = get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self.pipe, end = context.Pipe(duplex=False)
        self.process = context.Process(target=work, args=(end, *arguments), daemon=True)
        self.process.start()
        end.close()
        self.said: list[Any] = []

    def live(self, messages: int, seconds: float) -> None:
        """Let it work until it has told so many things, and a moment longer, so that it dies in the next write."""
        with suppress(EOFError):
            while len(self.said) < messages:
                self.said.append(self.pipe.recv())
            time.sleep(seconds)

    def kill(self) -> bool:
        """Kill it, and hear what it told last; tells whether it was still at work."""
        self.process.kill()
        self.process.join()
        with suppress(EOFError):
            while True:
                self.said.append(self.pipe.recv())
        return self.process.exitcode == -signal.SIGKILL


def write_notes(pipe: Connection, path: Path, author: str) -> None:
    """Name concepts and tag samples in turn; tell the number of each once it is written."""
    notes = Notes(path)
    for number in range(1_000_000):
        if number % 2:
            notes.tag_samples(["picture"], f"{author} {number}", author)
        else:
            notes.name_concept("digest", "conv1", number % 8, f"{author} {number}", author)
        pipe.send(number)


def build_index(pipe: Connection, data: bytes, samples: Samples, folder: Path, layers: Sequence[str]) -> None:
    """Build as the app does, but in small shards; tell which pictures are computed, and which are on disk."""
    observe, write_shard = observing.observe, store.write_shard

    def tell_pictures(model: Model, recipe: Recipe, loaded: Loaded) -> Block:
        pipe.send(("computed", [sample.name for sample in loaded.samples]))
        return observe(model, recipe, loaded)

    def tell_rows(*arguments: Any) -> Shard:
        shard = write_shard(*arguments)
        pipe.send(("on disk", list(shard.table()["name"])))
        return shard

    observing.observe, store.write_shard, store.ROWS = tell_pictures, tell_rows, 8
    start(unpack(data), samples, folder, layers, batch=4).result()
