"""What a graph computes the same for every image is computed once, and batch norms go into what they follow."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx

from explainers.graph.functional import replace
from explainers.graph.model import constant

aten = torch.ops.aten

#: Bytes that a constant may take; a larger one is computed in each run unless what it is made of is as large.
LARGEST = 16 << 20

CONVOLUTIONS = frozenset({aten.conv1d.default, aten.conv2d.default, aten.conv2d.padding, aten.conv3d.default})
FOLDABLE = CONVOLUTIONS | {aten.conv_transpose2d.input, aten.linear.default}

#: What changes the layout of tokens between a dense layer and a batch norm.
LAYOUTS = frozenset({aten.flatten.using_ints, aten.reshape.default, aten.transpose.int, aten.permute.default})


def fold_constants(graph: fx.GraphModule) -> None:
    """Compute what depends on no image, such as standardised weights, tables of positions and masks, once.

    Left alone are values that depend on the number of images or on chance, and constants larger than ``LARGEST``
    bytes that are made of less.
    """
    values: dict[fx.Node, Any] = {}
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            values[node] = constant(graph, node)
        elif is_pure(node) and all(source in values for source in node.all_input_nodes):
            found = compute(node, values)
            sources = sum(size(values[source]) for source in node.all_input_nodes)
            if size(found) <= max(LARGEST, sources):
                values[node] = found
    for node in list(graph.graph.nodes):
        found = values.get(node)
        if node.op == "call_function" and isinstance(found, Tensor) and not values.keys() >= node.users.keys():
            replace(graph, node, add_constant(graph, node, "constant", found))
    graph.graph.eliminate_dead_code()


def is_pure(node: fx.Node) -> bool:
    """Whether a call gives the same each time and changes nothing."""
    target = node.target
    if node.op != "call_function" or not isinstance(target, torch._ops.OpOverload):
        return node.op == "call_function" and target is operator.getitem
    chance = torch.Tag.nondeterministic_seeded in target.tags
    return not (chance or target._schema.is_mutable) and is_stored(node.meta.get("val"))


def is_stored(value: Any) -> bool:
    """Whether a value is made of tensors of real numbers, so that it can be kept with the weights."""
    if isinstance(value, list | tuple):
        return all(is_stored(one) for one in value)
    return isinstance(value, Tensor) and not value.is_complex() and value.layout == torch.strided


def size(value: Any) -> int:
    """The bytes of a value, written out in full."""
    if isinstance(value, list | tuple):
        return sum(size(one) for one in value)
    return value.numel() * value.element_size() if isinstance(value, Tensor) else 0


def compute(node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
    """Call the operator of a node on constants."""
    target: Any = node.target
    arguments, keywords = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
    with torch.no_grad():
        return target(*arguments, **keywords)


def fold_batch_norm(graph: fx.GraphModule) -> None:
    """Fold every batch norm that follows a convolution or linear operator into its weight and bias."""
    for node in list(graph.graph.nodes):
        layer = find_layer(node) if is_known_norm(node) else None
        if layer is not None and takes_scale(layer):
            scale_outputs(graph, layer, *affine_form(graph, node))
            replace(graph, node, node.args[0])


def find_layer(norm: fx.Node) -> fx.Node | None:
    """Find the layer whose output channels a batch norm scales: right before it, or before a change of layout.

    Behind a dense layer that reads tokens the channels come last, and are brought to the second place.
    """
    source: Any = norm.args[0]
    if source.target != aten.linear.default and not (source.op == "call_function" and source.target in LAYOUTS):
        return source  # type: ignore[no-any-return]
    layer: Any = source if source.target == aten.linear.default else source.args[0]
    if (
        layer.op != "call_function"
        or layer.target != aten.linear.default
        or (source is not layer and len(readers(source)) > 1)
    ):
        return None
    before, after = layer.meta["val"].shape, source.meta["val"].shape
    if source is layer or source.target in (aten.flatten.using_ints, aten.reshape.default):
        kept = len(after) == 2 and after[-1] == before[-1]
    elif source.target == aten.transpose.int:
        kept = {dim % len(before) for dim in source.args[1:]} == {1, len(before) - 1}
    else:
        kept = source.args[1][1] % len(before) == len(before) - 1
    return layer if kept else None


def scale_outputs(
    graph: fx.GraphModule, layer: fx.Node, scale: Float[Tensor, " channel"], shift: Float[Tensor, " channel"]
) -> None:
    """Multiply each output channel of a layer by a number and add another, through its weight and bias."""
    weight, bias = value(graph, weight_of(layer)), value(graph, bias_of(layer))
    axis = 1 if layer.target == aten.conv_transpose2d.input else 0
    shape = [-1 if dim == axis else 1 for dim in range(weight.dim())]
    new_weight = (weight.double() * scale.view(shape)).to(weight.dtype)
    new_bias = (shift if bias is None else shift + bias.double() * scale).to(weight.dtype)
    constants = (
        add_constant(graph, layer, kind, tensor) for kind, tensor in (("weight", new_weight), ("bias", new_bias))
    )
    layer.args = (layer.args[0], *constants, *layer.args[3:])
    layer.kwargs = {key: item for key, item in layer.kwargs.items() if key != "bias"}


def is_known_norm(node: fx.Node) -> bool:
    """Whether a node is a batch norm with constant weights and statistics."""
    given: Any = node.args[1:5] if node.target == aten.batch_norm.default else (None,) * 4
    return given[2] is not None and all(part is None or part.op == "get_attr" for part in given)


def takes_scale(layer: fx.Node) -> bool:
    """Whether a node is a layer with constant weights that can be scaled by output without another reader noticing."""
    if layer.target not in FOLDABLE or len(readers(layer)) > 1 or not has_constant_weights(layer):
        return False
    return layer.target != aten.conv_transpose2d.input or layer.args[6:7] in ((), (1,))


def readers(node: fx.Node) -> list[fx.Node]:
    """The nodes that read a value, not its shape alone."""
    like = (aten.reshape_as.default, aten.view_as.default, aten.expand_as.default)
    return [
        user
        for user in node.users
        if user.target != aten.sym_size.int and (user.target not in like or user.args[0] is node)
    ]


def has_constant_weights(layer: fx.Node) -> bool:
    """Whether neither weight nor bias depends on the image."""
    bias = bias_of(layer)
    return weight_of(layer).op == "get_attr" and (bias is None or bias.op == "get_attr")


def affine_form(graph: fx.GraphModule, norm: fx.Node) -> tuple[Float[Tensor, " channel"], Float[Tensor, " channel"]]:
    """What a batch norm with known statistics multiplies each channel with, and what it adds, in double precision."""
    given: Any = norm.args[1:5]
    weight, bias, mean, variance = (value(graph, node) for node in given)
    scale = torch.rsqrt(variance.double() + norm.args[7])
    scale = scale if weight is None else scale * weight.double()
    shift = -mean.double() * scale
    return scale, shift if bias is None else shift + bias.double()


def weight_of(layer: fx.Node) -> Any:
    """The weight argument of a linear operator."""
    return layer.args[1]


def bias_of(layer: fx.Node) -> Any:
    """The bias argument of a linear operator, wherever it was given."""
    return layer.args[2] if len(layer.args) > 2 else layer.kwargs.get("bias")


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
