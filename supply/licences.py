"""The licences of what is installed at run time, as a table, and what of it asks something of who passes it on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from supply.lock import ROOT, read_pins

#: Libraries that wheels bring along under a licence that the wheel's own metadata do not name.
BUNDLED = {
    "libx265": "GPL-2.0",
    "libx264": "GPL-2.0",
    "libheif": "LGPL-3.0",
    "libde265": "LGPL-3.0",
    "libgfortran": "GPL-3.0 with the exception for run-time libraries",
    "libgomp": "GPL-3.0 with the exception for run-time libraries",
    "libquadmath": "LGPL-2.1",
}

COPYLEFT = re.compile(r"\b(A?GPL|LGPL|MPL|EUPL|GNU|Mozilla)", re.IGNORECASE)

#: The GPL and the AGPL, by any of their names; the exception for run-time libraries lets anything be linked.
STRONG = re.compile(r"\bA?GPL|(?<!Lesser )General Public License|\bAffero\b", re.IGNORECASE)
WEAK = re.compile(r"LGPL|Lesser General Public License|Library General Public License|exception", re.IGNORECASE)

HEAD = """# Licences of what Lightbox runs on

Made by `make licences` from what is installed on Linux; *beside* names libraries inside a package's wheel that have
another licence.

| package | version | licence | beside | copyleft |
| --- | --- | --- | --- | --- |
"""


@dataclass(frozen=True)
class Licence:
    """What a package says of its licence, and those of libraries inside it."""

    package: str
    version: str
    stated: str
    beside: tuple[str, ...]

    @property
    def copyleft(self) -> list[str]:
        """What asks for something when it is passed on."""
        return [words for words in (self.stated, *self.beside) if COPYLEFT.search(words)]

    @property
    def strong(self) -> list[str]:
        """What would make all of an app that is passed on with it free software: GPL and AGPL."""
        parts = [part for words in (self.stated, *self.beside) for part in re.split(r" AND |; ", words)]
        return [part for part in parts if STRONG.search(part) and not WEAK.search(part) and " OR " not in part]


def read_licence(package: Distribution) -> Licence:
    """Read a licence from an expression (PEP 639), else from classifiers and a statement of one line."""
    told = package.metadata
    classified = [line.split(" :: ")[-1] for line in told.get_all("Classifier") or [] if line.startswith("License ::")]
    written = (told.get_all("License") or [""])[0].strip()
    short = [written] if written and written != "UNKNOWN" and len(written) < 80 and "\n" not in written else []
    stated = (told.get_all("License-Expression") or [""])[0] or "; ".join(dict.fromkeys(short + classified))
    return Licence(told["Name"], package.version, stated or "not stated", find_bundled(package))


def find_bundled(package: Distribution) -> tuple[str, ...]:
    """The libraries inside a wheel that have a licence of their own."""
    names = {Path(str(file)).name.split("-")[0].split(".")[0] for file in package.files or []}
    return tuple(f"{name} ({BUNDLED[name]})" for name in sorted(names & BUNDLED.keys()))


def read_licences(lock: Path) -> list[Licence]:
    """The licences of all packages of a lock that are installed here."""
    found: dict[str, Licence] = {}
    for pin in read_pins(lock.read_text()):
        try:
            found[pin.name] = read_licence(distribution(pin.name))
        except PackageNotFoundError:  # for another system, or another Python
            continue
    return list(found.values())


def draw(licences: list[Licence]) -> str:
    """The table in Markdown."""
    lines = [
        f"| {one.package} | {one.version} | {one.stated.replace('|', ' ')} | {', '.join(one.beside)} "
        f"| {'yes' if one.copyleft else ''} |"
        for one in licences
    ]
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    (ROOT / "LICENCES.md").write_text(draw(read_licences(ROOT / "requirements.lock")))
