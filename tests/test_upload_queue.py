"""Uploaded models are opened a few at a time, in turn, by processes that are believed nothing and outlive nobody."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from multiprocessing import Pipe
from pathlib import Path

import pytest
import torch
from onnx import helper

from explainers import owners
from explainers.errors import CancelledError, ModelError
from explainers.graph import loader, sandbox
from explainers.graph.model import Model
from explainers.graph.sandbox import Queue
from tests.model_files import saved, tiny_archive
from tests.onnx_files import numbers, write

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def no_worker_stays() -> Iterator[None]:
    yield
    while sandbox._spares:
        sandbox._spares.pop().end()


class Upload(threading.Thread):
    """Somebody who waits for a turn, holds it until told to end, and tells what came of it."""

    def __init__(self, queue: Queue, of: str) -> None:
        super().__init__(daemon=True)
        self.queue, self.of = queue, of
        self.told: list[str] = []
        self.begun, self.end, self.leave = threading.Event(), threading.Event(), threading.Event()
        self.start()

    def run(self) -> None:
        owners.owner.set(self.of)
        with suppress(CancelledError), self.queue.turn(self.tell):
            self.begun.set()
            assert self.end.wait(60)

    def tell(self, sentence: str) -> None:
        self.told.append(sentence)
        if self.leave.is_set():
            raise CancelledError("Enough.")

    def hears(self, sentence: str) -> bool:
        return wait_until(lambda: self.told[-1:] == [sentence])


def wait_until(holds: Callable[[], bool]) -> bool:
    until = time.monotonic() + 60
    while not holds() and time.monotonic() < until:
        time.sleep(0.005)
    return holds()


@pytest.fixture
def uploads(bounds: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Upload]]:
    """Has somebody come to a queue in which two are opened at once; each has its place when this returns."""
    bounds(upload_processes=2)
    monkeypatch.setattr(sandbox, "BEAT", 0.001)
    queue, come = Queue(), list[Upload]()

    def upload(of: str) -> Upload:
        come.append(Upload(queue, of))
        assert wait_until(lambda: come[-1].begun.is_set() or bool(come[-1].told))
        return come[-1]

    yield upload
    for one in come:
        one.leave.set()
        one.end.set()
        one.join(60)
    assert not queue._turns
    assert not queue._served


def test_as_many_are_opened_at_once_as_the_settings_allow_and_the_others_are_told_their_place(uploads):
    first, second, third, fourth = (uploads(name) for name in "abcd")
    assert [one.begun.is_set() for one in (first, second, third, fourth)] == [True, True, False, False]
    assert third.hears("2 are before you.")
    assert fourth.hears("3 are before you.")
    first.end.set()
    assert third.begun.wait(60)
    assert fourth.hears("2 are before you.")
    assert not fourth.begun.is_set()


def test_of_one_owner_one_is_opened_at_a_time(uploads):
    mine = [uploads("a") for _ in range(3)]
    assert [one.begun.is_set() for one in mine] == [True, False, False]
    other = uploads("b")
    assert other.begun.is_set()
    mine[0].end.set()
    assert mine[1].begun.wait(60)


def test_whoever_had_a_turn_goes_behind_those_who_had_none(uploads):
    first, other = uploads("a"), uploads("b")
    mine = [uploads("a") for _ in range(3)]
    late = uploads("c")
    first.end.set()
    assert late.begun.wait(60)
    assert not any(one.begun.is_set() for one in mine)
    other.end.set()
    assert mine[0].begun.wait(60)


def test_whoever_waits_can_leave_and_those_behind_move_up(uploads):
    uploads("a"), uploads("b")
    third, fourth = uploads("c"), uploads("d")
    assert fourth.hears("3 are before you.")
    third.leave.set()
    assert fourth.hears("2 are before you.")
    third.join(60)
    assert not third.begun.is_set()


def descendants() -> set[int]:
    """The processes that this one has started for uploads and that live."""
    found = set()
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (place / "cmdline").read_bytes()
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            if b"explainers.graph.worker" in words and parent == os.getpid():
                found.add(int(place.name))
    return found


def onnx_file() -> bytes:
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["maps"]),
        helper.make_node("ReduceMean", ["maps"], ["scores"], axes=[2, 3], keepdims=0),
    ]
    return write(*nodes, weight=numbers(4, 3, 3, 3))


def open_together(files: dict[str, bytes]) -> tuple[dict[str, Model], int]:
    """Open files of several owners at once; returns the models, and how many processes there were at most."""
    found: dict[str, Model] = {}
    counted, over = [0], threading.Event()

    def count() -> None:
        while not over.wait(0.05):
            counted.append(len(descendants()))

    def open_one(name: str) -> None:
        owners.owner.set(name)
        found[name] = sandbox.load(files[name], name)

    counter = threading.Thread(target=count)
    threads = [threading.Thread(target=open_one, args=(name,)) for name in files]
    for thread in (counter, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    counter.join()
    return found, max(counted)


def kinds() -> dict[str, bytes]:
    weights = pytest.importorskip("torchvision").models.squeezenet1_1(num_classes=3).state_dict()
    return {"net.pt": saved(weights), "net.onnx": onnx_file()}


@pytest.mark.skipif(sys.platform != "linux", reason="processes are counted where the system lists them")
def test_checkpoints_and_onnx_files_open_behind_walls_and_one_at_once_if_so_set(bounds):
    bounds(upload_processes=1)
    files = kinds()
    found, most = open_together(files)
    assert found.keys() == files.keys()
    assert 1 <= most <= 2  # that of the settings, and one that waits for the next file
    assert sandbox._spares[-1].process.poll() is None  # though the thread that asked for it has ended
    for name, model in found.items():
        theirs = loader.load(files[name], name)
        images = torch.randn(2, model.info.preprocessing.channels, *model.info.preprocessing.size)
        assert model.info == theirs.info
        assert torch.equal(model(images), theirs(images))


@pytest.mark.exhaustive
def test_six_uploads_start_no_more_processes_than_are_set_and_one_that_waits(bounds):
    bounds(upload_processes=2)
    files = kinds() | {"net.pt2": tiny_archive()} | {f"{place}.onnx": onnx_file() for place in range(3)}
    found, most = open_together(files)
    print(f"{len(found)} files, at most {most} processes")
    assert found.keys() == files.keys()
    assert 2 <= most <= 3


SERVER = """
from explainers.graph import sandbox
sandbox.prepare()
print(sandbox._spares[0].process.pid, flush=True)
input()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not end a process with another")
def test_no_worker_outlives_a_server_that_is_killed():
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with server:
        worker = Path("/proc") / server.stdout.readline().strip()
        assert worker.exists()
        server.kill()
    assert wait_until(lambda: not worker.exists() or "zombie" in (worker / "status").read_text())


