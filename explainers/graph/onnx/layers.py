"""ONNX operators that are layers of networks: affine ones, normalisations, pooling, attention, reductions."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, fx

from explainers.graph.onnx.builder import Value, aten, shape_of
from explainers.graph.onnx.registry import Call, operator
from explainers.graph.onnx.shapes import emit_pad, emit_reshape

CONVOLUTIONS = {1: aten.conv1d.default, 2: aten.conv2d.default, 3: aten.conv3d.default}
TRANSPOSED = {1: aten.conv_transpose1d.default, 2: aten.conv_transpose2d.input, 3: aten.conv_transpose3d.input}
MAXIMA = {1: aten.max_pool1d.default, 2: aten.max_pool2d.default, 3: aten.max_pool3d.default}
AVERAGES = {1: aten.avg_pool1d.default, 2: aten.avg_pool2d.default, 3: aten.avg_pool3d.default}


@operator("Conv")
def convolve(call: Call, value: Value, weight: Value, bias: Value | None = None) -> Any:
    """Convolve."""
    kernel = shape_of(weight)[2:]
    strides, dilations, befores, afters = window(call, shape_of(value)[2:], kernel)
    if befores != afters:
        value, befores = emit_pad(call, value, flatten(befores, afters), "constant"), [0] * len(kernel)
    target = CONVOLUTIONS[len(kernel)]
    return call.emit(target, value, weight, bias, strides, befores, dilations, call.get("group", 1))


@operator("ConvTranspose")
def convolve_transposed(call: Call, value: Value, weight: Value, bias: Value | None = None) -> Any:
    """Convolve transposed; what is padded more behind than before is cut off."""
    kernel, sizes = shape_of(weight)[2:], shape_of(value)[2:]
    ones = [1] * len(kernel)
    strides, dilations = call.get("strides", ones), call.get("dilations", ones)
    more = call.get("output_padding", [0] * len(kernel))
    pads, automatic = call.get("pads", [0] * 2 * len(kernel)), call.get("auto_pad", "NOTSET")
    whole = [
        stride * (size - 1) + extra + (length - 1) * dilation + 1
        for stride, size, extra, length, dilation in zip(strides, sizes, more, kernel, dilations, strict=True)
    ]
    if "output_shape" in call.attributes or automatic.startswith("SAME"):
        wanted = call.get("output_shape", [size * stride for size, stride in zip(sizes, strides, strict=True)])
        spare = [full - size for full, size in zip(whole, wanted[-len(kernel) :], strict=True)]
        least, most = [amount // 2 for amount in spare], [amount - amount // 2 for amount in spare]
        pads = [*most, *least] if automatic != "SAME_UPPER" else [*least, *most]
    befores, afters = pads[: len(kernel)], pads[len(kernel) :]
    common = [max(0, min(pair)) for pair in zip(befores, afters, strict=True)]
    target = TRANSPOSED[len(kernel)]
    made = call.emit(target, value, weight, bias, strides, common, more, call.get("group", 1), dilations)
    rest = [[pad - both for pad, both in zip(side, common, strict=True)] for side in (befores, afters)]
    return emit_pad(call, made, [-side for side in flatten(*rest)], "constant")


def window(call: Call, sizes: list[int], kernel: list[int]) -> tuple[list[int], list[int], list[int], list[int]]:
    """Read strides, dilations and padding before and after, the latter computed where the file asks for "same"."""
    ones = [1] * len(kernel)
    strides, dilations = call.get("strides", ones), call.get("dilations", ones)
    pads, automatic = call.get("pads", [0] * 2 * len(kernel)), call.get("auto_pad", "NOTSET")
    if not automatic.startswith("SAME"):
        return strides, dilations, pads[: len(kernel)], pads[len(kernel) :]
    totals = [
        max((math.ceil(size / stride) - 1) * stride + (length - 1) * dilation + 1 - size, 0)
        for size, stride, length, dilation in zip(sizes, strides, kernel, dilations, strict=True)
    ]
    least, most = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return strides, dilations, *((least, most) if automatic == "SAME_UPPER" else (most, least))


def flatten(befores: list[int], afters: list[int]) -> list[int]:
    """Write padding as torch does: (before, after), from the last dimension backwards."""
    return [side for pair in reversed(list(zip(befores, afters, strict=True))) for side in pair]


@operator("MaxPool", moves=True)
def pool_maximum(call: Call, value: Value) -> Any:
    """Take the maximum in windows."""
    call.require(call.used == 1, "the places of the maxima as output")
    kernel = call.get("kernel_shape")
    strides, dilations, befores, afters = window(call, shape_of(value)[2:], kernel)
    if befores != afters or any(2 * pad > length for pad, length in zip(befores, kernel, strict=True)):
        value = emit_pad(call, value, flatten(befores, afters), "constant", -math.inf)
        befores = [0] * len(kernel)
    return call.emit(MAXIMA[len(kernel)], value, kernel, strides, befores, dilations, bool(call.get("ceil_mode", 0)))


@operator("AveragePool")
def pool_average(call: Call, value: Value) -> Any:
    """Average in windows, over the padding too or not."""
    kernel, sizes = call.get("kernel_shape"), shape_of(value)[2:]
    strides, dilations, befores, afters = window(call, sizes, kernel)
    rounding, whole = bool(call.get("ceil_mode", 0)), bool(call.get("count_include_pad", 0))
    if set(dilations) != {1}:
        return average_with_gaps(call, value, kernel, window(call, sizes, kernel), whole)
    target = AVERAGES[len(kernel)]
    if befores == afters and all(2 * pad <= length for pad, length in zip(befores, kernel, strict=True)):
        return call.emit(target, value, kernel, strides, befores, rounding, whole)
    flat = flatten(befores, afters)
    average = call.emit(target, emit_pad(call, value, flat, "constant"), kernel, strides, [0], rounding)
    if whole:
        return average
    inside = emit_pad(call, torch.ones(1, 1, *sizes), flat, "constant")
    return call.emit(aten.div.Tensor, average, call.emit(target, inside, kernel, strides, [0], rounding))


def average_with_gaps(
    call: Call, value: Value, kernel: list[int], places: tuple[list[int], list[int], list[int], list[int]], whole: bool
) -> Any:
    """Average in windows with gaps between their places, as a convolution of each channel alone."""
    call.require(not call.get("ceil_mode", 0), "windows with gaps that reach over the edge")
    strides, dilations, befores, afters = places
    channels, flat = shape_of(value)[1], flatten(befores, afters)
    weight = torch.full((channels, 1, *kernel), 1 / math.prod(kernel))
    rest = strides, [0] * len(kernel), dilations
    padded = emit_pad(call, value, flat, "constant")
    average = call.emit(CONVOLUTIONS[len(kernel)], padded, weight, None, *rest, channels)
    if whole or not any(flat):
        return average
    inside = emit_pad(call, torch.ones(1, 1, *shape_of(value)[2:]), flat, "constant")
    return call.emit(aten.div.Tensor, average, call.emit(CONVOLUTIONS[len(kernel)], inside, weight[:1], None, *rest, 1))


@operator("LpPool")
def pool_length(call: Call, value: Value) -> Any:
    """Take the length of what is in each window, by the norm of order ``p``."""
    order, kernel = call.get("p", 2), call.get("kernel_shape")
    strides, dilations, befores, afters = window(call, shape_of(value)[2:], kernel)
    call.require(set(dilations) == {1} and not call.get("ceil_mode", 0), "windows with gaps, or over the edge")
    powers = call.emit(aten.pow.Tensor_Scalar, call.emit(aten.abs.default, value), order)
    powers = emit_pad(call, powers, flatten(befores, afters), "constant")
    mean = call.emit(AVERAGES[len(kernel)], powers, kernel, strides, [0])
    return call.emit(aten.pow.Tensor_Scalar, scale(call, mean, math.prod(kernel)), 1 / order)


@operator("GlobalLpPool")
def pool_length_globally(call: Call, value: Value) -> Any:
    """Take the length over all places."""
    axes = list(range(2, len(shape_of(value))))
    return call.emit(aten.linalg_vector_norm.default, value, call.get("p", 2), axes, True)


@operator("GlobalAveragePool", "GlobalMaxPool", moves=True)
def pool_globally(call: Call, value: Value) -> Any:
    """Average, or take the maximum, over all places."""
    target = aten.mean.dim if call.kind == "GlobalAveragePool" else aten.amax.default
    return call.emit(target, value, list(range(2, len(shape_of(value)))), True)


@operator("Gemm")
def multiply_add(call: Call, left: Value, right: Value, bias: Value | None = None) -> Any:
    """Multiply matrices and add; with a constant matrix this is a dense layer."""
    left = call.emit(aten.t.default, left) if call.get("transA", 0) else left
    weight = right if call.get("transB", 0) else call.emit(aten.t.default, right)
    weight = scale(call, weight, call.get("alpha", 1.0))
    bias = None if bias is None else scale(call, bias, call.get("beta", 1.0))
    outputs = shape_of(weight)[0]
    if isinstance(bias, Tensor) and bias.numel() in (1, outputs) and bias.shape[-1:] in ((), (1,), (outputs,)):
        return call.emit(aten.linear.default, left, weight, bias.reshape(-1).expand(outputs))
    product = call.emit(aten.linear.default, left, weight)
    return product if bias is None else call.emit(aten.add.Tensor, product, bias)


def scale(call: Call, value: Value, factor: float) -> Any:
    """Multiply by a number other than one."""
    return value if factor == 1 else call.emit(aten.mul.Tensor, value, factor)


@operator("MatMul")
def multiply_matrices(call: Call, left: Value, right: Value) -> Any:
    """Multiply matrices; with a constant one on the right this is a dense layer."""
    if isinstance(right, Tensor) and isinstance(left, fx.Node) and right.dim() == 2:
        return call.emit(aten.linear.default, left, right.T)
    return call.emit(aten.matmul.default, left, right)


@operator("Einsum")
def sum_products(call: Call, *values: Value) -> Any:
    """Multiply and add up as Einstein's notation says."""
    return call.emit(aten.einsum.default, call.get("equation"), list(values))


