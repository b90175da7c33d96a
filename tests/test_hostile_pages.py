"""On every page, what an outsider wrote reaches the browser as text, never in anything that is read as markup."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from PIL import Image
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from components.navigation import GROUPS
from explainers.graph.loader import load
from explainers.graph.model import Model
from explainers.images import find
from explainers.notes import shared_notes
from explainers.outputs import CLASSES, FINDINGS, NUMBERS
from explainers.settings import settings
from tests.conftest import ROOT
from tests.onnx_files import node, numbers, write

pytestmark = pytest.mark.usefixtures("own_cache")

#: What an outsider calls a thing: a forged link, bold HTML and what Plotly would fill in, with the thing's kind.
FORGED = "[log in again {}](http:evil.example) <b>bold {}</b> %{{forged}}"

#: How many pictures there are, as many as prototypes can be learnt from.
COUNT = 24

#: Where a browser reads no markup, by the message of Streamlit or the field.
TEXT = {
    "id",
    "alt",
    "default",
    "value",
    "values",
    "raw_values",
    "raw_value",
    "placeholder",
    "user_key",
    "key",
}
LISTS = {"Selectbox.options", "MultiSelect.options"}  # those of radio buttons, pills and segments are Markdown
TABLES = {"arrow_data_frame", "data", "url", "page_script_hash", "icon", "element_hash", "form_id"}


def called(kind: str) -> str:
    return FORGED.format(kind, kind)


def network(kind: str = CLASSES) -> Model:
    """A network whose layers, outputs, classes and unit are called by an outsider."""
    nodes = (
        node("Conv", ["image", "kernel"], ["first"], name=called("layer one"), pads=[1, 1, 1, 1]),
        node("Relu", ["first"], ["active"], name=called("layer two")),
        node("Conv", ["active", "second"], ["deep"], name=called("layer three"), pads=[1, 1, 1, 1]),
        node("Relu", ["deep"], ["lively"], name=called("layer four")),
        node("GlobalAveragePool", ["lively"], ["pooled"], name="pool"),
        node("Flatten", ["pooled"], ["flat"], name="flatten"),
        node("Gemm", ["flat", "dense"], ["scores"], transB=1, name="dense"),
    )
    weights = {"kernel": numbers(5, 3, 3, 3), "second": numbers(6, 5, 3, 3), "dense": numbers(3, 6)}
    data = write(*nodes, shape=("batch", 3, 16, 16), **weights)
    names = [called(f"class {number}") for number in range(3)]
    unit = {"unit": called("unit")[:60]} if kind == NUMBERS else {}
    model = load(data, "net.onnx", class_names=names, name=called("model"), kind=kind, **unit)
    return replace(model, info=replace(model.info, notes=(*model.info.notes, called("note"))))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with names, labels and a table that an outsider wrote."""
    folder = tmp_path_factory.mktemp("data")
    names = []
    for number in range(COUNT):
        place = folder / called(f"class {number % 2}").replace("/", "")
        place.mkdir(exist_ok=True)
        names.append(f"{number} {called('picture')}.png".replace("/", ""))
        pixels = np.random.default_rng(number).integers(0, 255, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(place / names[-1])
    values = [called(f"value {number % 2}") for number in range(COUNT)]
    pd.DataFrame({"file": names, called("column"): values, f"a {called('number')}": range(COUNT)}).to_csv(
        folder / "[table](http:evil.example) <b>.csv", index=False
    )
    return folder


def open_app(model: Model, page: str, link: dict[str, str]) -> AppTest:
    """Open a page on the network and the folder, with notes that an outsider wrote."""
    notes = shared_notes()
    for layer in model.info.layers:
        notes.name_concept(model.info.digest, layer.name, 0, called("concept"), called("author"))
        notes.name_concept(model.info.digest, layer.name, 1, called("other concept"), called("author"))
    pictures = [entry.read().digest for entry in find(settings().data)] if page == "attribution" and not link else []
    notes.tag_samples(pictures, called("tag"), called("author"))
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    app.session_state["uploaded_models"] = {model.info.name: model}
    app.session_state["chosen_model"] = model.info.name
    app.session_state["source"] = "Folder"
    for name, value in link.items():
        app.query_params[name] = value
    app._page_hash = calc_hash(page) if page != "attribution" else ""
    app.run()
    assert not app.exception
    return app


def texts(message: Message, path: str = "") -> Iterator[tuple[str, str]]:
    """All texts in what was sent to a browser, each with the names of the fields that lead to it."""
    for field, value in message.ListFields():
        place = f"{path}.{field.name}"
        if field.name in TEXT | TABLES or place in LISTS:
            continue
        many: Any = value if field.is_repeated else [value]
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for one in many:
                if isinstance(one, Message):
                    yield from texts(one, place)
        elif field.type == FieldDescriptor.TYPE_STRING:
            yield from ((place, text) for text in many)


def find_markup(app: AppTest) -> list[str]:
    """What an outsider wrote and a browser would read: links in Markdown, tags in HTML and charts."""
    found = []
    for block in walk(app._tree):
        kind = block.DESCRIPTOR.name
        for place, text in texts(block, kind):
            forged = {"PlotlyChart": ("<b>bold", "%{forged}"), "Html": ("<b>bold",)}.get(kind, ("[log in", "<b>bold"))
            text = text.replace("\\u003c", "<").replace("\\u003e", ">")  # as charts are sent
            for sign in forged:
                at = text.find(sign)
                while at >= 0:
                    if at == 0 or text[at - 1] != "\\":
                        found.append(f"{place}: {text[max(0, at - 40) : at + 60]}")
                        break
                    at = text.find(sign, at + 1)
    return found


def walk(block: Any) -> Iterator[Message]:
    if isinstance(getattr(block, "proto", None), Message):
        yield block.proto
    for child in getattr(block, "children", {}).values():
        yield from walk(child)


PAGES = [name for pages in GROUPS.values() for name, _, _ in pages]


#: Links that lead to every view, and to errors that quote them.
VIEWS: list[tuple[str, dict[str, str]]] = [
    *[(page, {}) for page in PAGES],
    *[("concepts", link) for link in ({"concept": "0"}, {"origin": "1"}, {"concept": "99"}, {"model": called("link")})],
    *[("strategies", {"view": view}) for view in ("Map of the class", "Look at first")],
    ("attribution", {"cases": "is.x=[log in](http:b) <b>bold&up=[log in c](http:d)&text=0"}),
    ("failures", {"cases": "text=[log in](http:b) <b>bold"}),
    ("attribution", {"methods": "Relevance (LRP)", "lrp.overrides": "[log in](http:y) <b>bold=z"}),
]

#: What must have been on some page, or the test would not show anything.
CARRIERS = {"layer", "class", "model", "note", "picture", "column", "value", "number", "concept", "author", "tag"}


def read(app: AppTest) -> set[str]:
    """The kinds of things that a page calls as an outsider does, once it has nothing that is read as markup."""
    assert not app.exception
    assert find_markup(app) == []
    sent = " ".join(text for block in walk(app._tree) for _, text in texts(block))
    return set(re.findall(r"log in again (?:other )?(\w+)", sent))


@pytest.mark.parametrize(
    "kind", [CLASSES, *[pytest.param(one, marks=pytest.mark.exhaustive) for one in (FINDINGS, NUMBERS)]]
)
def test_no_page_has_markup_that_an_outsider_wrote(folder: Path, bounds: Callable[..., None], kind: str) -> None:
    bounds(data=folder)
    model, seen = network(kind), set[str]()
    for page, link in VIEWS:
        app = open_app(model, page, link)
        seen |= read(app)
        for press in ("Build the index", "Name"):
            for button in [button for button in app.button if str(button.label).startswith(press)][:1]:
                seen |= read(button.click().run(timeout=120))
    assert seen >= CARRIERS | ({"unit"} if kind == NUMBERS else set())


def draw_carelessly() -> None:
    import streamlit as st

    forged = "[log in](http:evil.example) <b>bold</b> %{forged}"
    st.radio(forged, ["x", forged], help=forged)
    st.html(f"<p>{forged}</p>")
    st.plotly_chart({"data": [{"type": "bar", "x": [1], "y": [2], "hovertemplate": forged}]})


def test_markup_that_an_outsider_wrote_is_found_wherever_it_is() -> None:
    found = {line.partition(":")[0] for line in find_markup(AppTest.from_function(draw_carelessly).run())}
    assert found == {"Radio.label", "Radio.options", "Radio.help", "Html.body", "PlotlyChart.spec"}
