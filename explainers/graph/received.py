"""A model that another process hands over: nothing that it says of its values is believed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from explainers.errors import ModelError
from explainers.graph.bounds import check_memory, observe
from explainers.graph.checkpoint import telling
from explainers.graph.model import Model
from explainers.graph.stored import unpack

#: The most images for which shapes may be given: files of some kinds are traced for a million.
IMAGES = 2**20


def describe(found: Any) -> Any:
    """Shape and type of a value, of each where there are several."""
    if isinstance(found, list | tuple):
        return [describe(one) for one in found]
    return (tuple(found.shape), found.dtype) if isinstance(found, Tensor) else None


def without_numbers(described: Any) -> Any:
    """A value of a shape and type."""
    if isinstance(described, list):
        return [without_numbers(one) for one in described]
    return described and torch.empty(described[0], dtype=described[1], device="meta")


def receive(data: bytes) -> Model:
    """Read a model that an untrusted process has packed.

    Raises ModelError unless its graph can run within the bounds of a model and its layers and outputs are as it says.
    """
    model = unpack(data)
    (images,) = model.program.graph.find_nodes(op="placeholder")
    steps, value = model.info.preprocessing, images.meta["val"]
    if not isinstance(value, Tensor) or value.shape[1:] != (steps.channels, *steps.size) or len(value) > IMAGES:
        raise ModelError(f"The model {model.info.name} takes other images than its preprocessing makes.")
    check_memory(model)
    with telling(f"The model {model.info.name} cannot be run", "Export or save it for float32 images of this size."):
        described = observe(model.program, value.shape, describe)
    for node, found in described.items():
        if node.op != "output":
            node.meta["val"] = without_numbers(found)
    check_shapes(model)
    return model


def check_shapes(model: Model) -> None:
    """Raise ModelError unless layers and the output have the shapes that their nodes have."""
    found = {node.name: node.meta["val"] for node in model.program.graph.nodes}
    wrong = [layer.name for layer in model.info.layers if shape_of(found[layer.node]) != layer.shape]
    if wrong or shape_of(found[model.output_node.name]) != model.info.output_shape:
        raise ModelError(
            f"The model {model.info.name} gives values of other shapes than it says, in {(*wrong, 'its output')[0]}. "
            "Open the model's own file again."
        )


def shape_of(value: Any) -> tuple[int, ...]:
    """The shape of a value for one image."""
    return tuple(value.shape[1:]) if isinstance(value, Tensor) else ()
