"""ONNX operators of control flow, whose path is known before an image is, and of sequences of values."""

from __future__ import annotations

from typing import Any

import torch
from onnx import GraphProto
from torch import Tensor

from explainers.errors import UnsupportedOperatorError
from explainers.graph.onnx.builder import Value, aten, is_batch, shape_of
from explainers.graph.onnx.registry import Call, operator
from explainers.graph.onnx.shapes import concat

#: The most passes through a loop.
MAX_TRIPS = 10_000


@operator("If")
def choose(call: Call, condition: Value) -> tuple[Any, ...]:
    """Take the branch that a constant condition chooses."""
    flag = bool(decide(call, condition).item())
    return tuple(call.run(call.get("then_branch" if flag else "else_branch"), []))


def decide(call: Call, condition: Value) -> Tensor:
    """Read a condition; raises UnsupportedOperatorError if it depends on the image."""
    if not isinstance(condition, Tensor):
        raise UnsupportedOperatorError("is control flow whose path depends on the image, which is not supported")
    return condition


@operator("Loop")
def loop(call: Call, trips: Value | None, condition: Value | None, *carried: Any) -> tuple[Any, ...]:
    """Repeat the body as often as is known before an image is."""
    body: GraphProto = call.get("body")
    most = MAX_TRIPS + 1 if trips is None else int(call.constant(trips, "number of passes").item())
    states, made, going, trip = list(carried), [], True, 0
    going = condition is None or bool(decide(call, condition).item())
    while going and trip < most:
        call.require(trip < MAX_TRIPS, f"over {MAX_TRIPS:,} passes")
        flag, *results = call.run(body, [torch.tensor(trip), torch.tensor(True), *states])
        states, scanned = results[: len(carried)], results[len(carried) :]
        made.append(scanned)
        going, trip = bool(decide(call, flag).item()), trip + 1
    call.require(bool(made) or len(body.output) == 1 + len(carried), "no pass at all")
    stacked = [stack(call, list(values)) for values in zip(*made, strict=True)]
    return (*states, *stacked)


@operator("Scan", since=9)
def scan(call: Call, *inputs: Any) -> tuple[Any, ...]:
    """Run the body over the entries of some values along an axis."""
    body: GraphProto = call.get("body")
    count = call.get("num_scan_inputs")
    states, scanned = list(inputs[: len(inputs) - count]), inputs[len(inputs) - count :]
    outputs = len(body.output) - len(states)
    axes, directions = call.get("scan_input_axes", [0] * count), call.get("scan_input_directions", [0] * count)
    columns = [unstack(call, value, axis) for value, axis in zip(scanned, axes, strict=True)]
    columns = [column[::-1] if back else column for column, back in zip(columns, directions, strict=True)]
    made = []
    for entries in zip(*columns, strict=True):
        results = call.run(body, [*states, *entries])
        made.append(results[len(states) :])
        states = results[: len(states)]
    new_axes, turned = call.get("scan_output_axes", [0] * outputs), call.get("scan_output_directions", [0] * outputs)
    stacked = [
        stack(call, list(values)[::-1] if back else list(values), axis)
        for values, axis, back in zip(zip(*made, strict=True), new_axes, turned, strict=True)
    ]
    return (*states, *stacked)


def unstack(call: Call, value: Value, axis: int) -> list[Any]:
    """Take a value apart into its entries along an axis."""
    length = shape_of(value)[axis]
    call.require(not is_batch(length), "a loop over the images of a batch")
    call.require(length <= MAX_TRIPS, f"over {MAX_TRIPS:,} entries to take apart")
    return [call.emit(aten.select.int, value, axis % len(shape_of(value)), place) for place in range(length)]


def stack(call: Call, values: list[Any], axis: int = 0) -> Any:
    """Put values together along a new axis."""
    return call.emit(aten.stack.default, values, axis)


# Sequences, which are lists of values


@operator("SequenceConstruct")
def construct(_: Call, *values: Value) -> list[Value]:
    """Make a sequence."""
    return list(values)


@operator("SequenceEmpty")
def construct_empty(_: Call) -> list[Value]:
    """Make an empty sequence."""
    return []


@operator("SequenceInsert")
def insert(call: Call, values: list[Value], value: Value, place: Value | None = None) -> list[Value]:
    """Insert a value, at the end unless a place is given."""
    where = len(values) if place is None else read_place(call, values, place)
    return [*values[:where], value, *values[where:]]


@operator("SequenceErase")
def erase(call: Call, values: list[Value], place: Value | None = None) -> list[Value]:
    """Leave a value out, the last unless a place is given."""
    where = len(values) - 1 if place is None else read_place(call, values, place)
    return [*values[:where], *values[where + 1 :]]


@operator("SequenceAt")
def pick(call: Call, values: list[Value], place: Value) -> Value:
    """Take one value of a sequence."""
    return values[read_place(call, values, place)]


def read_place(call: Call, values: list[Value], place: Value) -> int:
    """Read a place in a sequence, counted from its end if it is negative."""
    where = int(call.constant(place, "place").item())
    return where + len(values) * (where < 0)


@operator("SequenceLength")
def length_of(_: Call, values: list[Value]) -> Tensor:
    """Count a sequence's values."""
    return torch.tensor(len(values))


@operator("SplitToSequence")
def split(call: Call, value: Value, sizes: Value | None = None) -> list[Value]:
    """Cut a value into a sequence along an axis."""
    axis = call.get("axis", 0) % len(shape_of(value))
    if sizes is None:
        entries = unstack(call, value, axis)
        return (
            [call.emit(aten.unsqueeze.default, item, axis) for item in entries] if call.get("keepdims", 1) else entries
        )
    given, total = call.constant(sizes, "sizes"), shape_of(value)[axis]
    if not given.dim():
        step = int(given)
        given = torch.tensor([min(step, total - start) for start in range(0, total, step)])
    return list(call.emit(aten.split_with_sizes.default, value, given.tolist(), axis))


@operator("ConcatFromSequence")
def join_sequence(call: Call, values: list[Value]) -> Any:
    """Join a sequence's values along an axis, which may be new."""
    return stack(call, values, call.get("axis")) if call.get("new_axis", 0) else concat(call, *values)


@operator("SequenceMap")
def apply(call: Call, values: list[Value], *others: Any) -> tuple[Any, ...]:
    """Run the body on each value of a sequence, and on what stands in the same place of others."""
    results = [
        call.run(call.get("body"), [value, *(item[place] if isinstance(item, list) else item for item in others)])
        for place, value in enumerate(values)
    ]
    return tuple(list(column) for column in zip(*results, strict=True))


@operator("Optional", "OptionalGetElement")
def optional(_: Call, value: Any = None) -> Any:
    """Pass on a value that may be none."""
    return value


@operator("OptionalHasElement")
def has_element(_: Call, value: Any = None) -> Tensor:
    """Tell whether there is a value."""
    return torch.tensor(value is not None)
