"""What comes from outside goes through one function on its way into what Streamlit reads as Markdown."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from components.plain_text import file_name, plain, plain_in_chart
from explainers.graph.class_names import read_class_names
from tests.conftest import ROOT
from tests.hostile_names import NAMES

#: The calls of Streamlit whose first text, label, help or caption is Markdown.
READERS = re.compile(
    "badge|button|chat_message|color_picker|date_input|dialog|feedback|camera_input|caption|checkbox|download_button|error|expander|file_uploader|form_submit_button|header|image|info|"
    "link_button|markdown|metric|multiselect|number_input|page_link|pills|popover|progress|radio|segmented_control|"
    "select_slider|selectbox|slider|spinner|status|subheader|success|table|tabs|text_area|text_input|title|toast|toggle|"
    "warning|write"
)

#: Attributes and functions that give text from outside, unless it is about what is ours.
OUTSIDE = re.compile(
    "author|caption|class_names|damage|decision_names|error|label|label_name|layer|name|name_target|reason|says|"
    "score_unit|signature|summary|tag|tell_number|tell_percentile|tell_score|title|title_of|unit|unreadable"
)
OURS = re.compile(r"method|kind|kinds\[.*|sample|parameter")

#: What keeps text from being read, or makes numbers of it.
KEEPERS = ("plain", "len", "round", "int", "float")


def find_calls(function: ast.AST) -> Iterator[tuple[ast.Call, ast.expr]]:
    """The texts in a function that Streamlit reads as Markdown, each with the call."""
    for call in ast.walk(function):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and READERS.fullmatch(call.func.attr):
            words = [one.value for one in call.keywords if one.arg in ("label", "help", "caption", "body", "text")]
            place = {"progress": 1, "image": 1}.get(call.func.attr, 0)
            for text in [*call.args[place : place + 1], *words]:
                yield call, text


def find_outsiders(text: ast.AST, known: dict[str, list[ast.expr]]) -> Iterator[str]:
    """What of a text comes from outside and is not kept from being read; names are looked up once."""
    if isinstance(text, ast.Call):
        function = text.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if name in KEEPERS:
            return
        if OUTSIDE.fullmatch(name):
            yield ast.unparse(text)
    elif isinstance(text, ast.Attribute) and OUTSIDE.fullmatch(text.attr):
        if not OURS.fullmatch(ast.unparse(text.value)):
            yield ast.unparse(text)
    elif isinstance(text, ast.Name):
        if text.id == "error":
            yield text.id
        for value in known.get(text.id, ()):
            yield from find_outsiders(value, {})
        return
    elif (isinstance(text, ast.FormattedValue) and text.format_spec) or isinstance(text, ast.Compare):
        return
    elif isinstance(text, ast.IfExp):
        for part in (text.body, text.orelse):
            yield from find_outsiders(part, known)
        return
    for child in ast.iter_child_nodes(text):
        yield from find_outsiders(child, known)


def find_in(source: str) -> list[str]:
    """What in a file's source comes from outside and is read as Markdown."""
    found = []
    for function in [step for step in ast.walk(ast.parse(source)) if isinstance(step, ast.FunctionDef)]:
        known: dict[str, list[ast.expr]] = {}
        for step in ast.walk(function):
            if isinstance(step, ast.Assign) and isinstance(step.targets[0], ast.Name):
                known.setdefault(step.targets[0].id, []).append(step.value)
        for call, text in find_calls(function):
            found += [f"line {call.lineno}: {outsider}" for outsider in find_outsiders(text, known)]
    return found


def test_no_text_from_outside_is_read_as_markdown() -> None:
    found = {
        path: find_in(path.read_text()) for folder in ("components", "pages") for path in (ROOT / folder).rglob("*.py")
    }
    assert {str(path.relative_to(ROOT)): lines for path, lines in found.items() if lines} == {}


def test_what_would_be_read_as_markdown_is_found() -> None:
    read = ("st.caption(one.name)", "st.button('x', help=f'{title_of(names)}')", "place.error(f'No: {error}')")
    assert all(find_in(f"def draw():\n    {line}") for line in read)
    kept = ("st.caption(plain(one.name))", "st.caption(f'{len(one.layer):,} {method.title}')", "st.html(one.name)")
    assert not any(find_in(f"def draw():\n    {line}") for line in kept)
    assert find_in("def draw():\n    words = f'of {picture.label}'\n    st.markdown(words)")


def test_a_plain_name_can_be_sent_is_one_line_and_keeps_its_letters() -> None:
    for name in NAMES:
        for kept in (plain(name), plain_in_chart(name)):
            assert len(kept.encode().splitlines()) == 1
    assert plain("a_*b*_c.png") == r"a\_\*b\*\_c\.png"
    assert plain("naïve 猫 7") == plain_in_chart("naïve 猫 7") == "naïve 猫 7"


def test_class_names_with_halves_of_letters_can_be_sent() -> None:
    assert read_class_names(rb'["\ud800x", "y"]', "names.json") == ("?x", "y")


def calls_in_code() -> Iterator[tuple[str, ast.Call]]:
    """All calls in components and pages, with the file's name."""
    for folder in ("components", "pages"):
        for path in (ROOT / folder).rglob("*.py"):
            yield from (
                (path.name, step) for step in ast.walk(ast.parse(path.read_text())) if isinstance(step, ast.Call)
            )


def test_errors_are_told_in_one_place_only_and_no_text_is_sent_as_html() -> None:
    names = [(file, ast.unparse(call.func)) for file, call in calls_in_code()]
    assert [file for file, name in names if name.endswith(".error")] == ["telling_errors.py"]
    assert not [file for file, name in names if name.endswith(".exception") and "st." in name]
    assert not [file for file, call in calls_in_code() for one in call.keywords if one.arg == "unsafe_allow_html"]


def test_what_people_take_along_is_called_by_a_file_name() -> None:
    """The name is written out, or comes from ``file_name``."""
    names = [call.args[2] for _, call in calls_in_code() if ast.unparse(call.func).endswith(".download_button")]
    assert len(names) > 8
    assert all(isinstance(name, ast.Constant) or ast.unparse(name).startswith("file_name(") for name in names)


def test_a_file_name_has_no_folder_no_control_and_an_end() -> None:
    hostile = (
        "../../etc/passwd",
        "a\\b",
        "C:x",
        "a\nb: c",
        "x\r\nSet-Cookie: a",
        "\u202egnp.exe",
        "",
        "...",
        "~",
        "a\0b",
        "é" * 500,
    )
    for name in (*hostile, *NAMES):
        made = file_name(name, "-cases.csv")
        assert made.endswith("-cases.csv")
        assert not re.search(r'[/\\:*?"<>|\x00-\x1f\u202e]', made)
        assert not made.startswith((".", " ", "-"))
        assert len(made.encode()) < 255
    assert file_name("benign/é 7.png", "-gradcam.png") == "benign_é 7.png-gradcam.png"
