"""An index on disk: a manifest, and shards of rows that are there complete or not at all. Free of torch.

    manifest.json               the recipe, with a checksum
    lock                        held by whoever adds rows
    shards/000000-000003/       the rows of the shards 0 to 3, merged
        table.parquet           a row a sample
        0.max.npy ...           values of the recipe's first layer, [concept, sample]: a concept's lie side by side
        shard.json              recipe, versions and checksums, written last

A shard gets its name when all of it is on disk. Names order the rows; merging neighbours keeps that order, so rows
once seen keep their numbers. A process reads a file only if its checksum is right, which it looks at once for each
version of the file; rows of a shard that is damaged are missing until they are computed again.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
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

from explainers.cache import digest
from explainers.errors import ComputationError, SelectionError
from explainers.index.recipe import Recipe
from explainers.index.room import require_room
from explainers.jobs import Progress
from explainers.versions import versions

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
        """What ``shard.json`` says: recipe, rows, versions, and bytes and checksum of each file; raises ValueError."""
        return read_checked(self.folder / "shard.json")

    @property
    def versions(self) -> Sequence[Mapping[str, str]]:
        """The versions by which its rows were computed, of each batch that was merged; () of an earlier format."""
        found: Sequence[Mapping[str, str]] = self.description.get("versions", ())
        return found

    @property
    def rows(self) -> int:
        """How many samples it holds."""
        return int(self.description["rows"])

    def table(self) -> pd.DataFrame:
        """Read the table."""
        return pd.read_parquet(self.folder / "table.parquet").astype(COLUMNS)

    def values(self, layer: int, quantity: str) -> Float32[np.ndarray, "concept sample"]:
        """Map the values of a layer, by its place in the recipe; raises SelectionError if they are damaged."""
        name = f"{layer}.{quantity}.npy"
        if not self.is_sound(name):
            raise SelectionError(f"The shard {self.folder.name} is damaged in {name}. Open the index again.")
        found: np.ndarray = np.load(self.folder / name, mmap_mode="r")
        return found

    def is_sound(self, name: str, *, thorough: bool = False) -> bool:
        """Tell whether a file is as it was written; ``thorough`` reads it even if this process has done so before."""
        size, checksum = self.description["files"][name]
        file = self.folder / name
        status = file.stat()
        if status.st_size != size:
            return False
        version = status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns
        if thorough or (found := _seen.get(version)) is None:
            found = check_sum(file)
            remember_checksum(version, found)
        return bool(found == checksum)

    def block(self, recipe: Recipe) -> Block:
        """Map all of it."""
        pairs = [(place, layer, quantity) for place, layer in enumerate(recipe.layers) for quantity in QUANTITIES]
        return Block(
            self.table(), {(layer, quantity): self.values(place, quantity) for place, layer, quantity in pairs}
        )

    def damage(self, recipe: Recipe, *, thorough: bool = True) -> str:
        """Say what is wrong with it, "" if nothing; ``thorough`` reads also what this process has read before."""
        try:
            if self.description["recipe"] != recipe.key:
                return "belongs to another index"
            names = [f"{place}.{quantity}.npy" for place in range(len(recipe.layers)) for quantity in QUANTITIES]
            for name in ("table.parquet", *names):
                if not self.is_sound(name, thorough=thorough):
                    return f"is damaged in {name}"
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return "lacks a part"
        return ""


#: The checksums of files that this process has read, by version, the last ones.
_seen: dict[tuple[int, ...], int] = {}
_seeing = threading.Lock()
SEEN = 100_000


def remember_checksum(version: tuple[int, ...], checksum: int) -> None:
    """Keep the checksum of a version of a file; beyond SEEN of them the oldest is read again."""
    with _seeing:
        _seen[version] = checksum
        if len(_seen) > SEEN:
            del _seen[next(iter(_seen))]


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
        return Recipe.restore(read_checked(store / "manifest.json"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise SelectionError(
            f"The manifest of the index in {store} cannot be read. Build the index again: what is damaged is set aside."
        ) from None


def read_checked(file: Path) -> dict[str, Any]:
    """Read a file that ``checked`` made; raises ValueError, TypeError or AttributeError if it is not what it was.

    Files of before there were checksums have none.
    """
    plain: dict[str, Any] = json.loads(file.read_bytes())
    if (checksum := plain.pop("checksum", None)) not in (None, digest(plain)):
        raise ValueError(f"The checksum of {file.name} is {checksum}.")
    return plain


def checked(plain: Mapping[str, Any]) -> bytes:
    """Write plain values as JSON with a checksum."""
    return json.dumps({**plain, "checksum": digest(plain)}, indent=1).encode()


def require_recipe(store: Path, recipe: Recipe) -> None:
    """Raise SelectionError if a folder holds an index that was built otherwise; a damaged manifest tells nothing."""
    try:
        found = read_manifest(store)
    except SelectionError:
        return
    if found is not None and (difference := found.difference(recipe)):
        raise SelectionError(
            f"The index in {store} was built with {difference}, which is not what was asked for. "
            "Choose another folder, or the settings of that index."
        )


class Writer:
    """Adds rows to an index whose lock it holds (see ``hold``)."""

    def __init__(self, store: Path, recipe: Recipe) -> None:
        self.store = store
        self.notes: list[str] = []
        self.recipe = settle_recipe(store, recipe, self.notes)
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
            require_room(self.store)
            number = self._shards[-1].last + 1 if self._shards else 0
            self._shards.append(write_shard(self.store, number, number, self._pending, self.recipe))
            self._pending = []
        self._since = time.monotonic()
        while self._is_mergeable(self._shards[-2:]):
            pair = self._shards[-2:]
            blocks = [shard.block(self.recipe) for shard in pair]
            self._shards[-2:] = [write_shard(self.store, pair[0].first, pair[1].last, blocks, self.recipe, pair)]
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
    folder holds an index that was built otherwise, LimitError if the server's indexes take all that they may,
    ComputationError if the folder cannot be written.
    """
    lock = FileLock(store / "lock")
    try:
        store.mkdir(parents=True, exist_ok=True)
        while not lock.is_locked:
            progress.check()
            with suppress(Timeout):
                lock.acquire(timeout=0.2)
        require_room(store)
        writer = Writer(store, recipe)
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


