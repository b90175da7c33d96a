"""Model files for tests: good ones, and hostile ones that would make a marker file."""

from __future__ import annotations

import io
import json
import os
import pathlib
import pickle
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from explainers.graph.zoo import build

Members = dict[str, bytes]


@cache
def resnet() -> nn.Module:
    torch.manual_seed(0)
    return build("timm/resnet10t", 7).eval()


@cache
def tiny() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    return nn.Sequential(*layers).eval()


def saved(content: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def archived(module: nn.Module, example: Tensor, fixed: bool = False) -> bytes:
    buffer = io.BytesIO()
    shapes = None if fixed else ({0: Dim("batch", min=1)},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own deprecations while it exports
        torch.export.save(torch.export.export(module, (example,), dynamic_shapes=shapes), buffer)
    return buffer.getvalue()


@cache
def tiny_archive() -> bytes:
    return archived(tiny(), torch.zeros(2, 3, 16, 16))


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return pathlib.Path.touch, (self.marker,)


#: Every wrapping in which a pickled object may come.
PICKLES: dict[str, Callable[[Touch], bytes]] = {
    "alone": lambda touch: saved(touch),
    "beside weights": lambda touch: saved({"state_dict": {"a": torch.zeros(1)}, "arguments": touch}),
    "in the older format": lambda touch: saved(OrderedDict(a=touch), _use_new_zipfile_serialization=False),
    "of protocol 4": lambda touch: saved(touch, pickle_protocol=4),
    "without torch": lambda touch: pickle.dumps({"a": touch}),
    "without torch, of protocol 2": lambda touch: pickle.dumps({"a": touch}, protocol=2),
    "called by its name": lambda touch: assembled(b"cos\nsystem\n(", text(command(touch)), b"tR."),
    "called by a name of two parts": lambda touch: assembled(
        text("torch"), text("os.system"), b"\x93(", text(command(touch)), b"tR."
    ),
    "called by the older names": lambda touch: assembled(b"c__builtin__\neval\n(", text(code(touch.marker)), b"tR."),
    "made by INST": lambda touch: assembled(b"(", text(command(touch)), b"ios\nsystem\n."),
    "made by OBJ": lambda touch: assembled(b"(cposix\nsystem\n", text(command(touch)), b"o."),
    "made by NEWOBJ": lambda touch: assembled(b"csubprocess\nPopen\n(", text(command(touch)), b"t\x81."),
    "made by NEWOBJ_EX": lambda touch: assembled(b"csubprocess\nPopen\n(", text(command(touch)), b"t}\x92."),
    "of the extension registry": lambda touch: assembled(b"\x82\x01(", text(command(touch)), b"tR."),
    "called through a tensor's subclass": lambda touch: assembled(
        b"ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\nN(", text(command(touch)), b"t}tR."
    ),
    "kept for later by partial": lambda touch: pickle.dumps({"a": partial(os.system, command(touch))}),
    "of a library's function": lambda touch: assembled(b"ctorch.hub\nload\n(", text(str(touch.marker)), b"tR."),
    "loaded from bytes": lambda touch: assembled(
        b"ctorch.storage\n_load_from_bytes\n(B", struct.pack("<I", len(saved(touch))), saved(touch), b"tR."
    ),
    "that is called again as a stand-in": lambda touch: assembled(
        b"cargparse\nNamespace\n)\x81(", text(command(touch)), b"tR."
    ),
    "that is called as a text": lambda touch: assembled(text("os.system"), b"(", text(command(touch)), b"tR."),
}


def assembled(*steps: bytes) -> bytes:
    """A pickle put together by hand."""
    return b"\x80\x04" + b"".join(steps)


def text(content: str) -> bytes:
    return b"X" + struct.pack("<I", len(content.encode())) + content.encode()


def command(touch: Touch) -> str:
    return f"touch {touch.marker}"


def code(marker: Path) -> str:
    return f"__import__('pathlib').Path('{marker}').touch()"


def members_of(archive: bytes) -> Members:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return {name.partition("/")[2]: opened.read(name) for name in opened.namelist()}


def zipped(members: Members, root: str = "archive/", compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(root + name, content)
    return buffer.getvalue()


def edited(member: str, change: Callable[[Any], Any]) -> Members:
    """The members of the tiny archive with one JSON member changed in place."""
    members = members_of(tiny_archive())
    content = json.loads(members[member])
    change(content)
    return members | {member: json.dumps(content).encode()}


def edited_program(change: Callable[[Any], Any]) -> Members:
    return edited("models/model.json", change)


def with_pickled_weight(marker: Path) -> Members:
    def pickled(content: Any) -> None:
        content["config"]["0.weight"]["use_pickle"] = True

    return edited("data/weights/model_weights_config.json", pickled) | {"data/weights/weight_0": saved(Touch(marker))}


def with_constant(marker: Path, member: str, use_pickle: bool) -> Members:
    payload = json.loads(members_of(tiny_archive())["data/weights/model_weights_config.json"])["config"]["0.weight"]
    payload = payload | {"path_name": member, "use_pickle": use_pickle}
    pickled = saved(Touch(marker)) if use_pickle else pickle.dumps(Touch(marker))
    content = pickled + bytes(-len(pickled) % 4)  # torch wants whole numbers of float32

    def add(config: Any) -> None:
        config["config"]["evil"] = payload

    return edited("data/constants/model_constants_config.json", add) | {f"data/constants/{member}": content}


def with_size(expression: str) -> Members:
    def change(program: Any) -> None:
        for tensor in program["graph_module"]["graph"]["tensor_values"].values():
            for size in tensor["sizes"]:
                if "as_expr" in size:
                    size["as_expr"]["expr_str"] = expression

    return edited_program(change)


def with_target(target: str) -> Members:
    return edited_program(lambda program: program["graph_module"]["graph"]["nodes"][0].update(target=target))


def with_operator_argument(target: str) -> Members:
    def change(program: Any) -> None:
        program["graph_module"]["graph"]["nodes"][0]["inputs"][0]["arg"] = {"as_operator": target}

    return edited_program(change)


def with_input_name(name: str) -> Members:
    members = members_of(tiny_archive())
    program = members["models/model.json"].decode().replace('"input"', json.dumps(name))
    return members | {"models/model.json": program.encode()}


def with_member(name: str, content: bytes) -> Members:
    return members_of(tiny_archive()) | {name: content}


SYMBOL = "Symbol('s77', positive=True, integer=True)"


#: Hostile archives: those of the first group run code in torch's own loader.
RUNNING: dict[str, Callable[[Path], Members]] = {
    "pickled sample inputs": lambda marker: with_member("data/sample_inputs/model.pt", saved(((Touch(marker),), {}))),
    "pickled weight": with_pickled_weight,
    "pickled constant": lambda marker: with_constant(marker, "tensor_0", True),
    "opaque object": lambda marker: with_constant(marker, "opaque_obj_0", False),
    "legacy weights": lambda marker: with_member("data/weights/model.pt", saved({"a": Touch(marker)})),
    "legacy constants": lambda marker: with_member("data/constants/model.pt", saved({"a": Touch(marker)})),
    "symbolic size": lambda marker: with_size(f"{code(marker)} or {SYMBOL}"),
}


LURKING: dict[str, Callable[[Path], Members]] = {
    "custom object": lambda marker: with_constant(marker, "custom_obj_0", False),
    "function of the system": lambda marker: with_target("torch.os.system"),
    "function as an argument": lambda marker: with_operator_argument("torch.os.system"),
    "operator that writes files": lambda marker: with_target("torch.ops.aten.save.default"),
    "operator that reads files": lambda marker: with_target("torch.ops.aten.from_file.default"),
    "operator that shows old memory": lambda marker: with_target("torch.ops.aten.empty.memory_format"),
    "control flow": lambda marker: with_target("torch.ops.higher_order.cond"),
    "operator of an extension": lambda marker: with_target("#evil:thing"),
    "operator looked up by attributes": lambda marker: with_target("_operator.methodcaller"),
    "name with a default value": lambda marker: with_input_name(f"x={code(marker)}"),
    "name with line breaks": lambda marker: with_input_name(f"x):\n    pass\n{code(marker)}\ndef f(y"),
    "name of Python's own": lambda marker: with_input_name("__class__"),
    "size by an unlisted function": lambda marker: with_size(f"factorial({SYMBOL})"),
    "size with an attribute": lambda marker: with_size(f"{SYMBOL}.__class__"),
    "endless power": lambda marker: with_size("9**9**9**9**9"),
    "compiled code": lambda marker: with_member("data/aotinductor/model/model.so", b"\x7fELF"),
    "path out of the archive": lambda marker: with_member("../../../tmp/x", b""),
}
