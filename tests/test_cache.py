"""The cache: one computation for a key, bounded, counted, and shared between processes through the disk."""

import subprocess
import sys
import threading
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from explainers.cache import Cache, digest
from explainers.errors import CancelledError, ComputationError
from explainers.jobs import YIELD, Progress, passes
from explainers.owners import owner
from explainers.predictions import Prediction
from explainers.results import restore, store


def prediction(value: float = 1.0, size: int = 4) -> Prediction:
    return Prediction(np.full(size, value, np.float32), np.full(size, 1 / size, np.float32))


def test_a_repeated_request_is_a_hit_and_computes_nothing():
    cache, calls = Cache(), []
    for _ in range(3):
        cache.get("key", lambda progress: calls.append(1) or prediction())
    assert len(calls) == 1
    assert (cache.counters.misses, cache.counters.hits) == (1, 2)
    assert cache.counters.computed == {"Prediction": 1}


def test_twenty_threads_that_ask_at_once_cause_one_computation():
    cache, calls, gate = Cache(), [], threading.Event()

    def compute(progress: Progress) -> Prediction:
        calls.append(1)
        gate.wait(5)
        return prediction()

    jobs = [cache.submit("key", compute) for _ in range(20)]
    gate.set()
    assert len({id(job.result(5)) for job in jobs}) == 1
    assert len(calls) == 1
    assert cache.counters.joined == 19


def test_what_may_be_asked_for_next_takes_its_turn_in_the_end(monkeypatch: pytest.MonkeyPatch):
    now = [0.0]
    monkeypatch.setattr("explainers.jobs.time", SimpleNamespace(monotonic=lambda: now[0]))
    cache, order, gate = Cache(workers=1), list[str](), threading.Event()
    cache.submit("busy", lambda progress: prediction(gate.wait(5)))
    ahead = cache.submit("ahead", lambda progress: order.append("ahead") or prediction(), urgency=1)
    now[0] = YIELD - 1
    early = cache.submit("early", lambda progress: order.append("early") or prediction())
    now[0] = YIELD + 1
    late = cache.submit("late", lambda progress: order.append("late") or prediction())
    gate.set()
    for job in (ahead, early, late):
        job.result(5)
    assert order == ["early", "ahead", "late"]


def test_an_error_reaches_everybody_who_waits_and_is_tried_again_next_time():
    cache = Cache()

    def fail(progress: Progress) -> Prediction:
        raise ComputationError("no")

    with pytest.raises(ComputationError):
        cache.get("key", fail)
    assert cache.get("key", lambda progress: prediction()).logits[0] == 1
    assert cache.counters.errors == 1


def test_the_least_recently_used_result_leaves_first_when_memory_is_full():
    size = prediction(size=1000).nbytes
    cache = Cache(memory_limit=2 * size)
    for key in ("a", "b"):
        cache.get(key, lambda progress: prediction(size=1000))
    cache.get("a", lambda progress: prediction(size=1000))
    cache.get("c", lambda progress: prediction(size=1000))
    assert cache.counters.bytes == 2 * size
    assert cache.counters.evictions == 1
    before = cache.counters.misses
    cache.get("a", lambda progress: prediction())
    assert cache.counters.misses == before
    cache.get("b", lambda progress: prediction())
    assert cache.counters.misses == before + 1


def test_a_computation_stops_when_the_last_one_who_waits_leaves():
    cache, started = Cache(), threading.Event()

    def compute(progress: Progress) -> Prediction:
        started.set()
        for step in range(10_000):
            progress(step, 10_000)
            threading.Event().wait(0.001)
        return prediction()

    first, second = cache.submit("key", compute), cache.submit("key", compute)
    assert started.wait(5)
    first.cancel()
    first.cancel()
    assert not second.wait(0.05)
    second.cancel()
    with pytest.raises(CancelledError):
        second.result(5)
    assert cache.get("key", lambda progress: prediction(2)).logits[0] == 2
    assert cache.counters.cancelled == 1


def test_what_a_person_waits_for_goes_before_what_is_computed_ahead():
    cache, order, gate = Cache(workers=1), [], threading.Event()
    cache.submit("blocker", lambda progress: gate.wait(5) and prediction())

    def note(key: str):
        return lambda progress: order.append(key) or prediction()

    ahead = cache.submit("ahead", note("ahead"), urgency=1)
    asked = cache.submit("asked", note("asked"))
    joined = cache.submit("later", note("later"), urgency=1)
    cache.submit("later", note("later"))
    gate.set()
    for job in (ahead, asked, joined):
        job.result(5)
    assert order == ["asked", "later", "ahead"]


def test_passes_are_counted_where_they_happen():
    cache = Cache()

    def compute(progress: Progress) -> Prediction:
        passes.get().forward += 2
        passes.get().images += 32
        return prediction()

    cache.get("key", compute)
    cache.get("key", compute)
    assert (cache.counters.forward, cache.counters.images) == (2, 32)


