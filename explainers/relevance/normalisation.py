"""Normalisations by layer, group or root mean square."""

from __future__ import annotations

import torch

from explainers.relevance.step import Relevance, Shares, Step

aten = torch.ops.aten


def normalise(step: Step) -> Shares:
    """Take the factor 1/std of a layer norm, group norm or RMS norm as constant (AttnLRP); the rest is affine."""
    (source,) = step.sources
    values = step.tape.value(source)
    grouped, centred = step.node.target == aten.group_norm.default, step.node.target != aten.rms_norm.default
    axes = (2,) if grouped else tuple(range(-len(step.argument(1, "normalized_shape")), 0))
    epsilon = step.argument(4 if centred else 3, "eps", 1e-5 if centred else None)
    epsilon = torch.finfo(values.dtype).eps if epsilon is None else epsilon
    shape = (-1, *(1,) * (values.dim() - 2)) if grouped else (...,)
    quotient = step.over_output()
    if centred and (bias := step.argument(3, "bias")) is not None:
        step.lose("bias", quotient, bias.view(shape) if grouped else bias)
    if (weight := step.argument(2, "weight")) is not None:
        quotient = quotient * (weight.view(shape) if grouped else weight)
    rows = values.reshape(len(values), step.node.args[1], -1) if grouped else values
    centre = rows.mean(axes, keepdim=True) if centred else 0.0
    pulled = quotient.reshape(-1, *rows.shape) / (rows.sub(centre).square().mean(axes, keepdim=True) + epsilon).sqrt()
    if centred:
        pulled = pulled - pulled.mean([axis + (axis >= 0) for axis in axes], keepdim=True)
    yield source, Relevance(pulled.reshape(quotient.shape), values)
