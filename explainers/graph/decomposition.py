"""Operators that are several in one, written out: recurrent layers by cells, fused products, variants of one operator.

What follows relevance then meets the parts, and the same function gives the same map however it was written.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx
from torch._guards import detect_fake_mode
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional

aten = torch.ops.aten


def write_out(graph: fx.GraphModule) -> None:
    """Replace every operator of DECOMPOSED or REWRITTEN by the operators that it is made of."""
    for node in list(graph.graph.nodes):
        function = decomposition(node.target) if node.op == "call_function" else None
        parts = trace(node, function) if function else None
        if parts is not None and is_enough(node, parts):
            inline(graph, node, parts)


def is_enough(node: fx.Node, parts: fx.Graph) -> bool:
    """Whether a traced graph gives all the outputs of a node that are read."""
    made: Any = parts.output_node().args[0]
    read: list[Any] = [user.args[1:2] for user in node.users]
    return isinstance(made, fx.Node) or all(place < (len(made),) for place in read)


def decomposition(target: Any) -> Callable[..., Any] | None:
    """The function that an operator is written out as; None for one that stays as it is."""
    if not isinstance(target, torch._ops.OpOverload) or target.namespace != "aten":
        return None
    name = target._schema.name.partition("::")[2]
    return target.decompose if name in DECOMPOSED else REWRITTEN.get(name)


def trace(node: fx.Node, function: Callable[..., Any]) -> fx.Graph:
    """Trace a function on a node's arguments, for any batch size; the graph's inputs are the node's, in their order."""
    sources = node.all_input_nodes
    mode = detect_fake_mode([source.meta["val"] for source in sources])

    def fake(value: Any) -> Any:
        real = isinstance(value, Tensor) and not isinstance(value, FakeTensor)
        return mode.from_tensor(value) if mode and real else value

    def call(*values: Any) -> Any:
        known = dict(zip(sources, values, strict=True))
        arguments, keywords = fx.node.map_arg((node.args, node.kwargs), known.__getitem__)
        return function(*arguments, **keywords)

    first, *rest = (fake(source.meta["val"]) for source in sources)
    if isinstance(first, Tensor):  # one that asks for gradients, for which torch writes out what it has in one piece
        first = first.detach().requires_grad_(first.dtype.is_floating_point)
    return make_fx(call, pre_dispatch=True)(first, *rest).graph


def inline(graph: fx.GraphModule, node: fx.Node, parts: fx.Graph) -> None:
    """Put a traced graph in a node's place, layer names included; one of several outputs where one is read alone."""
    copies = dict(zip(parts.find_nodes(op="placeholder"), node.all_input_nodes, strict=True))
    with graph.graph.inserting_before(node):
        for part in parts.nodes:
            if part.op == "call_function":
                copies[part] = graph.graph.node_copy(part, copies.__getitem__)
                stack = {"nn_module_stack": node.meta.get("nn_module_stack")}
                copies[part].meta = {"val": part.meta.get("val"), "layers": []} | stack
    made: Any = fx.node.map_arg(parts.output_node().args[0], copies.__getitem__)
    pairs = [(node, made)] if isinstance(made, fx.Node) else [(user, made[user.args[1]]) for user in [*node.users]]
    for old, new in pairs:
        new.meta["layers"] = [*new.meta.get("layers", []), *old.meta["layers"]]
        old.replace_all_uses_with(new)
        graph.graph.erase_node(old)
    if node not in dict(pairs):
        graph.graph.erase_node(node)


def run_once(layer: Any, values: Tensor, state: Any, *weights: Tensor | None) -> Any:
    """A recurrent cell as a layer of one moment; gives the new state."""
    given = [weight for weight in weights if weight is not None]
    before = [one[None] for one in state] if isinstance(state, (tuple, list)) else state[None]
    _, *after = layer.decompose(values[None], before, given, len(given) > 2, 1, 0.0, False, False, False)
    return [one[0] for one in after] if isinstance(state, (tuple, list)) else after[0][0]


def convolve(
    values: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
    *_: Any,
) -> Tensor:
    """The convolution of as many dimensions as the weight has."""
    name = f"conv_transpose{weight.dim() - 2}d" if transposed else f"conv{weight.dim() - 2}d"
    rest = (output_padding, groups, dilation) if transposed else (dilation, groups)
    found: Tensor = getattr(functional, name)(values, weight, bias, stride, padding, *rest)
    return found


