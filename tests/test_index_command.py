"""``python -m explainers index``: killed again and again it goes on where it was."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import sample_models
from explainers.__main__ import main
from explainers.index import Index, open_index
from tests.conftest import ROOT

SIDE = 12
COUNT = 1200


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 3),
    )
    batch = torch.export.Dim("batch")
    program = torch.export.export(module.eval(), (torch.zeros(2, 3, SIDE, SIDE),), dynamic_shapes=({0: batch},))
    file = tmp_path_factory.mktemp("model") / "model.pt2"
    torch.export.save(program, file)
    return file


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 255, (COUNT, SIDE, SIDE, 3), dtype=np.uint8)):
        label = folder / str(number % 3)
        label.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(label / f"{number:04}.png")
    return folder


def arguments(model_file: Path, data: Path, store: Path, *more: str) -> list[str]:
    return ["index", "--model", str(model_file), "--data", str(data), "--out", str(store), *more]


def values(index: Index) -> dict[str, np.ndarray]:
    """Everything an index holds, in the order of the pictures' names."""
    order = np.argsort(index.table["name"].to_numpy(), kind="stable")
    (layer,) = index.recipe.layers
    columns = {name: index.table[name].to_numpy() for name in index.table}
    relevances = {of: index.relevance(layer, of) for of in ("predicted", "label")}
    activations = {kind: index.activation(layer, kind) for kind in ("max", "mean")}
    return {name: column[order] for name, column in {**columns, **relevances, **activations}.items()}


@pytest.mark.exhaustive  # test_kills does so fifty times, without a command
def test_a_build_killed_at_random_moments_ends_with_the_rows_of_one_that_was_not(
    model_file: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-m", "explainers", *arguments(model_file, data, tmp_path / "killed", "--batch", "1")]
    moments, rows = random.Random(1), [0]
    for _ in range(3):
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"})
        while process.poll() is None and count_rows(tmp_path / "killed") <= rows[-1]:
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 0.5))
        process.kill()
        process.wait()
        rows.append(count_rows(tmp_path / "killed"))
    assert rows[1] < COUNT, "the build was over before it could be killed"
    assert main(arguments(model_file, data, tmp_path / "killed", "--batch", "1")) == 0
    assert f"{COUNT - rows[-1]} of {COUNT} images added" in capsys.readouterr().out
    assert main(arguments(model_file, data, tmp_path / "whole")) == 0
    killed, whole = (values(open_index(tmp_path / name)) for name in ("killed", "whole"))
    assert len(whole["name"]) == COUNT
    for name in whole:
        if whole[name].dtype == np.float32:
            np.testing.assert_allclose(killed[name], whole[name], rtol=1e-4, atol=1e-6)
        else:
            assert list(killed[name]) == list(whole[name])


def count_rows(store: Path) -> int:
    return len(open_index(store)) if (store / "manifest.json").exists() else 0


def test_a_sample_model_brings_its_own_images(tmp_path: Path) -> None:
    assert main(["index", "--model", "digits", "--out", str(tmp_path), "--batch", "100"]) == 0
    index = open_index(tmp_path)
    assert len(index) == len(sample_models.models()["digits"].references)
    assert (index.table["label"] >= 0).all()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("--data nowhere", "no folder"),
        ("--layers attic", "no layer 'attic'"),
        ("--composite tea-leaves", "no composite 'tea-leaves'"),
        ("--batch 0", "1 image"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(
    wrong: str, told: str, model_file: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(model_file, data, tmp_path, *wrong.split())) == 1
    assert told in capsys.readouterr().err
