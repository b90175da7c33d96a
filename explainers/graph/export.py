"""From a torch module, or a program already exported, to the one graph."""

from __future__ import annotations

import hashlib
import math
import operator
import threading
import traceback
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram

from explainers.errors import ModelError
from explainers.graph.decomposition import write_out
from explainers.graph.model import Model, constant
from explainers.info import Layer, ModelInfo
from explainers.preprocessing import Preprocessing

aten = torch.ops.aten

#: Held while torch traces: its tracer keeps state for the whole process, which two threads at once would mix up.
_tracing = threading.Lock()

#: Operators that do nothing at inference.
IDENTITIES = frozenset(
    {
        aten.dropout.default,
        aten.dropout_.default,
        aten.feature_dropout.default,
        aten.feature_dropout_.default,
        aten.alpha_dropout.default,
        aten.detach.default,
        aten.alias.default,
    }
)


def export(
    module: nn.Module,
    name: str,
    preprocessing: Preprocessing,
    class_names: Sequence[str] = (),
    source: str = "module",
    notes: Sequence[str] = (),
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
    return from_program(program, name, preprocessing, class_names, source, notes)


def from_program(
    program: ExportedProgram,
    name: str,
    preprocessing: Preprocessing,
    class_names: Sequence[str] = (),
    source: str = "program",
    notes: Sequence[str] = (),
) -> Model:
    """Make a Model of an exported program: operators made functional, batch norm folded, layers and digests taken.

    Class names are made up ("class 0") where too few are given. Raises ModelError if the program does not take one
    batch of images or does not return one tensor of floating-point outputs.
    """
    graph = program.module(check_guards=False)
    assert isinstance(graph, fx.GraphModule)
    count = sum(tensor.numel() for tensor in program.parameters())
    return from_graph(graph, program.state_dict, count, name, preprocessing, class_names, source, notes)


def from_graph(
    graph: fx.GraphModule,
    state: Mapping[str, Float[Tensor, "..."]],
    parameters: int,
    name: str,
    preprocessing: Preprocessing,
    class_names: Sequence[str],
    source: str,
    notes: Sequence[str],
) -> Model:
    """Make a Model of a traced graph, which is changed on the way; ``state`` are the weights as the file held them."""
    weights = weights_digest(state)
    check_signature(graph, name)
    simplify(graph)
    output = output_shape(graph)
    count = output[0] if output else 1
    names = [*class_names[:count], *(f"class {index}" for index in range(len(class_names), count))]
    info = ModelInfo(
        name=name,
        source=source,
        preprocessing=preprocessing,
        class_names=tuple(names),
        layers=layers(graph, preprocessing.size),
        output_shape=output,
        parameters=parameters,
        digest=graph_digest(graph, weights),
        weights_digest=weights,
        notes=tuple(notes),
        operators=tuple(sorted({str(node.target) for node in graph.graph.nodes if node.op == "call_function"})),
    )
    return Model(info, graph)


def simplify(graph: fx.GraphModule) -> None:
    """Bring a traced graph into the one form that everything else reads: functional, without batch norm or grads."""
    keep_layer_names(graph)
    make_functional(graph)
    with _tracing:
        write_out(graph)
    fold_batch_norm(graph)
    graph.graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output"))  # what is random is not so here
    graph.recompile()
    graph.requires_grad_(False)
    note_batch_axes(graph)


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
    """Note in each node's meta the names of the layers whose output it is."""
    last: dict[str, tuple[str, fx.Node]] = {}
    for node in graph.graph.nodes:
        node.meta["layers"] = []
        if node.op == "call_function" and isinstance(node.meta.get("val"), Tensor):
            for path, kind in (node.meta.get("nn_module_stack") or {}).values():
                if path:
                    last[path.split("@")[0]] = (str(kind).rsplit(".", 1)[-1].strip("'>"), node)
    for path, (kind, node) in last.items():
        node.meta["layers"].append((path, kind))


def note_batch_axes(graph: fx.GraphModule) -> None:
    """Note in each node's meta the dimension of its value (of the first of several) that grows with the batch."""
    images = graph.graph.find_nodes(op="placeholder")[0].meta["val"].shape[0]
    marked = images if isinstance(images, int) else 0  # a number that no other size is a multiple of
    for node in graph.graph.nodes:
        value = node.meta.get("val")
        first = value[0] if isinstance(value, list | tuple) else value
        sizes = first.shape if isinstance(first, Tensor) else ()
        growing = [isinstance(size, torch.SymInt) or (marked and size and size % marked == 0) for size in sizes]
        node.meta["batch_axis"] = next((place for place, grows in enumerate(growing) if grows), 0)


def replace(graph: fx.GraphModule, old: fx.Node, new: fx.Node) -> None:
    """Put one node in another's place, layer names included, and erase the old one."""
    new.meta["layers"] = [*new.meta.get("layers", []), *old.meta["layers"]]
    old.replace_all_uses_with(new)
    graph.graph.erase_node(old)


def make_functional(graph: fx.GraphModule) -> None:
    """Replace in-place operators by functional ones and leave out what does nothing at inference.

    After an in-place call its input has the new value too, so later readers of the input read the result instead.
    """
    position = {node: place for place, node in enumerate(graph.graph.nodes)}
    for node in list(graph.graph.nodes):
        if node.op == "call_module" and node.target == "_guards_fn":
            graph.graph.erase_node(node)
        elif node.target in IDENTITIES:
            replace(graph, node, node.args[0])
        elif node.target == aten.batch_norm.default and node.args[3] is not None:
            node.update_arg(5, False)  # a program may have been exported in training mode
        elif node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload):
            namespace, _, operator = str(node.target).rsplit(".", 1)[0].partition(".")
            if operator.endswith("_") and not operator.endswith("__"):
                functional = getattr(getattr(torch.ops, namespace), operator.rstrip("_"))
                changed = node.args[0]
                node.target = getattr(functional, node.target._overloadname)
                renew(graph, changed, node, position, position[node])


