"""Links as anybody may write them: whatever their parameters say, a page says something and never breaks."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

import sample_models
from components.link_numbers import MOST, read_count, read_whole
from components.navigation import GROUPS
from components.prototypes.family import default_layer
from components.references.index import reference_set
from components.scene import indexed_layers
from explainers.attribution.method import methods
from explainers.concepts.layers import list_layers
from explainers.index.building import find_store, start
from tests.conftest import ROOT
from tests.hostile_names import NAMES

pytestmark = pytest.mark.usefixtures("own_cache")

PAGES = [name for pages in GROUPS.values() for name, _, _ in pages if name != "activity"]
DIGITS = "9" * 5000
LINK = dict[str, list[str]]

#: What links say: of the case, of the view, of the sidebar; a question's parameters are added with its name.
PARAMETERS = [
    *("model", "image", "cases", "region", "source", "target", "versus", "methods", "every", "size", "opacity", "clip"),
    *("colours", "amounts", "fade", "positive", "layer", "strategy_layer", "count", "by", "from_strip", "concept"),
    *("origin", "factors", "strategies", "unusual", "unlike", "table", "view", "scope", "map_by", "reject"),
    *(f"{kind.name}.{parameter.name}" for kind in methods().values() for parameter in kind.parameters()),
]

#: Values of the right kind, of this model and of others, so that what is asked goes deep.
RIGHT = {
    "model": ["digits", "digits", "lesions-biased", "nobody"],
    "methods": [kind.title for kind in methods().values()],
    "cases": ["text=7", "is.label=7", "in.confidence=0..0.9", "in.name=0..1", "up=label", "down=data.x", "is.=&in.=1"],
    "target": ["7 (7)", "benign (0)", "Predicted class"],
    "versus": ["7 (7)", "Next best class", "What is usual"],
    "factors": ["digits/conv3.1!1x0,2x2", f"digits/conv3.1!{DIGITS}x0", "digits/conv3.1!31x0.5,99x2", "a/b!1x0"],
    "view": ["Strategies", "Map of the class", "Look at first", "Prototypical parts"],
    "region": ["1,1,9,1,9,9", "--5,1,1,1,1,1", ",".join(["9" * 400] * 6), "-9,-9,-9,-9,-9,-9", "1,2,3"],
    "layer": ["conv1", "conv2.1", "features.7"],
    "concept": ["0", "31", "32"],
    "origin": ["0", "31", "32"],
    "lrp.overrides": ["conv1=flat", "x=y", "*=", "[=z"],
}  # fmt: skip

HOSTILE = [
    *("", " ", "0", "1", "-1", "1.5", "nan", "inf", "-inf", "1e999", "99999", str(2**63), DIGITS, f"-{DIGITS}"),
    *("٣", "²", "true", "None", ",", ",,,,,,", "--5", "!", "0x0", "[]", "../..", "\0\x07", "é猫\u202e", "a" * 5000),
    *NAMES[:20],
]  # fmt: skip


@st.composite
def links(draw: st.DrawFn) -> LINK:
    """A link of one to four parameters, some of them given twice."""
    link = {"model": ["digits"]}
    for name in draw(st.lists(st.sampled_from(PARAMETERS), min_size=1, max_size=4, unique=True)):
        values = st.sampled_from([*(RIGHT.get(name, []) * 6), *HOSTILE]) | st.text(max_size=30)
        link[name] = draw(st.lists(values, min_size=1, max_size=2))
        if "." in name:
            link["methods"] = [methods()[name.partition(".")[0]].title]
    return link


def visit(page: str, link: LINK) -> AppTest:
    """Follow a link to a page of the real app, and see that it says something and did not break."""
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    for name, values in link.items():
        app.query_params[name] = values if len(values) > 1 else values[0]
    app._page_hash = calc_hash(page) if page != PAGES[0] else ""
    app.run()
    assert not app.exception, (page, link)
    assert any(one.value.startswith("# ") for one in app.main.markdown) or app.title or app.main.error or app.main.info
    return app


def parameters_in_code() -> Iterator[str]:
    """What the code reads from links or binds to them, where that is written out."""
    for path in [*(ROOT / "components").rglob("*.py"), *(ROOT / "pages").glob("*.py")]:
        for call in [step for step in ast.walk(ast.parse(path.read_text())) if isinstance(step, ast.Call)]:
            options = {one.arg: one.value for one in call.keywords}
            read = ast.unparse(call.func) in ("st.query_params.get", "say_in_link")
            named = call.args[0] if read else options.get("key") if "bind" in options else None
            if isinstance(named, ast.Constant):
                yield str(named.value)


def test_all_parameters_of_links_are_tried_here():
    assert set(parameters_in_code()) <= set(PARAMETERS)


@pytest.mark.parametrize(
    ("page", "name", "value"),
    [
        *[("concepts", name, value) for name in ("concept", "origin") for value in (DIGITS, "²")],
        ("concepts", "factors", f"digits/conv3.1!{DIGITS}x0"),
        ("attribution", "region", "--5,--5,--5,--5,--5,--5"),
        ("attribution", "region", ",".join(["9" * 400] * 6)),
        ("prototypes", "reject", DIGITS),
    ],
)
def test_a_link_with_a_number_that_is_none_shows_the_page(page: str, name: str, value: str):
    app = visit(page, {"model": ["digits"], name: [value]})
    assert app.error or app.main.markdown


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(PAGES), links())
def test_whatever_a_link_says_the_page_says_something(page: str, link: LINK):
    visit(page, link)


@pytest.mark.exhaustive
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(PAGES), links())
def test_whatever_a_link_says_the_page_says_something_also_with_an_index(page: str, link: LINK):
    build_index()
    visit(page, link)


def build_index() -> None:
    model = sample_models.load("digits")
    name, samples = reference_set(sample_models.models()["digits"].pictures)
    for layer in (list_layers(model).default, default_layer(model)):
        layers = indexed_layers(model, layer)
        if not find_store(model, layers, name).exists():
            start(model, samples, find_store(model, layers, name), layers).result()


def test_numbers_are_read_from_any_text_in_no_time():
    for text in HOSTILE:
        assert read_whole(text) in (None, 0, 1, -1, 99999, MOST, -MOST)
        assert read_count(text) is None or read_count(text) == read_whole(text)
