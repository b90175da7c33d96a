"""Locks: every package that is installed, to the byte. `make lock` writes them, `make check` compares, offline."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent

#: Each lock, the file that people edit, and a lock whose versions it takes over.
LOCKS = {
    "requirements.lock": ("requirements.txt", None),
    "requirements-test.lock": ("requirements-test.txt", "requirements.lock"),
    "supply/requirements.lock": ("supply/requirements.txt", None),
}

#: For every system and every Python from the oldest on; wheels only, so that nothing is run to install a package.
COMPILE = ("--universal", "--python-version", "3.11", "--only-binary", ":all:", "--generate-hashes", "--no-config")

DIGEST = "# Of requirements with SHA-256 "


@dataclass(frozen=True)
class Pin:
    """One package of a lock: its name, its version, and all lines that say so."""

    name: str
    version: str
    text: str


def read_pins(lock: str) -> list[Pin]:
    """The packages of a lock's text."""
    parts = re.split(r"^(?=[\w.-]+==)", lock, flags=re.MULTILINE)[1:]
    heads = [re.split("[= ;\\\\]+", part, maxsplit=2) for part in parts]
    return [Pin(head[0], head[1], part) for head, part in zip(heads, parts, strict=True)]


def read_requirements(file: Path) -> list[str]:
    """The lines of a file of requirements without comments, and those of the files that it names, in order."""
    found: list[str] = []
    for line in file.read_text().splitlines():
        line = line.split("#")[0].strip()
        if line.startswith("-r "):
            found += read_requirements(file.parent / line[3:].strip())
        elif line:
            found.append(line)
    return sorted(set(found))


def digest(file: Path) -> str:
    """What changes whenever requirements do."""
    return hashlib.sha256("\n".join(read_requirements(file)).encode()).hexdigest()


def write(root: Path, name: str) -> None:
    """Write a lock with uv, which keeps the versions that it finds there; raises CalledProcessError."""
    source, versions = LOCKS[name]
    constraint = ["--constraint", versions] if versions else []
    options = [*COMPILE, *constraint, "--custom-compile-command", "make lock", "--quiet", "--output-file", name]
    # Whatever index or mirror this machine is told of is no part of a lock.
    clean = {variable: value for variable, value in os.environ.items() if not variable.startswith(("PIP_", "UV_"))}
    subprocess.run(["uv", "pip", "compile", source, *options], cwd=root, env=clean, check=True)
    text = (root / name).read_text()
    (root / name).write_text(f"{DIGEST}{digest(root / source)}.\n{text}")


def find_faults(root: Path, name: str) -> list[str]:
    """What is wrong with a lock, in sentences."""
    source, lock = LOCKS[name][0], (root / name).read_text() if (root / name).exists() else ""
    if not lock.startswith(f"{DIGEST}{digest(root / source)}.\n"):
        return [f"{name} was not made of {source} as it is now. Run `make lock`."]
    pins = read_pins(lock)
    pinned = {f"{pin.name}=={pin.version}" for pin in pins}
    wanted = {normalise(line) for line in read_requirements(root / source)}
    faults = [f"{name} lacks {line}. Run `make lock`." for line in sorted(wanted - pinned)]
    faults += [
        f"{name} has no hash for {pin.name}. Run `make lock`." for pin in pins if "--hash=sha256:" not in pin.text
    ]
    if "://" in lock or "file:" in lock:
        faults.append(f"{name} names a place from which packages come. Run `make lock`.")
    return faults


def normalise(line: str) -> str:
    """A pinned requirement as locks write it."""
    name, _, version = line.partition("==")
    return f"{re.sub('[-_.]+', '-', name).lower()}=={version}"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit("\n".join(fault for name in LOCKS for fault in find_faults(ROOT, name)) or 0)
    for lock_name in LOCKS:
        write(ROOT, lock_name)
