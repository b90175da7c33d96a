"""ONNX operators of recurrent layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from explainers.graph.onnx.builder import Value, aten, is_batch, shape_of
from explainers.graph.onnx.registry import Call, operator

#: The order of ONNX's gates in torch's: of input, forget, cell, output; of reset, update, new.
GATES = {"LSTM": [0, 2, 3, 1], "GRU": [1, 0, 2], "RNN": [0]}
USUAL = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
MAX_STEPS = 4096
LAYERS = {"LSTM": aten.lstm.input, "GRU": aten.gru.input, "RNN": aten.rnn_tanh.input}


@operator("LSTM", "GRU", "RNN")
def recur(call: Call, value: Value, weight: Value, recurrent: Value, *rest: Value | None) -> tuple[Any, ...]:
    """Run a recurrent layer of one or two directions over (steps, batch, features)."""
    bias, lengths, hidden, cell, peephole = (*rest, None, None, None, None, None)[:5]
    count, size, kind = shape_of(weight)[0], call.get("hidden_size"), call.kind
    check(call, value, lengths, peephole, count)
    batch_first = bool(call.get("layout", 0))
    value = call.emit(aten.transpose.int, value, 0, 1) if batch_first else value
    states = [start(call, state, value, count, size, batch_first) for state in (hidden, cell)[: 1 + (kind == "LSTM")]]
    turned = call.get("direction", "forward") == "reverse"
    value = call.emit(aten.flip.default, value, [0]) if turned else value
    weights = read_weights(call, weight, recurrent, bias)
    options = [bias is not None, 1, 0.0, False, count == 2, False]
    if kind == "GRU" and not call.get("linear_before_reset", 0):
        made, *last = unroll(call, value, states[0], weights)
    else:
        made, *last = call.emit(LAYERS[kind], value, states if kind == "LSTM" else states[0], weights, *options)
    made = call.emit(aten.flip.default, made, [0]) if turned else made
    steps = shape_of(made)[0]
    made = call.emit(aten.reshape.default, made, [steps, -1, count, size])
    made = call.emit(aten.permute.default, made, [1, 0, 2, 3] if batch_first else [0, 2, 1, 3])
    last = [call.emit(aten.transpose.int, state, 0, 1) for state in last] if batch_first else last
    return (made, *last)


def check(call: Call, value: Value, lengths: Value | None, peephole: Value | None, count: int) -> None:
    """Raise UnsupportedOperatorError for what torch's recurrent layers do not have."""
    call.require(peephole is None, "peepholes")
    call.require(call.get("activations", USUAL[call.kind] * count) == USUAL[call.kind] * count, "unusual activations")
    call.require("clip" not in call.attributes and not call.get("input_forget", 0), "clipped or coupled gates")
    steps = shape_of(value)[1 if call.get("layout", 0) else 0]
    call.require(not is_batch(steps), "the images of a batch as its steps")
    call.require(steps <= MAX_STEPS, f"over {MAX_STEPS:,} steps")
    same = lengths is None or bool((call.constant(lengths, "lengths") == steps).all())
    call.require(same, "sequences of several lengths")


def start(call: Call, state: Value | None, value: Value, count: int, size: int, batch_first: bool) -> Any:
    """The state at the beginning, zero unless it is given."""
    if state is not None:
        state = call.emit(aten.transpose.int, state, 0, 1) if batch_first else state
        return call.emit(aten.expand.default, state, [count, shape_of(value)[1], size])
    shape = [count, shape_of(value)[1], size]
    return call.emit(aten.full.default, shape, 0.0, dtype=torch.float32, device=torch.device("cpu"))


def read_weights(call: Call, weight: Value, recurrent: Value, bias: Value | None) -> list[Tensor]:
    """Read the weights of each direction in torch's order: of input, of state, and both biases."""
    found = []
    for direction in range(shape_of(weight)[0]):
        parts = [call.constant(item, "weights")[direction] for item in (weight, recurrent)]
        if bias is not None:
            parts += call.constant(bias, "bias")[direction].chunk(2)
        for part in parts:
            gates = part.chunk(len(GATES[call.kind]))
            found.append(torch.cat([gates[place] for place in GATES[call.kind]]))
    return found


def unroll(call: Call, value: Value, state: Value, weights: list[Tensor]) -> tuple[Any, Any]:
    """Run a gated layer step by step that resets its state before the product with it, unlike torch's."""
    steps, count = shape_of(value)[0], shape_of(state)[0]
    each = len(weights) // count
    made, last = [], []
    for direction in range(count):
        parts = [part.chunk(3) for part in weights[direction * each : (direction + 1) * each]]
        biases = [sum(pair) for pair in zip(*parts[2:], strict=True)] if each > 2 else [None] * 3
        hidden, states = call.emit(aten.select.int, state, 0, direction), []
        for step in range(steps)[:: -1 if direction else 1]:
            hidden = advance(call, call.emit(aten.select.int, value, 0, step), hidden, parts, biases)
            states.append(hidden)
        made.append(call.emit(aten.stack.default, states[:: -1 if direction else 1]))
        last.append(hidden)
    return call.emit(aten.cat.default, made, 2), call.emit(aten.stack.default, last)


def advance(call: Call, value: Value, hidden: Value, parts: Sequence[Any], biases: Sequence[Any]) -> Any:
    """Compute the next state of a gated layer."""

    def gate(place: int, before: Value, activate: Any) -> Any:
        product = call.emit(aten.linear.default, value, parts[0][place], biases[place])
        return call.emit(
            activate, call.emit(aten.add.Tensor, product, call.emit(aten.linear.default, before, parts[1][place]))
        )

    reset, update = (gate(place, hidden, aten.sigmoid.default) for place in (0, 1))
    new = gate(2, call.emit(aten.mul.Tensor, reset, hidden), aten.tanh.default)
    kept = call.emit(aten.mul.Tensor, update, hidden)
    return call.emit(aten.add.Tensor, kept, call.emit(aten.mul.Tensor, call.emit(aten.rsub.Scalar, update, 1.0), new))
