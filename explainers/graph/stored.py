"""Models as bytes that hold no code: a graph of ATen calls as JSON, its tensors as safetensors.

So a worker process can hand a model over, and a model traced once opens at once the next time. Whatever the bytes say
is checked: torch makes Python of a graph, with its names as they are.
"""

from __future__ import annotations

import json
import keyword
import math
import operator
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, fx

from explainers import records
from explainers.cache import code_digest, digest
from explainers.disk import discard, going_on, read_sealed, write_sealed
from explainers.errors import ModelError
from explainers.graph import calls
from explainers.graph.model import Model, constant
from explainers.info import Layer, ModelInfo
from explainers.outputs import KINDS
from explainers.preprocessing import INTERPOLATIONS
from explainers.settings import settings

#: The kinds of constants among a call's arguments that JSON does not have, by how they are called.
CONSTANTS = (torch.dtype, torch.layout, torch.memory_format, torch.device)

#: What reading a description raises that is none; the syntax is that of the code that torch makes of a graph.
MALFORMED = (
    LookupError, TypeError, ValueError, AttributeError, ArithmeticError, SafetensorError, RuntimeError, SyntaxError,
)  # fmt: skip

#: What nodes do; names of nodes and paths of tensors; digests.
OPERATIONS = ("placeholder", "get_attr", "call_function", "output")
NAME, PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,500}"), re.compile(r"\w+(\.\w+){0,50}")
DIGEST = re.compile(r"[0-9a-f]{64}")

#: Bytes of all but the tensors, nodes of a graph, binary digits of a size that is computed, at most; those of a number.
HEADER, NODES, DIGITS, WORD = 64 * 1024**2, 100_000, 4096, 64

#: What makes numbers of more digits than it is given.
ARITHMETIC = (operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod, operator.neg)


def pack(model: Model) -> bytes:
    """Write a model as the bytes of a safetensors file; raises ModelError for a graph of other calls than ATen's."""
    graph = model.program.graph
    reads = {str(node.target): constant(model.program, node) for node in graph.nodes if node.op == "get_attr"}
    description = {"info": asdict(model.info), "nodes": [describe(node) for node in graph.nodes]}
    tensors = {name: tensor.detach().contiguous().clone() for name, tensor in reads.items()}
    return safetensors.torch.save(tensors, {"model": json.dumps(description)})


def unpack(data: bytes) -> Model:
    """Read a model back from the bytes that ``pack`` made.

    Raises ModelError if they are damaged, or hold anything but calls that are listed as safe.
    """
    try:
        description = read_description(data)
        tensors = dict(safetensors.torch.load(data))
        require(len(tensors) <= settings().model_tensors, "There are too many tensors.")
        program = fx.GraphModule(tensors, build(description["nodes"], tensors))
        info = restore_info(description["info"], {node.name for node in program.graph.nodes})
        return Model(info, program.requires_grad_(False))
    except MALFORMED as error:
        raise ModelError("These bytes do not hold a model of this version. Open the model's own file again.") from error


def read_description(data: bytes) -> Any:
    """Read all but the tensors; raises ValueError or KeyError."""
    length = int.from_bytes(data[:8], "little")
    require(length <= HEADER, "The header is too long.")
    return json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["model"])


def require(holds: bool, sentence: str) -> None:
    """Raise ValueError unless something holds."""
    if not holds:
        raise ValueError(sentence)


def build(entries: Sequence[Mapping[str, Any]], tensors: Mapping[str, Tensor]) -> fx.Graph:
    """Make a graph of plain data: one input, listed calls on what came before, its output last."""
    graph, nodes, digits = fx.Graph(), dict[str, fx.Node](), dict[str, int]()
    operations = [entry["op"] for entry in entries]
    require(len(entries) <= NODES and operations.count("placeholder") == operations.count("output") == 1, "Not one.")
    require(operations[-1] == "output" and set(operations) <= {*OPERATIONS}, "It does something else.")
    for entry in entries:
        node = nodes[entry["name"]] = restore(graph, entry, nodes, tensors)
        digits[node.name] = count_digits(node, digits)
    return graph


def count_digits(node: fx.Node, digits: Mapping[str, int]) -> int:
    """Bound the binary digits of a size that is computed; raises ValueError where products of sizes go too far."""
    if node.target not in ARITHMETIC:
        return WORD
    known = [digits[one.name] if isinstance(one, fx.Node) else WORD for one in node.args]
    found = sum(known) if node.target is operator.mul else max(known, default=0) + 1
    require(found <= DIGITS, "A size is too large.")
    return found


def keep(name: str, content: str, make: Callable[[], Model]) -> Model:
    """Open a model that was kept before, or make and keep it; ``content`` is a digest of all that it is made from.

    Only for models of the server: what a person uploads is never kept. One that is damaged on disk is made anew.
    """
    file = place_of(name, content)
    if (data := read_sealed(file)) is not None:
        with suppress(ModelError):
            return unpack(data)
    model = make()
    with going_on("Opened models cannot be kept", file.parent):
        for old in file.parent.glob(f"{name}-{16 * '?'}.safetensors"):
            discard(old)
        write_sealed(file, pack(model))
    return model


