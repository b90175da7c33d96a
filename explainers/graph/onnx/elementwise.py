"""ONNX operators that work number by number."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import torch
from torch import Tensor, fx

from explainers.graph.onnx.builder import Value, aten, dtype_of, shape_of
from explainers.graph.onnx.registry import Call, operator

UNARY = {
    "Abs": aten.abs.default,
    "Acos": aten.acos.default,
    "Acosh": aten.acosh.default,
    "Asin": aten.asin.default,
    "Asinh": aten.asinh.default,
    "Atan": aten.atan.default,
    "Atanh": aten.atanh.default,
    "BitwiseNot": aten.bitwise_not.default,
    "Ceil": aten.ceil.default,
    "Cos": aten.cos.default,
    "Cosh": aten.cosh.default,
    "Erf": aten.erf.default,
    "Exp": aten.exp.default,
    "Floor": aten.floor.default,
    "HardSwish": aten.hardswish.default,
    "IsNaN": aten.isnan.default,
    "Log": aten.log.default,
    "Mish": aten.mish.default,
    "Neg": aten.neg.default,
    "Not": aten.logical_not.default,
    "Reciprocal": aten.reciprocal.default,
    "Relu": aten.relu.default,
    "Round": aten.round.default,
    "Sigmoid": aten.sigmoid.default,
    "Sign": aten.sign.default,
    "Sin": aten.sin.default,
    "Sinh": aten.sinh.default,
    "Softplus": aten.softplus.default,
    "Sqrt": aten.sqrt.default,
    "Tan": aten.tan.default,
    "Tanh": aten.tanh.default,
}

BINARY = {
    "Add": aten.add.Tensor,
    "And": aten.logical_and.default,
    "BitwiseAnd": aten.bitwise_and.Tensor,
    "BitwiseOr": aten.bitwise_or.Tensor,
    "BitwiseXor": aten.bitwise_xor.Tensor,
    "Div": aten.div.Tensor,
    "Equal": aten.eq.Tensor,
    "Greater": aten.gt.Tensor,
    "GreaterOrEqual": aten.ge.Tensor,
    "Less": aten.lt.Tensor,
    "LessOrEqual": aten.le.Tensor,
    "Mul": aten.mul.Tensor,
    "Or": aten.logical_or.default,
    "Pow": aten.pow.Tensor_Tensor,
    "Sub": aten.sub.Tensor,
    "Xor": aten.logical_xor.default,
}

#: ATen calls whose second operand may be a plain number.
WITH_NUMBER = {
    aten.add.Tensor: aten.add.Tensor,
    aten.sub.Tensor: aten.sub.Tensor,
    aten.mul.Tensor: aten.mul.Tensor,
    aten.div.Tensor: aten.div.Tensor,
    aten.pow.Tensor_Tensor: aten.pow.Tensor_Scalar,
    aten.eq.Tensor: aten.eq.Scalar,
    aten.gt.Tensor: aten.gt.Scalar,
    aten.ge.Tensor: aten.ge.Scalar,
    aten.lt.Tensor: aten.lt.Scalar,
    aten.le.Tensor: aten.le.Scalar,
}

COMMUTATIVE = (aten.add.Tensor, aten.mul.Tensor)


@operator(*UNARY)
def unary(call: Call, value: Value) -> Any:
    """Apply an ATen operator of the same meaning."""
    return call.emit(UNARY[call.kind], value)


@operator(*BINARY)
def binary(call: Call, left: Value, right: Value) -> Any:
    """Apply an ATen operator of the same meaning."""
    return combine(call, call.kind, left, right)


def combine(call: Call, kind: str, left: Value, right: Value) -> Any:
    """Apply the operator of a kind to two values; constants come second where that is the same."""
    target = BINARY[kind]
    if isinstance(left, Tensor) and isinstance(right, fx.Node) and target in COMMUTATIVE:
        left, right = right, left
    if target == aten.div.Tensor and not dtype_of(left).is_floating_point and not dtype_of(right).is_floating_point:
        return call.emit(aten.div.Tensor_mode, left, right, rounding_mode="trunc")
    number = as_number(left, right)
    if number is not None and target in WITH_NUMBER:
        return call.emit(WITH_NUMBER[target], left, number)
    return call.emit(target, left, right)


def as_number(left: Value, right: Value) -> float | int | None:
    """Read the second of two operands as a plain number, if it is one of the first's type."""
    if isinstance(left, Tensor) or isinstance(right, fx.Node) or right.numel() != 1:
        return None
    if right.dim() > len(shape_of(left)) or right.dtype != dtype_of(left) or right.dtype == torch.bool:
        return None
    return right.item()


@operator("BitShift")
def shift_bits(call: Call, left: Value, right: Value) -> Any:
    """Shift bits to the left or right."""
    shift = {"LEFT": aten.bitwise_left_shift.Tensor, "RIGHT": aten.bitwise_right_shift.Tensor}
    return call.emit(shift[call.get("direction")], left, right)


@operator("IsInf")
def is_infinite(call: Call, value: Value) -> Any:
    """Tell what is infinite, of one sign or of both."""
    negative, positive = call.get("detect_negative", 1), call.get("detect_positive", 1)
    if negative and positive:
        return call.emit(aten.isinf.default, value)
    return call.emit(aten.eq.Scalar, value, -math.inf if negative else math.inf if positive else math.nan)


