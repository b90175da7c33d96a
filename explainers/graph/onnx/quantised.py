"""ONNX operators of quantised networks, in which numbers are taken as those that they stand for.

Weights are as in the file; activations are not rounded, but keep the range that their type leaves them. A value that is
of whole numbers in the file stands in the graph for what they mean; the builder notes its scale and zero point.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from onnx import TensorProto
from torch import Tensor, fx

from explainers.graph.onnx import elementwise, layers, shapes
from explainers.graph.onnx.builder import Value, aten, dtype_of, shape_of
from explainers.graph.onnx.registry import MICROSOFT, Call, operator

#: What tells that a file's activations are quantised.
QUANTISING = frozenset({"QuantizeLinear", "DynamicQuantizeLinear", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"})

#: What gives numbers from 0 to 1, which need no bounds.
SHARES = frozenset({aten.softmax.int, aten.sigmoid.default})

both = partial(operator, quantised=True)
own = partial(operator, quantised=True, domain=MICROSOFT)


@both("QuantizeLinear")
@own("QuantizeLinear")
def quantise(call: Call, value: Value, step: Value, zero: Value | None = None) -> Any:
    """Quantise a constant; of what depends on the image keep the range that whole numbers leave it."""
    if isinstance(value, fx.Node):
        return bound(call, value, step, zero)
    kind = whole_type(call, zero)
    steps, first = parameters(call, value, step, zero)
    limits = torch.iinfo(kind)
    return torch.clamp(torch.round(value / steps) + first, limits.min, limits.max).to(kind)


def whole_type(call: Call, zero: Value | None) -> torch.dtype:
    """The type of whole numbers that a node quantises to."""
    given = call.get("output_dtype", 0) or TensorProto.UINT8
    kind = shapes.torch_dtype(call, given) if zero is None else dtype_of(zero)
    call.require(not kind.is_floating_point, "numbers quantised to floating-point ones of few bits")
    return kind


def bound(call: Call, value: Any, step: Value, zero: Value | None) -> Any:
    """Keep a value in the range of the whole numbers that it is quantised to, and note their scale and zero point."""
    kind = whole_type(call, zero)
    scale, first = scalars(call, step, zero)
    low, high = ((limit - first) * scale for limit in (torch.iinfo(kind).min, torch.iinfo(kind).max))
    inside = isinstance(value, fx.Node) and value.target in SHARES and low <= 0 and high > 0.99
    made = call.emit(aten.alias.default, value) if inside else call.emit(aten.hardtanh.default, value, low, high)
    return call.builder.mark(made, (scale, first))


@both("DequantizeLinear")
@own("DequantizeLinear")
def dequantise(call: Call, value: Value, step: Value, zero: Value | None = None) -> Any:
    """Turn quantised numbers into those that they stand for."""
    if isinstance(value, Tensor):
        steps, zeros = parameters(call, value, step, zero)
        return (value.float() - zeros) * steps
    scale, first = scalars(call, step, zero)
    if call.builder.steps.get(value) == (scale, first):
        return call.emit(aten.alias.default, value)
    return multiply(call, less_zero(call, value, zero), scale)


def less_zero(call: Call, value: Value, zero: Value | None, axis: int = 0) -> Any:
    """Take quantised numbers themselves, less their zero point, which a constant may have for each entry of an axis."""
    if isinstance(value, Tensor):
        zeros = torch.zeros(()) if zero is None else call.constant(zero, "zero point").float()
        rank = value.dim()
        shape = [-1 if place == axis % rank else 1 for place in range(rank)] if zeros.numel() > 1 else []
        return value.float() - (zeros.reshape(shape) if zeros.dim() < 2 else zeros)
    first = 0.0 if zero is None else scalar(call, zero, "zero point")
    if value not in call.builder.steps:
        value = value if dtype_of(value).is_floating_point else call.emit(aten.to.dtype, value, torch.float32)
        return call.emit(aten.sub.Tensor, value, first) if first else value
    scale, own_first = call.builder.steps[value]
    moved = multiply(call, value, 1 / scale)
    return call.emit(aten.add.Tensor, moved, own_first - first) if own_first != first else moved


def multiply(call: Call, value: Value, factor: float) -> Any:
    """Multiply by a number; by one, the same numbers that are no longer noted as quantised."""
    if factor == 1:
        return call.emit(aten.alias.default, value)
    return call.emit(aten.mul.Tensor, value, factor)


def scalars(call: Call, step: Value, zero: Value | None) -> tuple[float, float]:
    """Read the scale and zero point of activations, which are one number each."""
    return scalar(call, step, "scale"), 0.0 if zero is None else scalar(call, zero, "zero point")


def scalar(call: Call, value: Value, name: str) -> float:
    """Read a constant of one number."""
    number = call.constant(value, name)
    call.require(number.numel() == 1, "activations quantised by channel")
    return float(number.reshape(()).item())


def parameters(call: Call, value: Value, step: Value, zero: Value | None) -> tuple[Tensor, Tensor]:
    """Read scale and zero point, shaped so that they apply along the node's axis, or in blocks along it."""
    steps = call.constant(step, "scale").float()
    first = torch.zeros_like(steps) if zero is None else call.constant(zero, "zero point").float()
    if steps.numel() == 1:
        return steps.reshape(()), first.reshape(())
    sizes = shape_of(value)
    axis = call.get("axis", 1) % len(sizes)
    if block := call.get("block_size", 0):
        spread = [item.repeat_interleave(block, axis).narrow(axis, 0, sizes[axis]) for item in (steps, first)]
        return spread[0], spread[1]
    shape = [-1 if place == axis else 1 for place in range(len(sizes))]
    return steps.reshape(shape), first.reshape(shape)


