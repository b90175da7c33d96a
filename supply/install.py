"""Install a lock into the environment that runs this: every package to the byte, and nothing else.

A build of torch that is there already from another index, such as one for the CPU, stays; what the usual build needs of
NVIDIA's is then left out.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from supply.lock import read_pins

#: What only torch's usual build needs.
GPU = ("nvidia-", "cuda-", "triton")

INSTALL = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:")


def has_own_torch() -> bool:
    """Whether a build of torch is installed that is not the usual one: its version has a label, as 2.14.1+cpu."""
    try:
        return "+" in version("torch")
    except PackageNotFoundError:
        return False


def choose(lock: str, *, own_torch: bool) -> str:
    """The part of a lock that is to be installed."""
    return "".join(pin.text for pin in read_pins(lock) if not (own_torch and pin.name.startswith(GPU)))


def install(lock: Path) -> int:
    """Install a lock by pip, which checks the hashes; returns its exit status."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as chosen:
        chosen.write(choose(lock.read_text(), own_torch=has_own_torch()))
        chosen.flush()
        return subprocess.run([*INSTALL, "--requirement", chosen.name]).returncode


if __name__ == "__main__":
    sys.exit(install(Path(sys.argv[1])))
