"""Uploaded models opened in a process of their own, with bounds, so that no file can take the server down.

Free of torch at import.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from multiprocessing import Pipe
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from explainers import errors
from explainers.errors import LightboxError, ModelError
from explainers.preprocessing import Preprocessing
from explainers.proposal import Guess, Output, Proposal
from explainers.settings import settings

if TYPE_CHECKING:
    from explainers.graph.model import Model

#: How often somebody who waits is heard, in seconds.
BEAT = 0.1


class Worker:
    """A process that has everything imported and waits for one file."""

    def __init__(self) -> None:
        self.connection, theirs = Pipe()
        self.folder = TemporaryDirectory(prefix="lightbox-")  # of mode 0700, for what torch writes on its way
        self.process = subprocess.Popen(
            [sys.executable, "-m", "explainers.graph.worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            cwd=Path(__file__).parents[2],
            env=os.environ | {"TMPDIR": self.folder.name},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # what a file makes torch say may hold what is in the file
        )
        theirs.close()

    def end(self) -> int:
        """Stop the process, whatever it does; returns its exit code, negative for a signal."""
        if self.process.poll() is None and not self.connection.closed:
            self.connection.close()
            self.process.kill()
        code = self.process.wait()
        self.folder.cleanup()
        return code


_spares: list[Worker] = []
_lock = threading.Lock()


def prepare() -> None:
    """Start a worker for the next file, if none waits: importing torch takes it seconds."""
    with _lock:
        if not _spares:
            _spares.append(Worker())


def take() -> Worker:
    """Take the worker that waits, or start one."""
    with _lock:
        return _spares.pop() if _spares else Worker()


def propose(
    data: bytes,
    file_name: str,
    architecture: str | None = None,
    waiting: Callable[[], object] = lambda: None,
    output: str | None = None,
    network: str | None = None,
) -> Proposal:
    """Look at a model file in a worker, as an architecture or the best guess, see ``explainers.graph.loader.propose``.

    ``waiting`` is called meanwhile, and may raise to stop it. Raises ModelError.
    """
    from explainers.graph.stored import frozen

    given = {"architecture": architecture, "output": output, "network": network}
    found = frozen(delegate("propose", data, file_name, given, waiting)[0])
    parts = {
        "guesses": tuple(Guess(**guess) for guess in found["guesses"]),
        "outputs": tuple(Output(**frozen(one)) for one in found["outputs"]),
        "preprocessing": Preprocessing(**frozen(found["preprocessing"])),
    }
    return Proposal(**found | parts)


def load(data: bytes, file_name: str, waiting: Callable[[], object] = lambda: None, **given: Any) -> Model:
    """Open a model file in a worker, see ``explainers.graph.loader.load``; raises ModelError.

    ``waiting`` is called meanwhile, and may raise to stop it.
    """
    from explainers.graph.stored import unpack

    return unpack(delegate("load", data, file_name, given, waiting)[1])


def delegate(
    call: str, data: bytes, file_name: str, given: Mapping[str, Any], waiting: Callable[[], object]
) -> tuple[dict[str, Any], bytes]:
    """Let a worker do one job; ``waiting`` is called meanwhile, and may raise to stop it.

    Raises what the worker raised, or ModelError if it died or took longer than the settings allow.
    """
    bounds = settings()
    plain = {
        name: asdict(item) if is_dataclass(item) and not isinstance(item, type) else item
        for name, item in given.items()
    }
    limits = {"memory": bounds.upload_memory, "seconds": bounds.upload_seconds}
    request = {"call": call, "file_name": file_name, "settings": plain, **limits}
    worker, until = take(), time.monotonic() + bounds.upload_seconds
    try:
        worker.connection.send_bytes(json.dumps(request).encode())
        worker.connection.send_bytes(data)
        while not worker.connection.poll(BEAT):
            waiting()
            if time.monotonic() > until:
                raise ModelError(
                    f"Opening the file took longer than {bounds.upload_seconds} seconds, so it was stopped. "
                    "Upload a smaller model, or ask who runs this server to raise LIGHTBOX_UPLOAD_SECONDS."
                )
        outcome, model = json.loads(worker.connection.recv_bytes()), worker.connection.recv_bytes()
    except (EOFError, OSError):
        raise ModelError(last_words(worker.process.wait())) from None
    finally:
        worker.end()
        prepare()
    if "error" in outcome:
        kind: type[LightboxError] = getattr(errors, outcome["error"])
        raise kind(outcome["message"])
    return outcome, model


def last_words(code: int) -> str:
    """Say in words how a worker died."""
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    return (
        f"The process that opened the file ended {how}: the file asks for more memory or processor time than is "
        "allowed, or breaks the reader. The server goes on. Upload a smaller model, or save it in another format."
    )
