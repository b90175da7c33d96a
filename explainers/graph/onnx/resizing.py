"""ONNX operators that enlarge and shrink images."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from explainers.graph.onnx.builder import Value, aten, shape_of
from explainers.graph.onnx.registry import Call, operator

NEAREST = {1: aten.upsample_nearest1d.vec, 2: aten.upsample_nearest2d.vec, 3: aten.upsample_nearest3d.vec}
LINEAR = {1: aten.upsample_linear1d.vec, 2: aten.upsample_bilinear2d.vec, 3: aten.upsample_trilinear3d.vec}

#: How ONNX counts positions in an image: from the middle of a pixel, from its corner, or so that corners match.
COORDINATES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "asymmetric", "align_corners")

#: The most pixels along an axis that an image is enlarged to.
LARGEST = 1 << 16

#: How a float position between two pixels is rounded to one of them.
ROUNDINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "round_prefer_floor": lambda places: (places - 0.5).ceil(),
    "round_prefer_ceil": lambda places: (places + 0.5).floor(),
    "floor": torch.floor,
    "ceil": torch.ceil,
}


@operator("Upsample", moves=True)
def upsample(call: Call, value: Value, _: Value | None = None) -> Any:
    """Enlarge by factors, as before opset 10."""
    return resize_by(call, value, call.numbers("scales", 1), call.get("mode", "nearest"), "asymmetric", "floor")


@operator("Resize", since=10, moves=True)
def resize_old(call: Call, value: Value, _: Value) -> Any:
    """Enlarge or shrink by factors, as in opset 10."""
    return resize_by(call, value, call.numbers("scales", 1), call.get("mode", "nearest"), "asymmetric", "floor")


@operator("Resize", since=11, moves=True)
def resize(call: Call, value: Value, *_: Value | None) -> Any:
    """Enlarge or shrink by factors or to sizes."""
    sizes = shape_of(value)
    axes = [axis % len(sizes) for axis in call.get("axes", range(len(sizes)))]
    wanted, policy = call.numbers("sizes", 3), call.get("keep_aspect_ratio_policy", "stretch")
    if wanted and policy != "stretch":
        choose = min if policy == "not_larger" else max
        factor = choose(new / sizes[axis] for axis, new in zip(axes, wanted, strict=True))
        wanted = [math.floor(factor * sizes[axis] + 0.5) for axis in axes]
    given = (
        call.numbers("scales", 2) if not wanted else [new / sizes[axis] for axis, new in zip(axes, wanted, strict=True)]
    )
    factors = dict(zip(axes, given, strict=True))
    scales = [factors.get(axis, 1.0) for axis in range(len(sizes))]
    coordinates = call.get("coordinate_transformation_mode", "half_pixel")
    return resize_by(
        call, value, scales, call.get("mode", "nearest"), coordinates, call.get("nearest_mode", "round_prefer_floor")
    )


def resize_by(call: Call, value: Value, scales: list[float], mode: str, coordinates: str, rounding: str) -> Any:
    """Resize by one factor for each dimension: by one of torch's own operators where it does the same."""
    call.require(coordinates in COORDINATES, f"resizing with the coordinates '{coordinates}'")
    sizes = shape_of(value)
    new = [math.floor(size * scale + 1e-6) for size, scale in zip(sizes, scales, strict=True)]
    axes = [axis for axis, scale in enumerate(scales) if scale != 1]
    call.require(all(0 < new[axis] <= LARGEST for axis in axes), f"sizes that are not from 1 to {LARGEST}")
    places = {axis: positions(sizes[axis], new[axis], scales[axis], coordinates) for axis in axes}
    if mode == "nearest":
        return pick(call, value, new, places, ROUNDINGS[rounding])
    exact = all(axis >= 2 and abs(new[axis] - sizes[axis] * scales[axis]) < 1e-4 for axis in axes)
    aligned, usual = coordinates == "align_corners", coordinates.endswith("half_pixel") and min(new[2:]) > 1
    exact = exact and not call.get("antialias", 0) and not call.get("exclude_outside", 0)
    if mode == "linear" and exact and (aligned or usual) and len(new) - 2 in LINEAR:
        return call.emit(LINEAR[len(new) - 2], value, new[2:], aligned, None)
    for axis in axes:
        shrinking = min(scales[axis], 1.0) if call.get("antialias", 0) else 1.0
        outside = not call.get("exclude_outside", 0)
        weights = interpolate(sizes[axis], places[axis], mode, call.get("cubic_coeff_a", -0.75), shrinking, outside)
        value = call.emit(aten.transpose.int, value, axis, -1)
        value = call.emit(aten.matmul.default, value, weights.T.contiguous())
        value = call.emit(aten.transpose.int, value, axis, -1)
    return value


