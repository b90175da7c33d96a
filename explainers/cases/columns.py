"""What the columns of a table mean: which names the file, which say what is to be seen. Free of torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from explainers.cases.pairing import Names, guess_file
from explainers.labels import BETWEEN, NOTHING, UNKNOWN, is_class_name, loosen

#: How columns of labels are called, the likeliest first.
LABEL_TITLES = (
    "label", "labels", "class", "class name", "classname", "dx", "diagnosis", "target", "category", "finding labels",
    "finding", "findings", "diagnostic", "ground truth", "groundtruth", "gt", "truth", "y", "classes", "tags",
    "label name", "class label", "image label", "final diagnosis", "diagnosis 1", "benign malignant", "pathology",
    "disease", "condition", "histopathology", "outcome", "level", "grade", "severity", "species", "type",
    "klasse", "befund", "diagnose", "classe", "étiquette", "diagnostico", "diagnóstico", "etiqueta",
    "类别", "标签", "诊断",
)  # fmt: skip

#: The label of a picture of which a table says that it shows none of its findings.
NO_FINDING = "no finding"

#: Columns that are not named after classes are findings if there are so many, or if they exclude each other.
MANY = 5

#: A column alone beside the one of the file holds labels if it has no more different values.
FEW = 50

#: Cells of a column that says yes or no, of one that does not know, and that are no label.
YES, NO, OPEN = ("1", "true", "yes"), ("0", "false", "no"), ("-1", "", "nan")
BLANK = ("", "nan", "<na>")


@dataclass(frozen=True)
class Columns:
    """Which columns of a table say which file a row is about (folder and file), and which label it.

    One column of labels holds names, several of them with ``separator`` between; of many each is one finding, with 1,
    0, and -1 or nothing for unknown.
    """

    file: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    separator: str = ""

    def fits(self, table: pd.DataFrame) -> bool:
        """Whether a table has these columns."""
        return {*self.file, *self.labels} <= {*table.columns}


def guess_columns(table: pd.DataFrame, names: Names, class_names: Sequence[str]) -> Columns:
    """Guess what the columns of a table about pictures mean for a model with classes of these names."""
    file = guess_file(table, names)
    labels = guess_labels(table.drop(columns=list(file)), class_names) if file else ()
    return Columns(file, labels, guess_separator(table, labels, class_names))


def guess_labels(table: pd.DataFrame, class_names: Sequence[str]) -> tuple[str, ...]:
    """Guess the columns of labels: of names of classes, named after classes, titled so, or all yes or no."""
    titles = {name: loosen(str(name)) for name in table.columns}
    usual = [name for title in LABEL_TITLES for name, own in titles.items() if own == title and has_labels(table[name])]
    shares = {name: rate_names(table[name], class_names) for name in table.columns}
    rates = {name: share + 0.3 * (name in usual) for name, share in shares.items() if share >= 0.5}
    if rates:
        return (max(rates, key=rates.__getitem__),)
    binary = [name for name in table.columns if is_yes_or_no(table[name])]
    binary = [name for name in table.columns if name in binary or is_open(table, name, binary)]
    named = [name for name in binary if is_class_name(str(name), class_names)]
    if len(named) > 1 or (named and len(class_names) <= 2):
        return tuple(named)
    if usual:
        return (usual[0],)
    if are_findings(table, binary, class_names):
        return tuple(binary)
    return (str(table.columns[0]),) if len(table.columns) == 1 and tells_apart(table.iloc[:, 0]) else ()


def has_labels(column: pd.Series[Any]) -> bool:
    """Whether a column may hold labels: not all empty, and not all different where there are many."""
    filled = column[column != ""]
    return len(filled) > 0 and (len(filled) < 10 or filled.nunique() <= 0.9 * len(filled))


def tells_apart(column: pd.Series[Any]) -> bool:
    """Whether a column without a telling title may hold labels: few different values, and no numbers of rows."""
    counting = column.is_unique and bool(column.str.fullmatch(r"[\d.,+-]*").all())
    return has_labels(column) and column.nunique() <= FEW and not counting


def rate_names(column: pd.Series[Any], class_names: Sequence[str]) -> float:
    """The share of the values in a column, or of the names in them, that are names of classes; 0 for many values."""
    values = [unbracket(value) for value in column.unique() if value.casefold() not in BLANK]
    if not values or len(values) > max(1000, 20 * len(class_names)):
        return 0.0
    separator = choose_separator(values, class_names)
    parts = {part.strip() for value in values for part in (value.split(separator) if separator else [value])}
    return sum(is_class_name(part, class_names) for part in parts) / len(parts)


def is_yes_or_no(column: pd.Series[Any]) -> bool:
    """Whether a column says yes or no of each row, or that this is unknown."""
    values = {normalise(value) for value in column.unique()}
    return values <= {*YES, *NO, *OPEN} and bool(values & {*YES, *NO, "-1"})


def is_open(table: pd.DataFrame, name: str, binary: Sequence[str]) -> bool:
    """Whether a column is empty and stands among those that say yes or no: it does not know of any row."""
    if not binary or (table[name] != "").any():
        return False
    places = [table.columns.get_loc(one) for one in (binary[0], name, binary[-1])]
    return sorted(places) == places  # type: ignore[type-var]  # names are all different


def are_findings(table: pd.DataFrame, binary: Sequence[str], class_names: Sequence[str]) -> bool:
    """Whether columns that say yes or no are the labels, though they are not named after classes.

    So they are if one of them is 1 in every row, if there are as many as classes, or many; or if some know of doubt.
    """
    if len(binary) < 2:
        return False
    found = read_findings(table, binary)
    excluding = bool((np.nansum(found, axis=1) == 1).all()) and len(binary) > 2
    doubted = any((table[name].map(normalise) == "-1").any() for name in binary)
    return excluding or doubted or len(binary) == len(class_names) or len(binary) >= MANY


def normalise(value: str) -> str:
    """Write a yes or no without its case and decimals."""
    value = value.casefold()
    return value[: value.index(".")] if value in ("1.0", "0.0", "-1.0", "1.", "0.") else value


def guess_separator(table: pd.DataFrame, labels: Sequence[str], class_names: Sequence[str]) -> str:
    """Guess what stands between several names in a cell of the column of labels; "" where there is but one."""
    if len(labels) != 1:
        return ""
    return choose_separator([unbracket(value) for value in table[labels[0]].unique() if value], class_names)


def choose_separator(values: Sequence[str], class_names: Sequence[str]) -> str:
    """Choose what splits labels into names: "|" wherever it stands, others where that gives fewer or known names."""
    whole = sum(is_class_name(value, class_names) for value in values) / max(1, len(values))
    for separator in (BETWEEN, ";", ",", " "):
        if not any(separator in value for value in values) or any(separator in name for name in class_names):
            continue
        parts = {part.strip() for value in values for part in value.split(separator)} - {""}
        known = sum(is_class_name(part, class_names) for part in parts) / max(1, len(parts))
        numbers = all(part.isdecimal() for part in parts)
        repeats = whole == 0 and (numbers if separator == " " else len(parts) < len(values))
        enough = 1 if separator == " " else 0.5  # a space may part words of one name, such as "site 3"
        if separator == BETWEEN or (known > whole and known >= enough) or repeats:
            return separator
    return ""


def write_labels(table: pd.DataFrame, columns: Columns, class_names: Sequence[str]) -> pd.Series[Any]:
    """Write the label of each row as one text, "" where there is none.

    Several names have "|" between them, and "?" before what is unknown.
    """
    if not columns.labels:
        return pd.Series("", index=table.index, dtype="str")
    if len(columns.labels) > 1:
        return write_findings(table, columns.labels, class_names)
    title, (column, separator) = columns.labels[0], (table[columns.labels[0]], columns.separator)
    if len(class_names) == 2 and is_yes_or_no(column) and is_class_name(title, class_names):
        return write_opposites(column, title, class_names)
    written = {value: write_label(value, separator) for value in column.unique()}
    if column.str.fullmatch(r"(?:-?\d+\.0*)?").all():  # whole numbers of a column in which some are missing
        written = {value: label.partition(".")[0] for value, label in written.items()}
    return column.map(written)


def write_label(value: str, separator: str) -> str:
    """Write the names in a cell with "|" between them."""
    value = unbracket(value)
    if value.casefold() in BLANK or not separator:
        return "" if value.casefold() in BLANK else value
    return BETWEEN.join(dict.fromkeys(part.strip() for part in value.split(separator) if part.strip()))


def unbracket(value: str) -> str:
    """Write a list as Python prints it, ['A', 'B'], with "|" between its names."""
    if not re.fullmatch(r"\[.*\]", value):
        return value
    parts = (part.strip().strip("'\"").strip() for part in value[1:-1].split(","))
    return BETWEEN.join(part for part in parts if part)


def write_opposites(column: pd.Series[Any], title: str, class_names: Sequence[str]) -> pd.Series[Any]:
    """Write the labels of a column that is named after one of two classes: 0 means the other."""
    other = next(name for name in class_names if not is_class_name(name, [title]))
    answers = {**dict.fromkeys(YES, title), **dict.fromkeys(NO, other)}
    return column.map({value: answers.get(normalise(value), "") for value in column.unique()})


def read_findings(table: pd.DataFrame, names: Sequence[str]) -> Float[np.ndarray, "row finding"]:
    """Read columns of yes or no as 1, 0, and NaN for unknown; where they have no 0, nothing or -1 alone means no."""
    answers = {**dict.fromkeys(YES, 1.0), **dict.fromkeys(NO, 0.0)}
    columns = [table[name].map({value: answers.get(normalise(value), np.nan) for value in table[name].unique()})
               for name in names]  # fmt: skip
    found = np.stack([column.to_numpy(float) for column in columns], axis=1)
    blank = np.stack([(table[name] == "").to_numpy(bool) for name in names], axis=1)
    if not (found == 0).any() and (blank.any() != (np.isnan(found) & ~blank).any()):
        found[np.isnan(found)] = 0  # 1 and nothing, or 1 and -1
    return found


def write_findings(table: pd.DataFrame, names: Sequence[str], class_names: Sequence[str]) -> pd.Series[Any]:
    """Write which findings the columns of a table say are there; of a class without a column that is unknown."""
    found = read_findings(table, names)
    labels = np.full(len(table), "", object)
    for name, answers in zip(names, found.T, strict=True):
        labels = add_part(labels, name, answers == 1)
    for name, answers in zip(names, found.T, strict=True):
        labels = add_part(labels, UNKNOWN + name, np.isnan(answers))
    blank = np.isnan(found).all(axis=1)
    lacking = [name for name in class_names if not is_class_name(name, names) and loosen(name) not in NOTHING]
    if len(lacking) < len(class_names) and not (np.nansum(found, axis=1) == 1).all():
        for name in lacking:
            labels = add_part(labels, UNKNOWN + name, np.ones(len(table), bool))
    labels[labels == ""] = NO_FINDING
    labels[blank] = ""
    return pd.Series(labels, index=table.index, dtype="str")


def add_part(labels: np.ndarray, part: str, marked: Bool[np.ndarray, " row"]) -> np.ndarray:
    """Add a name to the labels of some rows."""
    added = labels.copy()
    added[marked] = np.where(labels[marked] == "", part, labels[marked] + (BETWEEN + part))
    return added
