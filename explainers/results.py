"""What a question is answered with: read-only NumPy results that say how they came to be. Free of torch."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, get_type_hints

import numpy as np
from jaxtyping import AbstractArray

from explainers.errors import ComputationError

#: What reading bytes that hold anything else may raise, besides ValueError.
DAMAGE = (
    ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError, SyntaxError, TypeError,
    struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Result:
    """A result that the cache can hold: a frozen dataclass of NumPy arrays (made read-only) and plain JSON values.

    A field may also be another result, or a tuple of them: its parts. ``provenance`` holds plain JSON values: what was
    asked about what, by which parameters, source, versions, passes and seconds; ``ask`` writes it. ``unbounded`` names
    the fields that may hold what is no finite number.
    """

    unbounded: ClassVar[frozenset[str]] = frozenset()

    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for array in self.arrays.values():
            array.setflags(write=False)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The fields that are arrays."""
        return {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}

    @property
    def parts(self) -> dict[str, Result]:
        """The results in fields, by the field's name, a dot, and in a tuple their number."""
        single = {f"{name}.": value for name, value in vars(self).items() if isinstance(value, Result)}
        tuples = [(name, value) for name, value in vars(self).items() if isinstance(value, tuple)]
        parts = ((f"{name}.{number}", part) for name, value in tuples for number, part in enumerate(value))
        return single | {name: part for name, part in parts if isinstance(part, Result)}

    @property
    def nbytes(self) -> int:
        """Bytes in memory, with an allowance for the plain values."""
        parts = sum(part.nbytes for part in self.parts.values())
        return 1024 + parts + sum(array.nbytes for array in self.arrays.values())

    def require_finite(self, what: str) -> None:
        """Raise ComputationError, which names ``what`` gave this, if some values are not finite numbers."""
        for name, values in self.arrays.items():
            if name not in self.unbounded:
                require_finite(values, f"{what} gave {name}")


def require_finite(values: np.ndarray, what: str) -> None:
    """Raise ComputationError if some values are not finite numbers."""
    broken = int(values.size - np.isfinite(values).sum())
    if broken:
        raise ComputationError(
            f"{what} of which {broken} of {values.size} are not finite numbers. "
            "Check the model's weights and its normalisation, or choose another method."
        )


def store(result: Result) -> bytes:
    """Write a result as the bytes of an ``.npz`` file without pickles."""
    held = {*result.arrays, *(name.partition(".")[0] for name in result.parts)}
    plain = {name: value for name, value in vars(result).items() if name not in held}
    file = io.BytesIO()
    parts = {name: np.frombuffer(store(part), np.uint8) for name, part in result.parts.items()}
    arrays: dict[str, Any] = {
        **result.arrays,
        **parts,
        "plain": json.dumps([type(result).__name__, plain], default=vars),
    }
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def restore(data: bytes) -> Result:
    """Read a result back from the bytes that ``store`` made; raises ValueError if they are damaged."""
    kinds: dict[str, type[Result]] = {kind.__name__: kind for kind in descendants(Result)}
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            kind, plain = json.loads(str(file["plain"]))
            fields: dict[str, Any] = {name: file[name] for name in file.files if name != "plain"}
        for part in [name for name in fields if "." in name]:
            name, _, number = part.partition(".")
            found = restore(fields.pop(part).tobytes())
            fields[name] = (*fields.get(name, ()), found) if number else found
        frozen: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()
        }
        if strange := [name for name, hint in arrays(kinds[kind]).items() if not isinstance(fields.get(name), hint)]:
            raise ValueError(f"{', '.join(strange)} of {kind} are not what they should be.")
        result: Result = kinds[kind](**frozen, **fields)
    except (*DAMAGE, ValueError) as error:
        raise ValueError("These bytes do not hold a result of this version.") from error
    return result


def arrays(kind: type[Result]) -> dict[str, Any]:
    """The fields of a kind of result that are arrays, by name, with their types and shapes."""
    hints = get_type_hints(kind)
    return {name: hint for name, hint in hints.items() if isinstance(hint, type) and issubclass(hint, AbstractArray)}


def descendants(kind: type[Any]) -> Iterator[type[Any]]:
    """List the classes that are derived from one, and from those."""
    for child in kind.__subclasses__():
        yield child
        yield from descendants(child)