class Hostile(sandbox.Worker):
    """A worker that somebody took over: it answers what it likes."""

    answer = ""

    def __init__(self) -> None:
        self.connection, theirs = Pipe()
        code = f"""
import json, sys, time
from multiprocessing.connection import Connection
line = Connection(int(sys.argv[1]))
line.send_bytes(b"[]")
line.recv_bytes(), line.recv_bytes()
{self.answer}
"""
        self.folder = ExitStack()
        self.folder.cleanup = self.folder.close  # type: ignore[attr-defined]
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(theirs.fileno())], pass_fds=[theirs.fileno()], stderr=subprocess.DEVNULL
        )
        theirs.close()


def hostile(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    monkeypatch.setattr(Hostile, "answer", answer)
    monkeypatch.setattr(sandbox, "Worker", Hostile)
    monkeypatch.setattr(sandbox, "LAST", 0.1)


ANSWERS = {
    "no JSON": "line.send_bytes(b'{'); line.send_bytes(b'')",
    "no text": "line.send_bytes(b'\\xff'); line.send_bytes(b'')",
    "no object": "line.send_bytes(b'[1]'); line.send_bytes(b'')",
    "depth": "line.send_bytes(b'[' * 100_000); line.send_bytes(b'')",
    "an error of Python's": """line.send_bytes(b'{"error": "KeyError", "message": "x"}'); line.send_bytes(b'')""",
    "a name of the file's": """line.send_bytes(b'{"error": "__file__", "message": "x"}'); line.send_bytes(b'')""",
    "an error for a list": """line.send_bytes(b'{"error": ["ModelError"], "message": "x"}'); line.send_bytes(b'')""",
    "an error without words": """line.send_bytes(b'{"error": "ModelError"}'); line.send_bytes(b'')""",
    "too long a description": "line.send_bytes(b' ' * (17 << 20)); line.send_bytes(b'')",
    "too large a model": "line.send_bytes(b'{}'); line.send_bytes(b' ' * (3 << 20))",
    "no model": "line.send_bytes(b'{}'); line.send_bytes(b'')",
    "half an answer": "line.send_bytes(b'{}'); line._send(b'\\0\\1\\0\\0')",
    "a hang-up": "line.close(); time.sleep(60)",
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_an_answer_that_makes_no_sense_is_told_in_a_sentence(answer, monkeypatch, bounds):
    bounds(upload_memory=2 << 20)
    hostile(monkeypatch, answer)
    with pytest.raises(
        ModelError, match=r"gave an answer that is none|The process that opened the file ended|not hold"
    ):
        sandbox.load(b"", "net.pt")


def test_a_proposal_with_other_fields_is_none(monkeypatch):
    for given in ({}, {"name": 1}, {"name": "a", "guesses": [{}]}):
        hostile(monkeypatch, f"line.send_bytes({json.dumps(given).encode()!r}); line.send_bytes(b'')")
        with pytest.raises(ModelError, match="an answer that is none"):
            sandbox.propose(b"", "net.pt")
        no_spares()


def no_spares() -> None:
    while sandbox._spares:
        sandbox._spares.pop().end()


def test_the_words_of_an_error_are_short_text(monkeypatch):
    message = json.dumps({"error": "ModelError", "message": "a\ud800" + "b" * 10_000})
    hostile(monkeypatch, f"line.send_bytes({message.encode()!r}); line.send_bytes(b'')")
    with pytest.raises(ModelError) as caught:
        sandbox.load(b"", "net.pt")
    assert len(str(caught.value).encode()) <= sandbox.MESSAGE + 2


@pytest.mark.parametrize("answer", ["time.sleep(60)", "line._send(b'\\0')\ntime.sleep(60)", "while True: pass"])
def test_a_worker_that_never_answers_can_be_stopped_and_takes_no_more_time(answer, monkeypatch):
    hostile(monkeypatch, answer)
    sandbox.prepare()
    worker = sandbox._spares[-1]

    def stop() -> None:
        raise CancelledError("Enough.")

    with pytest.raises(CancelledError):
        sandbox.load(b"", "net.pt", stop)
    assert worker.process.returncode == -signal.SIGKILL  # it has been waited for, so it is no more
