"""What folders, tables, masks and boxes say of pictures, put together. Free of torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from explainers.cases.annotations import Box, read_annotations
from explainers.cases.columns import LABEL_TITLES, Columns, guess_columns, write_labels
from explainers.cases.dataset import Dataset
from explainers.cases.masks import find_masks, group_masks
from explainers.cases.pairing import SEVERAL, Names, join_columns, pair
from explainers.cases.sheets import as_numbers, read_tables
from explainers.errors import TableError
from explainers.images import Attachment, Picture, Sample, Samples
from explainers.images.layout import Layout, read_layout
from explainers.images.naming import split_name
from explainers.images.picture import Reading
from explainers.labels import BETWEEN, UNKNOWN, is_class_name, loosen, quote

#: Where labels come from.
FOLDERS, TABLES, BOXES = "folders", "tables", "boxes"

Entries = Sequence[Sample | Picture]


@dataclass(frozen=True, eq=False)
class Material:
    """What came with pictures: tables by name, marks by the names of pictures, and why a file could not be read."""

    tables: Mapping[str, pd.DataFrame]
    boxes: Mapping[str, tuple[Box, ...]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choice:
    """What a person chose otherwise than it is understood.

    ``level`` is which folder is the label, 1 for the one next to the picture; ``source`` one of FOLDERS, TABLES and
    BOXES, "" for what it is understood to be. Tables that are ``left_out`` say nothing; ``columns`` are by table.
    """

    level: int | None = None
    source: str = ""
    left_out: tuple[str, ...] = ()
    columns: tuple[tuple[str, Columns], ...] = ()


#: Nothing is chosen otherwise.
AUTOMATIC = Choice()


@dataclass(frozen=True)
class Arrangement:
    """Pictures with what is known of each, and how that was understood: folders, columns by table, source of labels."""

    dataset: Dataset
    layout: Layout
    columns: Mapping[str, Columns]
    source: str


@dataclass(frozen=True)
class Joined:
    """A table put beside pictures: the picture of each row, and its label."""

    name: str
    table: pd.DataFrame
    columns: Columns
    pictures: Int[np.ndarray, " row"]
    labels: pd.Series[Any]


def read_material(attachments: Sequence[Attachment]) -> Material:
    """Read all tables and annotations; what cannot be read is said."""
    tables, boxes, notes = dict[str, pd.DataFrame](), dict[str, tuple[Box, ...]](), list[str]()
    for attachment in attachments:
        try:
            marked = read_annotations(attachment) if attachment.name.lower().endswith((".json", ".xml")) else {}
            for name, found in marked.items():
                boxes[name] = (*boxes.get(name, ()), *found)
            if not marked and not attachment.name.lower().endswith(".xml"):
                tables.update(read_tables(attachment))
        except TableError as error:
            notes.append(str(error))
    return Material(tables, boxes, tuple(notes))


def arrange(
    entries: Entries, material: Material, class_names: Sequence[str], choice: Choice = AUTOMATIC
) -> Arrangement:
    """Put together what is known of pictures, for a model with classes of these names."""
    layout = read_layout([split_name(entry.name) for entry in entries], choice.level)
    masks = find_masks([entry.name for entry in entries], layout.masks)
    rows = [row for row in range(len(entries)) if row not in masks]
    pictures = pick(entries, rows) if masks else entries
    names = Names([entry.name for entry in pictures])
    folders = [layout.labels[row] if choice.level is not None else entries[row].label for row in rows]
    joined, notes = join_tables(material, names, class_names, choice)
    boxes = place_boxes(material, names)
    labels = {
        FOLDERS: folders,
        TABLES: collect_labels(joined, len(pictures)),
        BOXES: label_by_boxes(boxes, len(pictures)),
    }
    source = choice.source if choice.source == FOLDERS or any(labels.get(choice.source, ())) else ""
    source = source or choose_source(labels, class_names, has_telling_labels(joined, choice))
    filled = fill(labels[FOLDERS], labels[TABLES]) if source == FOLDERS and not choice.source else 0
    said = (*describe(layout, source, labels[source], joined), *describe_filled(filled), *notes)
    metadata = collect_metadata(joined, len(pictures), [layout.splits[row] for row in rows], folders, source)
    places = {row: place for place, row in enumerate(rows)}
    groups = {places[picture]: own for picture, own in group_masks(masks).items()}
    add_marks(metadata, groups, [entry.name for entry in entries], boxes)
    dataset = Dataset(
        relabel(pictures, labels[source]),
        metadata,
        (*material.notes, *said, *describe_marks(groups, boxes)),
        {row: tuple(entries[mask] for mask in own) for row, own in groups.items()},
        boxes,
        list_order(joined, material) if source != FOLDERS else (),
    )
    return Arrangement(dataset, layout, {one.name: one.columns for one in joined}, source)


def pick(entries: Entries, rows: Sequence[int]) -> Entries:
    """Keep some entries; those of the server's folder stay what they are."""
    kept: Any = [entries[row] for row in rows]
    return Samples(kept) if isinstance(entries, Samples) else kept


