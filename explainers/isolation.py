"""Files that people bring are read in processes of their own: each can be ended, and takes no more than is allowed.

A zygote (``explainers/zygote.py``) has the decoders imported and forks a process for each reading, so that no two share
memory, and all that one took goes back. Free of torch.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from explainers.confinement import environment
from explainers.errors import LightboxError, revive
from explainers.owners import owner
from explainers.settings import settings

#: How often somebody who waits is heard, and for how long a process may take to begin, in seconds.
BEAT, BEGINNING = 0.1, 120.0

#: How many files are read at once on this server, and how many of them for one person.
AT_ONCE = max(2, os.cpu_count() or 1)
FOR_ONE = AT_ONCE - 1

#: How long the plain part of an answer may be, its place for saying how long it is, and a message; in bytes.
PLAIN, LENGTH, MESSAGE = 256 << 20, 8, 16

#: What server and process say to each other.
BORN, ANSWER, END, NEXT = b"born", b"answer", b"end", b"next"

#: Variables of a zygote: its libraries start no threads, or there would be some that forking loses.
SINGLE = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "MALLOC_ARENA_MAX": "1",  # each of many threads would take of the room that a process may have
}

#: The folder of those who need none of their own.
NOWHERE = "/nonexistent"

#: What is called while this thread waits for a file.
_waiting: ContextVar[Callable[[], object]] = ContextVar("waiting", default=lambda: None)


@contextmanager
def hearing(waiting: Callable[[], object]) -> Iterator[None]:
    """Have ``waiting`` called, many times a second, while this thread waits for files; it may raise to end that."""
    token = _waiting.set(waiting)
    try:
        yield
    finally:
        _waiting.reset(token)


@dataclass(frozen=True)
class Answer:
    """What a reading gives: plain data as JSON knows it, and bytes that go with it."""

    value: Any
    buffers: Sequence[UInt8[np.ndarray, " byte"]] = ()


@dataclass(frozen=True)
class Job:
    """What is to be done with files: a function by "module:name", what it is told, and open files or their bytes.

    The function takes the bytes of the files and the arguments, and yields answers. ``name`` is what the person calls
    the file, ``error`` what is raised if it cannot be read within the bounds.
    """

    function: str
    files: Sequence[bytes | int]
    arguments: Mapping[str, Any]
    name: str
    error: type[LightboxError]

    def overdue(self) -> LightboxError:
        """Why it was ended that took too long."""
        return self.error(
            f"{self.name} took longer than {settings().picture_seconds} seconds to read, so that was stopped. Save it "
            "smaller or in another format, or ask who runs this server to raise LIGHTBOX_PICTURE_SECONDS."
        )

    def broken(self) -> LightboxError:
        """Why there is no answer of a process that ended."""
        return self.error(
            f"{self.name} takes more than {settings().picture_memory / 2**30:g} GiB of memory to read, or breaks the "
            "reader, which was ended; the server goes on. Save it smaller or in another format, or ask who runs this "
            "server to raise LIGHTBOX_PICTURE_MEMORY."
        )


def perform(job: Job) -> Generator[Answer, None, None]:
    """Do a job in a process of its own, answer by answer; each may take as long as the settings allow.

    The process is gone when the iterator is closed. Raises what the job raises, its ``error`` if it takes more time or
    memory than it may or does not survive, and what ``hearing`` raises to stop it.
    """
    with _turns.take(owner.get()):
        child = _fork(job)
        try:
            while (answer := child.hear(job)) is not None:
                yield answer
                child.go_on()
        finally:
            child.end()


def answer_once(job: Job) -> Answer:
    """Do a job that has one answer."""
    for answer in perform(job):
        return answer
    raise job.broken()


class Turns:
    """Places for a few at once: who has fewest goes first, then who came first, and nobody has all of them."""

    def __init__(self, places: int, for_one: int) -> None:
        self._places, self._for_one = places, for_one
        self._busy = Counter[str]()
        self._queue: dict[object, str] = {}
        self._changed = threading.Condition()

    @contextmanager
    def take(self, whose: str) -> Iterator[None]:
        """Wait for a place, and have it for as long as the block runs."""
        self._wait(whose)
        try:
            yield
        finally:
            with self._changed:
                self._busy[whose] -= 1
                self._changed.notify_all()

    def _wait(self, whose: str) -> None:
        ticket = object()
        with self._changed:
            self._queue[ticket] = whose
        try:
            while not self._enter(ticket, whose):
                _waiting.get()()
        finally:
            with self._changed:
                self._queue.pop(ticket, None)
                self._changed.notify_all()

    def _enter(self, ticket: object, whose: str) -> bool:
        with self._changed:
            if not (entered := self._is_next(ticket)):
                self._changed.wait(BEAT)
                entered = self._is_next(ticket)
            self._busy[whose] += entered
            return entered

    def _is_next(self, ticket: object) -> bool:
        """Whether there is a place, and none who waits for it goes before; those who have their share do not."""
        waiting = {one: self._busy[whose] for one, whose in self._queue.items() if self._may_have_more(whose)}
        free = self._busy.total() < self._places
        return free and ticket in waiting and min(waiting, key=waiting.__getitem__) is ticket

    def _may_have_more(self, whose: str) -> bool:
        return not whose or self._busy[whose] < self._for_one


_turns = Turns(AT_ONCE, FOR_ONE)


class Zygote:
    """A process that has a module imported, and forks."""

    def __init__(self, module: str) -> None:
        self.pid = os.getpid()
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "explainers.zygote", str(theirs.fileno()), module],
            pass_fds=[theirs.fileno()],
            cwd=Path(__file__).parents[1],
            env=environment(NOWHERE) | SINGLE,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # what a file makes a decoder say may hold what is in the file
        )
        theirs.close()

    def serves(self) -> bool:
        """Whether it lives, and is this process's own and not that of one from which this was forked."""
        return self.pid == os.getpid() and self.process.poll() is None

    def end(self) -> None:
        """End it; those that it forked end with it."""
        self.control.close()
        if self.pid == os.getpid():
            self.process.kill()
            self.process.wait()