def pick(
    call: Call, value: Value, new: list[int], places: dict[int, Tensor], rounding: Callable[[Tensor], Tensor]
) -> Any:
    """Pick the nearest pixel along every axis."""
    sizes = shape_of(value)
    picked = {axis: rounding(place).clamp(0, sizes[axis] - 1).long() for axis, place in places.items()}
    usual = all(
        axis >= 2 and torch.equal(indices, torch.arange(new[axis]) * sizes[axis] // new[axis])
        for axis, indices in picked.items()
    )
    if usual and len(sizes) - 2 in NEAREST:
        return call.emit(NEAREST[len(sizes) - 2], value, new[2:], None)
    for axis, indices in picked.items():
        value = call.emit(aten.index_select.default, value, axis, indices)
    return value


def positions(old: int, new: int, scale: float, coordinates: str) -> Float[Tensor, " new"]:
    """Find where in the old pixels each of the new ones lies."""
    places = torch.arange(new, dtype=torch.float32)
    if coordinates == "align_corners":
        return places * (old - 1) / max(new - 1, 1)
    if coordinates == "asymmetric":
        return places / scale
    if coordinates == "pytorch_half_pixel" and new == 1:
        return torch.zeros(1)
    shift = old / 2 * (1 - new / (scale * old)) if coordinates == "half_pixel_symmetric" else 0.0
    return shift + (places + 0.5) / scale - 0.5


def interpolate(
    old: int, places: Float[Tensor, " new"], mode: str, a: float, shrinking: float, outside: bool
) -> Float[Tensor, "new old"]:
    """Weigh the old pixels for each new one, linearly or by cubic convolution (Keys 1981).

    ``shrinking`` stretches the filter against aliasing; ``outside`` repeats the edge for what lies outside the image,
    which else gets no weight.
    """
    reach = math.ceil((1 if mode == "linear" else 2) / shrinking)
    first = places.floor()
    offsets = torch.arange(1 - reach, reach + 1)
    distance = (places[:, None] - first[:, None] - offsets).abs() * shrinking
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = a * (((distance - 5) * distance + 8) * distance - 4)
    cubic = torch.where(distance <= 1, near, torch.where(distance < 2, far, 0.0))
    weights = (1 - distance).clamp(min=0) if mode == "linear" else cubic
    indices = (first[:, None] + offsets).long()
    if not outside:
        weights = weights * ((indices >= 0) & (indices < old))
    weights = weights / weights.sum(1, keepdim=True)
    return torch.zeros(len(places), old).scatter_add_(1, indices.clamp(0, old - 1), weights)


@operator("GridSample", since=16)
def sample_grid(call: Call, value: Value, grid: Value) -> Any:
    """Read an image at the places of a grid, between its pixels."""
    modes = {"bilinear": 0, "linear": 0, "nearest": 1, "bicubic": 2, "cubic": 2}
    mode, border = call.get("mode", "linear"), call.get("padding_mode", "zeros")
    borders = {"zeros": 0, "border": 1, "reflection": 2}
    aligned = bool(call.get("align_corners", 0))
    target = aten.grid_sampler_2d.default if len(shape_of(value)) == 4 else aten.grid_sampler_3d.default
    return call.emit(target, value, grid, modes[mode], borders[border], aligned)
