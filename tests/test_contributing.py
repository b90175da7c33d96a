"""What CONTRIBUTING says works: a method added in one file."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sample_models.gallery import PICTURES
from tests.conftest import ROOT

(EXAMPLE,) = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with the example's file in it."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("components", "explainers", "sample_models", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "explainers" / "attribution" / "vargrad.py").write_text(EXAMPLE)
    return folder


def run(folder: Path, *command: str) -> str:
    done = subprocess.run([sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_example_explains_a_picture_from_the_command_line(copy: Path, tmp_path: Path) -> None:
    picture, heatmap = str(PICTURES.named("coffee").path), tmp_path / "map.png"
    run(copy, "explainers", "attribute", "--model", "efficientnet-lite0", "--image", picture, "--method", "vargrad",
        "--out", str(heatmap))  # fmt: skip
    assert heatmap.stat().st_size > 1000


def test_the_example_passes_the_conformance_tests(copy: Path) -> None:
    told = run(copy, "pytest", "tests/test_conformance.py", "tests/test_questions.py", "-k", "vargrad")
    (passed,) = re.findall(r"(\d+) passed", told)
    assert int(passed) > 20


def test_the_example_is_written_as_the_project_is(copy: Path) -> None:
    path = "explainers/attribution/vargrad.py"
    run(copy, "ruff", "format", "--check", path)
    run(copy, "ruff", "check", path)
