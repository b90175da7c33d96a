"""From a torch module, or a program already exported, to the one graph."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import threading
import traceback
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram

from explainers.errors import ModelError
from explainers.graph.batches import note_batch_axes
from explainers.graph.branches import fold_layers
from explainers.graph.cuts import IMAGES, size_of, sizes
from explainers.graph.decomposition import write_out
from explainers.graph.ends import show_both_sides, tidy_output
from explainers.graph.folding import fold_constants
from explainers.graph.functional import inline_wrapped, make_functional, without_shared_changes
from explainers.graph.model import Model
from explainers.info import Layer, ModelInfo
from explainers.outputs import BINARY, CLASSES, check_kind, count_names, guess_kind, name_outputs
from explainers.preprocessing import Preprocessing

#: Held while torch traces: its tracer keeps state for the whole process, which two threads at once would mix up.
_tracing = threading.Lock()


@dataclass(frozen=True)
class Reading:
    """What a person chose, or a file proposes, of how a model is read: names, and what its outputs mean.

    ``kind`` is one of ``explainers.outputs.KINDS``, guessed if empty; ``unit`` and ``usual`` are of numbers.
    """

    class_names: Sequence[str] = ()
    kind: str = ""
    unit: str = ""
    usual: Sequence[float] = ()


@dataclass(frozen=True, eq=False)
class Traced:
    """A traced network in the one form, of which a Model can be made once.

    ``weights`` are those that the file held, ``constants`` is a digest of its other tensors, ``squashing`` is what was
    taken off its end, and ``shape`` is of its output for one image.
    """

    graph: fx.GraphModule
    weights: Mapping[str, Float[Tensor, "..."]]
    constants: str
    parameters: int
    squashing: str
    shape: tuple[int, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What was taken off, in words."""
        note = f"The file ends in a {self.squashing}; the scores before it are explained."
        return (note,) if self.squashing else ()


def export(
    module: nn.Module,
    name: str,
    preprocessing: Preprocessing,
    class_names: Sequence[str] = (),
    source: str = "module",
    notes: Sequence[str] = (),
    reading: Reading = Reading(),
) -> Model:
    """Export a torch module to a Model with a dynamic batch dimension.

    One at a time in a process. Raises ModelError that names what stops the export. The module itself is left as it was.
    """
    example = torch.zeros(2, preprocessing.channels, *preprocessing.size)
    training = module.training
    try:
        with _tracing, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own deprecations while tracing say nothing about the model
            program = torch.export.export(module.eval(), (example,), dynamic_shapes=({0: Dim("batch", min=1)},))
    except Exception as error:  # any author's code runs here, so any error may come out of it; it is told, not hidden
        raise ModelError(f"The model {name} cannot be exported: {reason(error)}") from error
    finally:
        module.train(training)
    reading = dataclasses.replace(reading, class_names=reading.class_names or class_names)
    return make_model(trace(program, name), name, preprocessing, reading, source, notes)


def trace(program: ExportedProgram, name: str = "program") -> Traced:
    """Bring an exported program into the one form: operators functional, batch norm folded, scores at the end.

    Raises ModelError if it does not take one batch of images or does not return one tensor of floating-point outputs.
    """
    with _tracing:
        program = without_shared_changes(program)
    graph = program.module(check_guards=False)
    assert isinstance(graph, fx.GraphModule)
    count = sum(tensor.numel() for tensor in program.parameters())
    return trace_graph(graph, program.state_dict, count, name)


def trace_graph(
    graph: fx.GraphModule, weights: Mapping[str, Float[Tensor, "..."]], parameters: int, name: str
) -> Traced:
    """Bring a traced graph, which is changed on the way, into the one form; raises ModelError as ``trace`` does."""
    constants = weights_digest(other_constants(graph, weights))
    check_signature(graph, name)
    simplify(graph)
    check_output(graph)
    (image,) = graph.graph.find_nodes(op="placeholder")
    height, width = image.meta["val"].shape[2:]
    squashing = tidy_output(graph, (int(height), int(width)))
    finish(graph)
    shape = sizes(graph, graph.graph.output_node().all_input_nodes[0].meta["val"])[1:]
    return Traced(graph, weights, constants, parameters, squashing, shape)