def place_of(name: str, content: str) -> Path:
    """The file in which a model is kept that is made from this content by this code."""
    version = digest(content, code_digest(), torch.__version__)[:16]
    return settings().cache / "models" / f"{name}-{version}.safetensors"


def describe(node: fx.Node) -> dict[str, Any]:
    """A node as plain data; raises ModelError for a call that gives something else each time."""
    if isinstance(node.target, torch._ops.OpOverload) and not calls.is_certain(node.target, node.args, node.kwargs):
        raise ModelError(
            f"The model's graph draws random numbers (by {node.target}), as a network does in training only. Call its "
            "eval() before you save it."
        )
    return {
        "name": node.name,
        "op": node.op,
        "target": target_name(node),
        "args": [plain(item) for item in node.args],
        "kwargs": {key: plain(item) for key, item in node.kwargs.items()},
        "layers": node.meta.get("layers", []),
        "batch": [node.meta["batch_axis"], node.meta["batch_outer"]],
        "stack": [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()],
        "value": describe_value(node.meta.get("val")),
    }


def describe_value(value: Any) -> Any:
    """Shape and type of a node's value, of each where there are several; sizes that depend on the batch as for two."""
    if isinstance(value, list | tuple):
        return [describe_value(one) for one in value]
    if not isinstance(value, Tensor):
        return None
    shape = [size if isinstance(size, int) else int(size.node.hint) for size in value.shape]
    return {"shape": shape, "type": plain(value.dtype)}


def restore_value(entry: Any) -> Any:
    """A node's value without numbers, from plain data."""
    if isinstance(entry, list):
        return [restore_value(one) for one in entry]
    if entry is None:
        return None
    shape, dtype = entry["shape"], argument(entry["type"], {})
    require(all(type(size) is int and size >= 0 for size in shape) and math.prod(shape) < 2**62, "It is too large.")
    require(isinstance(dtype, torch.dtype), "It has no type.")
    return torch.empty(shape, dtype=dtype, device="meta")


def target_name(node: fx.Node) -> str:
    """Name what a node calls or reads; raises ModelError for what could not be found again."""
    if node.op != "call_function":
        return str(node.target)
    called: Any = node.target
    name = f"operator.{called.__name__}" if getattr(called, "__module__", "") == "_operator" else str(called)
    if calls.find(name) is not node.target or not calls.is_functional(called):
        raise ModelError(
            f"The model's graph calls {node.target}, which is not safe to call again, so it cannot be kept."
        )
    return name


def find_target(name: str) -> Any:
    """Find what a graph calls by its name; raises ValueError unless it is safe to call and changes nothing."""
    found = calls.find(name)
    require(found is not None and calls.is_functional(found), f"{name} is not safe to call.")
    return found


def plain(item: Any) -> Any:
    """An argument as plain data."""
    if isinstance(item, fx.Node):
        return {"node": item.name}
    if isinstance(item, list | tuple):
        return [plain(one) for one in item]
    if isinstance(item, CONSTANTS):
        return {"constant": str(item).removeprefix("torch.")}
    if item is None or isinstance(item, bool | int | float | str):
        return item
    raise ModelError(f"The model's graph has an argument of the type {type(item).__name__}, so it cannot be kept.")


def argument(item: Any, nodes: Mapping[str, fx.Node], depth: int = 3) -> Any:
    """An argument from plain data; raises KeyError for a node that is not there yet, or a constant that is none."""
    if isinstance(item, list):
        require(depth > 0 and len(item) <= NODES, "A list is too deep or too long.")
        return [argument(one, nodes, depth - 1) for one in item]
    if isinstance(item, dict):
        return nodes[item["node"]] if "node" in item else known_constants()[item["constant"]]
    if isinstance(item, int):
        require(-(2**63) <= item < 2**63, "A number is too large.")
    return item


@cache
def known_constants() -> dict[str, Any]:
    """The constants that arguments may be, by their names: no sparse layouts and no quantised types."""
    listed = [
        one
        for name, one in vars(torch).items()
        if isinstance(one, torch.dtype | torch.memory_format) and not name.startswith(("q", "bits"))
    ]
    return {str(one).removeprefix("torch."): one for one in (*listed, torch.strided, torch.device("cpu"))}


