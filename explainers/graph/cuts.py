"""Where a graph can be cut in two, and what either side computes: found by running it, however it was written."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx

from explainers.errors import ModelError
from explainers.graph.model import constant

#: How many images a side is run with; sizes that depend on the batch are taken for so many.
IMAGES = 2

#: How many numbers a value may have that is computed to look at it.
LARGEST = 1 << 25

#: What a traced size is.
SIZES = (int, torch.SymInt)


def cuts_before_output(graph: fx.GraphModule) -> Iterator[fx.Node]:
    """List the values that all of the output depends on the image through, from the output backwards."""
    order, dynamic = {node: place for place, node in enumerate(graph.graph.nodes)}, depending(graph)
    open_values = {*graph.graph.output_node().all_input_nodes}
    while open_values:
        if len(open_values) == 1:
            yield next(iter(open_values))
        last = max(open_values, key=order.__getitem__)
        open_values.remove(last)
        open_values |= {node for node in last.all_input_nodes if node in dynamic}


def cuts_behind_input(graph: fx.GraphModule) -> Iterator[fx.Node]:
    """List the values that all that depends on the image depends on it through, from the input on."""
    dynamic = depending(graph)
    readers = {node: sum(user in dynamic or user.op == "output" for user in node.users) for node in dynamic}
    open_values = set[fx.Node]()
    for node in graph.graph.nodes:
        if node not in dynamic:
            continue
        for source in node.all_input_nodes:
            if source in dynamic:
                readers[source] -= 1
                if not readers[source]:
                    open_values.discard(source)
        open_values.add(node)
        if open_values == {node}:
            yield node


def depending(graph: fx.GraphModule) -> frozenset[fx.Node]:
    """The nodes whose numbers depend on the image, other than through its shape."""
    found = set[fx.Node]()
    for node in graph.graph.nodes:
        value = node.meta.get("val")
        numbers = isinstance(value, Tensor) or (
            isinstance(value, list | tuple) and any(isinstance(one, Tensor) for one in value)
        )
        if node.op == "placeholder" or (numbers and any(source in found for source in node.all_input_nodes)):
            found.add(node)
    return frozenset(found)


def sizes(graph: fx.GraphModule, value: Any) -> tuple[int, ...]:
    """The shape of a traced value for ``IMAGES`` images."""
    return tuple(size_of(graph, size) for size in value.shape)


def size_of(graph: fx.GraphModule, size: Any) -> int:
    """A size or a number of the graph for ``IMAGES`` images: a symbol's hint, or a multiple of the traced batch."""
    return hint(size) // hint(batch_of(graph)) * IMAGES if grows(graph, size) else hint(size)


def grows(graph: fx.GraphModule, size: Any) -> bool:
    """Whether a size grows with the batch: a symbol, or a multiple of a traced number that no other size is one of."""
    batch = batch_of(graph)
    return isinstance(size, torch.SymInt) or (isinstance(batch, int) and size != 0 and size % batch == 0)


def batch_of(graph: fx.GraphModule) -> Any:
    """The number of images that a graph was traced with: a symbol, or a number."""
    return graph.graph.find_nodes(op="placeholder")[0].meta["val"].shape[0]


def hint(size: Any) -> int:
    """A size as it was traced; raises ModelError if only running the model tells it."""
    if isinstance(size, int):
        return size
    if size.node.hint is None:
        raise ModelError(
            "How large a value of the model is depends on the picture. Export the network that classifies one picture "
            "at a time."
        )
    return int(size.node.hint)


@torch.no_grad()
def run_between(
    graph: fx.GraphModule, start: fx.Node, end: fx.Node, value: Float[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """Compute the value of ``end`` from that of ``start``, which all of it has to depend on alone."""
    values: dict[fx.Node, Any] = {start: value.clone()}
    for node in between(start, end):
        traced, target = node.meta.get("val"), node.target
        if node.op == "get_attr":
            values[node] = constant(graph, node)
        elif isinstance(traced, SIZES):
            values[node] = size_of(graph, traced)
        else:
            assert callable(target)
            arguments, keywords = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
            values[node] = target(*arguments, **keywords)
    found: Tensor = values[end]
    return found


def is_small(graph: fx.GraphModule, start: fx.Node, end: fx.Node) -> bool:
    """Whether no value from ``start`` to ``end`` is so large that running them would take long, or all memory."""
    values = (node.meta.get("val") for node in (start, *between(start, end)))
    tensors = [one for value in values for one in (value if isinstance(value, list | tuple) else (value,))]
    return all(prod(sizes(graph, one)) <= LARGEST for one in tensors if isinstance(one, Tensor))


def between(start: fx.Node, end: fx.Node) -> list[fx.Node]:
    """List what ``end`` needs beside ``start``, in the order of the graph."""
    needed, stack = {start}, [end]
    while stack:
        node = stack.pop()
        if node not in needed:
            needed.add(node)
            stack += [] if isinstance(node.meta.get("val"), SIZES) else node.all_input_nodes
    return [node for node in end.graph.nodes if node in needed and node is not start]


def emit(graph: fx.GraphModule, target: Any, *arguments: Any, behind: fx.Node | None = None) -> fx.Node:
    """Add a call right behind a node, by default in front of the output, with its traced value and no layer."""
    place = graph.graph.inserting_after(behind) if behind else graph.graph.inserting_before(graph.graph.output_node())
    with place:
        node = graph.graph.call_function(target, arguments)
    traced = target(*fx.node.map_arg(arguments, lambda source: source.meta["val"]))
    node.meta |= {"val": traced, "layers": [], "nn_module_stack": {}}
    return node
