"""The process that forks one for each reading of a file: ``python -m explainers.zygote SOCKET MODULE``.

It reads no file itself, has one thread, and ends when the server does.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from explainers import confinement
from explainers.errors import LightboxError
from explainers.isolation import ANSWER, BORN, END, MESSAGE, NEXT, Answer, fetch, pack
from explainers.settings import settings

#: How many files a process may be given, besides its connection and what it is told.
FILES = 8


def main() -> None:
    """Fork a process whenever the server asks for one, until it closes its end."""
    control = socket.socket(fileno=int(sys.argv[1]))
    import_module(sys.argv[2]).warm()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that have ended
    gc.collect()
    gc.freeze()  # so that collecting later does not copy what all share
    zygote = os.getpid()
    while True:
        message, files, _, _ = socket.recv_fds(control, MESSAGE, FILES + 2)
        if not message:
            return
        if os.fork() == 0:
            control.close()
            serve(zygote, *files)
        for file in files:
            os.close(file)


def serve(zygote: int, connection: int, *files: int) -> None:
    """Do one job, whatever comes of it, and end."""
    code = 1
    try:
        confinement.end_with(zygote)
        work(socket.socket(fileno=connection), *files)
        code = 0
    finally:
        os._exit(code)


def work(server: socket.socket, told: int, *files: int) -> None:
    """Read the files within bounds, and give the answers one by one as the server asks for them."""
    socket.send_fds(server, [BORN], [os.pidfd_open(os.getpid())])
    request = json.loads(fetch(told))
    adopt(request["settings"])
    function = find(request["function"])
    confinement.limit(request["memory"], request["seconds"])
    confinement.confine()
    try:
        for answer in function(files, **request["arguments"]):
            send(server, answer)
            if server.recv(MESSAGE) != NEXT:
                return
        server.send(END)
    except LightboxError as error:
        send(server, Answer({"error": type(error).__name__, "message": str(error)}))


def find(name: str) -> Callable[..., Iterator[Answer]]:
    """The function that does a job."""
    module, _, function = name.partition(":")
    found: Callable[..., Iterator[Answer]] = getattr(import_module(module), function)
    return found


def adopt(environment: dict[str, Any]) -> None:
    """Take over the settings that the server has now."""
    for name in [name for name in os.environ if name.startswith("LIGHTBOX_")]:
        del os.environ[name]
    os.environ.update(environment)
    settings.cache_clear()
    settings()  # before the file of settings can no longer be read


def send(server: socket.socket, answer: Answer) -> None:
    """Give an answer in a file in memory, of which nothing stays here."""
    file = pack(answer)
    try:
        socket.send_fds(server, [ANSWER], [file])
    finally:
        os.close(file)


if __name__ == "__main__":
    main()
