"""The names of a model's classes, from a file or known by heart."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import cache

from explainers.errors import ModelError
from explainers.labels import compose
from explainers.settings import settings
from explainers.texts import decode_text

MAX_BYTES = 16 << 20

#: Column titles of CSV files, lower case.
NAME_TITLES = ("name", "class", "class_name", "classname", "class name", "label", "label_name", "title")
INDEX_TITLES = ("index", "id", "class_id", "class_index", "class id", "class index", "label_id", "idx", "number", "")

#: Where configurations keep class names, by index, by name or as a list: Hugging Face, timm, COCO, torchvision, Keras,
#: TorchServe, fastai, ultralytics, Teachable Machine, and others.
ENTRIES = (
    "id2label", "idx_to_class", "idx2class", "index_to_class", "index_to_name", "idx_to_label", "idx2label",
    "int_to_label", "categories", "class_to_idx", "class_to_index", "class2idx", "class_indices", "label2id",
    "label_to_idx", "label2idx", "class_names", "class_labels", "label_names", "classes", "names", "labels", "vocab",
)  # fmt: skip

#: What a class is called where each is an entry of its own, and what numbers it.
NAME_KEYS = ("name", "label", "class", "class_name", "label_name", "display_name", "title")
ID_KEYS = ("id", "index", "class_id", "label_id", "category_id", "idx")

#: How deep configurations are searched.
DEPTH = 8


@cache
def imagenet_names() -> tuple[str, ...]:
    """The 1000 classes of ImageNet (Deng et al. 2009), each by the first of its synonyms."""
    from timm.data import ImageNetInfo

    return tuple(description.split(",")[0] for description in ImageNetInfo().label_descriptions())


def read_class_names(data: bytes, file_name: str) -> tuple[str, ...]:
    """Read class names in the order of the model's outputs from a text, CSV, JSON or YAML file.

    Text has one name a line, which may begin with its index or its WordNet number. CSV has a column of names (the last
    unless a title says otherwise) and may have one of indices. JSON and YAML hold a list of names, names by index,
    indices by name, or categories with ids, alone or in a configuration (Hugging Face's config.json, COCO, data.yaml).
    Categories come in the order of their ids, which may have gaps. TensorFlow's label maps are read, too. Raises
    ModelError.
    """
    if len(data) > MAX_BYTES:
        raise ModelError(f"The file of class names has {len(data):,} bytes; at most {MAX_BYTES:,} are read.")
    text = decode(data)
    if text.lstrip().startswith(("[", "{")):
        names = read_content(parse_json(text))
    elif file_name.lower().endswith((".yaml", ".yml")):
        names = read_content(parse_yaml(text))
    elif file_name.lower().endswith((".csv", ".tsv")):
        names = read_csv(text)
    elif text.lstrip().startswith("<"):
        raise ModelError("The file of class names is XML or HTML. Save them as text, one name to a line.")
    elif re.match(r"\s*item\s*\{", text):
        names = read_label_map(text)
    else:
        names = read_lines(text)
    return check_names([compose(name) for name in names])


def read_label_map(text: str) -> list[str]:
    """Read the label map of a TensorFlow detector: items with an id and a name."""
    pairs = []
    for item in re.findall(r"item\s*\{(.*?)\}", text, re.DOTALL):
        fields = dict(re.findall(r"(\w+)\s*:\s*[\"']?(.*?)[\"']?\s*(?:\n|,|$)", item))
        pairs.append((fields.get("id", ""), fields.get("display_name") or fields.get("name", "")))
    return in_order(pairs)


def decode(data: bytes) -> str:
    """Decode a text; raises ModelError."""
    text = decode_text(data)
    if text is None:
        raise ModelError("The file of class names is not text in UTF-8. Save it as UTF-8 text, CSV or JSON.")
    return text


def read_lines(text: str) -> list[str]:
    """Read one name a line; what stands before all of them, indices that count or WordNet numbers, is no part of them.

    Indices stay if the names without them are not all different, as in "grade 1" written "1 grade".
    """
    lines = [line.strip() for line in text.strip().splitlines()]
    if lines and all(re.match(r"n\d{8}\s+\S", line) for line in lines):
        return [line[9:].strip() for line in lines]
    numbered = [
        match.groups() for line in lines if (match := re.fullmatch(r"(\d{1,9})(?:\s*[:;.,)]\s*|\s+)(\S.*)", line))
    ]
    if len(numbered) == len(lines) == len({name for _, name in numbered}):
        with suppress(ModelError):
            return in_order([(index, name) for index, name in numbered])
    return lines


def check_names(names: list[str]) -> tuple[str, ...]:
    """Raise ModelError unless there is at least one name, not too many, and none is empty."""
    if not names or len(names) > settings().model_classes:
        raise ModelError(
            f"The file names {len(names):,} classes; give 1 to {settings().model_classes:,}, one for each output."
        )
    if "" in names:
        raise ModelError(f"Class {names.index('')} has an empty name in the file. Give every class a name.")
    return tuple(name.encode(errors="replace").decode() for name in names)  # JSON may hold halves of letters


def parse_json(text: str) -> object:
    """Parse JSON, or a dict as Python writes it, which YAML reads too; raises ModelError."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        if text.lstrip().startswith("{"):
            with suppress(ModelError):
                return parse_yaml(text)
        raise ModelError(f"The class names are no valid JSON ({error}). Give a list of names.") from None


def parse_yaml(text: str) -> object:
    """Parse YAML as texts in lists and mappings, so that "no" stays a name; raises ModelError."""
    import yaml

    try:
        return yaml.load(text, yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ModelError("The class names are no valid YAML. Give a list of names, one to a line.") from None


def read_content(content: object) -> list[str]:
    """Read names from a list, from a mapping of names and indices, or from the entry of a configuration with either."""
    found = find_entry(content)
    names = read_entry(content if found is None else found)
    count = content.get("nc") if isinstance(content, dict) else None
    if is_index(count) and int(str(count)) != len(names):
        raise ModelError(f"The file says that there are {count} classes (nc) and names {len(names)}. Name all of them.")
    return names


def find_entry(content: object, depth: int = 0, seen: set[int] | None = None) -> object:
    """Find the entry of a configuration that holds class names, the outermost first; None if there is none."""
    seen = set() if seen is None else seen
    if depth > DEPTH or id(content) in seen:  # YAML may name the same part many times
        return None
    seen.add(id(content))
    if isinstance(content, dict):
        for key in ENTRIES:
            if isinstance(content.get(key), list | dict) and content[key]:
                inner = find_entry(content[key], depth + 1, seen)
                return content[key] if inner is None else inner
    inside = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    found = (find_entry(item, depth + 1, seen) for item in inside if isinstance(item, list | dict))
    return next((item for item in found if item is not None), None)


def read_entry(content: object) -> list[str]:
    """Read names from a list, from entries with a name each, or from a mapping of names and indices."""
    if isinstance(content, dict):
        pairs = [(key, item[-1] if isinstance(item, list) and item else item) for key, item in content.items()]
        return in_order(pairs if all(is_index(key) for key in content) else [(item, key) for key, item in pairs])
    if isinstance(content, list) and content and all(isinstance(item, dict) for item in content):
        return read_categories(content)
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise ModelError(
            "The class names in JSON are neither a list of names nor names and indices. Give a list of names."
        )
    return [name.strip() for name in content]


def read_categories(items: Sequence[dict[str, object]]) -> list[str]:
    """Read names of categories as COCO has them, by their ids if all have one; these may have gaps."""
    name_key = next((key for key in NAME_KEYS if all(isinstance(item.get(key), str) for item in items)), "")
    id_key = next((key for key in ID_KEYS if all(is_index(item.get(key)) for item in items)), "")
    if not name_key:
        raise ModelError("The class names in JSON are entries without a name each. Give a list of names.")
    ids = [int(str(item[id_key])) for item in items] if id_key else [*range(len(items))]
    if len(set(ids)) < len(ids):
        raise ModelError("Two class names have the same id. Number every class once.")
    return [str(name).strip() for _, name in sorted(zip(ids, (item[name_key] for item in items), strict=True))]


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
    return (
        isinstance(value, int | str)
        and not isinstance(value, bool)
        and str(value).strip().isdecimal()
        and len(str(value)) <= 9
    )


def in_order(pairs: Sequence[tuple[object, object]]) -> list[str]:
    """Sort names by their indices; raises ModelError unless these count from 0 or 1 without a gap."""
    by_index = {int(str(index)): str(name).strip() for index, name in pairs if is_index(index)}
    first = min(by_index, default=0)
    if len(by_index) < len(pairs) or first > 1 or max(by_index, default=0) >= first + len(by_index):
        raise ModelError(
            "The indices of the class names do not count 0, 1, 2, ... without a gap. Number every class once."
        )
    return [by_index[index] for index in sorted(by_index)]
