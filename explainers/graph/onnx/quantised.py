"""ONNX operators of quantised networks: weights are taken as the numbers that they stand for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from explainers.graph.onnx.builder import Value, aten, dtype_of, shape_of
from explainers.graph.onnx.registry import Call, operator


@operator("QuantizeLinear")
def quantise(call: Call, value: Value, step: Value, zero: Value | None = None) -> Any:
    """Keep what quantised numbers hold of a value, in the value's unit; of activations their range alone.

    So ``dequantise`` finds floating-point numbers and leaves them as they are.
    """
    kind = torch.uint8 if zero is None else dtype_of(zero)
    steps, first = parameters(call, value, step, zero)
    low, high = ((bound - first) * steps for bound in (torch.iinfo(kind).min, torch.iinfo(kind).max))
    if isinstance(value, Tensor):
        return torch.clamp(torch.round(value / steps) * steps, low, high)
    call.require(steps.numel() == 1, "activations quantised by channel")
    return call.emit(aten.hardtanh.default, value, low.item(), high.item())


@operator("DequantizeLinear")
def dequantise(call: Call, value: Value, step: Value, zero: Value | None = None) -> Any:
    """Turn quantised numbers into those that they stand for."""
    if dtype_of(value).is_floating_point:
        return value
    steps, first = parameters(call, value, step, zero)
    return (call.constant(value, "quantised numbers") - first) * steps


def parameters(call: Call, value: Value, step: Value, zero: Value | None) -> tuple[Tensor, Tensor]:
    """Read scale and zero point, shaped so that they apply along the node's axis."""
    call.require(not call.get("block_size", 0), "numbers quantised in blocks")
    steps = call.constant(step, "scale")
    first = torch.zeros_like(steps) if zero is None else call.constant(zero, "zero point").float()
    if steps.numel() == 1:
        return steps.reshape(()), first.reshape(())
    rank = len(shape_of(value))
    shape = [-1 if axis == call.get("axis", 1) % rank else 1 for axis in range(rank)]
    return steps.reshape(shape), first.reshape(shape)
