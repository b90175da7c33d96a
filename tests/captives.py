"""A confined process that tries what it must not: ``python -m tests.captives FOLDER FILE...`` prints the outcome."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from explainers.confinement import confine, end_with


def attempts(folder: Path, secrets: list[Path]) -> dict[str, Callable[[], object]]:
    """What a confined process may try, by name."""
    parent, libc = os.getppid(), ctypes.CDLL(None, use_errno=True)
    memory = ctypes.create_string_buffer(8)

    def call(number: int, *arguments: object) -> object:
        result = libc.syscall(number, *arguments)
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return result

    return {
        "open a TCP socket": lambda: socket.create_connection(("127.0.0.1", 9)),
        "open a UDP socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "open a unix socket": lambda: socket.socket(socket.AF_UNIX),
        "open a netlink socket": lambda: socket.socket(socket.AF_NETLINK),
        "make a pair of sockets": socket.socketpair,
        "run a program": lambda: subprocess.run([sys.executable, "-c", ""], check=False),
        "become a program": lambda: os.execv(sys.executable, [sys.executable, "-c", ""]),
        "start a process": os.fork,
        "trace the parent": lambda: call({"x86_64": 101}.get(os.uname().machine, 117), 16, parent, None, None),
        "read the parent's memory by a call": lambda: call(
            {"x86_64": 310}.get(os.uname().machine, 270), parent, memory, 1, memory, 1, 0
        ),
        "read the parent's memory": lambda: Path(f"/proc/{parent}/mem").open("rb"),
        "read the parent's environment": lambda: Path(f"/proc/{parent}/environ").read_bytes(),
        "list processes": lambda: os.listdir("/proc"),
        "kill the parent": lambda: os.kill(parent, signal.SIGKILL),
        "kill the parent's group": lambda: os.kill(0, signal.SIGKILL),
        "outlive the parent": lambda: (_ for _ in ()).throw(OSError()) if libc.prctl(1, 0, 0, 0, 0) else None,
        "open a ring of calls": lambda: call(425, 1, ctypes.create_string_buffer(120)),
        "begin a namespace": lambda: call({"x86_64": 272}.get(os.uname().machine, 97), 0x10000000),
        "list the folder of temporary files": lambda: os.listdir("/tmp"),
        "list shared memory": lambda: os.listdir("/dev/shm"),
        "read the system's passwords": lambda: Path("/etc/shadow").read_bytes(),
        "reach a file through the root of a process": lambda: Path("/proc/self/root/etc/passwd").read_bytes(),
        "link to a file": lambda: os.link(secrets[0], folder / "link"),
        "change a file's mode": lambda: secrets[0].chmod(0o777),
        "cut a file": lambda: os.truncate(secrets[0], 0),
        **{f"read {secret.name}": secret.read_bytes for secret in secrets},
        **{f"write beside {secret.name}": (secret.parent / "new").touch for secret in secrets},
        **{f"remove {secret.name}": secret.unlink for secret in secrets},
    }


def duties(folder: Path) -> dict[str, Callable[[], object]]:
    """What it must be able to do all the same, by name."""
    return {
        "write in its folder": lambda: (folder / "own").write_text("words"),
        "rename in its folder": lambda: (folder / "own").rename(folder / "other"),
        "read in its folder": (folder / "other").read_text,
        "start a thread": lambda: threading.Thread(target=int).start(),
        "import what it needs late": lambda: __import__("numpy").ones(3).sum(),
        "draw random bytes": lambda: Path("/dev/urandom").open("rb").read(8),
    }


def try_out(tasks: dict[str, Callable[[], object]]) -> dict[str, str]:
    """Do tasks one after the other; returns the kind of error for each, "" if it was done."""
    found = {}
    for name, task in tasks.items():
        try:
            task()
            found[name] = ""
        except OSError as error:
            found[name] = type(error).__name__
    return found


if __name__ == "__main__":
    folder, *secrets = map(Path, sys.argv[1:])
    end_with(os.getppid())
    walls = confine(folder)
    print(json.dumps([walls, try_out(attempts(folder, secrets)), try_out(duties(folder))]))
