"""Which layers of a model hold concepts worth a look, and the concepts of a layer by its name."""

from __future__ import annotations

from functools import partial
from re import sub
from typing import Any

import torch
from torch import fx

from explainers.errors import SelectionError
from explainers.graph.model import Model
from explainers.info import Layer
from explainers.relevance.composites import ATTENTION, SOFTMAX
from explainers.relevance.composites import names as layers_of
from explainers.relevance.concepts.units import Concepts
from explainers.relevance.groups import AVERAGES, ELEMENTWISE, FILLED, MOVES, WINNERS
from explainers.relevance.tape import find_node

aten = torch.ops.aten

#: What layers of attention heads are called, behind the name of the attention's own layer.
HEADS = "/heads"

#: Operators that give no concepts of their own, for the choice of a layer.
PASSIVE = AVERAGES | MOVES | WINNERS | FILLED | {aten.layer_norm.default}


def find_concepts(model: Model, name: str) -> Concepts:
    """Find the concepts of a layer, or of the heads of "layer/heads"; raises SelectionError."""
    if not name.endswith(HEADS):
        layer = model.info.layer(name)
        if not is_by_image(model, find_node(model, layer.node)):
            raise SelectionError(f"The layer {name} works on parts of images. Choose the layer around it.")
        return Concepts(layer)
    known = {layer.name: layer for layer in heads(model)}
    if name not in known:
        raise SelectionError(f"The model has no '{name}'; it has {', '.join(known) or 'no heads'}.")
    return Concepts(known[name])


def choose_concepts(model: Model, name: str) -> Concepts:
    """Find the concepts of the named layer, or for "" of a late one with places; raises SelectionError."""
    return find_concepts(model, name or default_layer(model))


def concept_layers(model: Model) -> tuple[Layer, ...]:
    """List the layers whose channels are concepts, in the order of computation, then those of attention heads.

    Each value is listed once, under the name of the outermost numbered layer that gives it. Left out are the output,
    what a named activation follows at once (it has the same relevance), squeezed gates and what works on parts of an
    image.
    """
    found: tuple[Layer, ...] = model.remember("concept layers", partial(_list_layers, model))
    return found


def _list_layers(model: Model) -> tuple[Layer, ...]:
    nodes: dict[str, fx.Node] = {node.name: node for node in model.program.graph.nodes}
    best: dict[str, Layer] = {}
    for layer in model.info.layers:
        if layer.node not in best or rank_name(layer.name) < rank_name(best[layer.node].name):
            best[layer.node] = layer
    return (*(layer for layer in best.values() if is_suitable(model, layer, nodes[layer.node])), *heads(model))


def default_layer(model: Model) -> str:
    """Choose a late layer that knows much and still has places; raises SelectionError if the model has no layers.

    For a transformer the hidden units of the last MLP but one, because behind the last attention often one token alone
    matters; otherwise the last map before the pooling.
    """
    layers = [layer for layer in concept_layers(model) if layer.layout != "heads"]
    targets = {layer.name: find_node(model, layer.node).target for layer in layers if layer.spatial}
    hidden = [name for name, target in targets.items() if target in ELEMENTWISE]
    if hidden and any(node.target in ATTENTION for node in model.program.graph.nodes):
        return hidden[-2:][0]
    names = [name for name, target in targets.items() if target not in PASSIVE] or [layer.name for layer in layers]
    if not names:
        raise SelectionError("The model has no named layer between input and output to look into.")
    return names[-1]


def layers_below(model: Model, name: str, count: int = 3) -> tuple[str, ...]:
    """Choose layers in which to look for the parents of a layer's concepts, nearest first; raises SelectionError.

    The last map of each other size that leads to the layer; where all have one size, as in a vision transformer, the
    layers named alike. Each leads to the one before it.
    """
    nodes: dict[str, fx.Node] = {node.name: node for node in model.program.graph.nodes}
    own = find_concepts(model, name).layer
    sources, order = find_sources(nodes[own.node]), list(nodes)
    before = [layer for layer in concept_layers(model) if nodes[layer.node] in sources]
    maps = [layer for layer in before if layer.spatial and nodes[layer.node].target not in PASSIVE]
    sizes = {layer.grid: layer for layer in maps if layer.layout != "heads" and layer.grid != own.grid}
    alike = [layer for layer in before if sub(r"\d+", "#", layer.name) == sub(r"\d+", "#", name)]
    chosen: list[str] = []
    for layer in sorted(sizes.values() or alike, key=lambda layer: order.index(layer.node), reverse=True):
        if nodes[layer.node] in sources and len(chosen) < count:
            chosen.append(layer.name)
            sources = find_sources(nodes[layer.node])
    return tuple(chosen)


def find_sources(node: fx.Node) -> set[fx.Node]:
    """Find the nodes whose values a node is computed from."""
    found, stack = set[fx.Node](), [node]
    while stack:
        new = set(stack.pop().all_input_nodes) - found
        found |= new
        stack += new
    return found


def heads(model: Model) -> tuple[Layer, ...]:
    """List the attention heads of each layer, where the graph shows them as (batch, head, token, dimension)."""
    grids = {layer.shape[0]: (layer.grid, layer.before) for layer in model.info.layers if layer.layout == "tokens"}
    found = []
    for node in model.program.graph.nodes:
        if is_attention(node) and is_by_image(model, node) and node.meta["val"].shape[2] in grids:
            shape = tuple(int(size) for size in node.meta["val"].shape[1:])
            found.append(Layer(layers_of(node)[0] + HEADS, node.name, "heads", shape, "heads", *grids[shape[1]]))
    return tuple(found)


def is_attention(node: fx.Node) -> bool:
    """Whether a node gives the values that heads have gathered, tokens by dimensions, in a layer with a name."""
    weights: Any = node.args[0] if node.args else None
    product = node.target == aten.matmul.default and weights.target in SOFTMAX and node.meta["val"].dim() == 4
    return (product or node.target == aten.scaled_dot_product_attention.default) and bool(layers_of(node))


def is_by_image(model: Model, node: fx.Node) -> bool:
    """Whether a value's first dimension counts images, not windows or tokens of images."""
    return str(node.meta["val"].shape[0]) == str(model.input_node.meta["val"].shape[0])


def is_suitable(model: Model, layer: Layer, node: fx.Node) -> bool:
    """Whether a layer's channels are concepts that are listed."""
    followers = list(node.users)
    activated = len(followers) == 1 and followers[0].target in ELEMENTWISE and bool(followers[0].meta["layers"])
    classes = model.info.gives_map and layer.channels == model.info.output_shape[0]
    return (
        (layer.spatial or len(layer.shape) == 1)
        and not (activated or classes)
        and node.target not in SOFTMAX
        and node is not model.output_node
        and is_by_image(model, node)
    )


def rank_name(name: str) -> tuple[bool, int]:
    """Order the names of one value: "layer4" before "layer4.1", and "blocks.6" before "blocks"."""
    return not any(letter.isdigit() for letter in name), len(name)