def renew(graph: fx.GraphModule, old: fx.Node, new: fx.Node, position: dict[fx.Node, int], here: int) -> None:
    """Let later readers of a value that was changed in place read the new one, and those of what it is a view of.

    Raises ModelError where a view of an unknown kind was changed.
    """

    def later(user: fx.Node) -> bool:
        return position[user] > here

    old.replace_all_uses_with(new, later)
    bases = views(old)
    if not any(later(user) for base in bases for user in base.users):
        return
    if old.target not in SCATTERS:
        raise ModelError(
            f"The model changes in place what {old.target} gave as a view, and reads the whole again, which Lightbox "
            "cannot follow. Write that line of the model without a change in place."
        )
    with graph.graph.inserting_after(new):
        whole = graph.graph.call_function(SCATTERS[old.target], (bases[0], new, *old.args[1:]), dict(old.kwargs))
    whole.meta = {"val": bases[0].meta["val"], "layers": []}
    position[whole] = here
    renew(graph, bases[0], whole, position, here)


def views(node: fx.Node) -> list[fx.Node]:
    """The values whose memory a node's value shares as a view of them, nearest first."""
    schema = getattr(node.target, "_schema", None)
    aliased = schema is not None and any(result.alias_info for result in schema.returns)
    if node.op != "call_function" or not (aliased or node.target is operator.getitem):
        return []
    base = node.args[0]
    return [base, *views(base)] if isinstance(base, fx.Node) else []


#: What puts a part back into the whole, for each operator that takes the part out as a view.
SCATTERS = {
    aten.slice.Tensor: aten.slice_scatter.default,
    aten.select.int: aten.select_scatter.default,
}