@operator("BatchNormalization")
def normalise_batch(call: Call, value: Value, scale: Value, bias: Value, mean: Value, variance: Value) -> Any:
    """Normalise by the statistics of the training; weights may be normalised by their own."""
    epsilon, training = call.get("epsilon", 1e-5), call.get("training_mode", call.opset < 14 and call.outputs > 1)
    call.require(call.used == 1 and bool(call.get("spatial", 1)), "statistics as output, or for each place")
    if not training:
        return call.emit(aten.batch_norm.default, value, scale, bias, mean, variance, False, 0.0, epsilon, False)
    call.require(isinstance(value, Tensor), "batch norm as in training")
    return call.emit(aten.batch_norm.default, value, scale, bias, None, None, True, 0.0, epsilon, False)


@operator("InstanceNormalization")
def normalise_instance(call: Call, value: Value, scale: Value, bias: Value) -> Any:
    """Normalise every channel of every image: a group norm with one channel in each group."""
    channels = shape_of(value)[1]
    return call.emit(aten.group_norm.default, value, channels, scale, bias, call.get("epsilon", 1e-5), False)


@operator("GroupNormalization", since=18)
def normalise_groups(call: Call, value: Value, scale: Value, bias: Value) -> Any:
    """Normalise groups of channels; before opset 21 scale and bias are those of groups."""
    groups, channels = call.get("num_groups"), shape_of(value)[1]
    if shape_of(scale) == [groups] and groups != channels:
        repeats = channels // groups
        scale, bias = (call.emit(aten.repeat_interleave.self_int, item, repeats) for item in (scale, bias))
    return call.emit(aten.group_norm.default, value, groups, scale, bias, call.get("epsilon", 1e-5), False)


