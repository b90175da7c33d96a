"""Tables, annotations and lists of names that people bring, read in processes of their own. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple
from typing import Any

import numpy as np
import pandas as pd

from explainers import isolation
from explainers.cases.annotations import Box
from explainers.cases.arranging import Material, read_material
from explainers.errors import LightboxError, ModelError, NotesError, TableError
from explainers.graph import class_names
from explainers.images import Attachment
from explainers.isolation import Answer, Job

Answers = Iterator[Answer]


def open_material(attachments: Sequence[Attachment]) -> Material:
    """Read all tables and annotations, see ``read_material``; what cannot be read is said, each for itself."""
    tables, boxes, notes = dict[str, pd.DataFrame](), dict[str, tuple[Box, ...]](), list[str]()
    for attachment in attachments:
        job = make_job("give_material", attachment.data, attachment.name, TableError, name=attachment.name)
        try:
            found = receive_material(job, isolation.answer_once(job))
        except TableError as error:
            notes.append(str(error))
            continue
        tables.update(found.tables)
        notes += found.notes
        for name, marked in found.boxes.items():
            boxes[name] = (*boxes.get(name, ()), *marked)
    return Material(tables, boxes, tuple(notes))


def open_class_names(data: bytes, file_name: str) -> tuple[str, ...]:
    """Read class names in the order of the model's outputs, see ``read_class_names``; raises ModelError."""
    job = make_job("give_class_names", data, "The file of class names", ModelError, file_name=file_name)
    return tuple(map(str, isolation.answer_once(job).value))
