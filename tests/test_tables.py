"""Tables as CSV: nothing in them is computed by a spreadsheet, and names come back as they went."""

from __future__ import annotations

import csv
import io

import pytest

from explainers.tables import quote, unquote, write_csv


@pytest.mark.parametrize("text", ['=HYPERLINK("http://a")', "+cmd|x", "-rim", "@SUM(A1)", "\t=1", "'=1"])
def test_no_cell_begins_as_a_formula_does_and_all_come_back(text: str):
    data = write_csv(("name", "value"), [(text, -1.5)])
    (row,) = csv.DictReader(io.StringIO(data.decode(), newline=""))
    assert row["name"].startswith("'")
    assert unquote(row["name"]) == text
    assert row["value"] == "-1.5"


@pytest.mark.parametrize("cell", ["band-aid", "-1.5", "+2e-3", "'tis", "", 3, -0.5, None])
def test_numbers_and_plain_words_stay_as_they_are(cell: object):
    assert quote(cell) == cell
    assert unquote(str(cell)) == str(cell)