@operator("LayerNormalization", "RMSNormalization")
def normalise_layer(call: Call, value: Value, scale: Value, bias: Value | None = None) -> Any:
    """Normalise over the last dimensions, by mean and spread or by the root mean square."""
    if call.used > 1:
        return NotImplemented
    sizes, axis = shape_of(value), call.get("axis", -1)
    sizes = sizes[axis % len(sizes) :]
    scale, bias = (fit(call, item, sizes) for item in (scale, bias))
    epsilon = call.get("epsilon", 1e-5)
    if call.kind == "RMSNormalization":
        return call.emit(aten.rms_norm.default, value, sizes, scale, epsilon)
    return call.emit(aten.layer_norm.default, value, sizes, scale, bias, epsilon, False)


def fit(call: Call, value: Value | None, sizes: list[int]) -> Any:
    """Repeat a learned factor or summand over the dimensions that are normalised."""
    if value is None or shape_of(value) == sizes:
        return value
    return call.emit(aten.expand.default, call.emit(aten.reshape.default, value, shape_of(value)[-len(sizes) :]), sizes)


@operator("LpNormalization")
def normalise_length(call: Call, value: Value) -> Any:
    """Divide by the length along an axis."""
    axis = [call.get("axis", -1)]
    length = call.emit(aten.linalg_vector_norm.default, value, call.get("p", 2), axis, True)
    return call.emit(aten.div.Tensor, value, call.emit(aten.clamp.default, length, 1e-37))


