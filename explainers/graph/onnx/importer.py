"""From a parsed ONNX file to a graph of ATen calls with a dynamic batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from onnx import NodeProto
from torch import fx

# The modules of operators register what they import when they are loaded.
from explainers.errors import ModelError, UnsupportedOperatorError
from explainers.graph.checkpoint import first_line, printable
from explainers.graph.class_names import imagenet_names
from explainers.graph.export import from_graph
from explainers.graph.model import Model
from explainers.graph.onnx import elementwise, layers, quantised, resizing, shapes  # noqa: F401
from explainers.graph.onnx.builder import BATCH, Builder, Value, aten, shape_of
from explainers.graph.onnx.ends import Scaling, drop_squashing, take_scaling
from explainers.graph.onnx.file import OnnxFile, label, read_attributes
from explainers.graph.onnx.fusions import fuse
from explainers.graph.onnx.registry import Call, find
from explainers.graph.onnx.scopes import find_scope
from explainers.preprocessing import Preprocessing
from explainers.proposal import Output


@dataclass(frozen=True, eq=False)
class Imported:
    """An ONNX file as a graph, and what it told about its preprocessing and outputs."""

    file: OnnxFile
    graph: fx.GraphModule
    preprocessing: Preprocessing
    batched: bool  # whether the output keeps the images of a batch apart
    classes: int
    class_names: tuple[str, ...]
    notes: tuple[str, ...]
    outputs: tuple[Output, ...] = ()  # what can be explained, the chosen one first, where the file gives several


def import_graph(file: OnnxFile, size: tuple[int, int] | None = None, output: str | None = None) -> Imported:
    """Rebuild an ONNX file's network for images of ``size`` (height, width), where the file leaves that open.

    Raises UnsupportedOperatorError that lists the operators that are not known, and ModelError that names the node
    that cannot be computed, or that fixes the number of images.
    """
    check_operators(file)
    height, width = (own or asked for own, asked in zip(file.size, size or (224, 224), strict=True))
    builder = Builder(file.weights, file.batch)
    image = builder.add_input((file.channels, height, width))
    values: dict[str, Value] = dict(file.weights)
    values[file.input] = builder.emit(aten.permute.default, image, [0, 2, 3, 1]) if file.channels_last else image
    for node in file.nodes:
        import_node(builder, node, file.opset, values)
    scores = values.get(file.output)
    if not isinstance(scores, fx.Node):
        raise ModelError("The ONNX file's output does not depend on the image. Export the network itself.")
    builder.graph.output(scores)
    return finish(file, builder, (height, width))


def check_operators(file: OnnxFile) -> None:
    """Raise UnsupportedOperatorError that lists every operator that cannot be imported, with a node of each."""
    missing = {
        printable(str(node.op_type)): label(node)
        for node in reversed(file.nodes)
        if find(node.op_type, file.opset) is None
    }
    if missing:
        listed = ", ".join(f"{kind} (node '{name}')" for kind, name in sorted(missing.items()))
        raise UnsupportedOperatorError(
            f"The ONNX file has operators of opset {file.opset} that Lightbox does not know: {listed}. Export the "
            "network without them, or upload its weights instead."
        )


def import_node(builder: Builder, node: NodeProto, opset: int, values: dict[str, Value]) -> None:
    """Add the calls of one ONNX node to the graph."""
    function = find(node.op_type, opset)
    assert function is not None
    builder.scope = find_scope(node)
    outputs = sum(bool(name) for name in node.output)
    try:
        inputs = tuple(values[name] if name else None for name in node.input)
        call = Call(builder, node.op_type, opset, read_attributes(node), inputs, outputs)
        made = function(call, *inputs)
    except ModelError as error:
        raise type(error)(f"The ONNX node '{label(node)}' ({node.op_type}) {str(error).rstrip('.')}.") from error
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(
            f"The ONNX node '{label(node)}' is no valid {node.op_type} of opset {opset} ({first_line(error)}). "
            "The file is damaged, or was written by a faulty exporter; export it again."
        ) from error
    for name, value in zip(node.output, made if isinstance(made, tuple) else (made,), strict=False):
        values[name] = value


def finish(file: OnnxFile, builder: Builder, size: tuple[int, int]) -> Imported:
    """Simplify the graph and take off what the file wrapped around its network."""
    graph, notes = builder.graph, list(file.notes)
    notes += drop_squashing(graph)
    scaling = take_scaling(graph, builder.constants, file.channels)
    fuse(graph, builder.constants)
    preprocessing, note = propose_preprocessing(file, scaling, size)
    if any(node.op_type == "QuantizeLinear" for node in file.nodes):
        notes.append("The file is quantised; its weights are as in the file, its activations are not rounded.")
    elif any(node.op_type == "DequantizeLinear" for node in file.nodes):
        notes.append("The file's weights are quantised; they are taken as the numbers that they stand for.")
    shape = shape_of(*graph.output_node().all_input_nodes)
    batched = shape[:1] == [BATCH]
    classes = shape[1] if len(shape) > 1 else 1
    names = file.class_names if len(file.class_names) == classes else imagenet_names() if classes == 1000 else ()
    made = fx.GraphModule(builder.constants, graph)
    return Imported(file, made, preprocessing, batched, classes, names, (*notes, note))


def propose_preprocessing(file: OnnxFile, scaling: Scaling | None, size: tuple[int, int]) -> tuple[Preprocessing, str]:
    """Propose how images are prepared, from the normalisation in the file if it has one, with a note on it."""
    resize, channels = round(min(size) * 256 / 224), file.channels
    if scaling is None and not file.pixels:
        default = Preprocessing()
        usual = (default.mean, default.std) if channels == 3 else ((0.5,) * channels, (0.5,) * channels)
        note = "The file does not say how images are prepared: check size, mean and standard deviation."
        return Preprocessing(size, resize, *usual), note
    factor, summand = scaling or (torch.ones(channels), torch.zeros(channels))
    means, stds = -summand / factor, 1 / factor
    if file.pixels or (stds > 2).any() or (means.abs() > 2).any():
        means, stds = means / 255, stds / 255
    mean, std = (tuple(float(f"{number:.6g}") for number in item.tolist()) for item in (means, stds))
    note = "The normalisation of the image that the file does itself was taken over into the preprocessing."
    return Preprocessing(size, resize, mean, std), note if scaling else "The file takes bytes, from 0 to 255."


def build(imported: Imported, name: str, preprocessing: Preprocessing, class_names: Sequence[str]) -> Model:
    """Make a Model of an imported graph, which cannot be used again; raises ModelError as ``from_graph`` does."""
    weights = imported.file.weights
    count = sum(tensor.numel() for tensor in weights.values() if tensor.is_floating_point())
    return from_graph(imported.graph, weights, count, name, preprocessing, class_names, "onnx", imported.notes)
