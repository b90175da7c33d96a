"""Files of weights, read as names and tensors without running anything that is in them."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor
from torch.storage import _storage_type_to_dtype_map

from explainers.errors import LightboxError, ModelError, UnsafeFileError
from explainers.graph.pickles import ForeignNameError, Name, Reader, sequence
from explainers.settings import settings

SAVE_LINE = '`torch.save(model.state_dict(), "weights.pt")`'


#: How pickles of protocol 2 and later begin, and which number files of torch before 1.6 have first.
PICKLE = b"\x80"
MAGIC = 0x1950A86A20F9469CFC6C

#: The types of storages by the names of their classes.
STORAGES = {
    **{name: dtype for name, dtype in _storage_type_to_dtype_map().items() if not name.startswith("Q")},
    "UntypedStorage": torch.uint8,
}


def read_safetensors(data: bytes) -> dict[str, Shaped[Tensor, "..."]]:
    """Read a safetensors file; raises ModelError if it is damaged or too large."""
    import safetensors.torch

    header = int.from_bytes(data[:8], "little")
    if header > min(settings().model_header, len(data) - 8):
        raise ModelError(
            f"The safetensors header claims {header:,} bytes, but the file has {len(data):,} and a header may have "
            f"{settings().model_header:,}. The file is damaged or cut off; copy it again."
        )
    with telling("The safetensors file is damaged", "Save it again."):
        return dict(safetensors.torch.load(data))


def read_pickle(data: bytes, nested: bool = False) -> Any:
    """Read a file of ``torch.save`` or ``pickle.dump`` as plain data; nothing that it names is imported or called.

    Tensors come as tensors, other objects as stand-ins of ``explainers.graph.pickles``. ``nested`` files are those
    within a pickle. Raises UnsafeFileError if it names what no checkpoint needs, ModelError if it is damaged.
    """
    with telling("The file is no readable checkpoint", f"Save it again by {SAVE_LINE}."):
        try:
            return read_series(data, nested) if data[:1] == PICKLE else read_zipped(data)
        except ForeignNameError as error:
            raise UnsafeFileError(
                f"The file holds a pickled object ({printable(str(error), 100)}), which could run code when opened, "
                f"so it was not opened. Save the weights alone, by {SAVE_LINE}, and upload that."
            ) from None


def read_zipped(data: bytes) -> Any:
    """Read an archive of ``torch.save``: a pickle, and a member for each storage."""
    archive = open_zip(data)
    check_entries(archive, len(data))
    if min(entry.header_offset for entry in archive.infolist()):
        raise ValueError("it is the end of an archive, or one within another")
    main = min((name for name in archive.namelist() if name.endswith("data.pkl")), key=len)
    root = main.removesuffix("data.pkl")
    if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
        raise ModelError(f"The file was saved on a big-endian machine. Save it again elsewhere, by {SAVE_LINE}.")
    members = cache(lambda key: archive.read(f"{root}data/{key}"))

    def resolve(identity: Any) -> Any:
        key, dtype, length, _ = read_identity(identity)
        return slice_bytes(members(key), dtype, length, 0) if dtype else Name(key)

    return Reader(resolve).read(io.BytesIO(archive.read(main)))


def read_series(data: bytes, nested: bool) -> Any:
    """Read pickles one after another, as torch wrote them before 1.6, with all storages behind; or one pickle alone."""
    stream = io.BytesIO(data)
    content = Reader(lambda identity: read_within(identity, nested)).read(stream)
    if not isinstance(content, int) or content != MAGIC:
        return content
    for _ in ("protocol", "machine"):
        Reader(read_identity).read(stream)
    start, kinds = stream.tell(), dict[str, torch.dtype]()

    def measure(identity: Any) -> Any:
        key, dtype, length, view = read_identity(identity)
        kinds.update({key: dtype} if dtype else {})
        storage = torch.empty(length, dtype=dtype, device="meta") if dtype else Name(key)
        return storage[view] if isinstance(storage, Tensor) else storage

    Reader(measure).read(stream)
    storages: dict[str, Any] = {}
    for key in sequence(Reader(read_identity).read(stream)):
        length, dtype = int.from_bytes(stream.read(8), "little"), kinds[key]
        storages[key] = slice_bytes(data, dtype, length, stream.tell())
        stream.seek(length * dtype.itemsize, io.SEEK_CUR)

    def resolve(identity: Any) -> Any:
        key, dtype, _, view = read_identity(identity)
        return storages[key][view] if dtype else Name(key)

    stream.seek(start)
    return Reader(resolve).read(stream)


def read_within(identity: Any, nested: bool) -> Any:
    """What a plain pickle keeps in itself as a file of ``torch.save``; one that holds another is refused."""
    if nested or not isinstance(identity, tuple) or identity[0] != "bytes" or not isinstance(identity[1], bytes):
        raise ValueError("it refers to data that are not in the file")
    return read_pickle(identity[1], nested=True)


def read_identity(identity: Any) -> tuple[str, torch.dtype | None, int, slice]:
    """The key, type, length and part of a storage by its persistent id; classes and quantised numbers have no type."""
    if isinstance(identity, tuple) and identity[:1] == ("module",) and isinstance(identity[1], Name):
        return identity[1].text, None, 0, slice(None)
    tag, kind, key, _, length, *view = sequence(identity)
    if tag != "storage" or not isinstance(kind, Name) or not isinstance(key, str) or not isinstance(length, int):
        raise ValueError("it refers to data that are no storage")
    part = slice(None)
    if view and view[0] is not None:
        _, offset, size = sequence(view[0])
        part = slice(offset, offset + size)
    return key, STORAGES.get(kind.text.rpartition(".")[2]), length, part


def slice_bytes(data: bytes, dtype: torch.dtype, length: int, start: int) -> Shaped[Tensor, " length"]:
    """Numbers out of a file's bytes, which are not copied."""
    if length < 0 or start + length * dtype.itemsize > len(data):
        raise ValueError("a storage is cut off")
    return torch.frombuffer(data, dtype=dtype, count=length, offset=start) if length else torch.empty(0, dtype=dtype)


def open_zip(data: bytes) -> zipfile.ZipFile:
    """Open a zip archive; raises ModelError if it is damaged."""
    with telling("The archive is damaged", "Copy or save it again."):
        return zipfile.ZipFile(io.BytesIO(data))


def check_entries(archive: zipfile.ZipFile, size: int) -> None:
    """Raise ModelError if an archive of ``size`` bytes has too many members, or members that hold more bytes."""
    entries = archive.infolist()
    if len(entries) > settings().model_tensors:
        raise ModelError(f"The archive has {len(entries):,} members; at most {settings().model_tensors:,} are read.")
    if sum(entry.file_size for entry in entries) > size or len(set(archive.namelist())) < len(entries):
        raise ModelError(
            "The archive's members are compressed, overlap or share a name, which torch never writes. "
            f"Save the model again, by {SAVE_LINE}."
        )


@contextmanager
def telling(what: str, then: str) -> Iterator[None]:
    """Say in one sentence what failed, whatever error torch raises on a damaged file, and what to do then."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own deprecations say nothing about the file
            yield
    except LightboxError:
        raise
    except Exception as error:  # a damaged file may fail anywhere in torch; it is told, not hidden
        raise ModelError(f"{what} ({first_line(error)}). {then}") from error


def first_line(error: Exception) -> str:
    """The first sentence of an error's message, without the rest that speaks to programmers."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return printable(line.partition(". ")[0], 200).rstrip(".")


def printable(text: str, length: int = 60) -> str:
    """A text of a hostile file, short and free of control characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text)[:length])