@both("DynamicQuantizeLinear")
def quantise_dynamically(call: Call, value: Value) -> Any:
    """Quantise by the range of the value itself: unrounded, in steps of one."""
    return call.builder.mark(call.emit(aten.alias.default, value), (1.0, 0.0)), torch.ones(()), torch.zeros(()).byte()


# Products


@both("MatMulInteger")
def multiply_integers(call: Call, left: Value, right: Value, *zeros: Value | None) -> Any:
    """Multiply matrices of whole numbers, each less its zero point."""
    first, second = (*zeros, None, None)[:2]
    return layers.multiply_matrices(call, less_zero(call, left, first, -2), less_zero(call, right, second, -1))


@both("ConvInteger")
def convolve_integers(call: Call, value: Value, weight: Value, *zeros: Value | None) -> Any:
    """Convolve whole numbers, each less its zero point."""
    first, second = (*zeros, None, None)[:2]
    return layers.convolve(call, less_zero(call, value, first), less_zero(call, weight, second))


def real(call: Call, value: Value, step: Value, zero: Value | None, axis: int = 0) -> Any:
    """Turn quantised numbers into those that they stand for; constants may be quantised along an axis."""
    if isinstance(value, fx.Node):
        return dequantise(call, value, step, zero)
    steps = call.constant(step, "scale")
    rank = value.dim()
    shape = [-1 if place == axis % rank else 1 for place in range(rank)] if steps.numel() > 1 else []
    return less_zero(call, value, zero, axis) * (steps.reshape(shape) if steps.dim() < 2 else steps)


@both("QLinearConv")
def convolve_quantised(call: Call, *inputs: Value) -> Any:
    """Convolve quantised numbers."""
    value, step, zero, weight, steps, zeros, new_step, new_zero = inputs[:8]
    bias = None
    if len(inputs) > 8:
        bias = call.constant(inputs[8], "bias").float() * scalar(call, step, "scale")
        bias = bias * call.constant(steps, "scale").reshape(-1)
    made = layers.convolve(call, real(call, value, step, zero), real(call, weight, steps, zeros), bias)
    return bound(call, made, new_step, new_zero)


@both("QLinearMatMul")
def multiply_quantised(call: Call, *inputs: Value) -> Any:
    """Multiply matrices of quantised numbers."""
    left, left_step, left_zero, right, right_step, right_zero, step, zero = inputs
    first, second = real(call, left, left_step, left_zero, -2), real(call, right, right_step, right_zero, -1)
    return bound(call, layers.multiply_matrices(call, first, second), step, zero)