def relabel(entries: Entries, labels: Sequence[str | None]) -> Entries:
    """Label entries otherwise; the very same if nothing changes."""
    if all(entry.label == label for entry, label in zip(entries, labels, strict=True)):
        return entries
    named: Any = [relabel_one(entry, label) for entry, label in zip(entries, labels, strict=True)]
    return Samples(named) if isinstance(entries, Samples) else named


@dataclass(frozen=True)
class Relabelled:
    """Reads a picture otherwise and labels it as it was labelled."""

    again: Callable[[Reading], Picture]
    label: str | None

    def __call__(self, reading: Reading) -> Picture:
        """Read the picture; raises ImageError."""
        return replace(self.again(reading), label=self.label)


def relabel_one(entry: Sample | Picture, label: str | None) -> Sample | Picture:
    """Label one entry; a picture keeps the digest that it has."""
    if entry.label == label:
        return entry
    if not isinstance(entry, Picture):
        return replace(entry, label=label)
    named = replace(entry, label=label, again=entry.again and Relabelled(entry.again, label))
    vars(named).update({name: value for name, value in vars(entry).items() if name == "digest"})
    return named


def join_tables(
    material: Material, names: Names, class_names: Sequence[str], choice: Choice
) -> tuple[list[Joined], list[str]]:
    """Put each table beside the pictures, with sentences on what it says and what does not fit."""
    joined, notes = [], []
    for name, table in material.tables.items():
        if name in choice.left_out:
            continue
        columns = dict(choice.columns).get(name)
        if columns is None or not columns.fits(table):
            columns = guess_columns(table, names, class_names)
        if not columns.file:
            notes.append(f"{name} has no column that names these pictures; it is not used.")
            continue
        pictures = pair(join_columns(table, columns.file), names)
        joined.append(Joined(name, table, columns, pictures, write_labels(table, columns, class_names)))
        notes.append(describe_table(joined[-1], len(names.names)))
    return joined, notes


def first_rows(one: Joined, count: int) -> Int[np.ndarray, " picture"]:
    """The first row of a table about each picture, -1 where there is none."""
    rows = np.flatnonzero(one.pictures >= 0)[::-1]
    first = np.full(count, -1)
    first[one.pictures[rows]] = rows
    return first


def collect_labels(joined: Sequence[Joined], count: int) -> list[str | None]:
    """Give each picture the label that the first table has for it; of several rows about one, all that they name."""
    found: list[str | None] = [None] * count
    for one in joined:
        rows = np.flatnonzero(one.pictures >= 0)
        labels = one.labels.to_numpy(object)
        own: dict[int, str] = {}
        for picture, label in zip(one.pictures[rows].tolist(), labels[rows].tolist(), strict=True):
            if label:
                own[picture] = unite(own[picture], label) if picture in own else label
        for picture, label in own.items():
            found[picture] = found[picture] or label
    return found


