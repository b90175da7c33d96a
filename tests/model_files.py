"""Model files for tests: good ones, and hostile ones that would make a marker file."""

from __future__ import annotations

import copy
import io
import json
import os
import pathlib
import pickle
import re
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


class Outgrowing(nn.Module):
    """Makes a value that grows with the cube of the batch, of which nothing is left."""

    def forward(self, images: Tensor) -> Tensor:
        count = images.shape[0]
        return images.mean((2, 3)) + 0 * images.new_zeros(count, count, count).mean((1, 2))[:, None]


class Huge(nn.Module):
    """Makes one large value of no bytes in the file."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)) + torch.zeros(2_000, 1_000, 1_000).mean()


class DecidedByNumbers(nn.Module):
    """Makes a value whose size depends on the image."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)) + images[images > 0].sum()


class Dropping(nn.Module):
    """Draws random numbers whatever the mode."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)) * (torch.rand_like(images[:, :, 0, 0]) > 0.5)


def outgrowing() -> bytes:
    """An archive that tells nothing of the powers that its sizes have."""
    members = members_of(archived(Outgrowing(), torch.zeros(2, 3, 8, 8)))
    program = members["models/model.json"].decode()
    told = re.sub(r"Pow\((Symbol\([^)]*\)), Integer\(\d\)\)", r"Mul(\1, \1)", program)
    return zipped(members | {"models/model.json": told.encode()})


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


def wrapped(target: str, name: str) -> dict[str, Any]:
    """A call of one thing inside of no_grad, as torch writes it."""
    first = json.loads(members_of(tiny_archive())["models/model.json"])["graph_module"]["graph"]
    node = first["nodes"][0] | {"target": target, "outputs": [{"as_tensor": {"name": name}}], "name": name}
    given = [one["arg"] for one in node["inputs"] if "as_tensor" in one["arg"]]
    described = {name: first["tensor_values"]["conv2d"]}
    inner = {**first, "inputs": given, "nodes": [node], "outputs": node["outputs"], "tensor_values": described}
    arguments = [{"as_bool": False}, {"as_graph": {"name": "submod_1", "graph": inner}}, *given]
    return {
        **first["nodes"][0],
        "target": "torch.ops.higher_order.wrap_with_set_grad_enabled",
        "inputs": [{"name": "", "arg": argument, "kind": 1} for argument in arguments],
    }


def with_wrapped(target: str = "torch.ops.aten.conv2d.default", name: str = "conv2d") -> Members:
    """The tiny archive with its first call, or another, inside of no_grad."""

    def change(program: Any) -> None:
        program["graph_module"]["graph"]["nodes"][0] = wrapped(target, name)

    return edited_program(change)


def with_graph_argument() -> Members:
    def change(program: Any) -> None:
        graph = program["graph_module"]["graph"]
        graph["nodes"][0]["inputs"][0]["arg"] = {"as_graph": {"name": "inner", "graph": copy.deepcopy(graph)}}

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
    "operator that shows the memory behind a tensor": lambda marker: with_target("torch.ops.aten.as_strided.default"),
    "operator that changes a tensor's memory": lambda marker: with_target("torch.ops.aten.set_.source_Tensor"),
    "operator that makes a tensor longer": lambda marker: with_target("torch.ops.aten.resize_.default"),
    "operator that prints": lambda marker: with_target("torch.ops.aten._print.default"),
    "operator that trusts its indices": lambda marker: with_target("torch.ops.aten.embedding_dense_backward.default"),
    "operator that trusts its pivots": lambda marker: with_target("torch.ops.aten.linalg_lu_solve.default"),
    "operator that trusts its lengths": lambda marker: with_target("torch.ops.aten.segment_reduce.default"),
    "operator on many tensors at once": lambda marker: with_target("torch.ops.aten._foreach_add_.List"),
    "operator of sparse tensors": lambda marker: with_target("torch.ops.aten._sparse_coo_tensor_unsafe.default"),
    "operator of autograd's own": lambda marker: with_target("torch.ops.aten._backward.default"),
    "operator of another processor": lambda marker: with_target("torch.ops.aten.cudnn_convolution.default"),
    "operator that writes where it is told": lambda marker: with_target("torch.ops.aten.add.out"),
    "operator whose size the numbers decide": lambda marker: with_target("torch.ops.aten.bincount.default"),
    "function of TorchScript": lambda marker: with_target("torch.ops.aten.__interpolate.scale_list"),
    "text of TorchScript": lambda marker: with_target("torch.ops.aten.format.default"),
    "attribute of an operator": lambda marker: with_target("torch.ops.aten.add.__class__"),
    "attribute of all operators": lambda marker: with_target("torch.ops.aten.__dict__.update"),
    "library to load": lambda marker: with_target("torch.ops.load_library"),
    "operator of another space": lambda marker: with_target("torch.ops.profiler._record_function_enter.default"),
    "function of sizes": lambda marker: with_target("torch.sym_int"),
    "function of mathematics": lambda marker: with_target("math.factorial"),
    "control flow": lambda marker: with_target("torch.ops.higher_order.cond"),
    "function inside of no_grad": lambda marker: with_wrapped("torch.os.system"),
    "name inside of no_grad": lambda marker: with_wrapped(name=f"x={code(marker)}"),
    "graph as an argument": lambda marker: with_graph_argument(),
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
