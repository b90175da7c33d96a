"""The one cache: each result computed once, however many sessions and processes ask for it.

Results are content-addressed, so equal keys mean equal results. A result is looked for in memory, then among the
computations under way, then (if it may leave memory) on disk, and only then computed. Free of torch.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cache as remember
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from explainers.breakdown import strip
from explainers.disk import Disk
from explainers.errors import CancelledError
from explainers.isolation import hearing
from explainers.jobs import STOPPED, Passes, Progress, Task, Workers, at_hand, passes
from explainers.owners import owner
from explainers.results import Result
from explainers.settings import Settings, settings

R = TypeVar("R", bound=Result)

#: How often somebody who waits for what another thread computes looks whether to go on, in seconds.
BEAT = 0.2

_opening = threading.Lock()


def digest(*parts: Any) -> str:
    """Name content: SHA-256 over JSON values, independent of the order of mappings."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


@remember
def code_digest() -> str:
    """SHA-256 of Lightbox's own code: what other code computed is not mixed with what this computes."""
    return digest(*(file.read_text() for file in sorted(Path(__file__).parent.rglob("*.py"))))


@dataclass
class Counters:
    """What the cache did since the start: one number for each way that a request can go, and the passes it cost.

    ``computed`` counts the finished computations by the kind of their result.
    """

    hits: int = 0
    disk_hits: int = 0
    joined: int = 0
    misses: int = 0
    errors: int = 0
    cancelled: int = 0
    evictions: int = 0
    entries: int = 0
    bytes: int = 0
    forward: int = 0
    backward: int = 0
    images: int = 0
    computed: dict[str, int] = field(default_factory=dict)


@dataclass
class _Computation(Generic[R]):
    """One computation under way and how many still wait for it."""

    future: Future[R] = field(default_factory=Future)
    progress: Progress = field(default_factory=Progress)
    about: frozenset[str] = frozenset()
    owner: str = ""
    waiting: int = 0
    queued: set[tuple[str, int]] = field(default_factory=set)
    started: bool = False
    kept: bool = True


