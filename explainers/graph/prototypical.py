"""Networks that decide by similarity to prototypes: where in the graph the similarities and their weights are."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx

from explainers.errors import SelectionError
from explainers.graph.model import Model, constant

aten = torch.ops.aten


def find_head(model: Model) -> tuple[fx.Node, Float[Tensor, "class prototype"]]:
    """Find the map of similarities [batch, prototype, rows, columns] and the weights of a prototypical part network.

    Its output is linear in the maxima over places (Chen et al. 2019, arXiv:1806.10574). Raises SelectionError for
    other networks.
    """
    last = model.output_node
    pooled: Any = last.args[0] if last.target == aten.linear.default else None
    if pooled is None or pooled.target != aten.amax.default or pooled.args[0].meta["val"].dim() != 4:
        raise SelectionError(
            "The model does not decide by similarity to prototypes: its output is not linear in the "
            "maxima of a map. Choose a model that has prototypes built in."
        )
    weights: Any = last.args[1]
    return pooled.args[0], constant(model.program, weights)


def compare(
    model: Model, inputs: Float[Tensor, "batch channel height width"]
) -> Float[Tensor, "batch prototype rows columns"]:
    """Compare every place of images with every prototype, in one forward pass; raises SelectionError."""
    maps, _ = find_head(model)
    with torch.no_grad():
        return model.run(inputs, keep=[maps.name])[1][maps.name]
