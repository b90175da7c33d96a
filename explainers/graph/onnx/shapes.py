"""ONNX operators that move, cut, join and make values, and those that compute with shapes."""

from __future__ import annotations

import math
from typing import Any

import torch
from onnx import TensorProto
from onnx.helper import tensor_dtype_to_np_dtype
from torch import Tensor, fx

from explainers.errors import ModelError
from explainers.graph.onnx.builder import BATCH, DYNAMIC, Value, aten, dtype_of, is_batch, shape_of
from explainers.graph.onnx.file import FLOATS
from explainers.graph.onnx.registry import Call, operator


@operator("Identity", moves=True)
def identity(_: Call, value: Value) -> Value:
    """Pass a value on."""
    return value


@operator("Dropout", moves=True)
def dropout(call: Call, value: Value, ratio: Value | None = None, training: Tensor | None = None) -> Value:
    """Pass a value on, as dropout does at inference."""
    call.require(call.used == 1 and not (training is not None and bool(training)), "dropout as in training")
    return value


@operator("Constant")
def constant(call: Call) -> Tensor:
    """Take the numbers that the node holds."""
    ((name, value),) = call.attributes.items()
    call.require(name != "sparse_value" and not name.startswith("value_string"), f"a constant as {name}")
    return value if isinstance(value, Tensor) else torch.tensor(value)


@operator("Cast", "CastLike")
def cast(call: Call, value: Value, like: Value | None = None) -> Any:
    """Convert the type of numbers; all floating-point types are one."""
    kind = dtype_of(like) if like is not None else torch_dtype(call, call.get("to"))
    if kind == dtype_of(value):
        return value
    return call.emit(aten.to.dtype, value, kind)


def torch_dtype(call: Call, kind: int) -> torch.dtype:
    """The type of numbers that stands for an ONNX type."""
    call.require(kind != TensorProto.STRING, "texts")
    if kind in FLOATS:
        return torch.float32
    return torch.from_numpy(torch.empty(0).numpy().astype(tensor_dtype_to_np_dtype(kind))).dtype


@operator("Shape", moves=True)
def shape(call: Call, value: Value) -> Tensor:
    """Take the sizes of a value."""
    return torch.tensor(shape_of(value)[call.get("start", 0) : call.get("end")], dtype=torch.int64)


@operator("Size", moves=True)
def size(_: Call, value: Value) -> Tensor:
    """Count the numbers of a value."""
    return torch.tensor(math.prod(shape_of(value)))


@operator("ConstantOfShape")
def constant_of_shape(call: Call, sizes: Value) -> Any:
    """Repeat one number."""
    number: Tensor = call.get("value", torch.zeros(1))
    length = call.constant(sizes, "shape").tolist()
    return call.emit(aten.full.default, length, number.item(), dtype=number.dtype, device=torch.device("cpu"))


@operator("Range")
def arange(call: Call, *bounds: Value) -> Any:
    """Count from a start to a limit in steps."""
    numbers = [call.constant(bound, "bounds") for bound in bounds]
    options = {"dtype": numbers[0].dtype, "device": torch.device("cpu")}
    return call.emit(aten.arange.start_step, *(number.item() for number in numbers), **options)


@operator("Reshape", moves=True)
def reshape(call: Call, value: Value, _: Value | None = None) -> Any:
    """Lay the numbers out in another shape."""
    given = call.numbers("shape", 1)
    sizes = shape_of(value)
    if not call.get("allowzero", 0):
        given = [sizes[place] if length == 0 else length for place, length in enumerate(given)]
    return emit_reshape(call, value, given)


def emit_reshape(call: Call, value: Value, target: list[int]) -> Any:
    """Lay the numbers out in another shape, in which the batch keeps its place."""
    sizes = shape_of(value)
    target = complete(spread(call.builder.fixed, sizes, target), math.prod(sizes))
    if target == sizes:
        return value
    if math.prod(target) != math.prod(sizes) and any(is_batch(length) for length in sizes):
        raise ModelError(f"gives the shape {target} to every batch, which fixes the number of images. {DYNAMIC}")
    batches = [is_batch(length) for length in target]
    if sum(batches) == 1 and 0 not in target:
        target = [-1 if batch else length for batch, length in zip(batches, target, strict=True)]
    return call.emit(aten.reshape.default, value, target)


