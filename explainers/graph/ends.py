"""What a file wraps around its network: a normalisation in front, a softmax or sigmoid behind, an order of axes.

Both are found by what they compute, so that it does not matter how they are written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice, permutations

import torch
from jaxtyping import Float
from torch import Tensor, fx

from explainers.graph.cuts import (
    IMAGES,
    between,
    cuts_before_output,
    cuts_behind_input,
    depending,
    emit,
    is_small,
    run_between,
    sizes,
)
from explainers.graph.model import constant
from explainers.preprocessing import Preprocessing

aten = torch.ops.aten

#: How many values from an end on are looked at.
DEPTH = 16

#: What turns scores into shares, which would hide from the explanation what was before.
SQUASHINGS: Mapping[str, Callable[[Tensor, int], Tensor]] = {
    "softmax": lambda scores, axis: scores.softmax(axis),
    "log-softmax": lambda scores, axis: scores.log_softmax(axis),
    "sigmoid": lambda scores, axis: scores.sigmoid(),
    "log-sigmoid": lambda scores, axis: torch.nn.functional.logsigmoid(scores),
}

#: Where the first weights are.
WEIGHTED = frozenset(
    {aten.conv1d.default, aten.conv2d.default, aten.conv2d.padding, aten.conv3d.default, aten.linear.default}
)


NORMALISING = frozenset({aten.sub.Tensor, aten.add.Tensor, aten.mul.Tensor, aten.div.Tensor})

TAKEN = "The normalisation of the image that the file does itself was taken over into the preprocessing."
LEFT = "The file normalises the image itself, so the preprocessing does not: check that mean and standard deviation."
BYTES = "The file takes bytes, from 0 to 255."
UNKNOWN = "The file does not say how images are prepared: check size, mean and standard deviation."


@dataclass(frozen=True)
class Scaling:
    """What a network does to its image first, ``factor * x + summand`` by channel; the image is as its pixels are."""

    factor: Float[Tensor, " channel"]
    summand: Float[Tensor, " channel"]


def tidy_output(graph: fx.GraphModule, size: tuple[int, int]) -> str:
    """Let a graph end in scores (batch, class, *places): no softmax or sigmoid behind, no axes of one place.

    ``size`` is the image's, by which a map is known. Returns what was taken off, "" if nothing.
    """
    output, squashing = graph.graph.output_node(), ""
    if output.all_input_nodes[0].meta["val"].dtype.is_floating_point:
        if found := find_squashing(graph, size):
            squashing, scores = found
            output.args = (scores,)
        output.args = (arrange(graph, output.all_input_nodes[0], size),)
    return squashing


def find_squashing(graph: fx.GraphModule, size: tuple[int, int]) -> tuple[str, fx.Node] | None:
    """Find what a graph squashes its scores with, and add the scores in the shape of the output.

    A value is the scores if what follows it is the same function as a softmax or sigmoid of it, up to the order of
    axes; of several the one nearest to the input, as long as only the value itself is used in between.
    """
    (output,) = graph.graph.output_node().all_input_nodes
    generator = torch.Generator().manual_seed(0)
    shape, found, source = sizes(graph, output.meta["val"]), None, output
    axis = class_axis(shape, size)
    for node in islice(cuts_before_output(graph), DEPTH):
        value = node.meta["val"]
        if not isinstance(value, Tensor) or not value.dtype.is_floating_point or node.op == "placeholder":
            break
        laid = sizes(graph, value)
        if math.prod(laid) not in (math.prod(shape), 2 * math.prod(shape)) or (
            found and not pure(between(node, source))
        ):
            break
        if not is_small(graph, node, output):
            break
        scores = 3 * torch.randn(laid, generator=generator).to(value.dtype)
        squashed = run_between(graph, node, output, scores)
        if node is not output and (match := recognise(scores, squashed, axis)):
            found, source = match, node
    if found is None:
        return None
    name, order, pair = found
    return name, lay_out(graph, source, output, order, pair)


def class_axis(shape: tuple[int, ...], size: tuple[int, int]) -> int | None:
    """Which axis of an output counts the classes; None if there is one score, or one map of a score."""
    places = shape[1:]
    long = [axis for axis, length in enumerate(shape[1:], 1) if length > 1]
    if len(long) <= 1:
        return long[0] if long else None
    if len(places) == 2 and fits(*places, size):
        return None
    last = len(places) == 3 and fits(*places[:2], size) and not fits(*places[1:], size)
    return 3 if last else 1


def pure(nodes: list[fx.Node]) -> bool:
    """Whether calls have no numbers of their own, so that they are part of one function such as a softmax."""
    return not any(
        node.op == "get_attr" or any(isinstance(argument, float) for argument in node.args) for node in nodes
    )


Match = tuple[str, tuple[int, ...], tuple[int, int] | None]


def recognise(scores: Float[Tensor, "..."], squashed: Float[Tensor, "..."], axis: int | None) -> Match | None:
    """Tell which squashing of which order of axes of the scores a value is; ``axis`` counts its classes.

    Returns its name, the order, and for a single share out of a softmax of two which score it is and which the other.
    """
    orders = [(0, *rest) for rest in permutations(range(1, scores.dim()))] if scores.dim() <= 4 else []
    for order in orders or [tuple(range(scores.dim()))]:
        moved = scores.permute(order)
        if moved.numel() == squashed.numel():
            laid = moved.reshape(squashed.shape)
            for name, squash in SQUASHINGS.items():
                if (axis or "softmax" not in name) and alike(squash(laid, axis or 0), squashed):
                    return name, order, None
        elif moved.dim() > 1 and moved.shape[1] == 2 and moved.numel() == 2 * squashed.numel():
            for chosen, other in ((1, 0), (0, 1)):
                if alike((moved[:, chosen] - moved[:, other]).reshape(squashed.shape).sigmoid(), squashed):
                    return "softmax", order, (chosen, other)
    return None


def alike(one: Float[Tensor, "..."], other: Float[Tensor, "..."]) -> bool:
    """Whether two values are the same function's, up to rounding and to a bound that keeps logarithms finite."""
    return torch.allclose(one, other, rtol=1e-4, atol=1e-5)


