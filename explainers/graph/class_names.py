"""The names of a model's classes, from a file or known by heart."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from functools import cache

from explainers.errors import ModelError
from explainers.settings import settings

MAX_BYTES = 16 << 20

#: Column titles of CSV files, lower case.
NAME_TITLES = ("name", "class", "class_name", "classname", "class name", "label", "label_name", "title")
INDEX_TITLES = ("index", "id", "class_id", "class_index", "class id", "class index", "label_id", "idx", "number", "")


@cache
def imagenet_names() -> tuple[str, ...]:
    """The 1000 classes of ImageNet (Deng et al. 2009), each by the first of its synonyms."""
    from timm.data import ImageNetInfo

    return tuple(description.split(",")[0] for description in ImageNetInfo().label_descriptions())


def read_class_names(data: bytes, file_name: str) -> tuple[str, ...]:
    """Read class names in the order of the model's outputs from a text, CSV or JSON file.

    Text has one name a line. CSV has a column of names (the last unless a title says otherwise) and may have one of
    indices. JSON is a list of names, an object of names by index, or of indices by name. Raises ModelError.
    """
    if len(data) > MAX_BYTES:
        raise ModelError(f"The file of class names has {len(data):,} bytes; at most {MAX_BYTES:,} are read.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ModelError("The file of class names is not text in UTF-8. Save it as UTF-8 text, CSV or JSON.") from None
    if text.lstrip().startswith(("[", "{")):
        names = read_json(text)
    elif file_name.lower().endswith((".csv", ".tsv")):
        names = read_csv(text)
    else:
        names = [line.strip() for line in text.strip().splitlines()]
    return check_names(names)


def check_names(names: list[str]) -> tuple[str, ...]:
    """Raise ModelError unless there is at least one name, not too many, and none is empty."""
    if not names or len(names) > settings().model_classes:
        raise ModelError(
            f"The file names {len(names):,} classes; give 1 to {settings().model_classes:,}, one for each output."
        )
    if "" in names:
        raise ModelError(f"Class {names.index('')} has an empty name in the file. Give every class a name.")
    return tuple(names)


def read_json(text: str) -> list[str]:
    """Read names from a JSON list, from names by index, or from indices by name."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"The class names are no valid JSON ({error}). Give a list of names.") from None
    if isinstance(content, dict):
        pairs = [(key, item[-1] if isinstance(item, list) and item else item) for key, item in content.items()]
        return in_order(pairs if all(is_index(key) for key in content) else [(item, key) for key, item in pairs])
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise ModelError(
            "The class names in JSON are neither a list of names nor names and indices. Give a list of names."
        )
    return [name.strip() for name in content]


def read_csv(text: str) -> list[str]:
    """Read names from a table's column of names, in the order of its column of indices if it has one."""
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    try:
        table = list(csv.reader(io.StringIO(text), delimiter=delimiter))
    except csv.Error as error:
        raise ModelError(f"The class names are no table ({error}). Save them as CSV, one name to a row.") from None
    rows = [[cell.strip() for cell in row] for row in table if any(row)]
    titles = [title.lower() for title in rows[0]] if rows else []
    name_column = next((place for place, title in enumerate(titles) if title in NAME_TITLES), -1)
    index_column = next((place for place, title in enumerate(titles) if title in INDEX_TITLES), None)
    if name_column >= 0 or index_column is not None:
        rows = rows[1:]
    elif len(titles) > 1 and all(is_index(row[0]) for row in rows):
        index_column = 0
    try:
        names = [row[name_column] for row in rows]
        return names if index_column is None else in_order([(row[index_column], row[name_column]) for row in rows])
    except IndexError:
        raise ModelError(
            "The rows of the CSV file of class names have different lengths. Give every row all columns."
        ) from None


def is_index(value: object) -> bool:
    """Whether a value of a file counts a class."""
    return isinstance(value, int | str) and str(value).strip().isdecimal() and len(str(value)) <= 9


def in_order(pairs: Sequence[tuple[object, object]]) -> list[str]:
    """Sort names by their indices; raises ModelError unless these count from 0 or 1 without a gap."""
    by_index = {int(str(index)): str(name).strip() for index, name in pairs if is_index(index)}
    first = min(by_index, default=0)
    if len(by_index) < len(pairs) or first > 1 or max(by_index, default=0) >= first + len(by_index):
        raise ModelError(
            "The indices of the class names do not count 0, 1, 2, ... without a gap. Number every class once."
        )
    return [by_index[index] for index in sorted(by_index)]