@operator("LRN")
def normalise_response(call: Call, value: Value) -> Any:
    """Divide by the mean square of neighbouring channels (Krizhevsky et al. 2012)."""
    size = call.get("size")
    squares = call.emit(aten.unsqueeze.default, call.emit(aten.mul.Tensor, value, value), 1)
    squares = emit_pad(call, squares, [0, 0, 0, 0, (size - 1) // 2, size // 2], "constant")
    mean = call.emit(aten.squeeze.dim, call.emit(aten.avg_pool3d.default, squares, [size, 1, 1], [1, 1, 1]), 1)
    spread = call.emit(aten.add.Tensor, scale(call, mean, call.get("alpha", 1e-4)), call.get("bias", 1.0))
    return call.emit(aten.div.Tensor, value, call.emit(aten.pow.Tensor_Scalar, spread, call.get("beta", 0.75)))


@operator("Softmax", "LogSoftmax", since=13)
def softmax(call: Call, value: Value, axis: int = -1) -> Any:
    """Turn scores along an axis into shares."""
    target = aten.log_softmax.int if call.kind == "LogSoftmax" else aten.softmax.int
    return call.emit(target, value, call.get("axis", axis))


@operator("Softmax", "LogSoftmax")
def softmax_of_rest(call: Call, value: Value) -> Any:
    """Turn scores into shares, over all dimensions from an axis on, as before opset 13."""
    sizes, axis = shape_of(value), call.get("axis", 1)
    rest = sizes[axis % len(sizes) :]
    if math.prod(rest) == rest[0]:
        return softmax(call, value, axis)
    made = softmax(call, emit_reshape(call, value, [*sizes[: axis % len(sizes)], math.prod(rest)]), axis)
    return emit_reshape(call, made, sizes)


@operator("Attention", since=23)
def attend(call: Call, query: Value, key: Value, value: Value, mask: Value | None = None, *_: Value | None) -> Any:
    """Attend: the values' mean, weighted by the softmax of the products of queries and keys."""
    causal = bool(call.get("is_causal", 0))
    memory = any(item is not None for item in call.inputs[4:])
    windows = any(call.get(side, -1) >= 0 for side in ("left_window_size", "right_window_size"))
    if memory or windows or call.used > 1 or call.get("softcap", 0.0) or (causal and mask is not None):
        return NotImplemented
    flat = len(shape_of(query)) == 3
    if flat:
        heads = [call.get("q_num_heads"), call.get("kv_num_heads"), call.get("kv_num_heads")]
        query, key, value = (
            split_heads(call, item, number) for item, number in zip((query, key, value), heads, strict=True)
        )
    made = emit_attention(call, query, key, value, mask, causal)
    return join_heads(call, made) if flat else made


def emit_attention(call: Call, query: Value, key: Value, value: Value, mask: Value | None, causal: bool) -> Any:
    """Attend with heads in the second dimension; keys and values may be shared by several."""
    grouped = shape_of(query)[1] != shape_of(key)[1]
    options = {"scale": call.get("scale") or None, "enable_gqa": grouped}
    return call.emit(aten.scaled_dot_product_attention.default, query, key, value, mask, 0.0, causal, **options)


def join_heads(call: Call, made: Value) -> Any:
    """Put the heads together again: (batch, places, features)."""
    batch, number, places, features = shape_of(made)
    return emit_reshape(call, call.emit(aten.permute.default, made, [0, 2, 1, 3]), [batch, places, number * features])


def split_heads(call: Call, value: Value, heads: int) -> Any:
    """Take the features of (batch, places, features) apart into heads: (batch, heads, places, features of one)."""
    batch, places, features = shape_of(value)
    return call.emit(
        aten.permute.default, emit_reshape(call, value, [batch, places, heads, features // heads]), [0, 2, 1, 3]
    )


REDUCTIONS = {
    "ReduceMean": aten.mean.dim,
    "ReduceSum": aten.sum.dim_IntList,
    "ReduceMax": aten.amax.default,
    "ReduceMin": aten.amin.default,
    "ReduceLogSum": aten.sum.dim_IntList,
    "ReduceLogSumExp": aten.logsumexp.default,
    "ReduceL1": aten.sum.dim_IntList,
    "ReduceL2": aten.linalg_vector_norm.default,
    "ReduceSumSquare": aten.sum.dim_IntList,
}


@operator(*REDUCTIONS)
def reduce(call: Call, value: Value, _: Value | None = None) -> Any:
    """Reduce some dimensions to one number."""
    kind, rank = call.kind, len(shape_of(value))
    axes, keep = call.numbers("axes", 1, []), bool(call.get("keepdims", 1))
    if not axes and call.get("noop_with_empty_axes", 0):
        return value
    axes = [axis % rank for axis in axes] or list(range(rank))
    if kind == "ReduceL1":
        value = call.emit(aten.abs.default, value)
    if kind == "ReduceSumSquare":
        value = call.emit(aten.mul.Tensor, value, value)
    extra = (2, axes) if kind == "ReduceL2" else (axes,)
    made = call.emit(REDUCTIONS[kind], value, *extra, keep)
    return call.emit(aten.log.default, made) if kind == "ReduceLogSum" else made


@operator("ReduceProd")
def reduce_product(call: Call, value: Value, _: Value | None = None) -> Any:
    """Multiply along some dimensions."""
    axes = call.numbers("axes", 1) or range(len(shape_of(value)))
    for axis in sorted((axis % len(shape_of(value)) for axis in axes), reverse=True):
        value = call.emit(aten.prod.dim_int, value, axis, bool(call.get("keepdims", 1)))
    return value
