"""ONNX files: parsed and looked through before anything is made of them."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from jaxtyping import Shaped
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto
from torch import Tensor

from explainers.errors import ModelError, UnsafeFileError
from explainers.graph.checkpoint import printable, telling
from explainers.settings import settings

#: What ONNX's own operators are filed under.
DOMAINS = ("", "ai.onnx")
OPSETS = range(7, 26)

CONTROL_FLOW = ("If", "Loop", "Scan", "SequenceMap")
FLOATS = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE, TensorProto.FLOAT)

#: The most pixels along a side of an image.
MAX_PIXELS = 1 << 14

TYPES = {number: name for name, number in TensorProto.DataType.items()}

#: Under which names training frameworks put class names into the file.
NAME_KEYS = ("names", "class_names", "classes", "labels", "id2label")

SIMPLIFY = "Export the network alone, in inference mode and with standard operators only."


@dataclass(frozen=True, eq=False)
class OnnxFile:
    """A parsed file of one image network: what it computes, for which inputs, and which output is explained.

    ``shape`` are the input's declared sizes, 0 where they are open; ``channels_last`` tells that colours come last in
    them; ``pixels`` that the input is of whole numbers from 0 to 255.
    """

    graph: GraphProto
    opset: int
    weights: Mapping[str, Shaped[Tensor, "..."]]
    nodes: tuple[NodeProto, ...]
    input: str
    shape: tuple[int, ...]
    pixels: bool
    output: str
    class_names: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def channels_last(self) -> bool:
        """Whether images are given as (height, width, channels), as TensorFlow does."""
        return self.shape[3] in (1, 3) and self.shape[1] not in (1, 3)

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


def parse(data: bytes) -> OnnxFile:
    """Parse an ONNX file.

    Raises UnsafeFileError for tensors that lie in other files, ModelError for a file that is damaged or too large, or
    that holds control flow, operators of other domains, texts or a training graph.
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
    opset = next((entry.version for entry in model.opset_import if entry.domain in DOMAINS), 0)
    if opset not in OPSETS:
        raise ModelError(
            f"The ONNX file is of opset {opset}; Lightbox reads {OPSETS[0]} to {OPSETS[-1]}. Export it again "
            "for opset 18."
        )
    output, other_outputs = choose_output(graph)
    nodes = needed(graph, output.name)
    check_nodes(nodes)
    weights, changed = read_weights(graph, nodes)
    entry = find_input(graph, nodes)
    kind = entry.type.tensor_type
    return OnnxFile(
        graph=graph,
        opset=opset,
        weights=weights,
        nodes=nodes,
        input=entry.name,
        shape=tuple(max(dimension.dim_value, 0) for dimension in kind.shape.dim),
        pixels=kind.elem_type == TensorProto.UINT8,
        output=output.name,
        class_names=read_class_names(model),
        notes=(*changed, *other_outputs),
    )


def choose_output(graph: GraphProto) -> tuple[ValueInfoProto, tuple[str, ...]]:
    """Choose the output that looks the most like class scores, with a note if there are others."""
    floating = [output for output in graph.output if output.type.tensor_type.elem_type in (0, *FLOATS)]
    if not floating:
        raise ModelError("The ONNX file has no output of floating-point numbers. Export it with its scores as output.")
    chosen = next((output for output in floating if len(output.type.tensor_type.shape.dim) == 2), floating[0])
    others = [printable(output.name) for output in graph.output if output.name != chosen.name]
    if not others:
        return chosen, ()
    return chosen, (f"Of the file's outputs, '{printable(chosen.name)}' is explained, not {', '.join(others[:5])}.",)


def find_input(graph: GraphProto, nodes: Iterable[NodeProto]) -> ValueInfoProto:
    """Find the one input that the nodes read and that is no weight; raises ModelError unless it is an image."""
    weights = {proto.name for proto in graph.initializer}
    read = {name for node in nodes for name in node.input} - weights
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
    """List the nodes that an output depends on, in the file's order, which must be that of computation."""
    wanted, found = {output}, []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            found.append(node)
    return tuple(reversed(found))


def check_nodes(nodes: Iterable[NodeProto]) -> None:
    """Raise ModelError for control flow and for operators that ONNX does not define."""
    for node in nodes:
        if node.op_type in CONTROL_FLOW:
            raise ModelError(
                f"The ONNX node '{label(node)}' is control flow ({node.op_type}), whose path may depend on the image. "
                f"{SIMPLIFY}"
            )
        if node.domain not in DOMAINS:
            raise ModelError(
                f"The ONNX node '{label(node)}' is the operator {printable(node.op_type)} of the domain "
                f"'{printable(node.domain)}', which is not part of ONNX. {SIMPLIFY}"
            )


def label(node: NodeProto) -> str:
    """A node's name, or its output's where it has none."""
    return printable(str(node.name or (node.output[0] if node.output else node.op_type)))


def read_weights(
    graph: GraphProto, nodes: Iterable[NodeProto]
) -> tuple[dict[str, Shaped[Tensor, "..."]], tuple[str, ...]]:
    """Read the initializers that the nodes use, with notes on what was converted; raises ModelError."""
    used = {name for node in nodes for name in node.input}
    protos = [proto for proto in graph.initializer if proto.name in used]
    if graph.sparse_initializer or len(protos) > settings().model_tensors:
        raise ModelError(
            f"The ONNX file has sparse tensors, or over {settings().model_tensors:,}. Export it with dense weights."
        )
    halves = sum(proto.data_type in FLOATS[:3] for proto in protos)
    notes = [f"{halves} tensors that are not of 32-bit numbers are computed with in 32 bits."] if halves else []
    return {proto.name: read_tensor(proto) for proto in protos}, tuple(notes)


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
    if proto.data_type in FLOATS or array.dtype.kind not in "biu?":
        array = array.astype(np.float32)
    return torch.from_numpy(np.array(array))


def read_attributes(node: NodeProto) -> dict[str, Any]:
    """Read a node's attributes as Python numbers, texts, lists and tensors."""
    return dict(read_attribute(attribute) for attribute in node.attribute)


def read_attribute(attribute: AttributeProto) -> tuple[str, Any]:
    """Read one attribute."""
    if attribute.type == AttributeProto.TENSOR:
        return attribute.name, read_tensor(attribute.t)
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return attribute.name, value.decode(errors="replace")
    return attribute.name, list(value) if attribute.type >= AttributeProto.FLOATS else value


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
