"""Pickles read as plain data: nothing that a file names is imported or called.

A pickle is a program for a small machine with a stack. ``Reader`` runs it with values of its own only: numbers, texts
and containers; tensors and arrays, put together by the functions in ``MAKERS``; and for every other object a
``StandIn`` that remembers its class, arguments and state, and does nothing. Names that ordinary checkpoints do not need
are refused all the same, for such a file was made to do harm where it is opened by Python's own reader.
"""

from __future__ import annotations

import pickletools
import re
import sys
from _compat_pickle import IMPORT_MAPPING
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

#: How many steps a pickle may have; large checkpoints have some hundred thousand.
MOST_STEPS = 10_000_000


class ForeignNameError(Exception):
    """A function or class that no checkpoint needs; the message is its name."""


@dataclass(frozen=True)
class Name:
    """A function or class that a pickle names."""

    text: str


@dataclass(eq=False)
class StandIn:
    """An object of a class that is not looked up: its class's name, its arguments, its state and its items."""

    name: str
    arguments: tuple[Any, ...] = ()
    state: dict[str, Any] = field(default_factory=dict)
    items: dict[Any, Any] = field(default_factory=dict)

    def build(self, state: Any) -> None:
        """Remember a state: a dict of attributes, or a pair of one and of slots."""
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                self.state.update(part)


@dataclass(eq=False)
class Kind:
    """A NumPy type: its letter and length ("f4"), and its order of bytes."""

    code: str
    order: str = "="

    def build(self, state: Any) -> None:
        """Take the order of bytes from a state."""
        if isinstance(state, tuple) and state[1:2] in (("<",), (">",)):
            self.order = state[1]


@dataclass(eq=False)
class Array:
    """A NumPy array of which only type, shape and bytes are kept."""

    kind: Any = None
    shape: Any = ()
    content: Any = b""
    fortran: bool = False

    def build(self, state: Any) -> None:
        """Take what ``numpy.ndarray.__setstate__`` takes: version, shape, type, order of axes and bytes."""
        if isinstance(state, tuple) and len(state) == 5:
            _, self.shape, self.kind, fortran, self.content = state
            self.fortran = fortran is True

    def tensor(self) -> Shaped[Tensor, "..."] | None:
        """The array as a tensor; None if it is none of numbers. Raises ValueError if the bytes are too few."""
        if not isinstance(self.kind, Kind) or not re.fullmatch(r"b1|[iuf][1248]", self.kind.code):
            return None
        if not isinstance(self.content, bytes | bytearray) or not self.content:
            return None
        kind = np.dtype(self.kind.order + self.kind.code)
        values = np.frombuffer(self.content, kind).reshape(self.shape, order="F" if self.fortran else "C")
        return torch.from_numpy(values.astype(kind.newbyteorder("="), order="C"))


def make_tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> Any:
    """A tensor as a view of its storage, whose bounds torch checks."""
    if not isinstance(storage, Tensor):
        return StandIn("torch.Tensor")
    return storage.as_strided(tuple(size), tuple(stride), offset)


def make_typed_tensor(storage: Any, offset: int, size: Any, stride: Any, *rest: Any) -> Any:
    """A tensor as a view of untyped storage, its type named among the last arguments."""
    kind = next((one.text.removeprefix("torch.") for one in rest if isinstance(one, Name)), "")
    dtype = getattr(torch, kind, None) if re.fullmatch(r"(u?int|b?float|complex)\d+\w*|bool", kind) else None
    if not isinstance(storage, Tensor) or not isinstance(dtype, torch.dtype):
        return StandIn("torch.Tensor")
    return make_tensor(storage.view(dtype), offset, size, stride)


def make_subclassed(function: Any, kind: Any, arguments: tuple[Any, ...], state: Any) -> Any:
    """A tensor of a subclass, as a plain one."""
    return call(function, arguments)


