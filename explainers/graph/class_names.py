"""The names of a model's classes, from a file or known by heart."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from explainers.errors import ModelError

MAX_NAMES = 100_000
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
    if not names or len(names) > MAX_NAMES:
        raise ModelError(f"The file names {len(names):,} classes; give 1 to {MAX_NAMES:,}, one for each output.")
    if "" in names:
        raise ModelError(f"Class {names.index('')} has an empty name in the file. Give every class a name.")
    return tuple(names)


def read_json(text: str) -> list[str]:
    """Read names from a JSON list, from names by index, or from indices by name."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"The class names are no valid JSON ({error}). Give a list of names.") from None
    if isinstance(content, Mapping):
        pairs = [(key, item) for key, item in content.items() if not isinstance(item, list)]
        pairs += [(key, item[-1]) for key, item in content.items() if isinstance(item, list) and item]
        return in_order(pairs if all(is_index(key) for key in content) else [(item, key) for key, item in pairs])
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise ModelError("The class names in JSON are neither a list of names nor an object of index and name.")
    return [name.strip() for name in content]


def read_csv(text: str) -> list[str]:
    """Read names from a table's column of names, in the order of its column of indices if it has one."""
    delimiter = max(",;\t", key=text.splitlines()[0].count) if text.strip() else ","
    rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if any(row)]
    if not rows:
        return []
    titles = [cell.strip().lower() for cell in rows[0]]
    name_column = next((place for place, title in enumerate(titles) if title in NAME_TITLES), None)
    index_column = next((place for place, title in enumerate(titles) if title in INDEX_TITLES), None)
    ...


def is_index(value: Any) -> bool:
    """Whether a value of a file counts a class."""
    return isinstance(value, int | str) and str(value).strip().isdecimal()


def in_order(pairs: list[tuple[Any, Any]]) -> list[str]:
    """Sort names by their indices; raises ModelError unless these count from 0 (or 1) without a gap."""
    indices = [int(index) if is_index(index) else -1 for index, _ in pairs]
    first = min(indices, default=0)
    if first not in (0, 1) or sorted(indices) != list(range(first, first + len(indices))):
        raise ModelError("The indices of the class names do not count 0, 1, 2, ... without a gap. Number every class once.")
    return [str(name).strip() for _, name in sorted(zip(indices, (name for _, name in pairs), strict=True))]
