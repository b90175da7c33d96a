"""Checkpoints: the weights of a model in a file that cannot run code, as names and tensors."""

from __future__ import annotations

import io
import pickle
import pickletools
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor
from torch._weights_only_unpickler import _get_allowed_globals

from explainers.errors import LightboxError, ModelError, UnsafeFileError
from explainers.settings import settings

#: Where training scripts keep the weights inside a checkpoint; averaged weights come first, they predict best.
WRAPPERS = ("state_dict_ema", "model_ema", "ema", "state_dict", "model_state_dict", "model", "net", "weights", "params")

#: What wrappers of modules put before every name.
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.")

SAVE_LINE = '`torch.save(model.state_dict(), "weights.pt")`'


@dataclass(frozen=True)
class Weights:
    """The named tensors of a checkpoint, in the file's order, and notes on what was unwrapped to get at them.

    ``ordered`` tells whether that order is the one in which the author's modules were made.
    """

    tensors: dict[str, Shaped[Tensor, "..."]]
    ordered: bool
    notes: tuple[str, ...] = ()


def read_safetensors(data: bytes) -> Weights:
    """Read a safetensors file; raises ModelError if it is damaged or too large."""
    import safetensors.torch

    header = int.from_bytes(data[:8], "little")
    if header > min(settings().model_header, len(data) - 8):
        raise ModelError(
            f"The safetensors header claims {header:,} bytes, but the file has {len(data):,} and a header may have "
            f"{settings().model_header:,}. The file is damaged or cut off; copy it again."
        )
    with telling("The safetensors file is damaged", "Save it again."):
        return unwrap(safetensors.torch.load(data), ordered=False)


def read_checkpoint(data: bytes) -> Weights:
    """Read a file of ``torch.save`` that holds nothing but tensors and plain containers.

    Raises UnsafeFileError if it holds anything else, ModelError if it is damaged or holds no weights.
    """
    return unwrap(read_pickle(data), ordered=True)


def read_pickle(data: bytes) -> Any:
    """Load a file of ``torch.save`` by torch's restricted reader, which calls nothing that the file names."""
    with telling("The file is no readable checkpoint", f"Save it again by {SAVE_LINE}."):
        try:
            return torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
        except pickle.UnpicklingError:
            if foreign := foreign_global(data):
                raise UnsafeFileError(
                    f"The file holds a pickled object ({foreign}), which could run code when opened, so it was not "
                    f"opened. Save the weights alone, by {SAVE_LINE}, and upload that."
                ) from None
            raise


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


def foreign_global(data: bytes) -> str | None:
    """The first function or class that a pickle would import and torch does not allow, found without unpickling."""
    texts: list[str] = []
    try:
        if zipfile.is_zipfile(io.BytesIO(data)):
            archive = open_zip(data)
            data = next((archive.read(name) for name in archive.namelist() if name.endswith("data.pkl")), b"")
        stream = io.BytesIO(data)
        while stream.tell() < len(data):  # older files of torch.save are several pickles one after another
            for code, argument, _ in pickletools.genops(stream):
                texts += [argument] if isinstance(argument, str) else []
                named = ".".join(texts[-2:]) if code.name == "STACK_GLOBAL" else str(argument).replace(" ", ".")
                if code.name in ("GLOBAL", "INST", "STACK_GLOBAL") and named not in _get_allowed_globals():
                    return printable(named, 100)
    except (ValueError, IndexError, zipfile.BadZipFile):
        pass  # what follows the pickles is raw tensors, or the file is damaged
    return None


def unwrap(content: Any, ordered: bool) -> Weights:
    """Find the state dict in a checkpoint and take away what wrappers put before its names."""
    notes: list[str] = []
    for _ in WRAPPERS:  # not "while": a pickle may hold itself
        if wrapper := find_wrapper(content):
            content = content[wrapper]
            notes.append(f"The weights were taken from the checkpoint's entry '{wrapper}'.")
    items = content.items() if isinstance(content, Mapping) else ()
    tensors = {
        key: item for key, item in items if isinstance(key, str) and isinstance(item, Tensor) and key != "n_averaged"
    }
    check_bounds(tensors)
    while prefix := next((prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        notes.append(f"The names in the file were prefixed by '{prefix}', which was taken away.")
    return Weights(tensors, ordered, tuple(notes))


def find_wrapper(content: Any) -> str | None:
    """The key under which a training script's checkpoint keeps the weights, None if there is none."""
    if not isinstance(content, Mapping):
        return None
    return next((key for key in WRAPPERS if isinstance(content.get(key), Mapping) and content[key]), None)


def check_bounds(tensors: Mapping[str, Shaped[Tensor, "..."]]) -> None:
    """Raise ModelError unless there are tensors, not too many and not too large."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if not tensors:
        raise ModelError(f"The file holds no named tensors. Save the model's weights by {SAVE_LINE}.")
    if len(tensors) > settings().model_tensors or size > settings().model_bytes:
        raise ModelError(
            f"The file holds {len(tensors):,} tensors of {size:,} bytes; at most {settings().model_tensors:,} tensors "
            f"and {settings().model_bytes:,} bytes are loaded."
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
    return "".join(letter if letter.isprintable() else "?" for letter in text[:length])