def make_model(
    traced: Traced,
    name: str,
    preprocessing: Preprocessing,
    reading: Reading = Reading(),
    source: str = "program",
    notes: Sequence[str] = (),
) -> Model:
    """Make a Model of a traced network: layers and digests taken, both sides of a yes-or-no shown.

    Class names are made up where too few are given. Raises ModelError for outputs that are not of the kind asked for.
    """
    graph, kind = traced.graph, take_kind(traced, reading)
    weights = weights_digest(traced.weights)
    operators = {str(node.target) for node in graph.graph.nodes if node.op == "call_function"}
    info = ModelInfo(
        name,
        source,
        preprocessing,
        class_names=name_outputs(kind, traced.shape[0], reading.class_names),
        layers=layers(graph, preprocessing.size),
        output_shape=(count_names(kind, traced.shape[0]), *traced.shape[1:]),
        parameters=traced.parameters,
        digest=graph_digest(graph, weights + traced.constants, kind),
        weights_digest=weights,
        notes=tuple(dict.fromkeys([*notes, *traced.notes])),
        operators=tuple(sorted(operators)),
        kind=kind or CLASSES,
        unit=reading.unit,
        usual=tuple(reading.usual),
    )
    return Model(info, graph)


def take_kind(traced: Traced, reading: Reading) -> str:
    """Take what outputs mean as chosen, else as guessed, and show both sides of a yes-or-no; raises ModelError."""
    kind = reading.kind or guess_kind(traced.shape, traced.squashing)[0]
    if kind:  # else what detectors and the like give
        check_kind(kind, traced.shape, reading.usual)
    if kind == BINARY:
        show_both_sides(traced.graph)
        finish(traced.graph)
    return kind


def finish(graph: fx.GraphModule) -> None:
    """Clear away what nothing reads any more, after a graph was changed."""
    graph.graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output"))  # what is random is not so here
    graph.recompile()
    note_batch_axes(graph)


def simplify(graph: fx.GraphModule) -> None:
    """Bring a traced graph into the one form that everything else reads: functional, without batch norm or grads."""
    inline_wrapped(graph)
    keep_layer_names(graph)
    make_functional(graph)
    with _tracing:
        write_out(graph)
    fold_constants(graph)
    fold_layers(graph)
    finish(graph)
    graph.requires_grad_(False)


def reason(error: Exception) -> str:
    """The line of a torch error that says what stopped it, and the line of the model's code where that happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("Unsupported", "Could not", "Explanation", "File ", "- "))]
    message = (telling or lines or [type(error).__name__])[0].removeprefix("- ").rstrip(".")[:300]
    own = (str(Path(torch.__file__).parent), __file__)
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(own)]
    if not places:
        return f"{message}."
    return f"{message}, in {Path(places[-1].filename).name}, line {places[-1].lineno}: `{places[-1].line}`."


def check_signature(graph: fx.GraphModule, name: str) -> None:
    """Raise ModelError unless the graph maps one image batch to one tensor."""
    inputs = [node for node in graph.graph.nodes if node.op == "placeholder"]
    outputs = graph.graph.output_node().all_input_nodes
    if len(inputs) != 1 or len(outputs) != 1:
        raise ModelError(
            f"The model {name} takes {len(inputs)} inputs and gives {len(outputs)} outputs; Lightbox explains models "
            "with one image input and one output. Wrap it so that its forward takes the image alone and returns one."
        )
    shape = inputs[0].meta["val"].shape
    if len(shape) != 4:
        raise ModelError(
            f"The model {name} takes an input of {len(shape)} dimensions; Lightbox needs images as "
            "(batch, channels, height, width)."
        )


def keep_layer_names(graph: fx.GraphModule) -> None:
    """Note in each node's meta the names of the layers whose output it is; what no image changes is no layer's."""
    last: dict[str, tuple[str, fx.Node]] = {}
    changing = find_changing(graph)
    for node in graph.graph.nodes:
        node.meta["layers"] = []
        if node.op == "call_function" and node in changing and isinstance(node.meta.get("val"), Tensor):
            for path, kind in (node.meta.get("nn_module_stack") or {}).values():
                if path:
                    last[path.split("@")[0]] = (str(kind).rsplit(".", 1)[-1].strip("'>"), node)
    for path, (kind, node) in last.items():
        node.meta["layers"].append((path, kind))


def check_output(graph: fx.GraphModule) -> None:
    """Raise ModelError unless a graph returns one tensor of floating-point numbers for each image."""
    (node,) = graph.graph.output_node().all_input_nodes
    output = node.meta["val"]
    if node.op == "placeholder":
        raise ModelError("The model gives its image back as it is, so there is nothing to explain. Upload a network.")
    scores = isinstance(output, Tensor) and output.dtype.is_floating_point and output.dim() > 0
    if not scores or size_of(graph, output.shape[0]) != IMAGES:
        raise ModelError(
            "The model does not return floating-point scores of the shape (batch, classes, ...). "
            "Wrap it so that its forward returns the logits."
        )


def layers(graph: fx.GraphModule, size: tuple[int, int]) -> tuple[Layer, ...]:
    """List the graph's layers in the order in which they are computed."""
    found: list[Layer] = []
    tokens: dict[int, range] = {}
    changing = find_changing(graph)
    for node in graph.graph.nodes:
        if node in changing:
            follow_tokens(node, changing, tokens)
        for name, kind in node.meta["layers"]:
            shape = tuple(int(length) for length in node.meta["val"].shape[1:])
            layout, grid = spatial_layout(shape, size)
            known = tokens.get(shape[0], range(0)) if len(shape) == 2 else range(0)
            exact = spatial_layout((len(known), 1), size)
            if exact[0] == "tokens" and math.prod(exact[1]) == len(known):
                found.append(Layer(name, node.name, kind, shape, *exact, known.start))
            else:
                found.append(Layer(name, node.name, kind, shape, layout, grid))
    return tuple(found)