def settle_recipe(store: Path, recipe: Recipe, notes: list[str] | None = None) -> Recipe:
    """Give the recipe of the index, which becomes this one if there is none yet; raises SelectionError as above.

    A damaged manifest is set aside, which is told in ``notes``; shards that were built by this recipe stay.
    """
    require_recipe(store, recipe)
    try:
        found = read_manifest(store)
    except SelectionError:
        found, kept = None, store / f"set-aside-manifest-{time.time_ns()}.json"
        (store / "manifest.json").rename(kept)
        if notes is not None:
            notes.append(f"The manifest could not be read; it was set aside as {kept.name}.")
    if found is None:
        write_durably(store / "manifest.json", checked(recipe.plain))
    return found or recipe


def keys(table: pd.DataFrame) -> list[tuple[str, str]]:
    """What tells the rows of a table apart: the digest of the picture and its label."""
    return list(zip(table["digest"], table["label_name"], strict=True))


def write_shard(
    store: Path, first: int, last: int, blocks: Sequence[Block], recipe: Recipe, merged: Sequence[Shard] = ()
) -> Shard:
    """Write the rows of blocks as a shard that is there complete, also after a loss of power, or not at all.

    ``merged`` are the shards that the blocks were read from, if they were.
    """
    found = [one for shard in merged for one in shard.versions] if merged else [versions()]
    made_by = [one for place, one in enumerate(found) if one not in found[:place]]
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
    description = {"recipe": recipe.key, "rows": len(table), "versions": made_by, "files": files}
    (unfinished / "shard.json").write_bytes(checked(description))
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