def make_bytes(text: str = "", encoding: str = "latin1") -> bytes:
    """What Python 3 writes for bytes in the older protocols."""
    if encoding not in ("latin1", "latin-1"):
        raise ForeignNameError(f"_codecs.encode to {encoding}")
    return text.encode("latin1")


def make_array(buffer: Any, kind: Any, shape: Any, order: Any = "C") -> Array:
    """An array of a buffer in the pickle."""
    return Array(kind, shape, buffer, order == "F")


def first(data: Any, *_: Any) -> Any:
    """What is wrapped by a parameter."""
    return data


def make_mapping(pairs: Any = (), *_: Any) -> dict[Any, Any]:
    """A dict, of pairs or of another dict."""
    found: dict[Any, Any] = {}
    for key, value in pairs.items() if isinstance(pairs, Mapping) else pairs:
        keep(found, key, value)
    return found


def split_pairs(items: list[Any]) -> list[tuple[Any, Any]]:
    """Keys with their values, from both in turn."""
    return list(zip(items[::2], items[1::2], strict=True))


def make_object(kind: Any, *arguments: Any) -> StandIn:
    """An object that is made without a call of its class's constructor."""
    return StandIn(kind.text if isinstance(kind, Name) else "object", arguments)


#: What functions of torch, NumPy and Python that checkpoints name are read as.
MAKERS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": make_tensor,
    "torch._utils._rebuild_tensor_v2": make_tensor,
    "torch._utils._rebuild_tensor_v3": make_typed_tensor,
    "torch._utils._rebuild_parameter": first,
    "torch._utils._rebuild_parameter_with_state": first,
    "torch._utils._rebuild_device_tensor_from_numpy": first,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": first,
    "torch._tensor._rebuild_from_type_v2": make_subclassed,
    "torch.nn.parameter.Parameter": first,
    "numpy.core.multiarray._reconstruct": lambda *_: Array(),
    "numpy.core.numeric._frombuffer": make_array,
    "numpy.dtype": lambda code, *_: Kind(code if isinstance(code, str) else ""),
    "_codecs.encode": make_bytes,
    "collections.OrderedDict": make_mapping,
    "collections.defaultdict": lambda *_: {},
    "collections.Counter": make_mapping,
    "builtins.dict": make_mapping,
    "builtins.list": lambda items=(): list(items),
    "builtins.tuple": lambda items=(): tuple(items),
    "builtins.set": lambda items=(): list(items),
    "builtins.frozenset": lambda items=(): list(items),
    "builtins.bytearray": lambda *_: StandIn("builtins.bytearray"),
    "copyreg._reconstructor": lambda kind, *_: make_object(kind),
    "copyreg.__newobj__": make_object,
    "copyreg.__newobj_ex__": make_object,
    "torch.Size": lambda items=(): tuple(items),
}

#: Harmless names of Python, torch and NumPy that stand beside weights; all stay stand-ins.
HARMLESS = frozenset(
    f"{module}.{name}"
    for module, names in {
        "builtins": "object int float bool str bytes complex slice range type NoneType Ellipsis",
        "argparse": "Namespace",
        "collections": "deque",
        "types": "SimpleNamespace NoneType",
        "pathlib": "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath",
        "pathlib._local": "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath",
        "datetime": "datetime date time timedelta timezone",
        "decimal": "Decimal",
        "fractions": "Fraction",
        "uuid": "UUID SafeUUID",
        "typing": "Any Union Optional List Dict Tuple",
        "enum": "Enum IntEnum",
        "functools": "partial",
        "operator": "getitem",
        "random": "Random",
        "zoneinfo": "ZoneInfo._unpickle",
        "torch": "device Generator memory_format layout",
        "torch.serialization": "_get_layout",
        "torch._utils": "_rebuild_qtensor _rebuild_sparse_tensor _rebuild_meta_tensor_no_storage "
        "_rebuild_nested_tensor _rebuild_wrapper_subclass _rebuild_xla_tensor",
        "numpy.core.multiarray": "scalar",
        "numpy.random.bit_generator": "__pyx_unpickle_SeedSequence",
        "numpy.random._pickle": "__randomstate_ctor __generator_ctor __bit_generator_ctor",
    }.items()
    for name in names.split()
)


