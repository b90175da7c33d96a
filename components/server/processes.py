"""The processes that this one has started: how many of which kind, and their end."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

TASKS = Path("/proc/self/task")


def children() -> Mapping[int, str]:
    """The processes that this one has started, with the module of ours that each runs, "other" for none of ours.

    None are found where the system does not tell, which is elsewhere than on Linux.
    """
    numbers: list[str] = []
    for file in TASKS.glob("*/children"):
        with suppress(OSError):
            numbers += file.read_text().split()
    return {int(number): _name(number) for number in numbers}


def _name(number: str) -> str:
    with suppress(OSError):
        words = Path(f"/proc/{number}/cmdline").read_bytes().decode(errors="replace").split("\0")
        if "-m" in words[:-1]:
            return words[words.index("-m") + 1]
    return "other"


def end_children() -> None:
    """End every process that this one has started."""
    for number in children():
        with suppress(OSError):
            os.kill(number, signal.SIGKILL)