def restore(
    graph: fx.Graph, entry: Mapping[str, Any], nodes: Mapping[str, fx.Node], tensors: Mapping[str, Tensor]
) -> fx.Node:
    """Add a node to a graph from plain data; raises ValueError or KeyError unless it is one of those listed."""
    operation, name, target = entry["op"], entry["name"], entry["target"]
    require(bool(NAME.fullmatch(name)) and name not in nodes, "A name is none, or that of two nodes.")
    if operation == "call_function":
        target = find_target(target)
    elif operation == "get_attr":
        require(target in tensors and is_attribute(target), f"{target} is no tensor.")
    else:
        require(bool(NAME.fullmatch(target)) and not keyword.iskeyword(target), f"{target} is no name.")
    arguments = tuple(argument(item, nodes) for item in entry["args"])
    keywords = {key: argument(item, nodes) for key, item in entry["kwargs"].items()}
    check_arguments(operation, target, arguments, keywords)
    node = graph.create_node(operation, target, arguments, keywords, name)
    require(node.name == name, f"{name} cannot be the name of a node.")
    note(node, entry)
    return node


def check_arguments(operation: str, target: Any, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
    """Raise ValueError unless a node may have these arguments."""
    if isinstance(target, torch._ops.OpOverload):
        require(calls.takes(target, arguments, keywords), f"{target} has an argument that it does not take.")
        require(calls.is_certain(target, arguments, keywords), f"{target} draws random numbers.")
    elif operation == "call_function":  # arithmetic on sizes: lists would be joined and repeated
        items = list(arguments)
        require(not keywords and all(isinstance(one, fx.Node | int | float) for one in items), "It takes only sizes.")
    else:
        inputs = [one for one in arguments if isinstance(one, fx.Node)]
        require(not keywords and len(arguments) == len(inputs) == (operation == "output"), "It takes no arguments.")


@cache
def reserved() -> frozenset[str]:
    """The attributes that a program has by itself."""
    program = fx.GraphModule({}, fx.Graph())
    return frozenset(dir(program))


def is_attribute(path: str) -> bool:
    """Whether a tensor may be kept in a program under a path: it hides nothing that is there, and is no Python."""
    return bool(PATH.fullmatch(path)) and reserved().isdisjoint(path.split("."))


def note(node: fx.Node, entry: Mapping[str, Any]) -> None:
    """Note what is known of a node besides its call; raises ValueError."""
    axis, outer = entry["batch"]
    require(type(axis) is type(outer) is int and 0 <= axis < 64 and 1 <= outer < 2**31, "It has no such axis.")
    node.meta["batch_axis"], node.meta["batch_outer"] = axis, outer
    node.meta["layers"] = [records.convert(tuple[str, str], pair) for pair in entry["layers"]]
    node.meta["nn_module_stack"] = {path: (path, "") for path in records.convert(tuple[str, ...], entry["stack"])}
    node.meta["val"] = restore_value(entry["value"])


def restore_info(entry: Mapping[str, Any], nodes: Collection[str]) -> ModelInfo:
    """What is known about a model from plain data; raises ValueError where it is nothing that a model can have."""
    info = records.restore(ModelInfo, entry)
    steps = info.preprocessing
    require(steps.interpolation in INTERPOLATIONS and steps.resize in range(2**15), "It scales pictures otherwise.")
    require(len(steps.mean) == len(steps.std) in range(1, 2**12) and all(steps.std), "It has no such channels.")
    require(all(one in range(1, 2**15) for one in steps.size), "It takes no pictures.")
    require(math.prod(steps.size) * steps.channels <= settings().model_bytes // 4, "It takes too large pictures.")
    require(all(one in range(steps.channels) for one in steps.shown), "It shows other channels.")
    require(info.kind in KINDS and all(size > 0 for size in info.output_shape), "Its outputs are of no kind.")
    require(len(info.class_names) == (*info.output_shape, 0)[0] <= settings().model_classes + 2, "Outputs lack names.")
    require(len(info.usual) in (0, len(info.class_names)), "Outputs lack usual values.")
    require(info.parameters >= 0 and all(DIGEST.fullmatch(one) for one in (info.digest, info.weights_digest)), "None.")
    for layer in info.layers:
        require(layer.node in nodes and is_layout(layer), f"The layer {layer.name} is none.")
    return info


def is_layout(layer: Layer) -> bool:
    """Whether a layer's shape has space where it says."""
    shape, (rows, columns) = layer.shape, layer.grid
    if not all(0 <= size < 2**31 for size in (*shape, rows, columns)) or math.prod(shape) >= 2**48:
        return False
    places = {"channels first": shape[1:], "channels last": shape[:2]}
    if layer.layout in places:
        return len(shape) == 3 and places[layer.layout] == layer.grid
    if layer.layout == "tokens":
        first = layer.place_tokens.start if len(shape) == 2 else -1
        return 0 <= first <= shape[0] - rows * columns and layer.before >= -1
    return layer.layout == "none" and layer.grid == (1, 1)


def frozen(entry: dict[str, Any]) -> dict[str, Any]:
    """Lists as tuples."""
    return {key: tuple(item) if isinstance(item, list) else item for key, item in entry.items()}
