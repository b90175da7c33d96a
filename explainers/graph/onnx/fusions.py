"""Groups of calls that together are one ATen operator, put together again.

Exporters take operators apart that their opset does not have; relevance rules are for whole ones.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
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


def fuse(graph: fx.Graph, constants: dict[str, Tensor]) -> None:
    """Put dense layers, layer norms, activations and transpositions together."""
    for node in list(graph.nodes):
        if node.op == "call_function":
            join_transpositions(node)
            join_bias(node, constants)
            for find in (find_layer_norm, find_activation):
                if found := find(node, constants):
                    put(graph, node, *found)
    graph.eliminate_dead_code()


Found = tuple[Any, tuple[Any, ...], dict[str, Any]]


def put(graph: fx.Graph, old: fx.Node, target: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
    """Put one call in the place of another."""
    with graph.inserting_after(old):
        new = graph.call_function(target, arguments, keywords)
    new.meta = dict(old.meta)
    old.replace_all_uses_with(new)
    graph.erase_node(old)
