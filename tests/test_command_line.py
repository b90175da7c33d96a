"""The command line, on the real model and a real photograph."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from explainers.__main__ import main
from explainers.attribution.method import methods
from sample_models.gallery import PICTURES

pytestmark = pytest.mark.usefixtures("own_cache")

COFFEE = str(PICTURES.named("coffee").path)


def test_coffee_is_called_espresso_and_its_heatmap_is_written(tmp_path: Path):
    out, result, array = tmp_path / "heatmap.png", tmp_path / "result.json", tmp_path / "scores.npz"
    command = f"attribute --model efficientnet-lite0 --image {COFFEE} --method gradcam --target predicted"
    assert main([*command.split(), "--out", str(out), "--json", str(result), "--array", str(array)]) == 0
    said = json.loads(result.read_text())
    assert said["predictions"][0]["class"] == said["target"] == "espresso"
    assert said["predictions"][0]["probability"] > 0.9
    assert said["provenance"]["passes"] == {"forward": 1, "backward": 1, "images": 1}
    with Image.open(out) as heatmap:
        assert heatmap.size == (448, 448)
    with np.load(array) as file:
        assert file["values"].shape == (224, 224)
        assert file["values"].sum() == pytest.approx(said["sum"])


def test_a_parameter_reaches_the_method(capsys: pytest.CaptureFixture[str]):
    command = f"attribute --model efficientnet-lite0 --image {COFFEE} --method gradcam --set layer=blocks.3"
    assert main(command.split()) == 0
    assert json.loads(capsys.readouterr().out)["provenance"]["parameters"] == {"layer": "blocks.3"}


def test_models_and_methods_are_listed(capsys: pytest.CaptureFixture[str]):
    assert main(["models"]) == main(["methods"]) == 0
    listed = capsys.readouterr().out
    assert "efficientnet-lite0" in listed
    assert all(name in listed for name in methods())


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("--model nothing", "neither a sample model (efficientnet-lite0"),
        ("--image nothing.png", "no file nothing.png"),
        ("--method nothing", "no method 'nothing'"),
        ("--target nothing", "no class 'nothing'"),
        ("--set layer", "lacks a value"),
        ("--set size=3", "no parameter 'size'"),
        ("--set layer=blokcs.3", "no layer 'blokcs.3'"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(wrong: str, told: str, capsys: pytest.CaptureFixture[str]):
    command = f"attribute --model efficientnet-lite0 --image {COFFEE} {wrong}"
    assert main(command.split()) == 1
    assert told in capsys.readouterr().err