def fold_batch_norm(graph: fx.GraphModule) -> None:
    """Fold every batch norm that follows a convolution or linear operator into its weight and bias."""
    for node in list(graph.graph.nodes):
        if node.target != aten.batch_norm.default or node.args[3] is None:
            continue
        linear, weight, bias, mean, variance = node.args[:5]
        transposed = linear.target == aten.conv_transpose2d.input
        if (
            linear.target not in FOLDABLE
            or len(linear.users) > 1
            or (transposed and linear.args[6:7] not in ((), (1,)))
        ):
            continue
        old_weight, old_bias = value(graph, linear.args[1]), value(graph, argument(linear, 2))
        scale = torch.rsqrt(value(graph, variance).double() + node.args[7])
        scale = scale if weight is None else scale * value(graph, weight).double()
        shift = -value(graph, mean).double() * scale
        shift = shift if bias is None else shift + value(graph, bias).double()
        shift = shift if old_bias is None else shift + old_bias.double() * scale
        axis = 1 if transposed else 0
        shape = [-1 if dim == axis else 1 for dim in range(old_weight.dim())]
        linear.args = (
            linear.args[0],
            add_constant(graph, linear, "weight", (old_weight.double() * scale.view(shape)).to(old_weight.dtype)),
            add_constant(graph, linear, "bias", shift.to(old_weight.dtype)),
            *linear.args[3:],
        )
        linear.kwargs = {key: item for key, item in linear.kwargs.items() if key != "bias"}
        replace(graph, node, linear)


FOLDABLE = frozenset(
    {
        aten.conv1d.default,
        aten.conv2d.default,
        aten.conv2d.padding,
        aten.conv3d.default,
        aten.conv_transpose2d.input,
        aten.linear.default,
    }
)


def argument(node: fx.Node, place: int) -> Any:
    """The bias argument of a linear operator, wherever it was given."""
    return node.args[place] if len(node.args) > place else node.kwargs.get("bias")


def value(graph: fx.GraphModule, node: fx.Node | None) -> Any:
    """Read the tensor behind a ``get_attr`` node; None for None."""
    return None if node is None else constant(graph, node)


def add_constant(graph: fx.GraphModule, before: fx.Node, kind: str, tensor: Tensor) -> fx.Node:
    """Add a new buffer to the graph and a node that reads it."""
    name = f"folded_{before.name}_{kind}"
    graph.register_buffer(name, tensor.detach().contiguous())
    with graph.graph.inserting_before(before):
        node = graph.graph.get_attr(name)
    node.meta["layers"] = []
    node.meta["val"] = tensor
    return node


def output_shape(graph: fx.GraphModule) -> tuple[int, ...]:
    """The shape of the output for one image."""
    output = graph.graph.output_node().all_input_nodes[0].meta["val"]
    if not isinstance(output, Tensor) or not output.dtype.is_floating_point or output.dim() < 2:
        raise ModelError(
            "The model does not return floating-point scores of the shape (batch, classes, ...). "
            "Wrap it so that its forward returns the logits."
        )
    return tuple(int(size) for size in output.shape[1:])


def layers(graph: fx.GraphModule, size: tuple[int, int]) -> tuple[Layer, ...]:
    """List the graph's layers in the order in which they are computed."""
    found: list[Layer] = []
    for node in graph.graph.nodes:
        for name, kind in node.meta["layers"]:
            shape = tuple(int(length) for length in node.meta["val"].shape[1:])
            layout, grid = spatial_layout(shape, size)
            found.append(Layer(name, node.name, kind, shape, layout, grid))
    return tuple(found)


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


def graph_digest(graph: fx.GraphModule, weights: str) -> str:
    """SHA-256 of the program's calls, in order, and of its weights."""
    digest = hashlib.sha256(weights.encode())
    for node in graph.graph.nodes:
        digest.update(f"{node.op} {node.name} {node.target} {node.args} {node.kwargs};".encode())
    return digest.hexdigest()
