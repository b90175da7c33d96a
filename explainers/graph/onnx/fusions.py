"""Groups of calls that together are one ATen operator, put together again.

Exporters take operators apart that their opset does not have; relevance rules are for whole ones.
"""

from __future__ import annotations

from typing import Any, TypeGuard

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, fx

from explainers.graph.onnx.builder import aten

#: Calls that work number by number.
ELEMENTWISE = frozenset(
    {
        aten.add.Tensor,
        aten.clamp.default,
        aten.div.Tensor,
        aten.erf.default,
        aten.exp.default,
        aten.hardsigmoid.default,
        aten.hardtanh.default,
        aten.mul.Tensor,
        aten.pow.Tensor_Scalar,
        aten.relu.default,
        aten.sigmoid.default,
        aten.softplus.default,
        aten.sub.Tensor,
        aten.tanh.default,
    }
)

#: Activations, each with the arguments after its input.
ACTIVATIONS: tuple[tuple[Any, dict[str, Any]], ...] = (
    (aten.silu.default, {}),
    (aten.gelu.default, {"approximate": "none"}),
    (aten.gelu.default, {"approximate": "tanh"}),
    (aten.hardswish.default, {}),
    (aten.hardsigmoid.default, {}),
    (aten.mish.default, {}),
)

#: The most calls that an activation is made of.
LONGEST = 12


def fuse(graph: fx.Graph, constants: dict[str, Shaped[Tensor, "..."]]) -> None:
    """Put dense layers, layer norms, activations and transpositions together again."""
    for node in list(graph.nodes):
        found = join_transpositions(node) or join_parameter(node, constants)
        found = found or join_layer_norm(node) or join_activation(node, constants)
        if found:
            node.replace_all_uses_with(found, lambda user, found=found: user is not found)
            graph.erase_node(node)
    graph.eliminate_dead_code()


def insert(before: fx.Node, target: Any, *arguments: Any, **keywords: Any) -> fx.Node:
    """Add the call that takes a node's place."""
    with before.graph.inserting_before(before):
        new = before.graph.call_function(target, arguments, keywords)
    new.meta = dict(before.meta)
    return new


def join_transpositions(node: fx.Node) -> fx.Node | None:
    """Make one transposition of two, or none if they cancel."""
    try:
        inner, order = calls(node, aten.permute.default)
        source, first = calls(inner, aten.permute.default)
    except ValueError:
        return None
    order = [first[axis] for axis in order]
    found: fx.Node = source if order == sorted(order) else insert(node, aten.permute.default, source, order)
    return found


def join_parameter(node: fx.Node, constants: dict[str, Shaped[Tensor, "..."]]) -> fx.Node | None:
    """Put a summand into the layer before as its bias, and a factor into a layer norm as its weight."""
    layer, parameter = node.args if len(node.args) == 2 else (None, None)
    if not is_constant(parameter) or not isinstance(layer, fx.Node) or len(layer.users) > 1:
        return None
    place = PARAMETERS.get((node.target, layer.target))
    if place is None or (len(layer.args) > place and layer.args[place] is not None):
        return None
    arguments: Any = layer.args
    if layer.target == aten.layer_norm.default and (arguments[3] is not None or len(arguments[1]) > 1):
        return None
    shape, tensor = layer.meta["val"].shape, constants[str(parameter.target)]
    axis = 1 if layer.target in SPATIAL else len(shape) - 1
    expected = [length if dimension == axis else 1 for dimension, length in enumerate(shape)]
    if [1] * (len(shape) - tensor.dim()) + list(tensor.shape) != expected:
        return None
    if tensor.dim() > 1 and len(parameter.users) > 1:
        return None
    constants[str(parameter.target)] = tensor.reshape(-1)
    before = (*layer.args, *(None,) * (place - len(layer.args)))
    layer.args = (*before[:place], parameter, *before[place + 1 :])
    return layer