def lay_out(
    graph: fx.GraphModule, scores: fx.Node, like: fx.Node, order: tuple[int, ...], pair: tuple[int, int] | None
) -> fx.Node:
    """Bring scores into the shape of the output."""
    if order != tuple(range(len(order))):
        scores = emit(graph, aten.permute.default, scores, list(order))
    if pair:
        first, second = (emit(graph, aten.select.int, scores, 1, place) for place in pair)
        scores = emit(graph, aten.sub.Tensor, first, second)
    rest = sizes(graph, like.meta["val"])[1:]
    if sizes(graph, scores.meta["val"])[1:] != rest:
        scores = emit(graph, aten.reshape.default, scores, [-1, *rest])
    return scores


def arrange(graph: fx.GraphModule, scores: fx.Node, size: tuple[int, int]) -> fx.Node:
    """Bring scores into the order (batch, class, *places), without axes of one place."""
    shape = sizes(graph, scores.meta["val"])
    axis = class_axis(shape, size)
    if len(shape) == 1 or (len(shape) == 3 and axis is None and max(shape[1:]) > 1):
        return emit(graph, aten.unsqueeze.default, scores, 1)
    if len(shape) > 2 and sum(length > 1 for length in shape[1:]) <= 1:
        return emit(graph, aten.flatten.using_ints, scores, 1)
    if axis == 3:
        return emit(graph, aten.permute.default, scores, [0, 3, 1, 2])
    return scores


def fits(rows: int, columns: int, size: tuple[int, int]) -> bool:
    """Whether two axes have a picture's aspect."""
    return min(rows, columns) > 1 and abs(rows - columns * size[0] / size[1]) < 1


def show_both_sides(graph: fx.GraphModule) -> None:
    """Give the one score of a yes-or-no twice: negated for no, then as it is for yes."""
    output = graph.graph.output_node()
    (score,) = output.all_input_nodes
    output.args = (emit(graph, aten.cat.default, [emit(graph, aten.neg.default, score), score], 1),)


def take_scaling(graph: fx.GraphModule) -> Scaling | None:
    """Take a normalisation, with its cast and its order of colours, off the input; None without one.

    What lies between the input and a value that all depends on is a normalisation if it multiplies each channel by a
    positive number and adds one, whatever it consists of.
    """
    (image,) = graph.graph.find_nodes(op="placeholder")
    shape = sizes(graph, image.meta["val"])
    if not is_small(graph, image, image):
        return None
    pixels = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = None
    for node in islice(cuts_behind_input(graph), DEPTH):
        if node is image:
            continue
        if not isinstance(node.meta["val"], Tensor) or node.meta["val"].numel() != image.meta["val"].numel():
            break
        if not is_small(graph, image, node):
            break
        dark, seen = (run_between(graph, image, node, value) for value in (torch.zeros(shape), pixels))
        if match := read_scaling(pixels, dark, seen):
            found = node, *match
    if found is None:
        return None
    node, flipped, last, factor, summand = found
    if alike(factor, torch.ones_like(factor)) and not summand.any():
        return None
    new = emit(graph, aten.flip.default, image, [1], behind=image) if flipped else image
    new = emit(graph, aten.permute.default, new, [0, 2, 3, 1], behind=new) if last else new
    for user in [*node.users]:
        user.replace_input_with(node, new)
    return Scaling(factor.flip(0), summand.flip(0)) if flipped else Scaling(factor, summand)


