"""A hundred times ``kill -9`` in the middle of writing: nothing that was acknowledged is lost, nothing is doubled."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

from explainers.errors import SelectionError
from explainers.graph.stored import pack
from explainers.index import open_index
from explainers.index.building import start
from explainers.notes import Notes
from sample_models import digits
from tests.test_index import assert_same, model
from tests.victims import Victim, build_index, write_notes

KILLS = 50
PICTURES = 100
LAYERS = ["2"]


def test_fifty_kills_of_two_who_write_at_once_lose_at_most_the_note_in_flight(tmp_path: Path) -> None:
    moments, path, kills = random.Random(8), tmp_path / "notes.sqlite", 0
    acknowledged: dict[str, int] = {}
    for number in range(KILLS // 2):
        writers = {f"{name} {number}": Victim(write_notes, path, f"{name} {number}") for name in ("Ada", "Ben")}
        for author, writer in writers.items():
            writer.live(1 + moments.randrange(12), moments.uniform(0, 0.02))
            kills += writer.kill()
            acknowledged[author] = len(writer.said)
        assert Notes(path).damage == ""
    with sqlite3.connect(path) as base:
        kept = [text for (text,) in base.execute("SELECT name FROM names UNION ALL SELECT tag FROM tags")]
    for author, count in acknowledged.items():
        numbers = sorted(int(text.rpartition(" ")[2]) for text in kept if text.startswith(f"{author} "))
        assert numbers in (list(range(count)), list(range(count + 1)))
    assert kills == KILLS


def rows_of(store: Path) -> list[str]:
    """The names in an index as a reader finds it, whose shards must all be sound."""
    try:
        index = open_index(store)
    except SelectionError:  # killed before the first shard was complete
        return []
    assert not index.notes
    return list(index.table["name"])


def test_fifty_kills_of_index_builds_lose_and_double_no_row_and_the_next_goes_on(tmp_path: Path) -> None:
    moments, data, samples = random.Random(8), pack(model()), digits.samples(0, PICTURES)
    start(model(), samples, tmp_path / "whole", LAYERS).result(60)
    stores, kills, rows = 0, 0, list[str]()
    while kills < KILLS or rows:
        store = tmp_path / f"store-{stores}"
        builder = Victim(build_index, data, samples, store, LAYERS)
        builder.live(moments.randrange(16) if kills < KILLS else 10 * PICTURES, moments.uniform(0, 0.03))
        kills += builder.kill()
        told = {kind: [name for said, names in builder.said if said == kind for name in names]
                for kind in ("computed", "on disk")}  # fmt: skip
        before, rows = rows, rows_of(store)
        assert not set(told["computed"]) & set(before)
        assert {*before, *told["on disk"]} <= set(rows)
        assert len(set(rows)) == len(rows)
        if len(rows) == PICTURES:
            assert not list(store.glob("set-aside-*"))
            assert_same(open_index(store), open_index(tmp_path / "whole"))
            stores, rows = stores + 1, []
    assert stores > 1