_zygotes: dict[str, Zygote] = {}
_lock = threading.Lock()


@atexit.register
def _end_all() -> None:
    while _zygotes:
        _zygotes.popitem()[1].end()


def prepare(module: str) -> Zygote:
    """Start the zygote that has a module imported, if it does not run already."""
    with _lock:
        known = _zygotes.get(module)
        if known is None or not known.serves():
            if known is not None:
                known.end()
            known = _zygotes[module] = Zygote(module)
        return known


class Child:
    """A process that reads files."""

    def __init__(self, connection: socket.socket, process: int) -> None:
        self.connection, self.process = connection, process

    def hear(self, job: Job) -> Answer | None:
        """Wait for the next answer, None at the end; raises what the job raises."""
        message, file = _receive(self.connection, settings().picture_seconds, job.overdue)
        if message == END:
            return None
        if message != ANSWER or file is None:
            raise job.broken()
        try:
            answer = unpack(file)
        except (ValueError, TypeError, LookupError, RecursionError, OSError):
            raise job.broken() from None
        finally:
            os.close(file)
        if isinstance(answer.value, dict) and "error" in answer.value:
            raise revive(answer.value["error"], answer.value.get("message")) or job.broken()
        return answer

    def go_on(self) -> None:
        """Let it read on."""
        with suppress(OSError):  # it has ended, which is heard next
            self.connection.send(NEXT)

    def end(self) -> None:
        """End it, whatever it does."""
        self.connection.close()
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.process, signal.SIGKILL)
        os.close(self.process)