def read_scaling(
    pixels: Float[Tensor, "2 channel height width"], dark: Float[Tensor, "2 ..."], seen: Float[Tensor, "2 ..."]
) -> tuple[bool, bool, Float[Tensor, " channel"], Float[Tensor, " channel"]] | None:
    """Tell what was done to each channel, from what became of no light and of noise.

    Returns whether channels are in reverse order, whether they come last, factors and summands; None for anything else.
    """
    last = seen.shape != pixels.shape
    if last and seen.shape != (IMAGES, *pixels.shape[2:], pixels.shape[1]):
        return None
    dark, seen = (value.double().movedim(-1, 1 if last else -1) for value in (dark, seen))  # for all digits
    summand = dark[0, :, 0, 0]
    if not torch.allclose(dark, summand[:, None, None].expand_as(dark), atol=1e-6) or not dark.isfinite().all():
        return None
    flat, moved = pixels.double().movedim(1, 0).flatten(1), (seen - dark).movedim(1, 0).flatten(1)
    slopes = moved @ flat.T / flat.square().sum(1)
    order = slopes.abs().argmax(1)
    factor = slopes.gather(1, order[:, None])[:, 0]
    straight, rest = [*range(len(order))], moved - factor[:, None] * flat[order]
    if (
        (factor <= 0).any()
        or rest.abs().max() > 1e-4 * moved.abs().max()
        or order.tolist() not in (straight, straight[::-1])
    ):
        return None
    return order.tolist() != straight, last, factor, summand


def find_own_normalisation(graph: fx.GraphModule) -> Scaling | None:
    """Find that a network normalises its image before its first weights, other than right away; None if it does not.

    It stays where it is; the image is to come as it is told: from 0 to 1, or to 255 where larger numbers are taken off
    or divided by.
    """
    (image,) = graph.graph.find_nodes(op="placeholder")
    channels, dynamic = sizes(graph, image.meta["val"])[1], depending(graph)
    largest = 0.0
    for node in graph.graph.nodes:
        if node.target in WEIGHTED:
            break
        if node in dynamic and node.target in NORMALISING:
            for argument in node.args[1:2]:
                number = constant(graph, argument) if getattr(argument, "op", "") == "get_attr" else None
                if number is not None and number.numel() == channels and number.shape.count(channels) == 1:
                    largest = max(largest, float(number.abs().max()))
    if not largest:
        return None
    return Scaling(torch.full((channels,), 1.0 if largest <= 2 else 1 / 255), torch.zeros(channels))


def propose_preprocessing(
    graph: fx.GraphModule, size: tuple[int, int], pixels: bool = False
) -> tuple[Preprocessing, str]:
    """Propose how images are prepared, with a note on it; a normalisation in the graph is taken off.

    ``pixels`` says that the file takes bytes. The whole picture is used, squeezed into ``size`` (height, width), for a
    file that does not say what is to be cut off must not hide a part of it.
    """
    (image,) = graph.graph.find_nodes(op="placeholder")
    channels = sizes(graph, image.meta["val"])[1]
    scaling, note = take_scaling(graph), TAKEN
    if scaling is None and (scaling := find_own_normalisation(graph)):
        note = LEFT
    if scaling is None and not pixels:
        default = Preprocessing()
        usual = (default.mean, default.std) if channels == 3 else ((0.5,) * channels, (0.5,) * channels)
        return Preprocessing(size, 0, *usual), UNKNOWN
    if scaling is None:
        scaling, note = Scaling(torch.ones(channels), torch.zeros(channels)), BYTES
    means, stds = -scaling.summand / scaling.factor, 1 / scaling.factor
    if note is LEFT:
        means, stds = torch.zeros(channels), scaling.factor
    elif pixels or (stds > 2).any() or (means.abs() > 2).any():
        means, stds = means / 255, stds / 255
    mean, std = (tuple(float(f"{number:.6g}") + 0.0 for number in item.tolist()) for item in (means, stds))
    return Preprocessing(size, 0, mean, std), note
