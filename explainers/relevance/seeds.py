"""Where relevance starts: the explained outputs, each with its own value as its relevance, as in zennit-crp."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from explainers.errors import SelectionError
from explainers.graph.model import place_weights, score
from explainers.targets import Target


def seed_targets(
    outputs: Float[Tensor, "batch class *places"], targets: Sequence[Target]
) -> Float[Tensor, "1 batch class *places"]:
    """Start at each image's class with its logit, and for a contrast at the other class with the logit negated.

    What is explained above a usual value starts with what is above it.

    Of a map of logits each place in the target's region starts with its part of their mean (L-CRP, Dreyer et al. 2023,
    arXiv:2211.11426, sums instead, which differs by a factor).

    Raises SelectionError for a class that the model does not have.
    """
    score(outputs, targets)
    if outputs.dim() == 4:
        outputs = outputs * place_weights(outputs.shape[2:], targets)
    seeds = torch.zeros_like(outputs)
    for row, target in enumerate(targets):
        if target.versus is not None:
            seeds[row, target.versus] -= outputs[row, target.versus]
        share = place_weights(outputs.shape[2:], [target])[0, 0] if target.usual and outputs.dim() == 4 else 1.0
        seeds[row, target.index] += outputs[row, target.index] - target.usual * share
    return seeds[None]


def seed_entries(
    outputs: Float[Tensor, "batch *output"], place: tuple[int, ...], region: Bool[Tensor, "*rest"] | None = None
) -> Float[Tensor, "1 batch *output"]:
    """Start at one entry of the output, or at a sub-array's entries in a region (L-CRP, arXiv:2211.11426).

    ``place`` is (box, value) in a detector's boxes, or (class,) in a segmentation with a ``region`` of any shape down
    to a pixel (None: everywhere). Raises SelectionError for a place or region that does not fit the output.
    """
    for index, size in zip(place, outputs.shape[1:], strict=False):
        if not 0 <= index < size:
            raise SelectionError(f"Output {index} was asked for, but the model has outputs 0 to {size - 1} there.")
    chosen = torch.zeros(outputs.shape[1:], dtype=torch.bool)
    if region is not None and region.shape != chosen[place].shape:
        shape = tuple(chosen[place].shape)
        raise SelectionError(f"The region has the shape {tuple(region.shape)}; the model's map has {shape}.")
    chosen[place] = True if region is None else region
    return (outputs * chosen)[None]