def _fork(job: Job) -> Child:
    """Have a process for a job; a zygote that has died meanwhile is started anew, once."""
    for _ in range(2):
        zygote = prepare(job.function.partition(":")[0])
        connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with _shared(theirs, job) as files:
                socket.send_fds(zygote.control, [BORN], files)
            message, process = _receive(connection, BEGINNING, job.overdue)
            if message == BORN and process is not None:
                return Child(connection, process)
        except OSError:
            pass  # the zygote has died
        except BaseException:
            connection.close()
            raise
        connection.close()
        zygote.end()
    raise job.broken()


@contextmanager
def _shared(theirs: socket.socket, job: Job) -> Iterator[list[int]]:
    """The files that a process begins with, in memory: what it is told, and what it is to read."""
    bounds = settings()
    request = {
        "function": job.function,
        "arguments": job.arguments,
        "memory": bounds.picture_memory,
        "seconds": bounds.picture_seconds,
        "settings": {name: text for name, text in environment(NOWHERE).items() if name.startswith("LIGHTBOX_")},
    }
    files = [json.dumps(request).encode(), *job.files]
    made = [share(file) if isinstance(file, bytes) else os.dup(file) for file in files]
    try:
        yield [theirs.fileno(), *made]
    finally:
        theirs.close()
        for file in made:
            os.close(file)


def share(*parts: bytes | memoryview) -> int:
    """Put bytes into an open file in memory, which another process can be given; whoever asks closes it."""
    file = os.memfd_create("lightbox", os.MFD_CLOEXEC)
    try:
        for part in parts:
            rest = memoryview(part)
            while rest:
                rest = rest[os.write(file, rest) :]
    except BaseException:
        os.close(file)
        raise
    return file


def fetch(file: int) -> bytes:
    """Take all bytes of an open file."""
    size, parts = os.fstat(file).st_size, list[bytes]()
    while (done := sum(map(len, parts))) < size and (part := os.pread(file, size - done, done)):
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def pack(answer: Answer) -> int:
    """Put an answer into an open file in memory: how long its plain part is, that, and the bytes."""
    plain = json.dumps({"value": answer.value, "sizes": [buffer.nbytes for buffer in answer.buffers]}).encode()
    return share(len(plain).to_bytes(LENGTH), plain, *(buffer.data for buffer in answer.buffers))


def unpack(file: int) -> Answer:
    """Take an answer from an open file, which is copied: whoever wrote it could change it. Raises ValueError."""
    length = int.from_bytes(os.pread(file, LENGTH, 0))
    if length > PLAIN:
        raise ValueError
    plain = json.loads(os.pread(file, length, LENGTH))
    sizes, place, buffers = [int(size) for size in plain["sizes"]], LENGTH + length, []
    if min(sizes, default=0) < 0 or place + sum(sizes) != os.fstat(file).st_size:
        raise ValueError
    for size in sizes:
        buffers.append(np.empty(size, np.uint8))
        fill(buffers[-1], file, place)
        place += size
    return Answer(plain["value"], buffers)


def fill(buffer: UInt8[np.ndarray, " byte"], file: int, place: int) -> None:
    """Fill a buffer from an open file; raises ValueError if that is too short."""
    rest = buffer.data
    while rest:
        done = os.preadv(file, [rest], place)
        if not done:
            raise ValueError
        rest, place = rest[done:], place + done


def _receive(
    connection: socket.socket, seconds: float, overdue: Callable[[], LightboxError]
) -> tuple[bytes, int | None]:
    """Wait for a message with an open file or none; b"" if nobody will send one. Raises what ``overdue`` gives."""
    until, waiting = time.monotonic() + seconds, _waiting.get()
    connection.settimeout(BEAT)
    while True:
        try:
            message, files, _, _ = socket.recv_fds(connection, MESSAGE, 1)
        except TimeoutError:
            waiting()
        except OSError:
            return b"", None
        else:
            return message, files[0] if files else None
        if time.monotonic() > until:
            raise overdue()
