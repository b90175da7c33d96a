"""Which part may know which: pages draw, components draw, explainers compute; arrows run down only."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("explainers", "components", "sample_models", "pages")


def files() -> list[Path]:
    return [file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))]


def name_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(file): file for file in files()}


def imports(file: Path) -> set[str]:
    """Every module that a file imports anywhere in it, ours as far as they have files."""
    found = set[str]()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            parts = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {part if part in MODULES else node.module for part in parts}
    return found


def arrows(group: str = "") -> dict[str, set[str]]:
    """What imports what among our modules."""
    return {
        name: {other for other in imports(file) if other in MODULES and other != name}
        for name, file in MODULES.items()
        if name.startswith(group)
    }


def require_no_circle(graph: dict[str, set[str]]) -> None:
    tuple(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_no_two_files_import_each_other_not_even_by_way_of_others():
    require_no_circle(arrows())


def room_of(name: str) -> str:
    """The folder of a file with all below it; the files on a house's ground floor are rooms of their own."""
    return ".".join(name.split(".")[:2])


def test_arrows_between_folders_run_down_only():
    rooms: dict[str, set[str]] = {}
    for name, others in arrows().items():
        rooms.setdefault(room_of(name), set()).update(room_of(other) for other in others)
    require_no_circle({room: others - {room} for room, others in rooms.items()})


def users(folders: Iterable[str], module: str) -> list[str]:
    return [
        name
        for name, file in MODULES.items()
        if name.split(".")[0] in folders and any(one.split(".")[0] == module for one in imports(file))
    ]


@pytest.mark.parametrize("module", ["torch", "torchvision", "timm", "captum"])
def test_what_draws_never_imports_torch(module: str):
    assert users(["pages", "components"], module) == []


@pytest.mark.parametrize("module", ["streamlit", "pages"])
def test_explainers_never_import_what_draws(module: str):
    assert users(["explainers"], module) == []


def test_components_never_import_pages():
    assert users(["components"], "pages") == []


def run(code: str) -> int:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode


def test_what_pages_import_of_the_explainers_does_not_import_torch():
    used = {one for group in ("pages", "components") for others in arrows(group).values() for one in others}
    needed = ", ".join(sorted(name for name in used if name.startswith(("explainers", "sample_models"))))
    assert run(f"import sys, {needed}; sys.exit('torch' in sys.modules)") == 0


def test_the_list_of_questions_and_the_command_line_do_not_import_torch():
    assert run("import sys, explainers.__main__ as main; main.parser(); sys.exit('torch' in sys.modules)") == 0


def test_no_function_is_longer_than_thirty_five_lines():
    long = [
        f"{name}.{node.name}: {node.end_lineno - node.lineno + 1}"
        for name, file in MODULES.items()
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef) and node.end_lineno and node.end_lineno - node.lineno >= 35
    ]
    assert long == []


def test_the_entry_stays_short():
    assert len((ROOT / "app.py").read_text().splitlines()) < 50