def find_name(module: Any, attribute: Any) -> Name:
    """A name as Python 3 and NumPy 1 spell it; raises ForeignNameError for those of Python that weights do not need."""
    if not isinstance(module, str) or not isinstance(attribute, str):
        raise ValueError("it names something by no text")
    module = IMPORT_MAPPING.get(module, module).replace("numpy._core", "numpy.core")
    name = f"{module}.{attribute}"
    roots = {module.partition(".")[0], *attribute.split(".")[:-1]}
    if name not in HARMLESS and name not in MAKERS and roots & sys.stdlib_module_names:
        raise ForeignNameError(name)
    return Name(name)


def call(function: Any, arguments: Any) -> Any:
    """What a call stands for; raises ForeignNameError unless it is listed, or makes an object of a class.

    A class of a library is told by its capital, as Python's style guide has it: members of an enumeration are such
    calls. Its stand-in runs nothing either.
    """
    name = function.text if isinstance(function, Name) else type(function).__name__
    if name in MAKERS:
        return MAKERS[name](*arguments)
    if name in HARMLESS or (isinstance(function, Name) and name.rpartition(".")[2].lstrip("_")[:1].isupper()):
        return StandIn(name, tuple(arguments))
    raise ForeignNameError(name)


def keep(target: Any, key: Any, value: Any) -> None:
    """Put an item under a plain key; others, whose hash could go deep without end, name no tensor and are dropped."""
    items = target.items if isinstance(target, StandIn) else target
    if isinstance(items, dict) and isinstance(key, str | bytes | int | float | None):
        items[key] = value


class Reader:
    """The machine that reads one pickle; ``resolve`` turns a persistent id into what the file keeps elsewhere."""

    def __init__(self, resolve: Callable[[Any], Any]) -> None:
        self.resolve = resolve
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memory: dict[int, Any] = {}

    def read(self, stream: IO[bytes]) -> Any:
        """Read up to the pickle's end; raises ForeignNameError, and any other error if the pickle is damaged."""
        for count, (code, argument, _) in enumerate(pickletools.genops(stream)):
            if count > MOST_STEPS:
                raise ValueError(f"it has more than {MOST_STEPS:,} steps")
            if code.name == "STOP":
                return self.stack.pop()
            STEPS[code.name](self, argument)
        raise ValueError("it has no end")

    def push(self, item: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(item)

    def take(self, count: int) -> tuple[Any, ...]:
        """Take so many values off the stack."""
        if count > len(self.stack):
            raise ValueError("its stack is empty")
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return tuple(items)

    def take_marked(self) -> list[Any]:
        """Take all values above the last mark off the stack."""
        return list(self.take(len(self.stack) - self.marks.pop()))

    def drop_marked(self) -> None:
        """Take all values above the last mark off the stack, for nothing."""
        self.take_marked()

    def drop(self) -> None:
        """Take the last value, or the last mark, off the stack."""
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.stack.pop()

    def remember(self, place: int | None) -> None:
        """Keep the last value under a number, the next one if none is given."""
        self.memory[len(self.memory) if place is None else place] = self.stack[-1]

    def extend(self, items: Iterable[Any]) -> None:
        """Add values to the list below them."""
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def put(self, items: list[Any]) -> None:
        """Add keys and values, in turn, to the mapping below them."""
        for key, value in split_pairs(items):
            keep(self.stack[-1], key, value)

    def build(self) -> None:
        """Give the object below its state."""
        (state,) = self.take(1)
        if isinstance(self.stack[-1], StandIn | Kind | Array):
            self.stack[-1].build(state)

    def call(self, function: Any, arguments: Any) -> None:
        """Put what a call stands for on the stack; storage within the pickle is resolved as storage beside it."""
        if function == Name("torch.storage._load_from_bytes"):
            self.push(self.resolve(("bytes", *arguments)))
        else:
            self.push(call(function, arguments))

    def make(self, kind: Any, arguments: Any) -> None:
        """Put an object of a class on the stack that is made without a call of its constructor."""
        listed = isinstance(kind, Name) and kind.text in MAKERS
        self.push(call(kind, arguments) if listed else make_object(kind, *arguments))


def refuse_extension(reader: Reader, code: Any) -> None:
    """Raise ForeignNameError: what a number stands for is known to Python alone."""
    raise ForeignNameError(f"number {code} of the extension registry")


def refuse_buffer(reader: Reader, argument: Any) -> None:
    """Raise ValueError: what lies outside the file is not there."""
    raise ValueError("it needs data that are not in the file")


#: Steps that put a number, a text or bytes on the stack.
PLAIN = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
)

