"""Models as bytes that hold no code: a graph of ATen calls as JSON, its tensors as safetensors.

So a worker process can hand a model over, and a model traced once opens at once the next time.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, fx

from explainers.cache import code_digest, digest
from explainers.disk import discard, going_on, read_sealed, write_sealed
from explainers.errors import ModelError
from explainers.graph import calls
from explainers.graph.model import Model, constant
from explainers.info import Layer, ModelInfo
from explainers.preprocessing import Preprocessing
from explainers.settings import settings

#: The kinds of constants among a call's arguments that JSON does not have, by how they are called.
CONSTANTS = (torch.dtype, torch.layout, torch.memory_format, torch.device)


def pack(model: Model) -> bytes:
    """Write a model as the bytes of a safetensors file; raises ModelError for a graph of other calls than ATen's."""
    graph = model.program.graph
    reads = {str(node.target): constant(model.program, node) for node in graph.nodes if node.op == "get_attr"}
    description = {"info": asdict(model.info), "nodes": [describe(node) for node in graph.nodes]}
    tensors = {name: tensor.detach().contiguous().clone() for name, tensor in reads.items()}
    return safetensors.torch.save(tensors, {"model": json.dumps(description)})


def unpack(data: bytes) -> Model:
    """Read a model back from the bytes that ``pack`` made; raises ModelError if they are damaged."""
    try:
        length = int.from_bytes(data[:8], "little")
        description = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["model"])
        graph, nodes = fx.Graph(), dict[str, fx.Node]()
        for entry in description["nodes"]:
            nodes[entry["name"]] = restore(graph, entry, nodes)
        program = fx.GraphModule(dict(safetensors.torch.load(data)), graph)
        return Model(restore_info(description["info"]), program.requires_grad_(False))
    except (KeyError, TypeError, ValueError, AttributeError, SafetensorError, RuntimeError) as error:
        raise ModelError("These bytes do not hold a model of this version. Open the model's own file again.") from error


def keep(name: str, content: str, make: Callable[[], Model]) -> Model:
    """Open a model that was kept before, or make and keep it; ``content`` is a digest of all that it is made from.

    Only for models of the server: what a person uploads is never kept. One that is damaged on disk is made anew.
    """
    folder = settings().cache / "models"
    file = folder / f"{name}-{digest(content, code_digest(), torch.__version__)[:16]}.safetensors"
    if (data := read_sealed(file)) is not None:
        with suppress(ModelError):
            return unpack(data)
    model = make()
    with going_on("Opened models cannot be kept", folder):
        for old in folder.glob(f"{name}-{16 * '?'}.safetensors"):
            discard(old)
        write_sealed(file, pack(model))
    return model


def describe(node: fx.Node) -> dict[str, Any]:
    """A node as plain data."""
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
    return entry and torch.empty(entry["shape"], dtype=argument(entry["type"], {}), device="meta")


def target_name(node: fx.Node) -> str:
    """Name what a node calls or reads; raises ModelError for what could not be found again."""
    if node.op != "call_function":
        return str(node.target)
    called: Any = node.target
    name = f"operator.{called.__name__}" if getattr(called, "__module__", "") == "_operator" else str(called)
    if calls.find(name) is not node.target:
        raise ModelError(
            f"The model's graph calls {node.target}, which is not safe to call again, so it cannot be kept."
        )
    return name


def find_target(name: str) -> Any:
    """Find what a graph calls by its name; raises ValueError unless it is safe to call."""
    if (found := calls.find(name)) is None:
        raise ValueError(f"{name} is not safe to call.")
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


def argument(item: Any, nodes: dict[str, fx.Node]) -> Any:
    """An argument from plain data."""
    if isinstance(item, list):
        return [argument(one, nodes) for one in item]
    if not isinstance(item, dict):
        return item
    if "node" in item:
        return nodes[item["node"]]
    return torch.device("cpu") if item["constant"] == "cpu" else getattr(torch, item["constant"])


def restore(graph: fx.Graph, entry: dict[str, Any], nodes: dict[str, fx.Node]) -> fx.Node:
    """Add a node to a graph from plain data."""
    target = find_target(entry["target"]) if entry["op"] == "call_function" else entry["target"]
    arguments = tuple(argument(item, nodes) for item in entry["args"])
    keywords = {key: argument(item, nodes) for key, item in entry["kwargs"].items()}
    if isinstance(target, torch._ops.OpOverload) and not calls.takes(target, arguments, keywords):
        raise ValueError(f"{target} is called with a number for a type.")
    node = graph.create_node(entry["op"], target, arguments, keywords, entry["name"])
    if node.name != entry["name"]:
        raise ValueError(f"Two nodes are named {entry['name']}.")
    node.meta["batch_axis"], node.meta["batch_outer"] = entry["batch"]
    node.meta["layers"] = [tuple(pair) for pair in entry["layers"]]
    node.meta["nn_module_stack"] = {path: (path, "") for path in entry["stack"]}
    node.meta["val"] = restore_value(entry["value"])
    return node


def restore_info(entry: dict[str, Any]) -> ModelInfo:
    """What is known about a model from plain data."""
    given = frozen(entry)
    layers = tuple(Layer(**frozen(layer)) for layer in entry["layers"])
    return ModelInfo(**{**given, "layers": layers, "preprocessing": Preprocessing(**frozen(entry["preprocessing"]))})


def frozen(entry: dict[str, Any]) -> dict[str, Any]:
    """Lists as tuples."""
    return {key: tuple(item) if isinstance(item, list) else item for key, item in entry.items()}