def follow_tokens(node: fx.Node, changing: Collection[fx.Node], tokens: dict[int, range]) -> None:
    """Note, by the number of all tokens, which are the image's, where a node adds others to them or takes some away.

    Of parts that are joined the image's is the longest that depends on the image.
    """
    value, dim = node.meta.get("val"), node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    if not isinstance(value, Tensor) or value.dim() != 3 or dim not in (1, -2):
        return
    if node.target == torch.ops.aten.cat.default:
        parts: Any = node.args[0]
        lengths = [int(part.meta["val"].shape[1]) for part in parts]
        longest = max(range(len(lengths)), key=lambda place: lengths[place] * (parts[place] in changing))
        known = tokens.get(lengths[longest], range(lengths[longest]))
        first = sum(lengths[:longest]) + known.start
        tokens[sum(lengths)] = range(first, first + len(known))
    elif node.target == torch.ops.aten.slice.Tensor and isinstance(node.args[0], fx.Node):
        length = int(node.args[0].meta["val"].shape[1])
        first, last, step = slice(*(*node.args[2:], None, None, None)[:3]).indices(length)
        known = tokens.get(length, range(length))
        kept = range(max(known.start, first) - first, min(known.stop, last) - first)
        if step == 1 and len(kept) == len(known):
            tokens[last - first] = kept


def find_changing(graph: fx.GraphModule) -> set[fx.Node]:
    """Find the nodes whose values depend on the image, other than through its shape."""
    changing = set(graph.graph.find_nodes(op="placeholder"))
    for node in graph.graph.nodes:
        is_shape = isinstance(node.meta.get("val"), torch.SymInt | int)
        if not is_shape and not changing.isdisjoint(node.all_input_nodes):
            changing.add(node)
    return changing


def spatial_layout(shape: tuple[int, ...], size: tuple[int, int]) -> tuple[str, tuple[int, int]]:
    """Tell where space is in an output shape, by the aspect ratio of the model's input."""
    aspect = size[0] / size[1]

    def fits(rows: int, columns: int) -> bool:
        return rows * columns > 1 and abs(rows - columns * aspect) < 1

    if len(shape) == 3 and fits(shape[1], shape[2]):
        return "channels first", (shape[1], shape[2])
    if len(shape) == 3 and fits(shape[0], shape[1]):
        return "channels last", (shape[0], shape[1])
    if len(shape) == 2:
        columns = math.isqrt(int(shape[0] / aspect))
        rows = round(columns * aspect)
        if rows * columns > 1 and 0 <= shape[0] - rows * columns <= 8:
            return "tokens", (rows, columns)
    return "none", (1, 1)


def weights_digest(weights: Mapping[str, Float[Tensor, "..."]]) -> str:
    """SHA-256 of the names, types, shapes and bytes of the weights; counters of training steps do not matter."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        if not name.endswith("num_batches_tracked"):
            tensor = weights[name].detach().cpu().contiguous()
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def other_constants(
    graph: fx.GraphModule, state: Mapping[str, Float[Tensor, "..."]]
) -> Mapping[str, Float[Tensor, "..."]]:
    """The tensors that a graph reads but for the weights: those that the author's code made."""
    names = {str(node.target) for node in graph.graph.find_nodes(op="get_attr")} - state.keys()
    found: dict[str, Any] = {name: reduce(getattr, name.split("."), graph) for name in names}
    return {name: tensor for name, tensor in found.items() if isinstance(tensor, Tensor)}


def graph_digest(graph: fx.GraphModule, weights: str, kind: str = CLASSES) -> str:
    """SHA-256 of the program's calls, in order, of its layers' names, its weights and what its outputs mean."""
    digest = hashlib.sha256(f"{weights} {kind}".encode())
    for node in graph.graph.nodes:
        layers = [name for name, _ in node.meta.get("layers", ())]  # by which results are asked for
        digest.update(f"{node.op} {node.name} {node.target} {node.args} {node.kwargs} {layers};".encode())
    return digest.hexdigest()
