"""Archives of ``torch.export.save`` (``.pt2``): looked through before torch opens them, and rewritten without pickles.

torch 2.14 runs code from a hostile archive in many ways: it unpickles sample inputs, weights and objects, evaluates
symbolic sizes, looks up operators by any path from ``torch``, and compiles names and guards as Python. So only plain
data that is listed here gets into the archive that torch is given.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import torch
from torch import Tensor
from torch._export.serde.schema import ScalarType
from torch.export import ExportedProgram
from torch.export.pt2_archive import PT2ArchiveWriter
from torch.export.pt2_archive._package import load_pt2

from explainers.errors import ModelError, UnsafeFileError
from explainers.graph.checkpoint import open_zip, printable, read_pickle, telling
from explainers.graph.program import EXPORT_AGAIN, CleanProgram, clean, clean_program, convert
from explainers.proposal import Output
from explainers.settings import settings

#: What each member of an archive may be, after the archive's root folder.
MEMBERS = re.compile(
    r"archive_format|archive_version|byteorder|\.data/(version|serialization_id)|\.format_version|\.storage_alignment"
    r"|models/\w+\.json|data/weights/(\w+_weights_config\.json|weight_\d+)"
    r"|data/constants/(\w+_constants_config\.json|tensor_\d+)|data/sample_inputs/\w+\.pt|extra/.*"
)

#: What a serialised program calls the types of which the numbers become single.
TYPES = {
    ScalarType.HALF: torch.float16,
    ScalarType.BFLOAT16: torch.bfloat16,
    ScalarType.DOUBLE: torch.float64,
    ScalarType.COMPLEXHALF: torch.complex32,
    ScalarType.COMPLEXDOUBLE: torch.complex128,
}


@dataclass(frozen=True, eq=False)
class Archive:
    """An opened archive: its program, and what there is to say and to choose of."""

    program: ExportedProgram
    outputs: tuple[Output, ...]
    notes: tuple[str, ...]


def open_archive(data: bytes, output: str | None = None) -> Archive:
    """Open the program in a ``.pt2`` archive; ``output`` is the name of one of several that it gives.

    Raises UnsafeFileError for anything that could run code, ModelError for an archive that is damaged or whose program
    does not take one batch, of open size, of images of one size.
    """
    with telling("The archive cannot be opened", EXPORT_AGAIN):
        archive = open_zip(data)
        members = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
        member = find_program(members)
        cleaned = clean_program(read_json(members[member]), output)
        rewritten = rewrite(members, PurePosixPath(member).stem, cleaned)
        return Archive(load_pt2(rewritten).exported_programs["model"], cleaned.outputs, cleaned.notes)


def find_program(members: Mapping[str, bytes]) -> str:
    """The member that is an archive's program.

    Raises an error unless there is one, and nothing that torch would unpickle or run.
    """
    for name, content in members.items():
        if not MEMBERS.fullmatch(name):
            raise UnsafeFileError(
                f"The archive has a member '{printable(name)}'; only programs with plain tensors are opened, "
                f"no pickled or compiled ones. {EXPORT_AGAIN}"
            )
        if name.startswith("data/sample_inputs/"):
            check_plain(read_pickle(content))
    programs = [name for name in members if name.startswith("models/")]
    if len(programs) != 1:
        raise ModelError(f"The archive has {len(programs)} programs; Lightbox opens one. {EXPORT_AGAIN}")
    return programs[0]


def check_plain(content: Any) -> None:
    """Raise UnsafeFileError unless sample inputs are nothing but tensors in containers."""
    seen: set[int] = set()
    stack = [content]
    while stack:
        item = stack.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Mapping):
            stack += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple):
            stack += item
        elif not isinstance(item, Tensor | str | int | float | None):
            raise UnsafeFileError(
                f"The archive's sample inputs hold a {type(item).__name__}, not a tensor. {EXPORT_AGAIN}"
            )


def rewrite(members: Mapping[str, bytes], model: str, program: CleanProgram) -> io.BytesIO:
    """Write a new archive with the cleaned program and plain tensors, without the pickled sample inputs."""
    buffer = io.BytesIO()
    with PT2ArchiveWriter(buffer) as writer:
        writer.write_string("models/model.json", json.dumps(program.content))
        writer.write_bytes("data/sample_inputs/model.pt", b"")
        for folder, kind in (("weights", "weight"), ("constants", "tensor")):
            payload = clean_payload(read_json(members[f"data/{folder}/{model}_{folder}_config.json"]), kind)
            written = json.dumps(convert(payload, program.precision))
            writer.write_string(f"data/{folder}/model_{folder}_config.json", written)
            types = {one["path_name"]: one["tensor_meta"]["dtype"] for one in payload["config"].values()}
            for member, dtype in types.items():
                content = members[f"data/{folder}/{member}"]
                changes = dtype in program.precision and content
                writer.write_bytes(f"data/{folder}/{member}", single(content, dtype) if changes else content)
    buffer.seek(0)
    return buffer


def single(content: bytes, dtype: int) -> bytes:
    """Numbers of half or double precision in single precision."""
    numbers = torch.frombuffer(bytearray(content), dtype=TYPES[ScalarType(dtype)])
    made: bytes = numbers.to(torch.complex64 if numbers.is_complex() else torch.float32).numpy().tobytes()
    return made


def read_json(content: bytes) -> Any:
    """Parse a member of an archive, which must be an object."""
    found = json.loads(content)
    if not isinstance(found, dict):
        raise ModelError(f"The archive's program is no JSON object. {EXPORT_AGAIN}")
    return found


def clean_payload(config: dict[str, Any], kind: str) -> dict[str, Any]:
    """Check which member holds which tensor, and how large; raises UnsafeFileError for pickled ones."""
    for name, payload in config["config"].items():
        if payload["use_pickle"] or not re.fullmatch(rf"{kind}_\d+", payload["path_name"]):
            raise UnsafeFileError(
                f"The archive keeps '{printable(name)}' as a pickled object, which could run code. {EXPORT_AGAIN}"
            )
    sizes = [[size["as_int"] for size in payload["tensor_meta"]["sizes"]] for payload in config["config"].values()]
    elements = sum(math.prod(size) for size in sizes)
    if (
        len(sizes) > settings().model_tensors
        or elements > settings().model_bytes // 4
        or any(length < 0 for size in sizes for length in size)
    ):
        raise ModelError(
            f"The archive holds {len(sizes):,} tensors of {elements:,} numbers; at most "
            f"{settings().model_tensors:,} tensors and {settings().model_bytes // 4:,} numbers are loaded."
        )
    return {"config": clean(config["config"])}


def check_images(program: ExportedProgram) -> None:
    """Raise ModelError unless the input is one batch, of open size, of images of one size."""
    (images,) = (
        node.meta.get("val") for node in program.graph.nodes if node.name in program.graph_signature.user_inputs
    )
    if not isinstance(images, Tensor) or images.dim() != 4:
        raise ModelError(f"The program does not map images (batch, channels, height, width) to scores. {EXPORT_AGAIN}")
    batch, *image = images.shape
    if isinstance(batch, int) or not all(isinstance(length, int) for length in image):
        found = " x ".join(str(length) for length in images.shape)
        raise ModelError(
            f"The program takes inputs of {found}; leave the number of images, the first, open and no other. "
            f"{EXPORT_AGAIN}"
        )
