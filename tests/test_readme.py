"""What the README says is true."""

import re
import shutil
from pathlib import Path

import pytest

from sample_models.gallery import PICTURES
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()


def test_the_five_lines_of_python_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    shutil.copy(PICTURES.named("coffee").path, tmp_path / "coffee.png")
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(example, {})
    assert capsys.readouterr().out.startswith("espresso (224, 224)")


def test_every_folder_it_names_exists():
    named = re.findall(
        r"`((?:app|pages|components|explainers|sample_models|benchmarks|tests)[\w/]*[/.][\w.]*)`", README
    )
    assert len(named) > 8
    assert [name for name in named if not (ROOT / name).exists()] == []