SPATIAL = frozenset({aten.conv1d.default, aten.conv2d.default, aten.conv3d.default})

#: Which argument of a layer a summand or factor behind it is.
PARAMETERS: dict[Any, int] = {
    **{(aten.add.Tensor, layer): 2 for layer in (aten.linear.default, *SPATIAL)},
    (aten.mul.Tensor, aten.layer_norm.default): 2,
    (aten.add.Tensor, aten.layer_norm.default): 3,
}


def is_constant(item: Any) -> TypeGuard[fx.Node]:
    """Whether an argument is a node that reads a constant."""
    return isinstance(item, fx.Node) and item.op == "get_attr"


def join_layer_norm(node: fx.Node) -> fx.Node | None:
    """Make a layer norm of its parts: centred values, divided by the root of their mean square and a little more."""
    if node.target != aten.div.Tensor:
        return None
    try:
        centred, root = node.args
        (spread,) = calls(root, aten.sqrt.default)
        mean, epsilon = calls(spread, aten.add.Tensor)
        square, axes, keep = calls(mean, aten.mean.dim)
        base, exponent = calls(square, aten.pow.Tensor_Scalar)
        value, axes_again = read_centred(centred)
    except ValueError:
        return None
    rank = value.meta["val"].dim()
    trailing = list(axes) == list(axes_again) == list(range(rank - len(axes), rank))
    if not trailing or not keep or exponent != 2 or read_centred(base)[0] is not value:
        return None
    sizes = [int(size) for size in value.meta["val"].shape[-len(axes) :]]
    return insert(node, aten.layer_norm.default, value, sizes, None, None, epsilon, False)


def read_centred(node: Any) -> tuple[fx.Node, Any]:
    """Read x - mean(x): x, and the axes of the mean; raises ValueError for anything else."""
    value, mean = calls(node, aten.sub.Tensor)
    averaged, axes, keep = calls(mean, aten.mean.dim)
    if averaged is not value or not keep:
        raise ValueError
    return value, axes


def calls(node: Any, target: Any) -> tuple[Any, ...]:
    """Read the arguments of a call to an operator; raises ValueError for anything else."""
    if not isinstance(node, fx.Node) or node.target != target:
        raise ValueError
    return node.args


def join_activation(node: fx.Node, constants: dict[str, Shaped[Tensor, "..."]]) -> fx.Node | None:
    """Make an activation of a group of calls, known by what they compute on a grid of numbers."""
    group: list[fx.Node] = []
    frontier = {node}
    while len(group) < LONGEST:
        last = max(frontier)
        numbers = [item for item in last.all_input_nodes if is_constant(item)]
        if last.target not in ELEMENTWISE or any(constants[str(number.target)].numel() > 1 for number in numbers):
            return None
        group.append(last)
        frontier = (frontier - {last}) | (set(last.all_input_nodes) - set(numbers))
        if not frontier:
            return None
        if len(frontier) == 1 and len(group) > 1 and (found := recognise(group, min(frontier), constants)):
            return insert(node, found[0], *frontier, **found[1])
    return None


def recognise(
    group: list[fx.Node], source: fx.Node, constants: dict[str, Shaped[Tensor, "..."]]
) -> tuple[Any, dict[str, Any]] | None:
    """Tell which activation a group of calls computes from its source, if any."""
    values: dict[fx.Node, Any] = {source: GRID}
    for node in reversed(group):
        for item in node.all_input_nodes:
            if is_constant(item):
                values[item] = constants[str(item.target)].double()
        target: Any = node.target
        values[node] = target(*fx.node.map_arg(node.args, values.__getitem__))
    for activation, keywords in ACTIVATIONS:
        if torch.allclose(values[group[0]], activation(GRID, **keywords), rtol=0, atol=1e-5):
            return activation, keywords
    return None


GRID: Float[Tensor, " number"] = torch.linspace(-8, 8, 129, dtype=torch.float64)
