"""Ask the Python Packaging Advisory Database what is known against the packages of a lock, by pip-audit."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

COMMAND = ("pip-audit", "--disable-pip", "--require-hashes", "--progress-spinner", "off", "--format", "json")

UNREACHED = "Skipped: no database of vulnerabilities can be reached from here. Run `make audit` where the internet is."


def judge(told: str) -> tuple[str, bool]:
    """Say in words what pip-audit told, and whether anything is known against a package.

    A package that the index cannot tell about was not checked: pip-audit itself calls that "no known vulnerabilities".
    """
    packages: list[dict[str, Any]] = json.loads(told)["dependencies"] if told.strip() else []
    checked = [package for package in packages if "skip_reason" not in package]
    if not checked:
        return UNREACHED, False
    known = [
        f"{package['name']} {package['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'none'}."
        for package in checked
        for flaw in package["vulns"]
    ]
    unchecked = [package["name"] for package in packages if "skip_reason" in package]
    words = [f"{len(checked)} packages were looked up; {len(known)} vulnerabilities are known.", *known]
    if unchecked:
        words.append(f"Not known to the database: {', '.join(unchecked)}.")
    return "\n".join(words), bool(known)


def main(lock: str) -> int:
    """Print what is known; returns 1 if there is anything."""
    told = subprocess.run([*COMMAND, "--requirement", lock], capture_output=True, text=True)
    words, found = judge(told.stdout)
    print(words)
    return int(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
