"""ONNX files: parsed and looked through before anything is made of them."""

from __future__ import annotations

import ast
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np
import onnx
import torch
from jaxtyping import Shaped
from onnx import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    OperatorSetIdProto,
    TensorProto,
    ValueInfoProto,
)
from torch import Tensor

from explainers.errors import ModelError, UnsafeFileError
from explainers.graph.checkpoint import printable, telling
from explainers.settings import settings

#: What ONNX's own operators are filed under.
DOMAINS = ("", "ai.onnx")
BRANCHES = (AttributeProto.GRAPH, AttributeProto.GRAPHS)
OPSETS = range(7, 26)

FLOATS = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE, TensorProto.FLOAT)

#: The most pixels along a side of an image.
MAX_PIXELS = 1 << 14

#: How many colours an image has at most, where the file may be read either way.
MAX_CHANNELS = 16

TYPES = {number: name for name, number in TensorProto.DataType.items()}

#: ONNX's types of numbers by torch's, and of its own whole numbers of few bits those that hold them.
TYPE_OF = {
    torch.float32: TensorProto.FLOAT,
    torch.float64: TensorProto.DOUBLE,
    torch.bool: TensorProto.BOOL,
    torch.uint8: TensorProto.UINT8,
    torch.int8: TensorProto.INT8,
    torch.uint16: TensorProto.UINT16,
    torch.int16: TensorProto.INT16,
    torch.int32: TensorProto.INT32,
    torch.int64: TensorProto.INT64,
    torch.uint32: TensorProto.UINT32,
    torch.uint64: TensorProto.UINT64,
}
SHORT: dict[int, Any] = {
    TensorProto.INT4: np.int8,
    TensorProto.UINT4: np.uint8,
    TensorProto.INT2: np.int8,
    TensorProto.UINT2: np.uint8,
}

#: Functions that a file brings, by domain, name and overload.
Functions = Mapping[tuple[str, str, str], FunctionProto]

#: Under which names training frameworks put class names into the file.
NAME_KEYS = ("names", "class_names", "classes", "labels", "id2label")

SIMPLIFY = "Export the network alone, in inference mode and with standard operators only."


