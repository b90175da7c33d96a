"""Tables, annotations and lists of names that people bring, read in processes of their own. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import UInt8

from explainers import isolation
from explainers.cases.annotations import Box
from explainers.cases.arranging import Material, read_material
from explainers.errors import LightboxError, ModelError, NotesError, TableError
from explainers.graph.class_names import read_class_names
from explainers.images import Attachment
from explainers.info import Layer
from explainers.isolation import Answer, Job
from explainers.notes import ConceptName, read_names

#: What is called in a process.
Answers = Iterator[Answer]


def open_material(attachments: Sequence[Attachment]) -> Material:
    """Read all tables and annotations, each in a process; what cannot be read is said. See ``read_material``."""
    parts = [open_attachment(attachment) for attachment in attachments]
    boxes = dict[str, tuple[Box, ...]]()
    for name, found in (pair for part in parts for pair in part.boxes.items()):
        boxes[name] = (*boxes.get(name, ()), *found)
    tables = {name: table for part in parts for name, table in part.tables.items()}
    return Material(tables, boxes, tuple(note for part in parts for note in part.notes))


def open_attachment(attachment: Attachment) -> Material:
    """Read one file of tables or annotations, or say why it cannot be read."""
    job = make_job("give_material", attachment.data, attachment.name, TableError, file_name=attachment.name)
    try:
        return receive_material(job, isolation.answer_once(job))
    except TableError as error:
        return Material({}, {}, (str(error),))


def open_class_names(data: bytes, file_name: str) -> tuple[str, ...]:
    """Read class names in the order of the model's outputs, see ``read_class_names``; raises ModelError."""
    job = make_job("give_class_names", data, "The file of class names", ModelError, file_name=file_name)
    return tuple(map(str, isolation.answer_once(job).value))


def open_names(model: str, layers: Sequence[Layer], data: bytes) -> tuple[list[ConceptName], int]:
    """Read a model's names from a CSV file, see ``explainers.notes.read_names``; raises NotesError."""
    told = {"model": model, "layers": [asdict(layer) for layer in layers]}
    job = make_job("give_names", data, "The file of names", NotesError, **told)
    names, others = isolation.answer_once(job).value
    return [ConceptName(*name) for name in names], others


def make_job(function: str, data: bytes, name: str, error: type[LightboxError], **told: Any) -> Job:
    """Describe what a process is to do with a file."""
    return Job(f"{__name__}:{function}", (data,), told, name, error)


def receive_material(job: Job, answer: Answer) -> Material:
    """Take what a process read of a file; raises the job's error if it is nothing of that kind."""
    columns = iter(answer.buffers)
    try:
        tables = {
            name: to_table([to_column(next(columns), next(columns)) for _ in titles], titles, rows)
            for name, titles, rows in answer.value["tables"]
        }
        boxes = {name: tuple(map(to_box, found)) for name, found in answer.value["boxes"]}
        return Material(tables, boxes, tuple(map(str, answer.value["notes"])))
    except (ValueError, TypeError, LookupError, StopIteration):
        raise job.broken() from None


def to_table(columns: Sequence[pd.Series[Any]], titles: Sequence[str], rows: int) -> pd.DataFrame:
    """Make a table of its columns."""
    return pd.DataFrame(dict(enumerate(columns)), range(rows)).set_axis(list(titles), axis=1)


def to_column(places: UInt8[np.ndarray, " byte"], letters: UInt8[np.ndarray, " byte"]) -> pd.Series[Any]:
    """Make a column of its letters in UTF-8, one text after the other, and where each begins; raises ValueError."""
    buffers = [None, pa.py_buffer(places), pa.py_buffer(letters)]
    texts = pa.Array.from_buffers(pa.large_string(), places.nbytes // 8 - 1, buffers)
    texts.validate(full=True)
    return pd.Series(texts, dtype="str")


def to_box(value: Sequence[Any]) -> Box:
    """What is marked in a picture, from what JSON knows of it."""
    name, left, top, right, bottom, (width, height), outlines, runs = value
    return Box(name, left, top, right, bottom, (width, height), tuple(map(tuple, outlines)), tuple(runs))


# What follows is called in the processes.


def give_material(files: Sequence[int], file_name: str) -> Answers:
    """Read a file of tables or annotations."""
    found = read_material([Attachment(file_name, isolation.fetch(files[0]))])
    value = {
        "tables": [(name, list(table.columns), len(table)) for name, table in found.tables.items()],
        "boxes": [(name, [astuple(box) for box in boxes]) for name, boxes in found.boxes.items()],
        "notes": found.notes,
    }
    columns = (table[name] for table in found.tables.values() for name in table.columns)
    yield Answer(value, [part for column in columns for part in from_column(column)])


def from_column(column: pd.Series[Any]) -> tuple[UInt8[np.ndarray, " byte"], UInt8[np.ndarray, " byte"]]:
    """Take a column of texts apart into where each begins, and their letters."""
    texts = pa.array(column.tolist(), pa.large_string())
    _, places, letters = texts.buffers()
    begins = np.frombuffer(places, np.uint8) if places else np.zeros(8, np.uint8)
    return begins[: 8 * len(texts) + 8], np.frombuffer(letters or b"", np.uint8)


def give_class_names(files: Sequence[int], file_name: str) -> Answers:
    """Read class names."""
    yield Answer(read_class_names(isolation.fetch(files[0]), file_name))


def give_names(files: Sequence[int], model: str, layers: Sequence[Mapping[str, Any]]) -> Answers:
    """Read names of concepts."""
    known = [Layer(**{**layer, "shape": tuple(layer["shape"]), "grid": tuple(layer["grid"])}) for layer in layers]
    names, others = read_names(model, known, isolation.fetch(files[0]))
    yield Answer([[astuple(name) for name in names], others])


def warm() -> None:
    """Import what readers import when they are first used, before any process is forked that would do it again."""
    for module in ("openpyxl", "pyarrow.parquet", "yaml"):
        import_module(module)