def normalise_instances(
    values: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    by_instance: bool,
    momentum: float,
    epsilon: float,
    *_: Any,
) -> Tensor:
    """A group norm of as many groups as channels, or a batch norm where it has its own statistics."""
    if by_instance:
        return functional.group_norm(values, values.shape[1], weight, bias, epsilon)
    return functional.batch_norm(values, mean, variance, weight, bias, False, momentum, epsilon)


def gate(values: Tensor, dim: int = -1) -> Tensor:
    """One half of the values, gated by the other."""
    signal, gates = values.chunk(2, dim)
    return signal * gates.sigmoid()


def multiply_and_add(summand: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """A sum with a product of matrices; a dense layer where that is all."""
    if beta == alpha == 1 and left.dim() == right.dim() == 2 and summand.dim() == 1:
        return functional.linear(left, right.t(), summand)
    product = left @ right
    return (summand if beta == 1 else summand * beta) + (product if alpha == 1 else product * alpha)


def interpolate(start: Tensor, end: Tensor, weight: Any) -> Tensor:
    """A sum of two by a weight, which may be a gate."""
    mixed: Tensor = start * (1 - weight) + end * weight
    return mixed


def add_product(summand: Tensor, left: Tensor, right: Tensor, *, value: float = 1) -> Tensor:
    """A sum with a product."""
    return summand + (left * right if value == 1 else left * right * value)


def add_quotient(summand: Tensor, left: Tensor, right: Tensor, *, value: float = 1) -> Tensor:
    """A sum with a quotient."""
    return summand + (left / right if value == 1 else left / right * value)


def attend(query: Tensor, key: Tensor, value: Tensor, *rest: Any, **named: Any) -> tuple[Tensor]:
    """Attention as one operator whatever the processor's kernel; ``rest`` are dropout and whether it is causal."""
    mask, causal, scale = named.get("attn_mask"), [*rest, 0.0, False][1], named.get("scale")
    return (functional.scaled_dot_product_attention(query, key, value, mask, 0.0, causal, scale=scale),)


def spread(
    measure: Callable[..., Tensor],
    values: Tensor,
    dim: list[int] | None = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> tuple[Tensor, Tensor]:
    """A measure of spread, and the mean."""
    found = measure(values, dim, correction=unbiased if correction is None else correction, keepdim=keepdim)
    return found, values.mean(dim, keepdim=keepdim)


def compare(left: Tensor, right: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle: a product over the norms."""
    norms: list[Tensor] = [torch.linalg.vector_norm(one, dim=dim).clamp_min(eps) for one in (left, right)]
    return (left * right).sum(dim) / (norms[0] * norms[1])


def multiply_pairs(left: Tensor, right: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A sum over the products of two inputs' entries."""
    made: Tensor = torch.einsum("...i,oij,...j->...o", left, weight, right)
    return made if bias is None else made + bias


def copy(target: Tensor, source: Tensor, *_: Any) -> Tensor:
    """The source in the target's shape and type, which torch cannot differentiate as one operator."""
    source = source.expand_as(target)
    return source if source.dtype == target.dtype else source.to(target.dtype)


#: What torch's own decompositions write out.
DECOMPOSED = frozenset(
    {
        "lstm",
        "gru",
        "rnn_tanh",
        "rnn_relu",
    }
)

#: What is written out by a function of the same arguments; of several outputs the first, the only one read.
REWRITTEN: dict[str, Callable[..., Any]] = {
    "convolution": convolve,
    "_convolution": convolve,
    "instance_norm": normalise_instances,
    "native_layer_norm": lambda *given: (functional.layer_norm(*given),),
    "native_group_norm": lambda values, weight, bias, batch, channels, size, groups, epsilon: (
        functional.group_norm(values, groups, weight, bias, epsilon),
    ),
    "_native_batch_norm_legit_no_training": lambda values, weight, bias, mean, variance, momentum, epsilon: (
        functional.batch_norm(values, mean, variance, weight, bias, False, momentum, epsilon),
    ),
    "_scaled_dot_product_flash_attention_for_cpu": attend,
    "lstm_cell": partial(run_once, aten.lstm.input),
    "gru_cell": partial(run_once, aten.gru.input),
    "rnn_tanh_cell": partial(run_once, aten.rnn_tanh.input),
    "rnn_relu_cell": partial(run_once, aten.rnn_relu.input),
    "var_mean": partial(spread, torch.var),
    "std_mean": partial(spread, torch.std),
    "glu": gate,
    "addmm": multiply_and_add,
    "baddbmm": multiply_and_add,
    "addcmul": add_product,
    "addcdiv": add_quotient,
    "lerp": interpolate,
    "copy": copy,
    "cosine_similarity": compare,
    "bilinear": multiply_pairs,
    "native_dropout": lambda values, *_: (values,),
}