@dataclass(frozen=True, eq=False)
class OnnxFile:
    """A parsed file of one image network: what it computes, for which inputs, and which outputs can be explained.

    ``outputs`` are its tensors of floating-point numbers, that first which looks the most like class scores.
    ``shape`` are the input's declared sizes, 0 where they are open; ``channels_last`` tells that colours come last in
    them; ``pixels`` that the input is of whole numbers from 0 to 255. The import adds the ``weights`` that the
    explained output needs, and its ``notes``.
    """

    graph: GraphProto
    opsets: Mapping[str, int]
    functions: Functions
    outputs: tuple[str, ...]
    input: str
    shape: tuple[int, ...]
    pixels: bool
    class_names: tuple[str, ...]
    weights: Mapping[str, Shaped[Tensor, "..."]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def channels_last(self) -> bool:
        """Whether images are given as (height, width, channels), as TensorFlow does."""
        _, first, _, last = self.shape
        return (last in (1, 3) and first not in (1, 3)) or 0 < last <= MAX_CHANNELS < first

    @property
    def channels(self) -> int:
        """The number of colours; 3 where the file leaves it open."""
        return self.shape[3 if self.channels_last else 1] or 3

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels, 0 where the file leaves them open."""
        height, width = self.shape[1:3] if self.channels_last else self.shape[2:]
        return height, width

    @property
    def batch(self) -> int:
        """The number of images that the file was written for, 0 if it takes any."""
        return self.shape[0]

    @property
    def opset(self) -> int:
        """The version of ONNX's own operators."""
        return self.opsets[""]

    def nodes(self, output: str) -> tuple[NodeProto, ...]:
        """List the nodes that an output depends on, in the file's order, which must be that of computation."""
        return needed(self.graph, output)


def parse(data: bytes) -> OnnxFile:
    """Parse an ONNX file.

    Raises ModelError for a file that is damaged or too large, of an opset that is not read, with a training graph, or
    that does not map one image to floating-point numbers.
    """
    if len(data) > settings().model_bytes:
        raise ModelError(f"The file has {len(data):,} bytes; at most {settings().model_bytes:,} are read.")
    with telling("The file is no readable ONNX model", "Export it again."):
        model = onnx.load_model_from_string(data)
    return look_through(model)


def look_through(model: ModelProto) -> OnnxFile:
    """Check a parsed model and take out what the import needs."""
    graph = model.graph
    if model.training_info:
        raise ModelError(f"The ONNX file holds a training graph. {SIMPLIFY}")
    opsets = read_opsets(model.opset_import)
    if opsets.get("", 0) not in OPSETS:
        raise ModelError(
            f"The ONNX file is of opset {opsets.get('', 0)}; Lightbox reads {OPSETS[0]} to {OPSETS[-1]}. Export it "
            "again for opset 18."
        )
    outputs = list_outputs(graph)
    entry = find_input(graph, outputs)
    kind = entry.type.tensor_type
    return OnnxFile(
        graph=graph,
        opsets=opsets,
        functions={(proto.domain, proto.name, proto.overload): proto for proto in model.functions},
        outputs=outputs,
        input=entry.name,
        shape=tuple(max(dimension.dim_value, 0) for dimension in kind.shape.dim),
        pixels=kind.elem_type == TensorProto.UINT8,
        class_names=read_class_names(model),
    )


def read_opsets(entries: Iterable[OperatorSetIdProto]) -> dict[str, int]:
    """Read the version of each domain's operators; ONNX's own domain has no name."""
    return {"" if entry.domain in DOMAINS else entry.domain: entry.version for entry in entries}


def list_outputs(graph: GraphProto) -> tuple[str, ...]:
    """List the outputs that can be explained, that first which looks the most like class scores.

    Sequences and maps, as scikit-learn's converter writes them beside the scores, are none of them.
    """
    floating = [
        output
        for output in graph.output
        if output.type.WhichOneof("value") in (None, "tensor_type")
        and output.type.tensor_type.elem_type in (0, *FLOATS)
    ]
    if not floating:
        raise ModelError("The ONNX file has no output of floating-point numbers. Export it with its scores as output.")
    floating.sort(key=lambda output: len(output.type.tensor_type.shape.dim) != 2)
    return tuple(dict.fromkeys(output.name for output in floating))


def find_input(graph: GraphProto, outputs: Sequence[str]) -> ValueInfoProto:
    """Find the one input that the first output needs and that is no weight; raises ModelError unless it is an image."""
    weights = {proto.name for proto in graph.initializer}
    read = names_read(needed(graph, outputs[0])) - weights
    entries = [entry for entry in graph.input if entry.name in read]
    if len(entries) != 1:
        raise ModelError(
            f"The ONNX file has {len(entries)} inputs ({', '.join(printable(entry.name) for entry in entries[:5])}); "
            f"Lightbox explains models of one image. {SIMPLIFY}"
        )
    kind = entries[0].type.tensor_type
    largest = max((dimension.dim_value for dimension in kind.shape.dim), default=0)
    if len(kind.shape.dim) != 4 or kind.elem_type not in (*FLOATS, TensorProto.UINT8) or largest > MAX_PIXELS:
        raise ModelError(
            f"The ONNX file's input '{printable(entries[0].name)}' has {len(kind.shape.dim)} dimensions of type "
            f"{TYPES.get(kind.elem_type, 'unknown')}, of sizes up to {largest:,}; Lightbox needs images of four "
            f"(batch, channels, height, width), up to {MAX_PIXELS:,}, in floating-point numbers or bytes."
        )
    entry: ValueInfoProto = entries[0]
    return entry


def needed(graph: GraphProto, output: str) -> tuple[NodeProto, ...]:
    """List the nodes that an output depends on, in an order of computation: the file's own if it is one.

    Raises ModelError if nodes wait for each other.
    """
    maker = {name: place for place, node in enumerate(graph.node) for name in node.output if name}
    before: dict[int, set[int]] = {}
    waiting = [maker[output]] if output in maker else []
    while waiting:
        place = waiting.pop()
        if place not in before:
            before[place] = {maker[name] for name in names_read([graph.node[place]]) if name in maker}
            waiting.extend(before[place])
    order = sorted(before)
    if any(place <= max(before[place], default=-1) for place in order):
        try:
            order = list(TopologicalSorter(before).static_order())
        except CycleError as error:
            raise ModelError("The ONNX file's nodes wait for each other in a circle. Export it again.") from error
    return tuple(graph.node[place] for place in order)


def names_read(nodes: Iterable[NodeProto]) -> set[str]:
    """Name all that nodes read, the branches in them included."""
    found: set[str] = set()
    for node in nodes:
        found.update(node.input)
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs) if attribute.type in BRANCHES else ():
                found |= names_read(graph.node) | {entry.name for entry in graph.output}
    return found


