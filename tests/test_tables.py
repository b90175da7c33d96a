"""Tables as CSV: nothing in them is computed by a spreadsheet, and names come back as they went."""

from __future__ import annotations

import ast
import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explainers.tables import quote, unquote, write_csv
from tests.conftest import ROOT

FORMULAS = [
    *('=HYPERLINK("http://a")', "+cmd|x", "-rim", "@SUM(A1)", "\t=1", "'=1", "\r=1", "\n=1", " =1", '"=1', "\ufeff=1"),
    *("hair;=1", "hair; =1", "hair\t=1", 'hair;"=1', "hair;'=1", "a;b;-1+1|c", "hair\n=1", "hair\r\n@x", "=1;=1;+1"),
    *(
        "\uff1d1",
        "\uff0bx",
        "a;\uff0dx",
        "\uff20x",
        "\u200b=1",
        "\xa0=1",
        "-inf",
        "-1_0",
        "-1;=x",
        "\x00=1",
        "=1\ud800",
    ),
]

#: What the signs of a formula and of a table make together.
TEXTS = st.text(alphabet=st.sampled_from("=+-@\uff1d;,\t\r\n'\" 1a\ufeff"), max_size=12) | st.text(max_size=20)


def read(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode(), newline="")))


def cells(data: bytes, separators: str) -> list[str]:
    """The cells of a spreadsheet that splits at other signs: quotes hold only where they begin a cell."""
    found = []
    for separator in separators:
        for row in csv.reader(io.StringIO(data.decode().replace("\0", ""), newline=""), delimiter=separator):
            found += [text for cell in row for text in cell.splitlines()]
    return found


def runs(cell: str) -> bool:
    """Whether a spreadsheet might compute a cell: it begins as a formula, and is no number."""
    begin = cell.strip('\ufeff\u200b\x00" \xa0').lstrip()
    return begin.startswith(("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")) and begin != "-1.5"


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_begins_as_a_formula_does_wherever_a_spreadsheet_splits_and_all_come_back(text: str):
    for row in ((text, -1.5), ("x", text), (text, text), ("a", f"{text}, b", text)):
        data = write_csv(("name", "=value"), [row])
        assert not any(map(runs, cells(data, ",;\t"))), data
    header, (name, number) = read(write_csv(("name", "=value"), [(text, -1.5)]))
    assert unquote(name) == text.replace("\ud800", "?")
    assert (header[1], number) == ("'=value", "-1.5")


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_every_text_comes_back_as_it_went_and_never_begins_a_formula(text: str):
    quoted = quote(text)
    assert unquote(quoted) == text
    assert quoted == text or unquote(quote(quoted)) == quoted
    if "\0" not in text:
        data = write_csv(("x", "name"), [("x", text)])
        assert unquote(read(data)[1][1]) == text.encode(errors="replace").decode()


@pytest.mark.parametrize("cell", ["band-aid", "-1.5", "+2e-3", "'tis", "a - b; c", "", 3, -0.5, None])
def test_numbers_and_plain_words_stay_as_they_are(cell: object):
    assert quote(cell) == cell
    assert unquote(str(cell)) == str(cell)


def test_a_text_that_is_a_number_does_not_begin_a_line_with_a_sign():
    assert write_csv(("a", "b"), [("-1", "cmd|' /C calc'!A0")]).splitlines()[1].startswith(b"'-1")


def test_every_table_that_people_take_along_is_written_by_one_function():
    found = []
    for path in [*(ROOT / "components").rglob("*.py"), *(ROOT / "explainers").rglob("*.py"), *ROOT.glob("pages/*.py")]:
        calls = {step.attr for step in ast.walk(ast.parse(path.read_text())) if isinstance(step, ast.Attribute)}
        found += [path.name] * bool(calls & {"to_csv", "to_excel", "writer", "DictWriter"})
    assert found == ["tables.py"]
