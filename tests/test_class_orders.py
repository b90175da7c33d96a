"""Labels that are no class: proposed as names in the order that agrees with what the model says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest
from torch import nn

from components import session
from explainers.__main__ import main
from explainers.cases.dataset import Dataset, collect
from explainers.cases.orders import compare_orders, find_orders, rename
from explainers.graph.export import Reading, export
from explainers.graph.model import Model
from explainers.images import Sample, find
from explainers.index import open_index
from explainers.outputs import CLASSES, FINDINGS
from explainers.preprocessing import Preprocessing

#: The clothes that the network knows by their colours, in the order of its outputs.
CLOTHES = {"coat 10": (250, 10, 10), "coat 2": (10, 250, 10), "pullover": (10, 10, 250)}
SIDE = 8


class Colours(nn.Module):
    """A network whose outputs are the means of the colours."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 1, bias=False)
        self.convolution.weight.data = torch.eye(3)[:, :, None, None]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Give the means."""
        return self.convolution(images).relu().mean((2, 3))


@cache
def model(kind: str = CLASSES) -> Model:
    return export(Colours().eval(), "colours", Preprocessing((SIDE, SIDE), SIDE), reading=Reading(kind=kind))


def relabel(folder: Path, labels: Iterable[str]) -> list[Sample]:
    """The pictures of a folder with other labels, in the order of CLOTHES."""
    names = dict(zip(CLOTHES, labels, strict=True))
    return [replace(entry, label=names[entry.label or ""]) for entry in find(folder)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of clothes in folders; one coat 2 looks like a pullover."""
    folder = tmp_path_factory.mktemp("clothes")
    for label, colour in CLOTHES.items():
        (folder / label).mkdir()
        for number in range(4):
            own = CLOTHES["pullover"] if (label, number) == ("coat 2", 3) else colour
            pixels = np.full((SIDE, SIDE, 3), own, np.uint8) - np.uint8(number)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


def test_each_order_comes_with_how_many_answers_are_right(folder: Path, own_cache: None) -> None:
    found = compare_orders(model(), collect(find(folder)))
    assert [(order.names, order.right, order.known) for order in found] == [
        (("coat 10", "coat 2", "pullover"), 11, 12),
        (("coat 2", "coat 10", "pullover"), 4, 12),
    ]
    assert "ImageFolder" in found[0].how
    assert found[0].sentence.endswith("11 of 12 right")


def test_a_model_with_other_names_gives_the_same_results() -> None:
    renamed = rename(model(), ("a", "b", "c"))
    assert (renamed.info.class_names, renamed.info.digest) == (("a", "b", "c"), model().info.digest)
    assert renamed.program is model().program


@pytest.mark.parametrize("labels", ["012", ("coat", "shirt", "coat"), ("Class 1", "class 0", "class_2")])
def test_nothing_is_proposed_where_labels_are_classes_or_not_as_many(labels: Iterable[str], folder: Path) -> None:
    assert find_orders(model().info, collect(relabel(folder, labels))) == []


def test_labels_that_count_from_one_are_proposed_as_names(folder: Path) -> None:
    assert find_orders(model().info, collect(relabel(folder, "123")))[0].names == ("1", "2", "3")


def test_findings_may_be_in_the_order_of_the_columns(folder: Path) -> None:
    entries = relabel(folder, ("red", "green", "blue"))
    dataset = Dataset(entries, collect(entries).metadata, order=("red", "green", "blue"))
    found = find_orders(model(FINDINGS).info, dataset)
    assert {order.names: order.how for order in found} == {
        ("blue", "green", "red"): "alphabetical, as torchvision's ImageFolder sorts",
        ("red", "green", "blue"): "as the columns come",
    }


def save(folder: Path) -> Path:
    program = torch.export.export(
        Colours().eval(), (torch.zeros(2, 3, SIDE, SIDE),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    torch.export.save(program, folder / "colours.pt2")
    return folder / "colours.pt2"


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    return save(tmp_path_factory.mktemp("model"))


def build(model_file: Path, data: Path, store: Path, *more: str) -> int:
    return main(["index", "--model", str(model_file), "--data", str(data), "--out", str(store), *more])


def test_the_command_line_says_which_order_agrees(
    model_file: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], own_cache: None
) -> None:
    assert build(model_file, folder, tmp_path) == 0
    told = capsys.readouterr().err
    assert "None of the labels coat 2, coat 10, pullover is the name of a class (class 0, class 1, class 2)." in told
    assert "coat 10, coat 2, pullover (alphabetical, as torchvision's ImageFolder sorts): 11 of 12 right" in told
    assert "--classes-from-folders" in told
    assert (open_index(tmp_path).table["label"] == -1).all()


def test_the_command_line_takes_names_from_folders(model_file: Path, folder: Path, tmp_path: Path) -> None:
    assert build(model_file, folder, tmp_path, "--classes-from-folders") == 0
    index = open_index(tmp_path)
    assert index.recipe.class_names == ("coat 10", "coat 2", "pullover")
    assert (index.table["label"] == index.table["predicted"]).sum() == 11


def test_the_command_line_takes_labels_from_a_table(
    model_file: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "clothes.csv"
    rows = [f"{label}/{number}.png,{place},{2 - place}" for place, label in enumerate(CLOTHES) for number in range(4)]
    table.write_text("\n".join(["file,label,reversed", *rows]))
    assert build(model_file, folder, tmp_path / "one", "--table", str(table)) == 0
    assert (open_index(tmp_path / "one").table.query("label == predicted")).shape[0] == 11
    assert "column of labels is label" in capsys.readouterr().err
    assert build(model_file, folder, tmp_path / "two", "--table", str(table), "--label", "reversed") == 0
    assert (open_index(tmp_path / "two").table.query("label == predicted")).shape[0] == 3
    assert build(model_file, folder, tmp_path / "three", "--table", str(table), "--label", "colour") == 1
    assert "has the columns colour. There are clothes.csv: file, label, reversed." in capsys.readouterr().err


def draw() -> None:
    import streamlit as st

    from components.class_proposal import tell_labels
    from components.session import uploaded_models

    model = uploaded_models().get("colours") or st.session_state["other"]
    tell_labels(model, st.session_state["dataset"])


def test_the_page_offers_the_orders_of_ones_own_model_and_takes_one_at_a_click(
    folder: Path, own_cache: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "own", lambda *contents: None)  # there is no server that would end the session
    page = AppTest.from_function(draw)
    page.session_state["other"], page.session_state["dataset"] = model(), collect(find(folder))
    page.run(timeout=30)
    assert "None of the labels" in page.info[0].value
    assert not page.button
    page.session_state["uploaded_models"] = {"colours": model()}
    for _ in range(100):
        page.run(timeout=30)
        if page.button:
            break
    assert [r"11 of 12 right" in caption.value for caption in page.caption[1:]] == [True, False]
    page.button[0].click().run(timeout=30)
    assert page.session_state["uploaded_models"]["colours"].info.class_names == ("coat 10", "coat 2", "pullover")
    assert not page.info
    assert not page.exception