def test_results_are_read_only():
    with pytest.raises(ValueError, match="read-only"):
        prediction().logits[0] = 3


def test_a_durable_result_survives_a_restart(tmp_path: Path):
    Cache(tmp_path).get("ab" * 32, lambda progress: prediction(7), durable=True)
    fresh = Cache(tmp_path)
    assert fresh.get("ab" * 32, lambda progress: prediction(0), durable=True).logits[0] == 7
    assert (fresh.counters.disk_hits, fresh.counters.misses) == (1, 0)


def test_a_private_result_never_reaches_the_disk(tmp_path: Path):
    Cache(tmp_path).get("ab" * 32, lambda progress: prediction())
    assert not list(tmp_path.glob("**/*.npz"))


def test_what_is_forgotten_is_every_result_about_an_upload_and_nothing_else():
    cache = Cache()
    for key, about in {"a": ["picture"], "b": ["model", "picture"], "c": ["model"], "d": []}.items():
        cache.submit(key, lambda progress: prediction(), about=about).result()
    cache.forget("picture")
    assert (cache.counters.entries, cache.counters.bytes) == (2, 2 * prediction().nbytes)
    assert cache.submit("c", lambda progress: prediction(7)).result().logits[0] != 7
    assert cache.submit("a", lambda progress: prediction(7)).result().logits[0] == 7


def test_a_result_under_way_is_not_kept_once_its_upload_is_forgotten():
    cache, going = Cache(), threading.Event()

    def compute(progress: Progress) -> Prediction:
        going.wait(10)
        return prediction()

    job = cache.submit("a", compute, about=["picture"])
    cache.forget("picture")
    going.set()
    assert job.result(10).logits.size
    assert cache.counters.entries == 0


def test_a_damaged_file_counts_as_absent(tmp_path: Path):
    Cache(tmp_path).get("ab" * 32, lambda progress: prediction(7), durable=True)
    file = next(tmp_path.glob("**/*.npz"))
    file.write_bytes(file.read_bytes()[:100])
    assert Cache(tmp_path).get("ab" * 32, lambda progress: prediction(8), durable=True).logits[0] == 8
    assert restore(file.read_bytes()).logits[0] == 8


def test_the_disk_is_pruned_to_its_limit_at_the_start(tmp_path: Path):
    cache = Cache(tmp_path)
    for number in range(5):
        cache.get(f"{number}" * 64, lambda progress: prediction(size=5000), durable=True)
    size = next(tmp_path.glob("**/*.npz")).stat().st_size
    Cache(tmp_path, disk_limit=2 * size + 100)
    assert len(list(tmp_path.glob("**/*.npz"))) == 2


def test_two_processes_compute_a_key_once(tmp_path: Path):
    script = f"""
import os, time, numpy as np
from pathlib import Path
from explainers.cache import Cache
from explainers.predictions import Prediction
def compute(progress):
    while len(list(Path({str(tmp_path)!r}).glob("*.ready"))) < 2:
        time.sleep(0.01)
    with open({str(tmp_path / "log")!r}, "a") as log: log.write("computed\\n")
    return Prediction(np.ones(2, np.float32), np.ones(2, np.float32) / 2)
Path({str(tmp_path)!r}, f"{{os.getpid()}}.ready").touch()
print(Cache(Path({str(tmp_path / "cache")!r})).get("ab" * 32, compute, durable=True).logits.sum())
"""
    both = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in both] == ["2.0", "2.0"]
    assert (tmp_path / "log").read_text() == "computed\n"


def test_storing_and_restoring_keeps_every_field():
    original = prediction(3)
    copy = restore(store(original))
    assert type(copy) is Prediction
    assert np.array_equal(copy.logits, original.logits)


def test_bytes_that_hold_no_result_are_refused():
    with pytest.raises(ValueError, match="do not hold a result"):
        restore(b"PK\x03\x04 nothing")


def test_a_key_depends_on_every_part_but_not_on_the_order_of_names():
    assert digest("a", {"x": 1, "y": 2}) == digest("a", {"y": 2, "x": 1})
    assert digest("a", {"x": 1}) != digest("a", {"x": 2})
    assert digest("a", "b") != digest("ab")


def as_owner(name: str, call):
    """Call as the session of this name would."""
    token = owner.set(name)
    try:
        return call()
    finally:
        owner.reset(token)


class Held:
    """Computations that note when they begin, in their order, and wait to be let go."""

    def __init__(self) -> None:
        self.begun, self.gate, self.changed = list[str](), threading.Event(), threading.Condition()

    def compute(self, name: str):
        def run(progress: Progress) -> Prediction:
            with self.changed:
                self.begun.append(name)
                self.changed.notify_all()
            while not self.gate.wait(0.01):
                progress.check()
            return prediction()

        return run

    def wait(self, *names: str) -> None:
        """Wait until these have begun, and no others."""
        with self.changed:
            assert self.changed.wait_for(lambda: set(self.begun) == set(names), 5), self.begun


