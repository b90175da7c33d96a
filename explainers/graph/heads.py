"""Heads that people put on a network in place of its classifier, made again from nothing but their tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from explainers.graph.zoo import Shapes


@dataclass(frozen=True)
class Part:
    """A layer of a head: its kind, its name in the file, and the widths of what goes in and comes out."""

    kind: str
    name: str
    width: int
    out: int

    @property
    def place(self) -> int | None:
        """The layer's number in a sequence, None if its name has none."""
        last = self.name.rpartition(".")[2]
        return int(last) if last.isdecimal() and len(last) < 6 else None


@dataclass(frozen=True)
class Head:
    """Layers from features to scores. ``doubled`` tells whether they take the features' maximum and mean."""

    parts: tuple[Part, ...]
    doubled: bool

    @property
    def classes(self) -> int:
        """The number of scores."""
        return self.parts[-1].out

    def describe(self) -> str:
        """Say the layers in words, and what about them is a guess."""
        words = [
            f"{part.kind} {part.width} to {part.out}" if part.kind == "linear" else part.kind for part in self.parts
        ]
        guessed = any(part.kind == "ReLU" for part in self.parts)
        return f"{', '.join(words)}" + (
            "; that its activation is a ReLU is a guess, as a file of weights does not say it" if guessed else ""
        )


def read_head(found: Shapes, width: int) -> Head | None:
    """Read a chain of layers that begins with ``width`` features, or twice as many; None if they make no chain."""
    layers: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in found.items():
        parent, _, leaf = name.rpartition(".")
        layers.setdefault(parent, {})[leaf] = shape
    for first in (width, 2 * width):
        parts: list[Part] = []
        for name, shapes in layers.items():
            part = read_part(name, shapes, parts[-1].out if parts else first)
            if part is None:
                break
            parts.append(part)
        else:
            if any(part.kind == "linear" for part in parts):
                return Head(tuple(add_activations(parts)), first != width)
    return None


def read_part(name: str, shapes: Mapping[str, tuple[int, ...]], width: int) -> Part | None:
    """Read a layer that takes so many features; None if its tensors are those of no known one."""
    weight = shapes.get("weight", ())
    if len(weight) == 2 or (len(weight) == 4 and weight[2:] == (1, 1)):
        fits = weight[1] == width and shapes in ({"weight": weight}, {"weight": weight, "bias": weight[:1]})
        return Part("linear", name, width, weight[0]) if fits else None
    if "running_mean" in shapes and shapes["running_mean"] == (width,):
        return Part("batch norm", name, width, width)
    if weight == (width,) and shapes.get("bias") == (width,) and len(shapes) == 2:
        return Part("layer norm", name, width, width)
    return None


def add_activations(parts: list[Part]) -> list[Part]:
    """Put a ReLU between any two linear layers, at the first place where there is room for one."""
    found: list[Part] = []
    waiting = False  # whether a linear layer waits for its activation
    for place, part in enumerate(parts):
        found.append(part)
        waiting |= part.kind == "linear"
        rest = parts[place + 1 :]
        if waiting and any(one.kind == "linear" for one in rest) and leaves_room(part, rest[0]):
            found.append(Part("ReLU", "", part.out, part.out))
            waiting = False
    return found


def leaves_room(part: Part, following: Part) -> bool:
    """Whether a layer without tensors fits between two by their numbers; without numbers, before a linear one."""
    if part.place is None or following.place is None:
        return following.kind == "linear"
    return following.place - part.place > 1


class Flattened(nn.Module):
    """Layers on features, of which maps are averaged first."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, features: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch classes"]:
        """Score features."""
        scores: Tensor = self.layers(features.mean((2, 3)) if features.dim() == 4 else features)
        return scores


class Pooled(nn.Module):
    """Layers on both the maximum and the mean of a network's last maps, as fastai has it, or timm the other way."""

    def __init__(self, body: nn.Module, layers: nn.Module, mean_first: bool) -> None:
        super().__init__()
        self.body = body
        self.layers = layers
        self.mean_first = mean_first

    def forward(self, images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch classes"]:
        """Score images."""
        maps = getattr(self.body, "forward_features", self.body)(images)
        pooled = [maps.amax((2, 3)), maps.mean((2, 3))]
        scores: Tensor = self.layers(torch.cat(pooled[::-1] if self.mean_first else pooled, 1))
        return scores


def build_layers(head: Head, tensors: Mapping[str, Shaped[Tensor, "..."]]) -> nn.Sequential:
    """Build a head's layers and fill them with their tensors."""
    return nn.Sequential(*(build_part(part, tensors) for part in head.parts))


def build_part(part: Part, tensors: Mapping[str, Shaped[Tensor, "..."]]) -> nn.Module:
    """Build one layer and fill it with its tensors."""
    mine = {
        name.rpartition(".")[2]: tensor.float()
        for name, tensor in tensors.items()
        if name.rpartition(".")[0] == part.name
    }
    layer: nn.Module
    if part.kind == "ReLU":
        return nn.ReLU()
    if part.kind == "linear":
        mine["weight"] = mine["weight"].flatten(1)
        layer = nn.Linear(part.width, part.out, bias="bias" in mine)
    elif part.kind == "layer norm":
        layer = nn.LayerNorm(part.width)
    else:
        layer = nn.BatchNorm1d(part.width, affine="weight" in mine)
    layer.load_state_dict(mine, strict=False)
    return layer


def attach(
    module: nn.Module, zone: str, head: Head, tensors: Mapping[str, Shaped[Tensor, "..."]], own: bool
) -> nn.Module:
    """Put a head in the place of a network's classifier at ``zone``; "" puts it behind the network.

    ``own`` tells that the head is the architecture's own classifier, which timm gives mean and maximum in this order.
    """
    layers = build_layers(head, tensors)
    if not zone:
        return nn.Sequential(module, layers)
    if not head.doubled:
        module.set_submodule(zone, Flattened(layers))
        return module
    if hasattr(module, "forward_features"):
        return Pooled(module, layers, own)
    children = list(module.named_children())
    while children and (zone.startswith(children[-1][0]) or "Pool" in type(children[-1][1]).__name__):
        children.pop()
    return Pooled(nn.Sequential(*(child for _, child in children)), layers, own)
