"""Contestants in processes of their own that run in turn: time, peak memory, passes, and whether they find the same.

All prepare at once and then run one after the other, several rounds, the order turned by one each round; a ratio is the
median over the rounds, so that a machine that slows down in between does not decide it. Peak memory is what a process
held at most above what it held with its network loaded, the first run included.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from explainers.jobs import Passes, passes

#: Loads what a contestant needs and returns what is measured; a function at the top of a module, or a partial of one.
Prepare = Callable[[], Callable[[], Tensor]]

#: So many rounds are run in any case; more only within so many seconds.
FEWEST, BUDGET = 3, 25.0

#: How long a contestant may take to leave, in seconds.
PATIENCE = 10.0


@dataclass
class Measured:
    """What was measured of one contestant; ``found`` is what it returned, in one row."""

    seconds: list[float] = field(default_factory=list)
    megabytes: float = 0.0
    passes: Passes = field(default_factory=Passes)
    found: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def median(self) -> float:
        """The median of the rounds in seconds."""
        return statistics.median(self.seconds)

    def ratio(self, other: Measured) -> float:
        """How many times longer this one took than the other."""
        return statistics.median(a / b for a, b in zip(self.seconds, other.seconds, strict=True))

    def cosine(self, other: Measured) -> float:
        """How alike what both found is."""
        return float(self.found @ other.found / (np.linalg.norm(self.found) * np.linalg.norm(other.found)))


def hold(contestants: Mapping[str, Prepare], rounds: int, threads: int) -> dict[str, Measured]:
    """Run all in turn, once to warm up and then ``rounds`` times."""
    measured = {name: Measured() for name in contestants}
    with running(contestants, threads) as pipes:
        for name, pipe in pipes.items():
            _, measured[name].passes, measured[name].found = ask(pipe, "run")
        begin, order = time.monotonic(), list(pipes)
        for number in range(rounds):
            if number >= FEWEST and time.monotonic() - begin > BUDGET:
                break
            for name in order:
                measured[name].seconds.append(ask(pipes[name], "run")[0])
            order = order[1:] + order[:1]
        for name, pipe in pipes.items():
            measured[name].megabytes = ask(pipe, "memory")
    return measured


def ask(pipe: Connection, what: str) -> Any:
    pipe.send(what)
    return pipe.recv()


def describe_machine(packages: Sequence[str], threads: int) -> str:
    """The processor, its threads and the versions of all contestants."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    processor = next((line.partition(":")[2].strip() for line in lines if "model name" in line), platform.processor())
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return f"{processor}, {threads} threads, Python {platform.python_version()}, {versions}"


@contextmanager
def running(contestants: Mapping[str, Prepare], threads: int) -> Iterator[dict[str, Connection]]:
    """Start a process for each contestant and wait until all are ready."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    try:
        for name, prepare in contestants.items():
            pipes[name], end = context.Pipe()
            processes.append(context.Process(target=serve, args=(end, prepare, threads), daemon=True))
            processes[-1].start()
            end.close()
        for pipe in pipes.values():
            pipe.recv()
        yield pipes
    finally:
        for pipe in pipes.values():
            with suppress(OSError):  # of one that has failed
                pipe.send("end")
        for process in processes:
            process.join(PATIENCE)
            process.terminate()


def serve(pipe: Connection, prepare: Prepare, threads: int) -> None:
    """Be a contestant: run when asked to."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    run, base = prepare(), forget_peak()
    pipe.send("ready")
    while (asked := pipe.recv()) != "end":
        pipe.send(measure(run) if asked == "run" else read_memory("VmHWM") - base)


def measure(run: Callable[[], Tensor]) -> tuple[float, Passes, np.ndarray]:
    """Run once; returns seconds, passes and what was found, colours summed."""
    counts = Passes()
    token = passes.set(counts)
    start = time.perf_counter()
    found = run()
    seconds = time.perf_counter() - start
    passes.reset(token)
    summed = found.sum(1) if found.dim() == 4 else found
    return seconds, counts, summed.detach().double().flatten().numpy()


def forget_peak() -> float:
    """Give back what loading left over and begin a new peak (Linux); returns what the process holds in MiB."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return read_memory("VmRSS")


def read_memory(line: str) -> float:
    """Read a line of the kernel's account of this process, in MiB."""
    found = re.search(rf"{line}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


def count_passes(module: nn.Module) -> nn.Module:
    """Count a network's forward passes, and calls of autograd that are in no other (rules of LRP make such)."""

    def forward(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        counts = passes.get(Passes())  # of nobody while a contestant prepares
        counts.forward, counts.images = counts.forward + 1, counts.images + len(inputs[0])

    module.register_forward_pre_hook(forward)
    inside: list[str] = []
    for name in ("grad", "backward"):
        setattr(torch.autograd, name, count_calls(getattr(torch.autograd, name), inside))
    return module


def count_calls(call: Callable[..., object], inside: list[str]) -> Callable[..., object]:
    """Count the calls of a function as backward passes, unless one is under way."""

    def counted(*arguments: object, **keywords: object) -> object:
        passes.get(Passes()).backward += not inside
        inside.append("")
        try:
            return call(*arguments, **keywords)
        finally:
            inside.pop()

    return counted