#: What each step of a pickle does.
STEPS: dict[str, Callable[[Reader, Any], None]] = {
    **dict.fromkeys(PLAIN, lambda reader, value: reader.push(value)),
    **dict.fromkeys(("PROTO", "FRAME"), lambda reader, _: None),
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), refuse_extension),
    **dict.fromkeys(("NEXT_BUFFER", "READONLY_BUFFER"), refuse_buffer),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), lambda reader, place: reader.remember(place)),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda reader, place: reader.push(reader.memory[place])),
    "NONE": lambda reader, _: reader.push(None),
    "NEWTRUE": lambda reader, _: reader.push(True),
    "NEWFALSE": lambda reader, _: reader.push(False),
    "MARK": lambda reader, _: reader.marks.append(len(reader.stack)),
    "POP": lambda reader, _: reader.drop(),
    "POP_MARK": lambda reader, _: reader.drop_marked(),
    "DUP": lambda reader, _: reader.push(reader.stack[-1]),
    "EMPTY_LIST": lambda reader, _: reader.push([]),
    "EMPTY_SET": lambda reader, _: reader.push([]),
    "EMPTY_DICT": lambda reader, _: reader.push({}),
    "EMPTY_TUPLE": lambda reader, _: reader.push(()),
    "LIST": lambda reader, _: reader.push(reader.take_marked()),
    "FROZENSET": lambda reader, _: reader.push(reader.take_marked()),
    "TUPLE": lambda reader, _: reader.push(tuple(reader.take_marked())),
    "TUPLE1": lambda reader, _: reader.push(reader.take(1)),
    "TUPLE2": lambda reader, _: reader.push(reader.take(2)),
    "TUPLE3": lambda reader, _: reader.push(reader.take(3)),
    "DICT": lambda reader, _: reader.push(make_mapping(split_pairs(reader.take_marked()))),
    "APPEND": lambda reader, _: reader.extend(reader.take(1)),
    "APPENDS": lambda reader, _: reader.extend(reader.take_marked()),
    "ADDITEMS": lambda reader, _: reader.extend(reader.take_marked()),
    "SETITEM": lambda reader, _: reader.put(list(reader.take(2))),
    "SETITEMS": lambda reader, _: reader.put(reader.take_marked()),
    "GLOBAL": lambda reader, pair: reader.push(find_name(*pair.split(" ", 1))),
    "STACK_GLOBAL": lambda reader, _: reader.push(find_name(*reader.take(2))),
    "PERSID": lambda reader, name: reader.push(reader.resolve(name)),
    "BINPERSID": lambda reader, _: reader.push(reader.resolve(*reader.take(1))),
    "REDUCE": lambda reader, _: reader.call(*reader.take(2)),
    "INST": lambda reader, pair: reader.push(call(find_name(*pair.split(" ", 1)), reader.take_marked())),
    "OBJ": lambda reader, _: reader.push((lambda items: call(items[0], items[1:]))(reader.take_marked())),
    "NEWOBJ": lambda reader, _: reader.make(*reader.take(2)),
    "NEWOBJ_EX": lambda reader, _: reader.make(*reader.take(3)[:2]),
    "BUILD": lambda reader, _: reader.build(),
}