@own("QGemm")
def multiply_add_quantised(call: Call, *inputs: Any) -> Any:
    """Multiply matrices of quantised numbers and add, with a result that is quantised or not."""
    left, left_step, left_zero, right, right_step, right_zero, bias, step, zero = (*inputs, None, None, None)[:9]
    axis = 0 if call.get("transB", 0) else 1
    first, second = real(call, left, left_step, left_zero), real(call, right, right_step, right_zero, axis)
    if bias is not None:
        both_steps = scalar(call, left_step, "scale") * call.constant(right_step, "scale").reshape(-1)
        bias = call.constant(bias, "bias").float() * both_steps * call.get("alpha", 1.0)
    made = layers.multiply_add(call, first, second, bias)
    return made if step is None else bound(call, made, step, zero)


@own("MatMulIntegerToFloat")
def multiply_integers_to_real(call: Call, *inputs: Any) -> Any:
    """Multiply matrices of whole numbers into the numbers that their products stand for."""
    left, right, left_step, right_step, left_zero, right_zero, bias = (*inputs, None, None, None)[:7]
    first, second = real(call, left, left_step, left_zero, -2), real(call, right, right_step, right_zero, -1)
    made = layers.multiply_matrices(call, first, second)
    return made if bias is None else elementwise.combine(call, "Add", made, bias)


@own("DynamicQuantizeMatMul")
def multiply_dynamically(call: Call, *inputs: Any) -> Any:
    """Multiply a matrix, quantised by its own range, with one of weights."""
    left, right, step, zero, bias = (*inputs, None, None)[:5]
    made = layers.multiply_matrices(call, left, real(call, right, step, zero, -1))
    return made if bias is None else elementwise.combine(call, "Add", made, bias)


# Other layers


def on_real(function: Any) -> Any:
    """Make the importer of an operator on quantised numbers: (value, scale, zero point), then those of the result."""

    def compute(call: Call, value: Value, step: Value, zero: Value | None, *new: Value | None) -> Any:
        made = function(call, real(call, value, step, zero))
        assert new[0] is not None
        return bound(call, made, new[0], new[1] if len(new) > 1 else None)

    return compute


def average_globally(call: Call, value: Value) -> Any:
    """Average over all places, with channels first or last."""
    rank = len(shape_of(value))
    axes = range(1, rank - 1) if call.get("channels_last", 0) else range(2, rank)
    return call.emit(aten.mean.dim, value, list(axes), True)


def average_in_windows(call: Call, value: Value) -> Any:
    """Average in windows."""
    call.require(not call.get("channels_last", 0), "channels that come last")
    return layers.pool_average(call, value)


def sigmoid(call: Call, value: Value) -> Any:
    """Apply the sigmoid."""
    return call.emit(aten.sigmoid.default, value)


own("QLinearGlobalAveragePool")(on_real(average_globally))
own("QLinearAveragePool")(on_real(average_in_windows))
own("QLinearSigmoid")(on_real(sigmoid))
own("QLinearLeakyRelu")(on_real(elementwise.leaky_relu))


@own("QLinearSoftmax")
def softmax_quantised(call: Call, value: Value, step: Value, zero: Value | None, *new: Value | None) -> Any:
    """Turn scores along an axis into shares."""
    function = layers.softmax if call.get("opset", 13) >= 13 else layers.softmax_of_rest
    return on_real(function)(call, value, step, zero, *new)


@own("QLinearAdd", "QLinearMul")
def combine_quantised(call: Call, *inputs: Any) -> Any:
    """Add or multiply quantised numbers."""
    left, left_step, left_zero, right, right_step, right_zero, step, zero = (*inputs, None)[:8]
    first, second = real(call, left, left_step, left_zero), real(call, right, right_step, right_zero)
    return bound(call, elementwise.combine(call, call.kind.removeprefix("QLinear"), first, second), step, zero)


@own("QLinearConcat")
def join_quantised(call: Call, step: Value, zero: Value, *rest: Value) -> Any:
    """Join quantised numbers along an axis."""
    parts = [real(call, *part) for part in zip(rest[::3], rest[1::3], rest[2::3], strict=True)]
    return bound(call, shapes.concat(call, *parts), step, zero)
