"""Which part may know which: pages draw, components draw, explainers compute."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TORCH_FREE = {
    "cache",
    "compute",
    "errors",
    "images",
    "index",
    "jobs",
    "notes",
    "parameters",
    "preprocessing",
    "proposal",
    "prototypes",
    "regions",
    "results",
    "settings",
    "tables",
    "targets",
}


def imports(folder: str) -> list[tuple[str, str]]:
    """Every module that a folder's files import, with the file that does."""
    found = []
    for file in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [(str(file.relative_to(ROOT)), name) for name in names]
    return found


@pytest.mark.parametrize("folder", ["pages", "components"])
def test_what_draws_never_imports_torch(folder: str):
    assert [
        item for item in imports(folder) if item[1].split(".")[0] in ("torch", "torchvision", "timm", "captum")
    ] == []


@pytest.mark.parametrize("folder", ["pages", "components"])
def test_what_draws_uses_only_the_torch_free_part_of_the_explainers(folder: str):
    used = [(file, name) for file, name in imports(folder) if name.startswith("explainers.")]
    assert [item for item in used if item[1].split(".")[1] not in TORCH_FREE] == []


def test_explainers_never_import_streamlit():
    assert [item for item in imports("explainers") if item[1].split(".")[0] == "streamlit"] == []


def test_components_never_import_pages():
    assert [item for item in imports("components") if item[1].split(".")[0] == "pages"] == []


def test_importing_what_pages_need_does_not_import_torch():
    modules = ", ".join(f"explainers.{name}" for name in sorted(TORCH_FREE))
    code = f"import sys, sample_models, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_entry_stays_short():
    assert len((ROOT / "app.py").read_text().splitlines()) < 50
