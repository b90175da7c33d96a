"""ONNX operators that pick, replace, count and sort numbers by their places."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from explainers.graph.onnx.builder import BATCH, Value, aten, dtype_of, is_batch, shape_of
from explainers.graph.onnx.registry import Call, operator
from explainers.graph.onnx.shapes import emit_reshape, torch_dtype


@operator("Gather", moves=True)
def gather(call: Call, value: Value, indices: Value) -> Any:
    """Pick entries along an axis."""
    axis = call.get("axis", 0)
    axis += len(shape_of(value)) * (axis < 0)
    length = shape_of(value)[axis]
    if isinstance(indices, Tensor):
        if is_batch(length) and picks_all(indices, length // BATCH * call.builder.fixed):
            return emit_reshape(call, value, [*shape_of(value)[:axis], *indices.shape, *shape_of(value)[axis + 1 :]])
        indices = torch.where(indices < 0, indices + length, indices)
        if not indices.dim():
            return call.emit(aten.select.int, value, axis, int(indices))
    picked = call.emit(aten.index_select.default, value, axis, call.emit(aten.reshape.default, indices, [-1]))
    sizes = [*shape_of(value)[:axis], *shape_of(indices), *shape_of(value)[axis + 1 :]]
    return picked if len(shape_of(indices)) == 1 else emit_reshape(call, picked, sizes)


def picks_all(indices: Tensor, count: int) -> bool:
    """Whether indices pick each of so many entries in order, as torch's newer exporter writes some changes of shape."""
    return indices.numel() == count and torch.equal(indices.reshape(-1), torch.arange(count, dtype=indices.dtype))


@operator("GatherElements", moves=True)
def gather_elements(call: Call, value: Value, indices: Value) -> Any:
    """Pick entries along an axis, others at every place."""
    axis = call.get("axis", 0)
    if isinstance(indices, Tensor):
        indices = torch.where(indices < 0, indices + shape_of(value)[axis], indices)
    return call.emit(aten.gather.default, value, axis, indices)


@operator("GatherND", moves=True)
def gather_nd(call: Call, value: Value, indices: Value) -> Any:
    """Pick entries by all their coordinates."""
    places, apart = call.constant(indices, "indices"), call.get("batch_dims", 0)
    places = torch.where(places < 0, places + torch.tensor(shape_of(value)[apart : apart + places.shape[-1]]), places)
    if not apart:
        return call.emit(aten.index.Tensor, value, list(places.unbind(-1)))
    flat = [torch.arange(length) for length in places.shape[:apart]]
    shape = [*places.shape[:apart], *[1] * (places.dim() - 1 - apart)]
    leading = [item.reshape(shape) for item in torch.meshgrid(*flat, indexing="ij")]
    return call.emit(aten.index.Tensor, value, [*leading, *places.unbind(-1)])


@operator("ScatterND")
def scatter_nd(call: Call, value: Value, indices: Value, updates: Value) -> Any:
    """Replace entries by all their coordinates."""
    places, kind = call.constant(indices, "indices"), call.get("reduction", "none")
    places = torch.where(places < 0, places + torch.tensor(shape_of(value)[: places.shape[-1]]), places)
    if kind in ("none", "add"):
        return call.emit(aten.index_put.default, value, list(places.unbind(-1)), updates, kind == "add")
    value, updates = call.constant(value, "entries"), call.constant(updates, "entries")
    ways = {"mul": "multiply", "max": "maximum", "min": "minimum"}
    made, array = value.clone(), places.reshape(-1, places.shape[-1]).tolist()
    rest = updates.reshape(-1, *value.shape[places.shape[-1] :])
    for place, update in zip(array, rest, strict=True):
        made[tuple(place)] = getattr(torch, ways[kind])(made[tuple(place)], update)
    return made


@operator("NonZero")
def nonzero(call: Call, value: Value) -> Tensor:
    """Find the coordinates of what is not zero."""
    return call.constant(value, "values").nonzero().T


@operator("CumSum")
def cumulate(call: Call, value: Value, axis: Value) -> Any:
    """Add up along an axis."""
    place = int(call.constant(axis, "axis"))
    place += len(shape_of(value)) * (place < 0)
    backwards, length = call.get("reverse", 0), shape_of(value)[place]
    value = call.emit(aten.flip.default, value, [place]) if backwards else value
    if call.get("exclusive", 0):
        value = call.emit(aten.slice.Tensor, value, place, 0, length - 1)
        border = [0, 0] * (len(shape_of(value)) - 1 - place) + [1, 0]
        value = call.emit(aten.constant_pad_nd.default, value, border)
    made = call.emit(aten.cumsum.default, value, place)
    return call.emit(aten.flip.default, made, [place]) if backwards else made