def complete(target: list[int], total: int) -> list[int]:
    """Compute the size that is given as -1."""
    known = math.prod(length for length in target if length != -1)
    return [total // known if length == -1 and known else length for length in target]


def spread(fixed: int, sizes: list[int], target: list[int]) -> list[int]:
    """Make a shape that was written for a fixed number of images one for any number.

    The batch divides the numbers of a value into those before it and those behind it; the size of the new shape with
    as many numbers before it gets the batch.
    """
    place = next((place for place, length in enumerate(sizes) if is_batch(length)), None)
    if not fixed or place is None or any(is_batch(length) for length in target):
        return target
    written = [length // BATCH * fixed if is_batch(length) else length for length in sizes]
    target = complete(target, math.prod(written))
    before = math.prod(sizes[:place])
    for new, length in enumerate(target):
        if math.prod(target[:new]) == before and length % fixed == 0 and length:
            return [*target[:new], length // fixed * BATCH, *target[new + 1 :]]
    raise ModelError(
        f"gives the shape {target} to {fixed} image{'s' * (fixed > 1)}, which fixes that number of images. {DYNAMIC}"
    )


@operator("Flatten", moves=True)
def flatten(call: Call, value: Value) -> Any:
    """Join the dimensions before an axis, and those from it on."""
    sizes, axis = shape_of(value), call.get("axis", 1)
    axis += len(sizes) * (axis < 0)
    if axis == 1:
        return value if len(sizes) == 2 else call.emit(aten.flatten.using_ints, value, 1, -1)
    return emit_reshape(call, value, [math.prod(sizes[:axis]), math.prod(sizes[axis:])])


@operator("Squeeze", moves=True)
def squeeze(call: Call, value: Value, _: Value | None = None) -> Any:
    """Leave out dimensions of size one."""
    axes = call.numbers("axes", 1)
    if axes is None:
        axes = [place for place, length in enumerate(shape_of(value)) if length == 1]
    return call.emit(aten.squeeze.dims, value, axes)


@operator("Unsqueeze", moves=True)
def unsqueeze(call: Call, value: Value, _: Value | None = None) -> Any:
    """Add dimensions of size one."""
    axes = call.numbers("axes", 1)
    rank = len(shape_of(value)) + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        value = call.emit(aten.unsqueeze.default, value, axis)
    return value


@operator("Expand", moves=True)
def expand(call: Call, value: Value, sizes: Value) -> Any:
    """Repeat dimensions of size one."""
    new = call.constant(sizes, "shape").tolist()
    value = take_one(call, value, new)
    old = shape_of(value)
    new = [1] * (len(old) - len(new)) + new
    old = [1] * (len(new) - len(old)) + old
    wanted = [length if again == 1 else again for length, again in zip(old, new, strict=True)]
    return call.emit(aten.expand.default, value, wanted)


def take_one(call: Call, value: Value, sizes: list[int]) -> Value:
    """Of a constant that is written out for a fixed number of images, each alike, take that of one."""
    if isinstance(value, fx.Node) or len(sizes) != value.dim():
        return value
    for axis, size in enumerate(sizes):
        first = value.narrow(axis, 0, min(1, value.shape[axis]))
        if is_batch(size) and value.shape[axis] == call.builder.fixed and torch.equal(value, first.expand_as(value)):
            value = first
    return value


@operator("Tile", moves=True)
def tile(call: Call, value: Value, repeats: Value) -> Any:
    """Repeat a value along its dimensions."""
    return call.emit(aten.repeat.default, value, call.constant(repeats, "repeats").tolist())


@operator("Transpose", moves=True)
def transpose(call: Call, value: Value) -> Any:
    """Reorder the dimensions."""
    order = call.get("perm", list(reversed(range(len(shape_of(value))))))
    return value if order == sorted(order) else call.emit(aten.permute.default, value, order)


@operator("Concat", moves=True)
def concat(call: Call, *values: Value) -> Any:
    """Join values along an axis; what is the same for each image of the batch is repeated."""
    quantised = any(item in call.builder.steps for item in values if isinstance(item, fx.Node))
    call.require(not quantised or not any(isinstance(item, Tensor) for item in values), "quantised numbers and others")
    axis = call.get("axis")
    axis += len(shape_of(values[0])) * (axis < 0)
    lead = next((length for value in values if is_batch(length := shape_of(value)[0])), 1)
    if axis and lead != 1:
        values = tuple(repeat(call, value, lead) for value in values)
    return values[0] if len(values) == 1 else call.emit(aten.cat.default, list(values), axis)


def repeat(call: Call, value: Value, lead: int) -> Any:
    """Repeat what is the same for all images of a batch, or is written out for a fixed number of them."""
    if isinstance(value, Tensor) and len(value) == call.builder.fixed and bool((value == value[:1]).all()):
        value = value[:1]
    return call.emit(aten.expand.default, value, [lead, *shape_of(value)[1:]]) if shape_of(value)[0] == 1 else value


@operator("Split", moves=True)
def split(call: Call, value: Value, _: Value | None = None) -> Any:
    """Cut a value into pieces along an axis, of given sizes or as equal as possible."""
    axis = call.get("axis", 0)
    total = shape_of(value)[axis]
    length = math.ceil(total / call.outputs)
    rest = total - length * (call.outputs - 1)
    sizes = call.numbers("split", 1, [length] * (call.outputs - 1) + [rest])
    return call.emit(aten.split_with_sizes.default, value, sizes, axis)


@operator("Slice", moves=True)
def cut(call: Call, value: Value, *_: Value | None) -> Any:
    """Cut a part out along some axes."""
    starts, ends = call.numbers("starts", 1), call.numbers("ends", 2)
    axes, steps = call.numbers("axes", 3, range(len(starts))), call.numbers("steps", 4, [1] * len(starts))
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        axis += len(shape_of(value)) * (axis < 0)
        value = cut_axis(call, value, axis, slice(start, end, step).indices(shape_of(value)[axis]), step)
    return value


def cut_axis(call: Call, value: Value, axis: int, bounds: tuple[int, int, int], step: int) -> Any:
    """Cut a part out along one axis; backwards by turning it around first."""
    start, end, _ = bounds
    length = shape_of(value)[axis]
    if step < 0:
        call.require(not is_batch(length), "a batch in reverse")
        value, start, end, step = (
            call.emit(aten.flip.default, value, [axis]),
            length - 1 - start,
            length - 1 - end,
            -step,
        )
    if (start, step) == (0, 1) and end >= length:
        return value
    return call.emit(aten.slice.Tensor, value, axis, start, end, step)


@operator("DepthToSpace", moves=True)
def depth_to_space(call: Call, value: Value) -> Any:
    """Spread channels over blocks of places."""
    block = call.get("blocksize")
    if call.get("mode", "DCR") == "CRD":
        return call.emit(aten.pixel_shuffle.default, value, block)
    batch, channels, height, width = shape_of(value)
    value = emit_reshape(call, value, [batch, block, block, channels // block**2, height, width])
    value = call.emit(aten.permute.default, value, [0, 3, 4, 1, 5, 2])
    return emit_reshape(call, value, [batch, channels // block**2, height * block, width * block])


@operator("SpaceToDepth", moves=True)
def space_to_depth(call: Call, value: Value) -> Any:
    """Put blocks of places into channels."""
    block = call.get("blocksize")
    batch, channels, height, width = shape_of(value)
    value = emit_reshape(call, value, [batch, channels, height // block, block, width // block, block])
    value = call.emit(aten.permute.default, value, [0, 3, 5, 1, 2, 4])
    return emit_reshape(call, value, [batch, channels * block**2, height // block, width // block])


@operator("Pad", moves=True)
def pad(call: Call, value: Value, *_: Value | None) -> Any:
    """Add a border, of one number, of the edge repeated or of the inside mirrored."""
    pads, number, axes = call.numbers("pads", 1), call.numbers("value", 2, 0.0), call.numbers("axes", 3)
    scale, zero = call.builder.steps.get(value, (1.0, 0.0)) if isinstance(value, fx.Node) else (1.0, 0.0)
    number = (number[0] if isinstance(number, list) else number) * scale - zero * scale
    rank, half = len(shape_of(value)), len(pads) // 2
    axes = [axis % rank for axis in (range(rank) if axes is None else axes)]
    sides = dict(zip(axes, zip(pads[:half], pads[half:], strict=True), strict=True))
    flat = [side for axis in reversed(range(min(axes), rank)) for side in sides.get(axis, (0, 0))]
    return emit_pad(call, value, flat, call.get("mode", "constant"), number)


def emit_pad(call: Call, value: Value, flat: list[int], mode: str, number: float = 0.0) -> Any:
    """Add a border, given from the last dimension backwards as (before, after)."""
    while flat and not any(flat[-2:]):
        flat = flat[:-2]
    if not flat:
        return value
    if mode == "constant":
        return call.emit(aten.constant_pad_nd.default, value, flat, number)
    modes = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    call.require(mode in modes, f"a border of the mode '{mode}'")
    return call.emit(aten.pad.default, value, flat, modes[mode])


@operator("Trilu")
def triangle(call: Call, value: Value, diagonal: Tensor | None = None) -> Any:
    """Keep the upper or lower triangle of matrices."""
    place = 0 if diagonal is None else int(diagonal)
    return call.emit(aten.triu.default if call.get("upper", 1) else aten.tril.default, value, place)