def function_key(node: NodeProto) -> tuple[str, str, str]:
    """By what a node's operator is looked up among a file's functions."""
    return node.domain, node.op_type, node.overload


def label(node: NodeProto) -> str:
    """A node's name, or its output's where it has none."""
    return printable(str(node.name or (node.output[0] if node.output else node.op_type)))


def read_weights(graph: GraphProto, names: Collection[str]) -> dict[str, Shaped[Tensor, "..."]]:
    """Read the initializers of these names; raises ModelError."""
    protos = [proto for proto in graph.initializer if proto.name in names]
    if graph.sparse_initializer or len(protos) > settings().model_tensors:
        raise ModelError(
            f"The ONNX file has sparse tensors, or over {settings().model_tensors:,}. Export it with dense weights."
        )
    return {proto.name: read_tensor(proto) for proto in protos}


def read_tensor(proto: TensorProto) -> Shaped[Tensor, "..."]:
    """Read one tensor, floating-point numbers in 32 bits; raises UnsafeFileError or ModelError."""
    name = printable(str(proto.name))
    if proto.data_location == TensorProto.EXTERNAL or proto.external_data:
        raise UnsafeFileError(
            f"The tensor '{name}' lies in another file, which an upload cannot reach and Lightbox never opens. "
            "Save the model as one file: `onnx.save(onnx.load(path), 'model.onnx')`."
        )
    if proto.data_type == TensorProto.STRING:
        raise ModelError(f"The tensor '{name}' holds texts, which no image network needs. {SIMPLIFY}")
    with telling(f"The tensor '{name}' is damaged", "Export the model again."):
        array = onnx.numpy_helper.to_array(proto)
    if proto.data_type in SHORT:
        array = array.astype(SHORT[proto.data_type])
    elif proto.data_type in FLOATS or array.dtype.kind not in "biu?":
        array = array.astype(np.float32)
    return torch.from_numpy(np.array(array))


def read_attributes(node: NodeProto) -> dict[str, Any]:
    """Read a node's attributes as Python numbers, texts, lists, tensors and graphs."""
    return {attribute.name: read_attribute(attribute) for attribute in node.attribute}


def read_attribute(attribute: AttributeProto) -> Any:
    """Read one attribute."""
    if attribute.type == AttributeProto.TENSOR:
        return read_tensor(attribute.t)
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return list(value) if attribute.type >= AttributeProto.FLOATS else value


def read_class_names(model: ModelProto) -> tuple[str, ...]:
    """Read class names from the file's metadata, where frameworks put them as a list or by index; or nothing."""
    return next((names for entry in model.metadata_props if (names := tuple(names_in(entry.key, entry.value)))), ())


def names_in(key: str, text: str) -> Iterator[str]:
    """Read the names in one entry of metadata, written in JSON or Python."""
    if key.lower() not in NAME_KEYS or len(text) > 1 << 20:
        return
    try:
        content = json.loads(text)
    except ValueError:
        try:
            content = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            content = text.split(",")
    if isinstance(content, dict):
        content = [content[index] for index in sorted(content, key=lambda index: (len(str(index)), str(index)))]
    if isinstance(content, list):
        yield from (str(name).strip() for name in content)