def unite(one: str, other: str) -> str:
    """Join what two rows say of the same picture; what one of them knows goes before what the other doubts."""
    if one == other:
        return one
    parts = dict.fromkeys((*one.split(BETWEEN), *other.split(BETWEEN)))
    return BETWEEN.join(part for part in parts if part.removeprefix(UNKNOWN) not in parts or part[:1] != UNKNOWN)


def place_boxes(material: Material, names: Names) -> dict[int, tuple[Box, ...]]:
    """Find the picture that each of the marked ones is."""
    if not material.boxes:
        return {}
    files = list(material.boxes)
    pictures = pair(pd.Series(files, dtype="str"), names).tolist()
    return {picture: material.boxes[file] for file, picture in zip(files, pictures, strict=True) if picture >= 0}


def label_by_boxes(boxes: Mapping[int, Sequence[Box]], count: int) -> list[str | None]:
    """Label pictures with what is marked in them."""
    return [BETWEEN.join(dict.fromkeys(box.name for box in boxes.get(row, ()) if box.name)) or None
            for row in range(count)]  # fmt: skip


def has_telling_labels(joined: Sequence[Joined], choice: Choice) -> bool:
    """Whether a person chose a column of labels, or one is called so, or there is one for each finding."""
    chosen = any(columns.labels for _, columns in choice.columns)
    own = [one.columns.labels for one in joined if one.columns.labels]
    return chosen or any(len(labels) > 1 or loosen(labels[0]) in LABEL_TITLES for labels in own)


def choose_source(labels: Mapping[str, Sequence[str | None]], class_names: Sequence[str], telling: bool) -> str:
    """Choose where labels come from: a table that labels half of the pictures; marks, where folders say nothing.

    Folders go first where all of them are classes, and a table's labels are not or stand in a column that is called
    otherwise: numbers of something else may look like classes, too.
    """
    counts = {source: sum(label is not None for label in own) for source, own in labels.items()}
    names = {source: {label for label in own if label is not None} for source, own in labels.items()}
    told = len(names[FOLDERS]) > 1
    known = {source: share_of_classes(own, class_names) for source, own in names.items()}
    if told and known[FOLDERS] == 1 and (known[TABLES] < 0.5 or not telling):
        return FOLDERS
    if counts[TABLES] and (not told or counts[TABLES] * 2 >= len(labels[TABLES])):
        return TABLES
    return BOXES if counts[BOXES] and not told else FOLDERS


def share_of_classes(labels: Collection[str], class_names: Sequence[str]) -> float:
    """The share of names in labels that are names of classes."""
    parts = {part.removeprefix(UNKNOWN) for label in labels for part in label.split(BETWEEN)}
    return sum(is_class_name(part, class_names) for part in parts) / max(1, len(parts))


def fill(labels: list[str | None], others: Sequence[str | None]) -> int:
    """Give pictures without a label another one where there is one; returns how many."""
    places = [place for place, label in enumerate(labels) if label is None and others[place] is not None]
    for place in places:
        labels[place] = others[place]
    return len(places)


def describe_filled(count: int) -> list[str]:
    """Say how many pictures that have no folder have a label all the same."""
    return [f"{count:,} without a folder that tells {'is' if count == 1 else 'are'} labelled by a table."] * bool(count)


def collect_metadata(
    joined: Sequence[Joined], count: int, splits: Sequence[str], folders: Sequence[str | None], source: str
) -> pd.DataFrame:
    """Put together what is known of each picture besides its label; the first table that knows a value goes first."""
    columns: dict[str, pd.Series[Any]] = {}
    if any(splits):
        columns["split"] = pd.Series(list(splits), dtype="str")
    if source != FOLDERS and len({*folders} - {None}) > 1:
        columns["folder"] = pd.Series([label or "" for label in folders], dtype="str")
    taken = set(columns)
    for one in joined:
        first = first_rows(one, count)
        for name in one.table.columns:
            if name in one.columns.file or (source == TABLES and name in one.columns.labels):
                continue
            cells = one.table[name].to_numpy(object)
            values = pd.Series(np.where(first >= 0, cells[first], ""), dtype="str")
            own = f"{name} (table)" if name in taken else str(name)
            columns[own] = columns[own].where(columns[own] != "", values) if own in columns else values
    known = {name: as_numbers(values) for name, values in columns.items() if (values != "").any()}
    return pd.DataFrame(known, index=range(count))