class Job(Generic[R]):
    """One caller's hold on a result that is there already or will be."""

    def __init__(self, computation: _Computation[R], leave: Callable[[], None]) -> None:
        self._computation = computation
        self._leave = leave
        #: What is done to the result, once, for this caller alone.
        self.adapt: Callable[[R], R] = lambda result: result
        self._adapted: R | None = None

    @property
    def done(self) -> bool:
        """Whether there is a result or an error."""
        return self._computation.future.done()

    @property
    def progress(self) -> float:
        """How much is done, from 0 to 1."""
        return self._computation.progress.fraction

    @property
    def steps(self) -> Progress:
        """The steps done and to do, their rate and the time left."""
        return self._computation.progress

    def result(self, timeout: float | None = None) -> R:
        """Wait for the result; raises what the computation raised, or TimeoutError after ``timeout`` seconds."""
        found = self._computation.future.result(timeout)
        if self._adapted is None:
            self._adapted = self.adapt(found)
        return self._adapted

    def wait(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for the end of the computation; tells whether it came."""
        try:
            self._computation.future.exception(timeout)
        except TimeoutError:
            return False
        return True

    def then(self, call: Callable[[R], object]) -> None:
        """Call with the result once it is there, for whoever this thread works; nothing is called after an error."""
        asking = owner.get()

        def pass_on(future: Future[R]) -> None:
            if future.exception() is None:
                token = owner.set(asking)
                try:
                    call(self.result())
                finally:
                    owner.reset(token)

        self._computation.future.add_done_callback(pass_on)

    def cancel(self) -> None:
        """Give up waiting; the computation stops when nobody waits any more."""
        self._leave()


class Cache:
    """Results by key in memory (least recently used out first), with a disk tier that processes share.

    ``folder`` is the disk tier, None for none; only results asked for with ``durable`` reach it. Limits are in bytes.
    What one owner asked about uploads takes half of the memory at most; then the owner's least recently used results
    leave. A computation may ask for what it needs: that is computed in its own thread, unless another one is at it.
    """

    def __init__(
        self,
        folder: Path | None = None,
        memory_limit: int = Settings.memory,
        disk_limit: int = Settings.disk,
        workers: int = 2,
    ) -> None:
        self._disk = Disk(folder, disk_limit) if folder is not None else None
        self.memory_limit = memory_limit
        self._results: OrderedDict[str, Result] = OrderedDict()
        self._about: dict[str, frozenset[str]] = {}
        self._owners: dict[str, str] = {}
        self._held: Counter[str] = Counter()
        self._under_way: dict[str, _Computation[Any]] = {}
        self._lock = threading.Lock()
        self._counters = Counters()
        self._workers = Workers(workers)

    @property
    def counters(self) -> Counters:
        """A copy of the counters of this moment."""
        with self._lock:
            return replace(self._counters, computed=dict(self._counters.computed))

    def submit(
        self,
        key: str,
        compute: Callable[[Progress], R],
        *,
        durable: bool = False,
        about: Collection[str] = (),
        urgency: int = 0,
        here: bool = False,
    ) -> Job[R]:
        """Ask for a result; computes it on a worker unless it is there or under way already.

        ``durable`` lets the result reach the disk: only for results on server-side data. ``about`` are the digests of
        the uploads that it tells something of, see ``forget``. ``urgency`` 1 lets others go first. ``here`` computes in
        this thread, for what takes no time. An error goes to all who wait and is not kept: the next request tries
        again.
        """
        with self._lock:
            if key in self._results:
                self._counters.hits += 1
                self._results.move_to_end(key)
                return _finished(self._results[key])  # type: ignore[arg-type]  # equal keys name results of one kind
            computation, start = self._join(key, about, urgency)
        job = Job(computation, _once(lambda: self._leave(key, computation)))
        if needed_by := at_hand.get():
            needed_by.need(job.cancel)
            self._run(key, compute, computation, durable)
            while not job.wait(BEAT):
                needed_by.check()
        elif here:
            self._run(key, compute, computation, durable)
        elif start:
            run = partial(self._run, key, compute, computation, durable)
            self._workers.add(Task(run, owner.get(), urgency > 0, bool(about), lambda: computation.started))
        return job

    def _join(self, key: str, about: Collection[str], urgency: int) -> tuple[_Computation[Any], bool]:
        """Find the computation under way or note a new one; tells whether to queue it for this owner and urgency."""
        computation = self._under_way.get(key)
        if computation is None:
            computation = self._under_way[key] = _Computation(about=frozenset(about), owner=owner.get())
        else:
            self._counters.joined += 1
        computation.waiting += 1
        place = owner.get(), urgency
        start = not computation.started and place not in computation.queued
        computation.queued.add(place)
        return computation, start

    def get(self, key: str, compute: Callable[[Progress], R], *, durable: bool = False) -> R:
        """Ask for a result and wait for it."""
        return self.submit(key, compute, durable=durable).result()

    def holds(self, key: str) -> bool:
        """Tell whether a result is there, in memory or on disk."""
        with self._lock:
            if key in self._results:
                return True
        return self._disk is not None and self._disk.holds(key)

    def forget(self, content: str) -> None:
        """Drop every result about an upload, by its digest, and keep none that is still to come."""
        with self._lock:
            for computation in self._under_way.values():
                computation.kept = computation.kept and content not in computation.about
            for key in [key for key, about in self._about.items() if content in about]:
                self._drop(key)

    def _leave(self, key: str, computation: _Computation[Any]) -> None:
        with self._lock:
            computation.waiting -= 1
            abandoned = computation.waiting == 0 and not computation.future.done()
            if abandoned and self._under_way.get(key) is computation:
                del self._under_way[key]
            unbegun = abandoned and not computation.started
            if unbegun:
                computation.started = True
                self._counters.cancelled += 1
        if abandoned:  # not within the lock, for this leaves what the computation needs, too
            computation.progress.cancel()
        if unbegun:
            computation.future.set_exception(CancelledError(STOPPED))

    def _run(self, key: str, compute: Callable[[Progress], R], computation: _Computation[R], durable: bool) -> None:
        with self._lock:
            if computation.started:  # by who needed it, or queued a second time when somebody more urgent joined
                return
            computation.started = True
        try:
            computation.progress(0, 0)
            result = self._fetch(key, compute, computation.progress, durable)
        except BaseException as error:  # whatever it is goes to those who wait, not to the worker thread
            strip(error)
            self._end(key, computation)
            with self._lock:
                self._counters.cancelled += isinstance(error, CancelledError)
                self._counters.errors += not isinstance(error, CancelledError)
            with _working(None, None):
                computation.future.set_exception(error)
        else:
            self._keep(key, result, computation)
            self._end(key, computation)
            with _working(None, None):  # who is told of the result may ask for more, which nothing here needs
                computation.future.set_result(result)

    def _end(self, key: str, computation: _Computation[Any]) -> None:
        with self._lock:
            if self._under_way.get(key) is computation:
                del self._under_way[key]

    def _fetch(self, key: str, compute: Callable[[Progress], R], progress: Progress, durable: bool) -> R:
        if self._disk is None or not durable:
            return self._compute(compute, progress)
        # Who holds a stripe and waits for another could wait for a process that does the same the other way round.
        with nullcontext() if at_hand.get() else self._disk.hold(key, progress.check):
            found = self._disk.read(key)
            if found is not None:
                with self._lock:
                    self._counters.disk_hits += 1
                return found  # type: ignore[return-value]  # equal keys name results of one kind
            result = self._compute(compute, progress)
            self._disk.write(key, result)
        return result

    def _compute(self, compute: Callable[[Progress], R], progress: Progress) -> R:
        counts = Passes()
        token = passes.set(counts)
        try:
            with _working(self, progress), hearing(progress.check):  # also while a file is read
                result = compute(progress)
            with self._lock:
                kind = type(result).__name__
                self._counters.computed[kind] = self._counters.computed.get(kind, 0) + 1
            return result
        finally:
            passes.reset(token)
            with self._lock:
                self._counters.misses += 1
                self._counters.forward += counts.forward
                self._counters.backward += counts.backward
                self._counters.images += counts.images

    def _keep(self, key: str, result: Result, computation: _Computation[Any]) -> None:
        with self._lock:
            if not computation.kept:
                return
            if key in self._results:  # a cancelled computation may have ended all the same
                self._drop(key)
            self._results[key], self._about[key] = result, computation.about
            self._counters.bytes += result.nbytes
            if computation.about:
                self._owners[key] = computation.owner
                self._held[computation.owner] += result.nbytes
                self._evict(computation.owner)
            while self._counters.bytes > self.memory_limit and self._results:
                self._drop(next(iter(self._results)))
                self._counters.evictions += 1
            self._counters.entries = len(self._results)

    def _evict(self, of: str) -> None:
        """Drop what one owner's uploads hold above half of the memory; whoever has no name shares it with nobody."""
        own = (key for key in [*self._results] if self._owners.get(key) == of)
        while of and self._held[of] > self.memory_limit // 2:
            self._drop(next(own))
            self._counters.evictions += 1

    def _drop(self, key: str) -> None:
        size = self._results.pop(key).nbytes
        self._counters.bytes -= size
        del self._about[key]
        if (of := self._owners.pop(key, None)) is not None:
            self._held[of] -= size
            if not self._held[of]:
                del self._held[of]
        self._counters.entries = len(self._results)


#: The cache for which this thread computes; None where it computes nothing.
_at_work: ContextVar[Cache | None] = ContextVar("at_work", default=None)


@contextmanager
def _working(cache: Cache | None, progress: Progress | None) -> Iterator[None]:
    work, hand = _at_work.set(cache), at_hand.set(progress)
    try:
        yield
    finally:
        at_hand.reset(hand)
        _at_work.reset(work)


def current_cache() -> Cache:
    """The cache for which this thread computes, where it does; else that of this process."""
    return _at_work.get() or shared_cache()


def shared_cache() -> Cache:
    """The cache of this process, as the settings say."""
    with _opening:  # sessions that start together must not get a cache each
        return _open_cache()


@remember
def _open_cache() -> Cache:
    chosen = settings()
    return Cache(chosen.cache, chosen.memory, chosen.disk, chosen.workers)


def _finished(result: R) -> Job[R]:
    computation: _Computation[R] = _Computation()
    computation.future.set_result(result)
    return Job(computation, lambda: None)


def _once(call: Callable[[], None]) -> Callable[[], None]:
    """Let a call happen one time only."""
    pending = [call]

    def run() -> None:
        if pending:
            pending.pop()()

    return run
