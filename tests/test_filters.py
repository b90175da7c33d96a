"""Which cases a filter lets through, in which order, in a link and in words."""

from __future__ import annotations

import re
from math import inf, nan

import numpy as np
import pandas as pd
import pytest

from explainers.cases.filters import Filter, values_of

NAMES = ["b/scan 10.png", "b/scan 2.png", "a/Mélanome.png", "a/me\u0301lanome 2.png", "c.png"]
TABLE = pd.DataFrame(
    {
        "name": NAMES,
        "label": ["malignant", "benign", "malignant", "", "benign"],
        "truth": [("malignant",), ("benign",), ("malignant",), (), ("benign",)],
        "decision": [("malignant",), ("malignant",), ("benign",), ("benign",), ("edema", "not mass")],
        "right": ["yes", "no", "no", "", ""],
        "confidence": [0.5, 0.9, 0.8, nan, 0.5],
        "tags": [("band-aid",), (), ("band-aid", "look again"), (), ()],
        "data.age": [10, 9, nan, 70, 10],
        "data.site": ["knee", "", "Knee", "hand", "knee"],
    }
)


def rows(**conditions: object) -> list[int]:
    return Filter(**conditions).apply(TABLE).tolist()  # type: ignore[arg-type]


def test_without_a_condition_every_case_is_let_through_as_it_lies():
    assert rows() == [0, 1, 2, 3, 4]


def test_all_words_must_be_in_the_name_however_its_letters_are_written():
    assert rows(text="mÉlanome") == [2, 3]
    assert rows(text="me\u0301lanome 2") == [3]
    assert rows(text="2 scan") == [1]


def test_a_case_needs_one_of_the_values_of_each_column():
    assert rows(chosen=(("label", ("malignant", "")),)) == [0, 2, 3]
    assert rows(chosen=(("label", ("malignant",)), ("right", ("no",)))) == [2]


def test_a_cell_of_several_values_matches_by_any_of_them():
    assert rows(chosen=(("tags", ("look again",)),)) == [2]
    assert rows(chosen=(("tags", ("",)),)) == [1, 3, 4]
    assert rows(chosen=(("decision", ("edema", "benign")),)) == [2, 3, 4]


def test_a_value_is_the_same_however_its_letters_are_written():
    table = pd.DataFrame({"name": ["a", "b", "c"], "label": ["Me\u0301lanome", "Mélanome", "Melanome"]})
    for written in ("Me\u0301lanome", "Mélanome"):
        assert Filter().only("label", written).apply(table).tolist() == [0, 1]


def test_numbers_are_chosen_by_value_and_what_is_unknown_by_nothing():
    assert rows(chosen=(("data.age", ("10", "")),)) == [0, 2, 4]
    assert rows(chosen=(("data.age", ("10.0", "many")),)) == [0, 4]


def test_large_and_small_numbers_are_chosen_as_they_are_written():
    table = pd.DataFrame({"name": ["a", "b", "c"], "data.id": [1234567.0, 0.1234567, nan]})
    written = [values_of(cell) for cell in table["data.id"].tolist()]
    found = [Filter().only("data.id", *values).apply(table).tolist() for values in written]
    assert found == [[0], [1], [2]]


def test_both_ends_belong_to_a_range_and_what_is_unknown_to_none():
    assert rows(ranges=(("confidence", 0.5, 0.8),)) == [0, 2, 4]
    assert rows(ranges=(("data.age", -inf, inf),)) == [0, 1, 3, 4]


def test_a_range_of_texts_holds_nothing():
    assert rows(ranges=(("data.site", 0, 1),)) == []


def test_names_sort_by_the_numbers_in_them():
    assert rows(sort="name", text="scan") == [1, 0]
    assert rows(sort="name", text="scan", descending=True) == [0, 1]


def test_equal_cases_keep_their_order_and_the_unknown_come_last_in_both_directions():
    assert rows(sort="confidence") == [0, 4, 2, 1, 3]
    assert rows(sort="confidence", descending=True) == [1, 2, 0, 4, 3]
    assert rows(sort="label", descending=True) == [0, 2, 1, 4, 3]
    assert rows(sort="data.age", descending=True) == [3, 0, 4, 1, 2]


def test_a_filter_reads_what_it_wrote():
    full = Filter("a & b=c", (("data.ä.=&", ("", "x,y", "1..2")),), (("confidence", 0.1, inf),), "data.age", True)
    assert Filter.read(full.write()) == full
    assert Filter().write() == ""
    assert Filter.read("") == Filter()


@pytest.mark.parametrize(
    "text",
    [
        "%%%",
        "in.age=nan..1",
        "in.age=3..1",
        "in.age=1",
        "in.age=a..b",
        "\0&&&==",
        "is",
        "&" * 300,
        "is.a=b&" * 201,
        "x=" * 9999,
    ],
)
def test_a_text_that_is_no_filter_lets_everything_through(text: str):
    assert Filter.read(text) == Filter()


def test_conditions_on_columns_that_are_not_there_are_left_out_and_told():
    stale = Filter(chosen=(("data.scanner", ("X",)), ("label", ("benign",))), sort="data.dose")
    fitting, told = stale.fit(TABLE.columns)
    assert fitting == Filter(chosen=(("label", ("benign",)),))
    assert told == "Nothing is known here of “scanner”, “dose”, so the filter does not ask about it."
    assert stale.apply(TABLE).tolist() == [1, 4]


def test_a_sentence_says_what_is_shown():
    assert Filter().sentence(600, 600) == "All 600 pictures"
    some = Filter(chosen=(("label", ("malignant",)), ("right", ("no",))), ranges=(("confidence", 0.5, 0.8),))
    assert some.sentence(27, 600) == "27 of 600 pictures: label malignant, wrong, confidence 50 to 80 %"
    assert Filter(ranges=(("confidence", 0.5, inf),)).sentence(1, 9) == "1 of 9 pictures: confidence 50 % or more"
    site = Filter("knee", (("data.site", ("hand", "")),), (("data.age", 18, inf),), "name", True)
    assert site.sentence(1200, 1200) == (
        "All 1,200 pictures: name has “knee”, site hand or unknown, age 18 or more, sorted by name, last first"
    )


def test_a_filter_of_many_cases_agrees_with_the_conditions_written_out():
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "name": [f"class {number % 7}/{number}.png" for number in random.permutation(10_000)],
            "tags": [("a", "b")[: number % 3] for number in range(10_000)],
            "confidence": random.random(10_000),
            "data.age": random.integers(0, 90, 10_000),
        }
    )
    found = Filter("class 3", (("tags", ("b",)),), (("data.age", 40, 50), ("confidence", 0.2, 1.0)), "name").apply(
        table
    )
    wanted = [
        row
        for row, one in enumerate(table.to_dict("records"))
        if "3" in one["name"] and "b" in one["tags"] and 40 <= one["data.age"] <= 50 and one["confidence"] >= 0.2
    ]
    numbers = [[int(number) for number in re.findall(r"\d+", name)] for name in table["name"]]
    assert found.tolist() == sorted(wanted, key=numbers.__getitem__)
