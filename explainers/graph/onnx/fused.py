"""Operators of onnxruntime's own domain, which its optimiser makes of several of ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from explainers.graph.onnx import elementwise, layers
from explainers.graph.onnx.builder import Value, aten, shape_of
from explainers.graph.onnx.registry import MICROSOFT, Call, operator

own = partial(operator, domain=MICROSOFT)


def add(call: Call, left: Value, right: Value | None) -> Any:
    """Add, if there is something to add."""
    return left if right is None else elementwise.combine(call, "Add", left, right)


# Activations


def activate(call: Call, value: Value, name: str, parameters: list[float]) -> Any:
    """Apply the activation that is part of a layer."""
    plain = {"Relu": aten.relu.default, "Tanh": aten.tanh.default, "Sigmoid": aten.sigmoid.default}
    if not name or name in plain:
        return call.emit(plain[name], value) if name else value
    if name == "LeakyRelu":
        return call.emit(aten.leaky_relu.default, value, *parameters[:1])
    if name == "Clip":
        return call.emit(aten.hardtanh.default, value, *parameters)
    call.require(name == "HardSigmoid", f"the activation '{name}'")
    alpha, beta = parameters
    line = call.emit(aten.add.Tensor, call.emit(aten.mul.Tensor, value, alpha), beta)
    return call.emit(aten.hardtanh.default, line, 0.0, 1.0)


@own("Gelu", "BiasGelu", "FastGelu")
def gelu(call: Call, value: Value, bias: Value | None = None) -> Any:
    """Add and apply GELU, exactly or by its approximation with tanh."""
    approximate = "tanh" if call.kind == "FastGelu" else "none"
    return call.emit(aten.gelu.default, add(call, value, bias), approximate=approximate)


@own("QuickGelu")
def quick_gelu(call: Call, value: Value) -> Any:
    """Multiply by the sigmoid of alpha x."""
    if call.get("alpha", 1.702) == 1:
        return call.emit(aten.silu.default, value)
    scaled = call.emit(aten.mul.Tensor, value, call.get("alpha", 1.702))
    return call.emit(aten.mul.Tensor, value, call.emit(aten.sigmoid.default, scaled))


# Products


@own("FusedConv")
def convolve(call: Call, value: Value, weight: Value, bias: Value | None = None, more: Value | None = None) -> Any:
    """Convolve, add and activate."""
    made = add(call, layers.convolve(call, value, weight, bias), more)
    return activate(call, made, call.get("activation", ""), call.get("activation_params", []))


@own("FusedGemm")
def multiply_add(call: Call, left: Value, right: Value, bias: Value | None = None) -> Any:
    """Multiply matrices, add and activate."""
    options = [call.get(name) for name in ("activation_alpha", "activation_beta") if name in call.attributes]
    return activate(call, layers.multiply_add(call, left, right, bias), call.get("activation", ""), options)


@own("FusedMatMul", "TransposeMatMul")
def multiply(call: Call, left: Value, right: Value) -> Any:
    """Multiply matrices that are transposed before, and scale."""
    call.require(not call.get("transBatchA", 0) and not call.get("transBatchB", 0), "transposed batches")
    left, right = (
        call.emit(aten.transpose.int, item, -1, -2) if call.get(name, 0) and len(shape_of(item)) > 1 else item
        for item, name in ((left, "transA"), (right, "transB"))
    )
    return layers.scale(call, layers.multiply_matrices(call, left, right), call.get("alpha", 1.0))


# Normalisations


@operator("SimplifiedLayerNormalization")
def normalise_length(call: Call, value: Value, scale: Value) -> Any:
    """Divide by the root mean square of the last dimensions."""
    call.require(call.used == 1, "the spread as output")
    sizes = shape_of(value)[call.get("axis", -1) :]
    return call.emit(aten.rms_norm.default, value, sizes, layers.fit(call, scale, sizes), call.get("epsilon", 1e-5))


@own("SkipLayerNormalization")
def normalise_sum(
    call: Call, value: Value, skip: Value, scale: Value, shift: Value | None = None, bias: Value | None = None
) -> tuple[Any, ...]:
    """Add what was skipped and a bias, and normalise over the last dimension; the sum is the fourth output."""
    added = add(call, elementwise.combine(call, "Add", value, skip), bias)
    sizes, epsilon = shape_of(added)[-1:], call.get("epsilon", 1e-12)
    return call.emit(aten.layer_norm.default, added, sizes, scale, shift, epsilon, False), None, None, added


@own("SkipSimplifiedLayerNormalization")
def normalise_length_of_sum(
    call: Call, value: Value, skip: Value, scale: Value, bias: Value | None = None
) -> tuple[Any, ...]:
    """Add what was skipped and a bias, and divide by the root mean square; the sum is the fourth output."""
    added = add(call, elementwise.combine(call, "Add", value, skip), bias)
    return (
        call.emit(aten.rms_norm.default, added, shape_of(added)[-1:], scale, call.get("epsilon", 1e-5)),
        None,
        None,
        added,
    )


# Attention


@own("Attention")
def attend(call: Call, value: Value, weight: Value, bias: Value | None = None, *rest: Value | None) -> Any:
    """Attend among places, with queries, keys and values computed by one dense layer."""
    mask, past, more = (*rest, None, None, None)[:3]
    plain = mask is None and past is None and call.used == 1 and not call.get("do_rotary", 0)
    call.require(plain, "a mask by lengths, a memory or rotations")
    product = call.emit(aten.linear.default, value, call.emit(aten.t.default, weight), bias)
    width = shape_of(product)[-1] // 3
    sizes = call.get("qkv_hidden_sizes", [width] * 3)
    parts = call.emit(aten.split_with_sizes.default, product, sizes, -1)
    return attend_by_heads(call, parts, more)


@own("MultiHeadAttention")
def attend_to(call: Call, query: Value, key: Any = None, value: Any = None, *rest: Any) -> Any:
    """Attend from queries to keys and values."""
    bias, mask, more, *memory = (*rest, None, None, None)
    plain = mask is None and all(item is None for item in memory) and call.used == 1
    call.require(plain and key is not None and value is not None, "a mask by lengths, a memory or packed keys")
    parts = [query, key, value]
    if bias is not None:
        ends = [shape_of(part)[-1] for part in parts]
        numbers = torch.split(call.constant(bias, "bias"), ends)
        parts = [add(call, part, item) for part, item in zip(parts, numbers, strict=True)]
    return attend_by_heads(call, parts, more)


def attend_by_heads(call: Call, parts: Sequence[Value], more: Value | None) -> Any:
    """Take queries, keys and values apart into heads, unless they are, and attend."""
    number, causal = call.get("num_heads"), bool(call.get("unidirectional", 0))
    query, key, value = (part if len(shape_of(part)) == 4 else layers.split_heads(call, part, number) for part in parts)
    return layers.join_heads(call, layers.emit_attention(call, query, key, value, more, causal))
