"""An index on disk: a manifest, and shards of rows that are there complete or not at all. Free of torch.

    manifest.json               the recipe
    lock                        held by whoever adds rows
    shards/000000-000003/       the rows of the shards 0 to 3, merged
        table.parquet           a row a sample
        0.max.npy ...           values of the recipe's first layer, [concept, sample]: a concept's lie side by side
        shard.json              recipe and checksums, written last

A shard gets its name when all of it is on disk. Names order the rows; merging neighbours keeps that order, so rows
once seen keep their numbers.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from jaxtyping import Float32

from explainers.errors import ComputationError, SelectionError
from explainers.index.recipe import Recipe
from explainers.jobs import Progress

#: What is kept of each layer. "predicted" and "label" are relevances for those classes; "label" only of the rows in
#: which the true class is known and another one was predicted.
QUANTITIES = ("predicted", "label", "max", "mean")

#: The table's columns and their types; ``label`` is the index of the class, -1 if the model has no such class.
COLUMNS = {
    "name": "str",
    "digest": "str",
    "label_name": "str",
    "label": "int32",
    "predicted": "int32",
    "output": "float32",
    "probability": "float32",
    "sample": "str",
}

#: How many rows, or seconds of work, a shard holds at most when it is written; how many rows when merged.
ROWS = 256
SECONDS = 5.0
MERGED_ROWS = 4096


@dataclass(frozen=True)
class Block:
    """Rows in memory: the table, and values by layer and quantity, [concept, sample] each."""

    table: pd.DataFrame
    values: Mapping[tuple[str, str], Float32[np.ndarray, "concept sample"]]

    def take(self, rows: Sequence[int]) -> Block:
        """Keep some of the rows."""
        places = {"label": np.flatnonzero(np.isin(np.flatnonzero(mistaken(self.table)), rows))}
        values = {key: found[:, places.get(key[1], rows)] for key, found in self.values.items()}
        return Block(self.table.iloc[list(rows)], values)


@dataclass(frozen=True)
class Part:
    """What came of some of the pictures: rows, None if none is new, and why some could not be read."""

    block: Block | None
    unreadable: Sequence[str]


def mistaken(table: pd.DataFrame) -> np.ndarray:
    """Mark the rows in which another class than the true one was predicted."""
    return np.asarray((table["label"] >= 0) & (table["label"] != table["predicted"]))


@dataclass(frozen=True)
class Shard:
    """A complete shard: the folder of the shards ``first`` to ``last``."""

    folder: Path
    first: int
    last: int

    @cached_property
    def description(self) -> Mapping[str, Any]:
        """What ``shard.json`` says: recipe, rows, and bytes and checksum of each file."""
        description: Mapping[str, Any] = json.loads((self.folder / "shard.json").read_text())
        return description

    @property
    def rows(self) -> int:
        """How many samples it holds."""
        return int(self.description["rows"])

    def table(self) -> pd.DataFrame:
        """Read the table."""
        return pd.read_parquet(self.folder / "table.parquet").astype(COLUMNS)

    def values(self, layer: int, quantity: str) -> Float32[np.ndarray, "concept sample"]:
        """Map the values of a layer, by its place in the recipe; nothing is read before it is used."""
        found: np.ndarray = np.load(self.folder / f"{layer}.{quantity}.npy", mmap_mode="r")
        return found

    def block(self, recipe: Recipe) -> Block:
        """Map all of it."""
        pairs = [(place, layer, quantity) for place, layer in enumerate(recipe.layers) for quantity in QUANTITIES]
        return Block(
            self.table(), {(layer, quantity): self.values(place, quantity) for place, layer, quantity in pairs}
        )

    def damage(self, recipe: Recipe, *, thorough: bool = True) -> str:
        """Say what is wrong with it, "" if nothing; ``thorough`` reads all of it."""
        try:
            if self.description["recipe"] != recipe.key:
                return "belongs to another index"
            for name, (size, checksum) in self.description["files"].items():
                file = self.folder / name
                if file.stat().st_size != size or (thorough and check_sum(file) != checksum):
                    return f"is damaged in {name}"
        except (OSError, ValueError, KeyError, TypeError):
            return "lacks a part"
        return ""


def find_shards(store: Path) -> list[Shard]:
    """List the shards in the order of their rows, without those that were merged into another."""
    names = [re.fullmatch(r"(\d{6,})-(\d{6,})", folder.name) for folder in (store / "shards").glob("*")]
    numbers = [(int(name[1]), -int(name[2]), name[0]) for name in names if name]
    found: list[Shard] = []
    for first, last, name in sorted(numbers):
        if not found or first > found[-1].last:
            found.append(Shard(store / "shards" / name, first, -last))
    return found


def read_manifest(store: Path) -> Recipe | None:
    """Read the recipe of an index; None if there is none, SelectionError if it cannot be read."""
    try:
        return Recipe.restore(json.loads((store / "manifest.json").read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise SelectionError(
            f"The manifest of the index in {store} cannot be read. Build the index in another folder."
        ) from None


def require_recipe(store: Path, recipe: Recipe) -> None:
    """Raise SelectionError if a folder holds an index that was built otherwise."""
    found = read_manifest(store)
    if found is not None and (difference := found.difference(recipe)):
        raise SelectionError(
            f"The index in {store} was built with {difference}, which is not what was asked for. "
            "Choose another folder, or the settings of that index."
        )


class Writer:
    """Adds rows to an index whose lock it holds (see ``hold``)."""

    def __init__(self, store: Path, recipe: Recipe) -> None:
        self.store = store
        self.recipe = recipe
        self.notes: list[str] = []
        self.added = 0
        self._sweep()
        self._shards = find_shards(store)
        #: Digest and label of all pictures that are in the index.
        self.known = {key for shard in self._shards for key in keys(shard.table())}
        self._pending: list[Block] = []
        self._since = time.monotonic()

    def add(self, block: Block) -> None:
        """Add the rows that are new; they are on disk after a shard's worth of rows or seconds, or ``flush``."""
        fresh = [(key, row) for row, key in enumerate(keys(block.table)) if key not in self.known]
        if not fresh:
            return
        self._pending.append(block.take([row for _, row in fresh]))
        self.known.update(found := {key for key, _ in fresh})
        self.added += len(found)
        if sum(len(block.table) for block in self._pending) >= ROWS or time.monotonic() - self._since > SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is pending as a shard, and merge it with its neighbours as long as they are no larger."""
        if self._pending:
            number = self._shards[-1].last + 1 if self._shards else 0
            self._shards.append(write_shard(self.store, number, number, self._pending, self.recipe))
            self._pending = []
        self._since = time.monotonic()
        while self._is_mergeable(self._shards[-2:]):
            pair = self._shards[-2:]
            blocks = [shard.block(self.recipe) for shard in pair]
            self._shards[-2:] = [write_shard(self.store, pair[0].first, pair[1].last, blocks, self.recipe)]
            for shard in pair:
                shutil.rmtree(shard.folder)

    def _is_mergeable(self, shards: Sequence[Shard]) -> bool:
        """Tell whether to merge two shards: so each row is written a few times only, and few shards stay."""
        rows = [shard.rows for shard in shards]
        return len(rows) == 2 and rows[0] <= rows[1] and sum(rows) <= MERGED_ROWS

    def _sweep(self) -> None:
        """Set aside shards that are damaged or foreign, and remove what a killed writer left behind."""
        (self.store / "shards").mkdir(parents=True, exist_ok=True)
        while wrong := {shard: why for shard in find_shards(self.store) if (why := shard.damage(self.recipe))}:
            for shard, why in wrong.items():
                kept = self.store / f"set-aside-{shard.folder.name}-{time.time_ns()}"
                shard.folder.rename(kept)
                self.notes.append(f"The shard {shard.folder.name} {why}; it was set aside as {kept.name}.")
        good = {shard.folder for shard in find_shards(self.store)}
        for folder in {folder for folder in (self.store / "shards").iterdir() if folder.is_dir()} - good:
            shutil.rmtree(folder)


@contextmanager
def hold(store: Path, recipe: Recipe, progress: Progress) -> Iterator[Writer]:
    """Hold an index to add to it, alone among threads and processes; what was added stays, whatever happens.

    Waits for another holder; raises CancelledError if ``progress`` is cancelled meanwhile, SelectionError if the
    folder holds an index that was built otherwise, ComputationError if the folder cannot be written.
    """
    lock = FileLock(store / "lock")
    try:
        store.mkdir(parents=True, exist_ok=True)
        while not lock.is_locked:
            progress.check()
            with suppress(Timeout):
                lock.acquire(timeout=0.2)
        writer = Writer(store, settle_recipe(store, recipe))
        try:
            yield writer
        finally:
            writer.flush()
    except OSError as error:
        raise ComputationError(
            f"The index in {store} cannot be written: {error}. What it holds so far stays; make room and go on."
        ) from error
    finally:
        lock.release()


def settle_recipe(store: Path, recipe: Recipe) -> Recipe:
    """Give the recipe of the index, which becomes this one if there is none yet; raises SelectionError as above."""
    require_recipe(store, recipe)
    if (found := read_manifest(store)) is None:
        write_durably(store / "manifest.json", json.dumps(recipe.plain, indent=1).encode())
    return found or recipe


def keys(table: pd.DataFrame) -> list[tuple[str, str]]:
    """What tells the rows of a table apart: the digest of the picture and its label."""
    return list(zip(table["digest"], table["label_name"], strict=True))


def write_shard(store: Path, first: int, last: int, blocks: Sequence[Block], recipe: Recipe) -> Shard:
    """Write the rows of blocks as a shard that is there complete, also after a loss of power, or not at all."""
    shard = Shard(store / "shards" / f"{first:06d}-{last:06d}", first, last)
    unfinished = shard.folder.with_name(f"unfinished-{shard.folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    table = pd.concat([block.table for block in blocks], ignore_index=True)
    table.to_parquet(unfinished / "table.parquet", index=False)
    for place, layer in enumerate(recipe.layers):
        for quantity in QUANTITIES:
            values = np.concatenate([block.values[layer, quantity] for block in blocks], axis=1, dtype=np.float32)
            np.save(unfinished / f"{place}.{quantity}.npy", np.ascontiguousarray(values))
    files = {file.name: (file.stat().st_size, check_sum(file)) for file in unfinished.iterdir()}
    description = {"recipe": recipe.key, "rows": len(table), "files": files}
    (unfinished / "shard.json").write_text(json.dumps(description))
    for path in (*unfinished.iterdir(), unfinished):
        synchronise(path)
    unfinished.rename(shard.folder)
    synchronise(shard.folder.parent)
    return shard


def write_durably(file: Path, data: bytes) -> None:
    """Write a file so that it is there complete, also after a loss of power, or not at all."""
    unfinished = file.with_name(f"unfinished-{file.name}")
    unfinished.write_bytes(data)
    synchronise(unfinished)
    unfinished.rename(file)
    synchronise(file.parent)


def synchronise(path: Path) -> None:
    """Have a file, or the names in a folder, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_sum(file: Path) -> int:
    """CRC-32 of a file's content."""
    total = 0
    with file.open("rb") as stream:
        while part := stream.read(1 << 20):
            total = zlib.crc32(part, total)
    return total
