"""Uploaded models opened in a process of their own, with bounds, so that no file can take the server down.

Of what such a process says nothing is trusted. Free of torch at import.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from functools import cache
from multiprocessing import Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explainers import records
from explainers.confinement import CALLS, CAPABILITIES, FILES, environment
from explainers.errors import ModelError, revive
from explainers.folders import PrivateFolder
from explainers.owners import owner
from explainers.proposal import Proposal
from explainers.settings import settings

if TYPE_CHECKING:
    from explainers.graph.model import Model

#: How often somebody who waits is heard, and how long a process that hung up has to end by itself, in seconds.
BEAT, LAST = 0.1, 10.0

#: Bytes of the description that a worker answers with, and letters of an error, at most.
DESCRIPTION, MESSAGE = 16 * 1024**2, 2000

DAMAGED = "The process that opened the file gave an answer that is none. Upload the file again, or in another format."

#: Starts all workers: a worker ends with the thread that started it, and sessions' threads come and go.
_starter = ThreadPoolExecutor(1, "upload-workers")


class Worker:
    """A process that has everything imported and waits for one file."""

    def __init__(self) -> None:
        self.connection, theirs = Pipe()
        self.folder = PrivateFolder()  # for what torch writes on its way
        self.process = subprocess.Popen(
            [sys.executable, "-m", "explainers.graph.worker", str(theirs.fileno()), str(os.getpid())],
            pass_fds=[theirs.fileno()],
            cwd=Path(__file__).parents[2],
            env=environment(self.folder.name) | {"OPENBLAS_NUM_THREADS": "1"},  # no thread before the walls stand
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # what a file makes torch say may hold what is in the file
        )
        theirs.close()

    def exchange(self, request: bytes, data: bytes, most: int) -> tuple[bytes, bytes]:
        """Hand over a request and a file; returns the description and the model, of ``most`` bytes, of the answer.

        Raises EOFError or OSError if the process ends or answers with more.
        """
        tell_walls(self.connection.recv_bytes(DESCRIPTION).decode())
        self.connection.send_bytes(request)
        self.connection.send_bytes(data)
        return self.connection.recv_bytes(DESCRIPTION), self.connection.recv_bytes(most)

    def last_words(self) -> str:
        """Say in words how the process died."""
        try:
            return last_words(self.process.wait(LAST))
        except subprocess.TimeoutExpired:  # it hung up, or said more than it may, and lives on
            return last_words(self.end())

    def end(self) -> int:
        """Stop the process, whatever it does; returns its exit code, negative for a signal."""
        if self.process.poll() is None:
            self.process.kill()
        code = self.process.wait()
        self.connection.close()
        self.folder.cleanup()
        return code


@cache
def tell_walls(walls: str) -> None:
    """Say once in the log which walls there are around workers on this system."""
    lacks = {CAPABILITIES, FILES, CALLS}.difference(json.loads(walls))
    logging.getLogger("lightbox").log(
        logging.WARNING if lacks else logging.INFO,
        "Uploaded models are opened behind walls: %s. Missing here: %s.", walls, ", ".join(sorted(lacks)) or "none",
    )  # fmt: skip


@dataclass(eq=False)
class Turn:
    """One upload that is opened or waits for that."""

    of: str
    begun: bool = False


class Queue:
    """Whose upload is opened next: as many at once as the settings allow, and of one owner one at a time.

    Whoever had a turn goes behind those who had none, so one with many files keeps nobody waiting for more than one.
    """

    def __init__(self) -> None:
        self._turns: list[Turn] = []
        self._served: dict[str, int] = {}
        self._lock = threading.Lock()

    @contextmanager
    def turn(self, tell: Callable[[str], object]) -> Iterator[None]:
        """Wait for a turn and hold it; ``tell`` hears meanwhile how many are before, and may raise to leave."""
        mine = Turn(owner.get())
        with self._lock:
            self._turns.append(mine)
        try:
            while before := self._count_before(mine):
                tell(f"{before} {'is' if before == 1 else 'are'} before you.")
                time.sleep(BEAT)
            yield
        finally:
            with self._lock:
                self._turns.remove(mine)
                if mine.of not in [turn.of for turn in self._turns]:
                    self._served.pop(mine.of, None)

    def _count_before(self, mine: Turn) -> int:
        """Begin a turn if it is the next, else count those before it."""
        with self._lock:
            begun = [turn for turn in self._turns if turn.begun]
            waiting = sorted((one for one in self._turns if not one.begun), key=lambda one: self._served.get(one.of, 0))
            busy = {turn.of for turn in begun if turn.of}
            free = [turn for turn in waiting if turn.of not in busy]
            if len(begun) < settings().upload_processes and free and free[0] is mine:
                mine.begun, self._served[mine.of] = True, max(self._served.values(), default=0) + 1
                return 0
            return len(begun) + waiting.index(mine) or 1


queue = Queue()
_spares: list[Worker] = []
_lock = threading.Lock()


def prepare() -> None:
    """Start a worker for the next file, if none waits: importing torch takes it seconds."""
    with _lock:
        if not _spares:
            _spares.append(_starter.submit(Worker).result())


def take() -> Worker:
    """Take the worker that waits, or start one."""
    with _lock:
        return _spares.pop() if _spares else _starter.submit(Worker).result()


def propose(
    data: bytes,
    file_name: str,
    architecture: str | None = None,
    waiting: Callable[[], object] = lambda: None,
    output: str | None = None,
    network: str | None = None,
    tell: Callable[[str], object] | None = None,
) -> Proposal:
    """Look at a model file in a worker, as an architecture or the best guess, see ``explainers.graph.loader.propose``.

    ``waiting`` and ``tell`` are called meanwhile, see ``delegate``. Raises ModelError.
    """
    given = {"architecture": architecture, "output": output, "network": network}
    found = delegate("propose", data, file_name, given, waiting, tell)[0]
    try:
        return records.restore(Proposal, found)
    except (ValueError, RecursionError):
        raise ModelError(DAMAGED) from None


def load(
    data: bytes,
    file_name: str,
    waiting: Callable[[], object] = lambda: None,
    tell: Callable[[str], object] | None = None,
    **given: Any,
) -> Model:
    """Open a model file in a worker, see ``explainers.graph.loader.load``; raises ModelError.

    ``waiting`` and ``tell`` are called meanwhile, see ``delegate``.
    """
    from explainers.graph.received import receive

    return receive(delegate("load", data, file_name, given, waiting, tell)[1])


def delegate(
    call: str,
    data: bytes,
    file_name: str,
    given: Mapping[str, Any],
    waiting: Callable[[], object],
    tell: Callable[[str], object] | None = None,
) -> tuple[dict[str, Any], bytes]:
    """Let a worker do one job, once it is its turn.

    ``waiting`` is called all the time; ``tell`` instead of it, with a sentence, as long as others come first. Both may
    raise to stop it, which ends the worker. Raises what the worker raised, or ModelError if it died, took longer than
    the settings allow, or answered with anything but what was asked for.
    """
    plain = {
        name: asdict(item) if is_dataclass(item) and not isinstance(item, type) else item
        for name, item in given.items()
    }
    limits = {"memory": settings().upload_memory, "seconds": settings().upload_seconds}
    request = {"call": call, "file_name": file_name, "settings": plain, **limits}
    with queue.turn(tell or (lambda sentence: waiting())):
        worker = take()
        answer: Future[tuple[bytes, bytes]] = Future()
        work = (worker, json.dumps(request).encode(), data, answer)
        threading.Thread(target=_converse, args=work, name="upload", daemon=True).start()
        try:
            described, model = _await(answer, waiting)
        except (EOFError, OSError, ValueError):
            raise ModelError(worker.last_words()) from None
        finally:
            worker.end()
            prepare()
    return read_outcome(described), model


def _converse(worker: Worker, request: bytes, data: bytes, answer: Future[tuple[bytes, bytes]]) -> None:
    """Let a worker work, in a thread of its own, as either side may be slow to listen; ends when the worker does."""
    try:
        answer.set_result(worker.exchange(request, data, settings().upload_memory))
    except Exception as error:  # whatever it is, whoever waits for the answer raises it
        answer.set_exception(error)


def _await(answer: Future[tuple[bytes, bytes]], waiting: Callable[[], object]) -> tuple[bytes, bytes]:
    """Wait for an answer as long as an upload may take; raises ModelError after that."""
    until = time.monotonic() + settings().upload_seconds
    while not answer.done():
        waiting()
        if time.monotonic() > until:
            raise ModelError(
                f"Opening the file took longer than {settings().upload_seconds} seconds, so it was stopped. "
                "Upload a smaller model, or ask who runs this server to raise LIGHTBOX_UPLOAD_SECONDS."
            )
        wait([answer], BEAT)
    return answer.result()


def read_outcome(described: bytes) -> dict[str, Any]:
    """Read what a worker says came out; raises the error that it names, or ModelError if it makes no sense."""
    try:
        outcome = json.loads(described)
    except (ValueError, RecursionError):
        outcome = None
    if not isinstance(outcome, dict):
        raise ModelError(DAMAGED)
    if "error" not in outcome:
        return outcome
    message = outcome.get("message")
    told = message[:MESSAGE].encode(errors="replace").decode() if isinstance(message, str) else None
    raise revive(outcome["error"], told) or ModelError(DAMAGED)


def last_words(code: int) -> str:
    """Say in words how a worker died."""
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    return (
        f"The process that opened the file ended {how}: the file asks for more memory or processor time than is "
        "allowed, or breaks the reader. The server goes on. Upload a smaller model, or save it in another format."
    )
