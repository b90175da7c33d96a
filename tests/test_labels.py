"""Which class a label means: by name before index, in whatever script, and what is unknown stays so."""

from __future__ import annotations

import pytest

from explainers.info import ModelInfo
from explainers.labels import find_class, find_strange, match_label, tell_strange
from explainers.outputs import BINARY, CLASSES, FINDINGS
from explainers.preprocessing import Preprocessing


def describe(names: tuple[str, ...], kind: str = CLASSES) -> ModelInfo:
    return ModelInfo("m", "", Preprocessing((8, 8), 8), names, (), (len(names),), 0, "d", "w", kind=kind)


NUMBERED = ("1", "2", "3", "10")


@pytest.mark.parametrize(
    ("label", "names", "expected"),
    [
        ("dog", ("cat", "dog"), 1),
        ("DOG", ("cat", "dog"), 1),
        ("Dog", ("dog", "Dog"), 1),
        ("DOG", ("dog", "Dog"), -1),
        ("1", ("cat", "dog"), 1),
        ("2", ("cat", "dog"), -1),
        ("0", NUMBERED, -1),
        ("1", NUMBERED, 0),
        ("10", NUMBERED, 3),
        ("3", ("cat", "7"), -1),
        ("1", ("1", "cat"), 0),
        ("Me\u0301lanome", ("M\u00e9lanome", "Naevus"), 0),
        ("m\u00e9lanome", ("Me\u0301lanome", "Naevus"), 0),
        ("STRASSE", ("Straße",), 0),
        ("Pleural_Thickening", ("Mass", "pleural thickening"), 1),
        ("melanocytic nevus", ("melanocytic-nevus", "melanoma"), 0),
        ("crane", ("crane", "crane", "heron"), -1),
        ("9" * 6000, ("cat", "dog"), -1),
        ("Ⅳ", ("cat", "dog"), -1),
        ("-1", ("cat", "dog"), -1),
    ],
)
def test_a_label_is_found_by_name_before_index(label: str, names: tuple[str, ...], expected: int) -> None:
    assert find_class(label, names) == expected


def truth(label: str | None, names: tuple[str, ...] = ("Mass", "Edema", "Hernia"), kind: str = FINDINGS) -> list[int]:
    info = describe(names, kind)
    return [match_label(label, info, decision) for decision in range(len(names) if kind == FINDINGS else 1)]


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (None, [-1, -1, -1]),
        ("No Finding", [3, 4, 5]),
        ("no_finding", [3, 4, 5]),
        ("Mass|Hernia", [0, 4, 2]),
        ("mass; hernia", [0, 4, 2]),
        ("Mass|?Edema", [0, -1, 5]),
        ("?Mass|?Edema", [-1, -1, 5]),
        ("Mass|?Mass", [0, 4, 5]),
        ("Mass|Nodule", [0, -1, -1]),
        ("Mass|?Nodule", [0, 4, 5]),
        ("Nodule", [-1, -1, -1]),
    ],
)
def test_of_findings_a_label_says_which_are_there_and_which_are_unknown(label: str | None, expected: list[int]) -> None:
    assert truth(label) == expected


def test_a_name_that_holds_a_separator_stays_whole() -> None:
    assert truth("Mass, calcified|Edema", ("Mass, calcified", "Edema")) == [0, 1]


@pytest.mark.parametrize(
    ("label", "expected"), [("Edema", 1), ("Edema|?Mass", 1), ("Edema|Mass", -1), ("?Edema", -1), ("normal", -1)]
)
def test_of_classes_a_label_tells_one_alone(label: str, expected: int) -> None:
    assert truth(label, kind=CLASSES) == [expected]


def test_a_yes_or_no_has_two_names_and_may_be_numbered() -> None:
    info = describe(("benign", "malignant"), BINARY)
    assert [match_label(label, info, 0) for label in ("Malignant", "0", "1", "2")] == [1, 0, 1, -1]


def test_labels_that_are_no_class_are_said() -> None:
    info = describe(("class 0", "class 1", "class 2"))
    labels = ["coat", "pullover", None, "coat", "shirt"]
    assert find_strange(labels, info) == ("coat", "pullover", "shirt")
    assert tell_strange(labels, info) == (
        "None of the labels coat, pullover, shirt is the name of a class (class 0, class 1, class 2)."
    )
    assert tell_strange(["0", "1", "2", None], info) == ""


def test_some_labels_that_are_no_class_are_counted() -> None:
    told = tell_strange(["Mass", "Mass|Nodule", "No Finding"], describe(("Mass", "Edema"), FINDINGS))
    assert told.startswith("1 of 3 labels name what is no class (Nodule; the classes are Mass, Edema)")
