"""Where the images of a batch are in the values of a graph."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor, fx

from explainers.graph.cuts import IMAGES, grows, size_of

aten = torch.ops.aten

#: What keeps the order of all numbers, and merges or splits axes.
RESHAPES = frozenset({aten.reshape.default, aten.view.default, aten.flatten.using_ints, aten.unflatten.int})


def note_batch_axes(graph: fx.GraphModule) -> None:
    """Note in each node's meta where images are in its value (in the first of several).

    ``batch_axis`` is the dimension that grows with the batch. Where it is merged with others, ``batch_outer`` counts
    how often all images follow each other in it: 1 if each image's numbers lie together.
    """
    for node in graph.graph.nodes:
        shape = shape_of(node)
        growing = [grows(graph, size) for size in shape]
        node.meta["batch_axis"] = next((place for place, grows in enumerate(growing) if grows), 0)
        node.meta["batch_outer"] = count_outer(graph, node) if any(growing) else 1


def shape_of(node: fx.Node) -> tuple[Any, ...]:
    """The traced shape of a node's value, of the first of several."""
    value = node.meta.get("val")
    first = value[0] if isinstance(value, list | tuple) and value else value
    return tuple(first.shape) if isinstance(first, Tensor) else ()


def count_outer(graph: fx.GraphModule, node: fx.Node) -> int:
    """How often all images follow each other in the dimension that grows with the batch."""
    source = next((one for one in node.all_input_nodes if "batch_outer" in one.meta and shape_of(one)), None)
    if source is None:
        return 1
    own, given = ([size_of(graph, size) for size in shape_of(one)] for one in (node, source))
    axis, before = node.meta["batch_axis"], source.meta["batch_axis"]
    outer: int = source.meta["batch_outer"]
    if node.target in RESHAPES:
        return max(1, prod(given[:before]) * outer // max(1, prod(own[:axis])))
    same = own[axis] == given[before] and own[axis] % (outer * IMAGES) == 0
    return outer if same else 1