def test_one_person_never_holds_all_workers():
    cache, held = Cache(workers=3), Held()
    mine = [
        as_owner("ann", lambda name=name: cache.submit(name, held.compute(name)))
        for name in ("ann-1", "ann-2", "ann-3")
    ]
    held.wait("ann-1", "ann-2")
    other = as_owner("bob", lambda: cache.submit("bob-1", held.compute("bob-1")))
    held.wait("ann-1", "ann-2", "bob-1")
    held.gate.set()
    for job in (*mine, other):
        job.result(5)


@pytest.mark.parametrize("about", [{"about": ["upload"]}, {"urgency": 1}], ids=["uploads", "what may be asked next"])
def test_one_worker_is_kept_free_of(about: dict):
    cache, held = Cache(workers=3), Held()
    for name in ("ann", "bob", "eve"):
        as_owner(name, lambda name=name: cache.submit(name, held.compute(name), **about))
    held.wait("ann", "bob")
    as_owner("dan", lambda: cache.submit("sample", held.compute("sample")))
    held.wait("ann", "bob", "sample")
    held.gate.set()


def test_ten_questions_of_one_person_do_not_go_before_the_first_of_another():
    cache, held = Cache(workers=1), Held()
    as_owner("eve", lambda: cache.submit("first", held.compute("first")))
    held.wait("first")
    names = [f"ann-{number}" for number in range(10)]
    jobs = [as_owner("ann", lambda name=name: cache.submit(name, held.compute(name))) for name in names]
    jobs.append(as_owner("bob", lambda: cache.submit("bob-1", held.compute("bob-1"))))
    held.gate.set()
    for job in jobs:
        job.result(5)
    assert held.begun == ["first", "ann-0", "bob-1", *names[1:]]


def test_what_somebody_else_waits_for_too_comes_in_their_turn():
    cache, held = Cache(workers=1), Held()
    as_owner("eve", lambda: cache.submit("first", held.compute("first")))
    held.wait("first")
    jobs = [as_owner("ann", lambda name=name: cache.submit(name, held.compute(name))) for name in ("a", "b", "c")]
    jobs.append(as_owner("bob", lambda: cache.submit("c", held.compute("c"))))
    held.gate.set()
    for job in jobs:
        job.result(5)
    assert held.begun == ["first", "a", "c", "b"]


def test_what_is_stopped_before_its_turn_ends_at_once_and_never_begins():
    cache, held = Cache(workers=1), Held()
    blocker = cache.submit("blocker", held.compute("blocker"))
    held.wait("blocker")
    job = cache.submit("queued", held.compute("queued"))
    job.cancel()
    with pytest.raises(CancelledError):
        job.result(0)
    held.gate.set()
    blocker.result(5)
    cache.get("last", lambda progress: prediction())
    assert held.begun == ["blocker"]
    assert cache.counters.cancelled == 1


def test_a_worker_works_for_whoever_asked_and_so_does_who_is_told():
    cache, seen, told = Cache(workers=1), list[str](), threading.Event()

    def note() -> None:
        job = cache.submit("key", lambda progress: seen.append(owner.get()) or prediction())
        job.then(lambda result: (seen.append(owner.get()), told.set()))

    as_owner("ann", note)
    assert told.wait(5)
    assert seen == ["ann", "ann"]


def test_the_uploads_of_one_person_hold_half_of_the_memory_at_most():
    size = prediction(size=1000).nbytes
    cache = Cache(memory_limit=4 * size)
    cache.get("sample", lambda progress: prediction(size=1000))
    for number in range(3):
        as_owner(
            "ann",
            lambda number=number: cache.submit(
                f"ann-{number}", lambda progress: prediction(size=1000), about=["upload"]
            ).result(),
        )
    assert [cache.holds(key) for key in ("sample", "ann-0", "ann-1", "ann-2")] == [True, False, True, True]
    cache.forget("upload")
    assert cache.counters.bytes == size


def test_an_error_that_is_kept_holds_nothing_of_what_was_computed():
    cache, seen = Cache(), []

    def fail(progress: Progress) -> Prediction:
        values = prediction(size=1000)
        seen.append(weakref.ref(values))
        try:
            raise ValueError("inner")
        except ValueError as error:
            raise ComputationError("no") from error

    job = cache.submit("key", fail)
    with pytest.raises(ComputationError):
        job.result(5)
    error = job._computation.future.exception()
    assert error
    assert error.__cause__
    cache.get("next", lambda progress: prediction())
    assert seen[0]() is None
