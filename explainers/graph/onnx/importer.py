"""From a parsed ONNX file to a graph of ATen calls with a dynamic batch."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from onnx import NodeProto
from torch import fx

# The modules of operators register what they import when they are loaded.
from explainers.errors import ModelError, UnsupportedOperatorError
from explainers.graph.checkpoint import printable
from explainers.graph.export import Traced, trace_graph
from explainers.graph.onnx import (  # noqa: F401
    control,
    elementwise,
    fused,
    indexing,
    layers,
    quantised,
    recurrent,
    resizing,
    shapes,
)
from explainers.graph.onnx.builder import BATCH, DYNAMIC, Builder, aten, dtype_of, shape_of
from explainers.graph.onnx.file import FLOATS, OnnxFile, label, names_read, read_weights
from explainers.graph.onnx.frames import Frame, is_known
from explainers.graph.onnx.fusions import fuse
from explainers.graph.onnx.quantised import QUANTISING
from explainers.graph.onnx.registry import domain_of
from explainers.proposal import Output

#: How many of a file's outputs are looked at.
MAX_OUTPUTS = 32


@dataclass(frozen=True, eq=False)
class Imported:
    """An ONNX file as a traced network, with notes on it.

    ``outputs`` lists what can be explained where there are several, that first which is proposed.
    """

    file: OnnxFile
    traced: Traced
    notes: tuple[str, ...]
    outputs: tuple[Output, ...] = ()


def import_graph(file: OnnxFile, size: tuple[int, int] | None = None, output: str | None = None) -> Imported:
    """Rebuild an ONNX file's network for images of ``size`` (height, width), where the file leaves that open.

    ``output`` names the one that is explained; without it, it is the first that gives one number for each class.
    Raises UnsupportedOperatorError that lists the operators that are not known, and ModelError that names the node
    that cannot be computed, or that fixes the number of images, or the outputs that there are instead of ``output``.
    """
    file, builder, outputs = rebuild(file, size, output)
    return replace(finish(file, builder), outputs=outputs)


def rebuild(
    file: OnnxFile, size: tuple[int, int] | None, output: str | None
) -> tuple[OnnxFile, Builder, tuple[Output, ...]]:
    """Rebuild the network as it is in the file; returns with it the weights, notes and outputs that were found."""
    if output is not None and output not in file.outputs:
        listed = ", ".join(f"'{printable(name)}'" for name in file.outputs[:MAX_OUTPUTS])
        raise ModelError(f"The ONNX file has no output '{printable(output)}' that can be explained; it has {listed}.")
    height, width = (own or asked for own, asked in zip(file.size, size or (224, 224), strict=True))
    builder = Builder(file.batch)
    image = builder.add_input((file.channels, height, width))
    image = builder.emit(aten.permute.default, image, [0, 2, 3, 1]) if file.channels_last else image
    frame = Frame(builder, file.opsets, file.functions, ChainMap({file.input: image}))
    wanted = dict.fromkeys([*([output] if output else []), *file.outputs[:MAX_OUTPUTS]])
    made, errors = import_outputs(file, frame, wanted)
    if not made or output in errors:
        raise errors[output or file.outputs[0]]
    chosen = output or next((name for name, node in made.items() if len(shape_of(node)) == 2), next(iter(made)))
    weights = {name: builder.weights[name] for name in names_read(file.nodes(chosen)) if name in builder.weights}
    file = replace(
        file, weights=weights, notes=(*describe_weights(file, weights), *describe_outputs(file, chosen, errors))
    )
    builder.graph.output(made[chosen])
    for node in builder.graph.find_nodes(op="call_function", target=aten.alias.default):
        node.replace_all_uses_with(node.args[0])
    builder.graph.eliminate_dead_code()
    fuse(builder.graph, builder.constants)
    outputs = [Output(name, tuple(shape_of(made[name])[1:])) for name in dict.fromkeys([chosen, *made])]
    return file, builder, tuple(outputs) if len(outputs) > 1 else ()


def import_outputs(
    file: OnnxFile, frame: Frame, names: Iterable[str]
) -> tuple[dict[str, fx.Node], dict[str, ModelError]]:
    """Import what each output needs; returns those that depend on the image, and why the others cannot be read."""
    made: dict[str, fx.Node] = {}
    errors: dict[str, ModelError] = {}
    for name in names:
        nodes = [node for node in file.nodes(name) if not all(out in frame.values for out in node.output if out)]
        try:
            check_operators(file, nodes)
            weights = read_weights(file.graph, names_read(nodes) - frame.values.keys())
            frame.builder.weights.update(weights)
            frame.values.update(weights)
            frame.add(nodes, [name])
            if not isinstance(value := frame.values.get(name), fx.Node):
                raise ModelError("The ONNX file's output does not depend on the image. Export the network itself.")
            if not dtype_of(value).is_floating_point or value in frame.builder.steps:
                raise ModelError(f"The ONNX file's output '{printable(name)}' is not of floating-point numbers.")
            made[name] = value
        except ModelError as error:
            errors[name] = error
    apart = {name: value for name, value in made.items() if shape_of(value)[:1] == [BATCH]}
    return apart or made, errors


def describe_weights(file: OnnxFile, used: Collection[str]) -> tuple[str, ...]:
    """Say how many weights are converted."""
    halves = sum(proto.name in used and proto.data_type in FLOATS[:3] for proto in file.graph.initializer)
    return (f"{halves} tensors that are not of 32-bit numbers are computed with in 32 bits.",) if halves else ()


def describe_outputs(file: OnnxFile, chosen: str, errors: Mapping[str, ModelError]) -> Iterator[str]:
    """Say which of several outputs is explained, and why the one that looks more like scores is not."""
    others = [printable(entry.name) for entry in file.graph.output if entry.name != chosen]
    if others:
        yield f"Of the file's outputs, '{printable(chosen)}' is explained, not {', '.join(others[:5])}."
    if file.outputs[0] in errors:
        yield f"'{printable(file.outputs[0])}' cannot be: {errors[file.outputs[0]]}"


def check_operators(file: OnnxFile, nodes: Sequence[NodeProto]) -> None:
    """Raise UnsupportedOperatorError that lists every operator that cannot be imported, with a node of each."""
    missing = {
        f"{printable(str(node.op_type))}{f' of {printable(node.domain)}' if domain_of(node) else ''}": label(node)
        for node in reversed(nodes)
        if not is_known(node, file.opsets, file.functions)
    }
    if missing:
        listed = ", ".join(f"{kind} (node '{name}')" for kind, name in sorted(missing.items()))
        then = "Export the network without them, or upload its weights instead."
        if any(node.domain == "com.microsoft.nchwc" for node in nodes):
            then = "onnxruntime optimised it for one kind of processor: upload the file from before."
        raise UnsupportedOperatorError(
            f"The ONNX file has operators of opset {file.opset} that Lightbox does not know: {listed}. {then}"
        )


def finish(file: OnnxFile, builder: Builder) -> Imported:
    """Take off what the file wrapped around its network."""
    graph, notes = builder.graph, list(file.notes)
    if builder.kinds & QUANTISING:
        notes.append("The file is quantised; its weights are as in the file, its activations are not rounded.")
    elif "DequantizeLinear" in builder.kinds:
        notes.append("The file's weights are quantised; they are taken as the numbers that they stand for.")
    if shape_of(*graph.output_node().all_input_nodes)[:1] != [BATCH]:
        raise ModelError(f"The ONNX file's output does not keep the images of a batch apart. {DYNAMIC}.")
    count = sum(tensor.numel() for tensor in file.weights.values() if tensor.is_floating_point())
    return Imported(file, trace_graph(fx.GraphModule(builder.constants, graph), file.weights, count, "file"), (*notes,))
