"""Convolutions side by side whose results are added become the one convolution that they stand for.

So a network with re-parametrised branches (RepVGG, Ding et al. 2021, arXiv:2101.03697; MobileOne, Vasu et al. 2022,
arXiv:2206.04040) is explained as what it computes: shares of branches that cancel, each far larger than their sum, are
no part of the explanation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx
from torch.nn.functional import pad

from explainers.graph.folding import (
    add_constant,
    affine_form,
    bias_of,
    fold_batch_norm,
    has_constant_weights,
    is_known_norm,
    scale_outputs,
    value,
    weight_of,
)
from explainers.graph.functional import call, replace

aten = torch.ops.aten

CONVOLUTIONS = {aten.conv1d.default: 1, aten.conv2d.default: 2, aten.conv3d.default: 3}

Summand = tuple[Any, int]


@dataclass(frozen=True)
class Window:
    """What convolutions side by side must have in common: the value that they read, and how they step over it."""

    source: fx.Node
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


@dataclass(frozen=True)
class Kernel:
    """The weight and bias of a convolution, and how far the value that it reads is padded, for each dimension."""

    weight: Float[Tensor, "out in *size"]
    bias: Float[Tensor, " out"]
    padding: tuple[int, ...]


def fold_layers(graph: fx.GraphModule) -> None:
    """Fold batch norms into the layers that they follow, and sums of convolutions of one value into one."""
    fold_batch_norm(graph)
    while fuse_branches(graph):
        fold_batch_norm(graph)
        fold_scales(graph)


def fold_scales(graph: fx.GraphModule) -> None:
    """Fold numbers by channel (LayerScale) that a sum of branches is multiplied with into its weight and bias."""
    for node in list(graph.graph.nodes):
        if node.target != aten.mul.Tensor or not all(isinstance(operand, fx.Node) for operand in node.args):
            continue
        layer, factor = sorted(node.args, key=lambda operand: operand.op == "get_attr")
        if factor.op != "get_attr" or not layer.meta.get("fused") or len(layer.users) > 1:
            continue
        scale, rank = value(graph, factor).double(), CONVOLUTIONS[layer.target]
        if scale.numel() in (1, scale.shape[max(0, scale.dim() - rank - 1)]):
            scale = scale.flatten().expand(layer.meta["val"].shape[1])
            scale_outputs(graph, layer, scale, torch.zeros_like(scale))
            replace(graph, node, layer)


def fuse_branches(graph: fx.GraphModule) -> bool:
    """Make one convolution of the first sum that holds several of the same value; returns whether there was one.

    Batch norms of that value count as convolutions. So does the value itself beside several branches or before a batch
    norm, but not beside a single convolution, as in a residual block.
    """
    for node in graph.graph.nodes:
        if not is_sum(node) or (len(node.users) == 1 and is_sum(next(iter(node.users)))):
            continue
        summands = list(find_summands(node))
        for window in dict.fromkeys(read_window(leaf) for leaf, _ in summands if is_convolution(leaf)):
            chosen = [summand for summand in summands if is_branch(summand[0], window, node)]
            if not stands_for_one([leaf for leaf, _ in chosen], window, node):
                continue
            kernels = [read_kernel(graph, leaf, sign, window, node) for leaf, sign in chosen]
            if fused := add_up(kernels, window.dilation):
                rest = [summand for summand in summands if summand not in chosen]
                replace(graph, node, write_sum(graph, node, window, fused, rest))
                graph.graph.eliminate_dead_code()
                return True
    return False


def is_sum(node: fx.Node) -> bool:
    """Whether a node adds or subtracts values of its own shape, or a number."""
    if node.target not in (aten.add.Tensor, aten.sub.Tensor) or node.kwargs.get("alpha", 1) != 1:
        return False
    shapes = [str(operand.meta["val"].shape) for operand in node.all_input_nodes]
    return all(shape == str(node.meta["val"].shape) for shape in shapes)


def find_summands(node: fx.Node, sign: int = 1) -> Iterator[Summand]:
    """List what a sum, with the sums in it that nothing else reads, is made of, each with its sign."""
    second = sign if node.target == aten.add.Tensor else -sign
    for operand, own in zip(node.args, (sign, second), strict=False):
        if isinstance(operand, fx.Node) and is_sum(operand) and len(operand.users) == 1:
            yield from find_summands(operand, own)
        elif isinstance(operand, fx.Node) or operand != 0:
            yield operand, own


def is_convolution(leaf: Any) -> bool:
    """Whether a summand is a convolution with constant weights that nothing else reads."""
    return (
        isinstance(leaf, fx.Node)
        and leaf.target in CONVOLUTIONS
        and len(leaf.users) == 1
        and has_constant_weights(leaf)
    )


def is_branch(leaf: Any, window: Window, total: fx.Node) -> bool:
    """Whether a summand is a convolution with this window, or can be written as one."""
    if is_convolution(leaf):
        return read_window(leaf) == window
    same_shape = str(total.meta["val"].shape) == str(window.source.meta["val"].shape)
    if not same_shape or not isinstance(leaf, fx.Node):
        return False
    if leaf is window.source:
        return True
    return is_known_norm(leaf) and leaf.args[0] is window.source and len(leaf.users) == 1


def stands_for_one(leaves: Sequence[fx.Node], window: Window, total: fx.Node) -> bool:
    """Whether branches are written as several for training alone."""
    normalised = len(total.users) == 1 and is_known_norm(next(iter(total.users)))
    others = {leaf for leaf in leaves if leaf is not window.source}
    more = len(others) > 1 or normalised or any(leaf.meta.get("fused") for leaf in others)
    return len(set(leaves)) > 1 and more


def read_window(layer: fx.Node) -> Window:
    """What a convolution reads, its stride, dilation and groups."""
    source: Any = layer.args[0]
    stride, _, dilation, groups = geometry(layer)
    return Window(source, stride, dilation, groups)


def geometry(layer: fx.Node) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]:
    """The stride, padding, dilation and groups of a convolution, wherever they were given, for each dimension."""
    target: Any = layer.target
    rank = CONVOLUTIONS[target]
    names, usual = ("stride", "padding", "dilation", "groups"), ([1], [0], [1], 1)
    found = dict(zip(names, layer.args[3:], strict=False))
    given: dict[str, Any] = {**dict(zip(names, usual, strict=True)), **found, **layer.kwargs}
    stride, padding, dilation = (tuple(given[name]) * (rank if len(given[name]) == 1 else 1) for name in names[:3])
    return stride, padding, dilation, given["groups"]


def read_kernel(graph: fx.GraphModule, leaf: fx.Node, sign: int, window: Window, total: fx.Node) -> Kernel:
    """Write a branch as a convolution, in double precision and with its sign in the sum."""
    if leaf.target in CONVOLUTIONS and leaf is not window.source:
        weight, bias = value(graph, weight_of(leaf)).double(), value(graph, bias_of(leaf))
        bias = weight.new_zeros(len(weight)) if bias is None else bias.double()
        return Kernel(sign * weight, sign * bias, geometry(leaf)[1])
    channels, rank = int(total.meta["val"].shape[1]), len(window.stride)
    one, zero = torch.ones(channels, dtype=torch.double), torch.zeros(channels, dtype=torch.double)
    scale, shift = (one, zero) if leaf is window.source else affine_form(graph, leaf)
    inputs = channels // window.groups
    weight = torch.zeros(channels, inputs, dtype=torch.double)
    weight[range(channels), torch.arange(channels) % inputs] = sign * scale
    return Kernel(weight.view(channels, inputs, *(1,) * rank), sign * shift, (0,) * rank)


def add_up(kernels: Sequence[Kernel], dilation: Sequence[int]) -> Kernel | None:
    """Add kernels of different sizes about their common middle; None if they do not have one."""
    padding = tuple(max(sizes) for sizes in zip(*(kernel.padding for kernel in kernels), strict=True))
    weights: list[Tensor] = []
    for kernel in kernels:
        gaps = [wide - own for wide, own in zip(padding, kernel.padding, strict=True)]
        if any(gap % step for gap, step in zip(gaps, dilation, strict=True)):
            return None
        around = [gap // step for gap, step in zip(gaps, dilation, strict=True)]
        weights.append(pad(kernel.weight, [side for rim in reversed(around) for side in (rim, rim)]))
    if len({weight.shape for weight in weights}) > 1:
        return None
    return Kernel(torch.stack(weights).sum(0), torch.stack([kernel.bias for kernel in kernels]).sum(0), padding)


def write_sum(graph: fx.GraphModule, node: fx.Node, window: Window, kernel: Kernel, rest: Sequence[Summand]) -> fx.Node:
    """Write a sum as one convolution and what else was added."""
    like = node.meta["val"]
    target = next(target for target, rank in CONVOLUTIONS.items() if rank == len(window.stride))
    weight, bias = (
        add_constant(graph, node, kind, tensor.to(like.dtype))
        for kind, tensor in (("weight", kernel.weight), ("bias", kernel.bias))
    )
    steps = [list(window.stride), list(kernel.padding), list(window.dilation), window.groups]
    with graph.graph.inserting_before(node):
        made = call(node, target, (window.source, weight, bias, *steps), like)
        made.meta["fused"] = True
        for operand, sign in rest:
            made = call(node, aten.add.Tensor if sign > 0 else aten.sub.Tensor, (made, operand), like)
    return made
