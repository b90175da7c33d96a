"""What a file wraps around its network: a normalisation in front, a softmax behind, an order of dimensions."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, fx

from explainers.graph.onnx.builder import aten
from explainers.graph.onnx.fusions import is_constant

#: What turns scores into shares, which would hide from the explanation what was before.
SQUASHING = {
    aten.softmax.int: "softmax",
    aten.log_softmax.int: "log-softmax",
    aten.sigmoid.default: "sigmoid",
}

AFFINE = {
    aten.add.Tensor: lambda scale, shift, number: (scale, shift + number),
    aten.sub.Tensor: lambda scale, shift, number: (scale, shift - number),
    aten.mul.Tensor: lambda scale, shift, number: (scale * number, shift * number),
    aten.div.Tensor: lambda scale, shift, number: (scale / number, shift / number),
}

Scaling = tuple[Float[Tensor, " channel"], Float[Tensor, " channel"]]


def drop_squashing(graph: fx.Graph) -> tuple[str, ...]:
    """Let the graph end before a softmax or sigmoid; returns a note on it."""
    output = graph.output_node()
    (last,) = output.all_input_nodes
    target: Any = last.target
    if target not in SQUASHING:
        return ()
    output.args = last.args[:1]
    return (f"The file ends in a {SQUASHING[target]}; the scores before it are explained.",)


def take_scaling(graph: fx.Graph, constants: dict[str, Shaped[Tensor, "..."]], channels: int) -> Scaling | None:
    """Take a normalisation by constants off the input; returns factor and summand by channel, None without one."""
    (node,) = graph.find_nodes(op="placeholder")
    scale, shift, axis = torch.ones(channels), torch.zeros(channels), 1
    taken = []
    while (user := only_reader(node)) is not None:
        target: Any = user.target
        if target == aten.permute.default:
            order: Any = user.args[1]
            axis = order.index(axis)
        elif (number := read_number(user, node, constants, channels, axis)) is not None:
            scale, shift = AFFINE[target](scale, shift, number)
            taken.append(user)
        else:
            break
        node = user
    if not taken or (scale <= 0).any():
        return None
    for user in taken:
        user.replace_all_uses_with(min(user.all_input_nodes, key=lambda source: source.op == "get_attr"))
        graph.erase_node(user)
    return scale, shift


def only_reader(node: fx.Node) -> fx.Node | None:
    """The one call that reads a node, aside from those that ask for its size; None if there are several."""
    readers = [user for user in node.users if user.target != aten.sym_size.int and user.op == "call_function"]
    return readers[0] if len(readers) == 1 else None


def read_number(
    call: fx.Node, source: fx.Node, constants: dict[str, Shaped[Tensor, "..."]], channels: int, axis: int
) -> Float[Tensor, " channel"] | None:
    """Read the constant that a call adds to the source, or multiplies it by; None for any other call."""
    if call.target not in AFFINE or call.args[0] is not source or call.kwargs:
        return None
    item: Any = call.args[1]
    if not isinstance(item, fx.Node):
        return torch.full((channels,), float(item))
    if not is_constant(item):
        return None
    number = constants[str(item.target)].float()
    shape = [1] * (4 - number.dim()) + list(number.shape)
    if number.numel() == 1 or (number.dim() <= 4 and shape == [channels if place == axis else 1 for place in range(4)]):
        return number.reshape(-1).expand(channels)
    return None