def add_marks(
    metadata: pd.DataFrame,
    groups: Mapping[int, Sequence[int]],
    names: Sequence[str],
    boxes: Mapping[int, Sequence[Box]],
) -> None:
    """Add the names of masks and the numbers of boxes as columns."""
    if groups:
        metadata["mask"] = [", ".join(names[mask] for mask in groups.get(row, ())) for row in range(len(metadata))]
    if boxes:
        metadata["boxes"] = [len(boxes[row]) if row in boxes else np.nan for row in range(len(metadata))]


def list_order(joined: Sequence[Joined], material: Material) -> tuple[str, ...]:
    """List the names in labels in the order of the columns that they come from, or of the categories."""
    for one in joined:
        if len(one.columns.labels) > 1:
            return one.columns.labels
    if any(one.columns.labels for one in joined):
        return ()
    return tuple(dict.fromkeys(box.name for boxes in material.boxes.values() for box in boxes))


def describe(layout: Layout, source: str, labels: Sequence[str | None], joined: Sequence[Joined]) -> list[str]:
    """Say where labels come from, with the first of them."""
    if source == FOLDERS:
        return [layout.sentence] if layout.sentence else []
    tables = [f"{quote_columns(one.columns.labels)} of {one.name}" for one in joined if one.columns.labels]
    where = "what is marked in the pictures" if source == BOXES else " and ".join(tables) or "from no column of a table"
    names = dict.fromkeys(
        name for label in labels if label for name in label.split(BETWEEN) if not name.startswith(UNKNOWN)
    )
    found = f": {quote(sorted(names))}" if names else ""
    without = sum(label is None for label in labels)
    more = f"; {without:,} of {len(labels):,} pictures {'has' if without == 1 else 'have'} none" if without else ""
    kept = sorted({split for split in layout.splits if split})
    splits = f" Folders give the split: {quote(kept)}." if kept else ""
    return [f"Labels are {where}{found}{more}.{splits}"]


def describe_table(one: Joined, count: int) -> str:
    """Say how a table was understood, and what of it does not fit."""
    with_row, rows = len({*one.pictures[one.pictures >= 0].tolist()}), len(one.table)
    file = " and ".join(one.columns.file)
    verb = "name" if len(one.columns.file) > 1 else "names"
    many = "s of labels are" if len(one.columns.labels) > 1 else " of labels is"
    labels = f"; its column{many} {quote_columns(one.columns.labels)}" if one.columns.labels else ""
    sentences = [f"{one.name}: {file} {verb} the file{labels}. It has a row for {with_row:,} of {count:,} pictures."]
    counts = Counter(one.pictures.tolist())
    without = sum(number for picture, number in counts.items() if picture < 0) - counts[SEVERAL]
    if without:
        sentences.append(f"{without:,} of its {rows:,} rows {'are' if without > 1 else 'is'} about no picture here.")
    if several := counts[SEVERAL]:
        sentences.append(
            f"{several:,} of its rows could mean several of the pictures, or several rows the same one; they are left "
            "out. A column with the folder would tell."
        )
    return " ".join(sentences)


def quote_columns(names: Sequence[str]) -> str:
    """Name columns, of many the first and the last."""
    return ", ".join(names) if len(names) < 4 else f"{names[0]} to {names[-1]} ({len(names)} columns)"


def describe_marks(groups: Mapping[int, Sequence[int]], boxes: Mapping[int, Sequence[Box]]) -> list[str]:
    """Say how many pictures have masks and boxes."""
    found = []
    if groups:
        found.append(f"{sum(map(len, groups.values())):,} pictures are masks of {len(groups):,} others.")
    if boxes:
        found.append(f"{sum(map(len, boxes.values())):,} places are marked in {len(boxes):,} pictures.")
    return found
