"""What a process that reads files is asked in tests, to see what it can do besides."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from explainers.isolation import Answer


def try_walls(files: Sequence[int], path: str) -> Iterator[Answer]:
    """Try what reading a file does not need; called in a process."""
    tried: dict[str, Callable[[], object]] = {
        "reads": lambda: Path(path).read_bytes(),
        "writes": lambda: Path(path).write_bytes(b""),
        "connects": socket.socket,
        "starts programs": lambda: subprocess.run(["true"], check=False),
        "forks": os.fork,
        "signals": lambda: os.kill(os.getppid(), signal.SIGCONT),
    }
    done = []
    for what, attempt in tried.items():
        with suppress(OSError):
            attempt()
            done.append(what)
    yield Answer(done)


def warm() -> None:
    """Nothing more to import."""