@operator("Mod")
def mod(call: Call, left: Value, right: Value) -> Any:
    """Take the remainder, with the sign of the divisor or (``fmod``) of the dividend."""
    return call.emit(aten.fmod.Tensor if call.get("fmod", 0) else aten.remainder.Tensor, left, right)


@operator("Min", "Max")
def extreme(call: Call, *values: Value) -> Any:
    """Take the least or the greatest of several values."""
    lower = call.kind == "Min"

    def pair(left: Value, right: Value) -> Any:
        left, right = (right, left) if isinstance(left, Tensor) else (left, right)
        if (number := as_number(left, right)) is not None:
            return call.emit(aten.clamp.default, left, *((None, number) if lower else (number, None)))
        return call.emit(aten.minimum.default if lower else aten.maximum.default, left, right)

    return reduce(pair, values)


@operator("Sum", "Mean")
def total(call: Call, *values: Value) -> Any:
    """Add several values, or average them."""
    added = reduce(lambda left, right: call.emit(aten.add.Tensor, left, right), values)
    return added if call.kind == "Sum" else call.emit(aten.div.Tensor, added, len(values))


@operator("Where")
def where(call: Call, condition: Value, true: Value, false: Value) -> Any:
    """Choose number by number."""
    return call.emit(aten.where.self, condition, true, false)


@operator("Clip")
def clip(call: Call, value: Value, *_: Value | None) -> Any:
    """Bound from below and above."""
    low, high = call.numbers("min", 1, -math.inf), call.numbers("max", 2, math.inf)
    low, high = (bound[0] if isinstance(bound, list) else bound for bound in (low, high))
    if (low, high) == (-math.inf, math.inf):
        return value
    if math.isfinite(low) and math.isfinite(high) and dtype_of(value).is_floating_point:
        return call.emit(aten.hardtanh.default, value, low, high)
    return call.emit(aten.clamp.default, value, *(bound if math.isfinite(bound) else None for bound in (low, high)))


@operator("LeakyRelu")
def leaky_relu(call: Call, value: Value) -> Any:
    """Scale what is negative."""
    return call.emit(aten.leaky_relu.default, value, call.get("alpha", 0.01))


@operator("PRelu")
def prelu(call: Call, value: Value, slope: Value) -> Any:
    """Scale what is negative, by a factor of each channel."""
    sizes, shape = shape_of(slope), shape_of(value)
    channelwise = len(shape) > 1 and sizes == [shape[1], *[1] * (len(shape) - 2)]
    if isinstance(slope, Tensor) and (slope.numel() == 1 or channelwise):
        return call.emit(aten.prelu.default, value, slope.reshape(-1))
    positive = call.emit(aten.gt.Scalar, value, 0)
    return call.emit(aten.where.self, positive, value, call.emit(aten.mul.Tensor, value, slope))


@operator("ThresholdedRelu")
def thresholded_relu(call: Call, value: Value) -> Any:
    """Set to zero what is at most ``alpha``."""
    return call.emit(aten.threshold.default, value, call.get("alpha", 1.0), 0.0)


@operator("Elu", "Celu")
def elu(call: Call, value: Value) -> Any:
    """Let what is negative approach -alpha."""
    return call.emit(aten.elu.default if call.kind == "Elu" else aten.celu.default, value, call.get("alpha", 1.0))


@operator("Selu")
def selu(call: Call, value: Value) -> Any:
    """Scale an ELU by gamma."""
    alpha, gamma = call.get("alpha", 1.67326319217681884765625), call.get("gamma", 1.05070102214813232421875)
    return call.emit(aten.elu.default, value, alpha, gamma)


@operator("HardSigmoid")
def hard_sigmoid(call: Call, value: Value) -> Any:
    """Cut a line off at 0 and 1."""
    alpha, beta = call.get("alpha", 0.2), call.get("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-4 and beta == 0.5:
        return call.emit(aten.hardsigmoid.default, value)
    line = call.emit(aten.add.Tensor, call.emit(aten.mul.Tensor, value, alpha), beta)
    return call.emit(aten.hardtanh.default, line, 0.0, 1.0)


@operator("Gelu")
def gelu(call: Call, value: Value) -> Any:
    """Apply GELU, exactly or by its approximation with tanh."""
    return call.emit(aten.gelu.default, value, approximate=call.get("approximate", "none"))


@operator("Softsign")
def softsign(call: Call, value: Value) -> Any:
    """Divide by 1 + |x|."""
    spread = call.emit(aten.add.Tensor, call.emit(aten.abs.default, value), 1.0)
    return call.emit(aten.div.Tensor, value, spread)


@operator("Swish")
def swish(call: Call, value: Value) -> Any:
    """Multiply by the sigmoid of alpha x."""
    if call.get("alpha", 1.0) == 1:
        return call.emit(aten.silu.default, value)
    scaled = call.emit(aten.mul.Tensor, value, call.get("alpha"))
    return call.emit(aten.mul.Tensor, value, call.emit(aten.sigmoid.default, scaled))