@operator("TopK")
def topk(call: Call, value: Value, number: Value) -> Any:
    """Find the largest or smallest along an axis."""
    options = call.get("axis", -1), bool(call.get("largest", 1)), bool(call.get("sorted", 1))
    return call.emit(aten.topk.default, value, int(call.constant(number, "count")), *options)


@operator("ArgMax", "ArgMin")
def arg_extreme(call: Call, value: Value) -> Any:
    """Find the place of the largest or smallest along an axis."""
    target = aten.argmax.default if call.kind == "ArgMax" else aten.argmin.default
    axis, keep = call.get("axis", 0), bool(call.get("keepdims", 1))
    if not call.get("select_last_index", 0):
        return call.emit(target, value, axis, keep)
    found = call.emit(target, call.emit(aten.flip.default, value, [axis]), axis, keep)
    return call.emit(aten.rsub.Scalar, found, shape_of(value)[axis] - 1)


@operator("Hardmax", since=13)
def hardmax(call: Call, value: Value) -> Any:
    """Set the first of the largest along an axis to one, the others to zero."""
    axis = call.get("axis", -1)
    place = call.emit(aten.argmax.default, value, axis, True)
    return call.emit(aten.scatter.value, call.emit(aten.zeros_like.default, value), axis, place, 1.0)


@operator("EyeLike")
def eye_like(call: Call, value: Value) -> Any:
    """Make a matrix of ones on a diagonal, as large as another."""
    rows, columns = shape_of(value)
    call.require(not is_batch(rows) and not is_batch(columns), "a matrix as large as the batch")
    kind = torch_dtype(call, call.get("dtype")) if call.get("dtype") else dtype_of(value)
    steps = torch.arange(columns)[None] - torch.arange(rows)[:, None]
    return (steps == call.get("k", 0)).to(kind)


@operator("OneHot")
def one_hot(call: Call, places: Value, depth: Value, values: Value) -> Any:
    """Tell places along a new axis: one number at each, another elsewhere."""
    count, (off, on) = int(call.constant(depth, "depth").item()), call.constant(values, "values").tolist()
    kind, axis = dtype_of(values), call.get("axis", -1)
    axis += (len(shape_of(places)) + 1) * (axis < 0)
    whole = call.emit(aten.unsqueeze.default, call.emit(aten.to.dtype, places, torch.int64), axis)
    shape = [count if place == axis else 1 for place in range(len(shape_of(places)) + 1)]
    flags = call.emit(
        aten.eq.Tensor, call.emit(aten.remainder.Scalar, whole, count), torch.arange(count).reshape(shape)
    )
    inside = call.emit(aten.logical_and.default, flags, call.emit(aten.ge.Scalar, whole, -count))
    inside = call.emit(aten.logical_and.default, inside, call.emit(aten.lt.Scalar, whole, count))
    return call.emit(aten.where.self, inside, torch.tensor(on, dtype=kind), torch.tensor(off, dtype=kind))


@operator("Compress")
def compress(call: Call, value: Value, flags: Value) -> Any:
    """Keep the entries along an axis, or of all numbers, that a constant chooses."""
    axis = call.get("axis")
    if axis is None:
        value, axis = emit_reshape(call, value, [-1]), 0
    return call.emit(aten.index_select.default, value, axis, call.constant(flags, "choice").nonzero()[:, 0])


@operator("ReverseSequence")
def reverse_sequences(call: Call, value: Value, lengths: Value) -> Any:
    """Turn the first entries along an axis around, as many of each sequence as are given."""
    time, batch = call.get("time_axis", 0), call.get("batch_axis", 1)
    counts, total = call.constant(lengths, "lengths")[None], shape_of(value)[time]
    steps = torch.arange(total)[:, None]
    places = torch.where(steps < counts, counts - 1 - steps, steps)
    shape = [1] * len(shape_of(value))
    shape[time], shape[batch] = places.shape
    places = (places if time < batch else places.T).reshape(shape)
    return call.emit(aten.gather.default, value, time, call.emit(aten.expand.default, places, shape_of(value)))


@operator("ScatterElements", "Scatter")
def scatter_elements(call: Call, value: Value, indices: Value, updates: Value) -> Any:
    """Replace entries along an axis, or combine them with others."""
    axis, kind = call.get("axis", 0), call.get("reduction", "none")
    if isinstance(indices, Tensor):
        indices = torch.where(indices < 0, indices + shape_of(value)[axis], indices)
    if kind == "none":
        return call.emit(aten.scatter.src, value, axis, indices, updates)
    ways = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}
    return call.emit(aten.scatter_reduce.two, value, axis, indices, updates, ways[kind])


@operator("Det")
def determinant(call: Call, value: Value) -> Any:
    """Compute determinants of matrices."""
    return call.emit(aten.linalg_det.default, value)
