"""How the tensors of a file go into an architecture: by name or by order, with a head of their own or without."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

from torch import nn

from explainers.errors import ModelError
from explainers.graph.architectures import Fingerprint, find
from explainers.graph.checkpoint import first_line, printable
from explainers.graph.heads import Head, attach, read_head
from explainers.graph.networks import Weights
from explainers.graph.zoo import AUXILIARY, Shapes, build, kinds, preprocessing, shapes, skeleton

#: What only training keeps in a checkpoint, by the first part of its names.
TRAINING = re.compile(
    r"(.*_)?(criterion|loss\w*|metrics?|queue\w*|ema|teacher|acc|accuracy|auc|auroc|f1|pooler|projector|aux\w*)(_.*)?"
    r"|(train|val|valid|test)_\w+"
)

#: How many groups of tensors beside a network may be its head together.
MOST_LINKS = 4

#: Tensors that make a layer: a network that they are left out of computes something else.
LAYER = re.compile(r"\.(weight|running_mean)$")


@dataclass(frozen=True)
class Match:
    """Where an architecture's tensors are in a file: ``sources`` has the file's name for each of the architecture's.

    ``zone`` is the module that ``head`` takes the place of, "" for one behind the network. ``left_out`` are tensors
    without a place, ``strange`` those of them that by their names are layers of the network. ``expected`` has the
    shapes for as many classes and channels as the file has, and ``size`` is the images' if not the architecture's own.
    """

    architecture: str
    expected: Shapes
    classes: int
    channels: int
    sources: Mapping[str, str]
    by_order: bool = False
    size: tuple[int, int] | None = None
    zone: str = ""
    head: Head | None = None
    left_out: tuple[str, ...] = ()
    strange: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every tensor that the architecture needs is there, and no layer is left over."""
        needed = [name for name in self.expected if not self.zone or not name.startswith(f"{self.zone}.")]
        return len(self.sources) == len(needed) and not self.strange

    @property
    def own(self) -> bool:
        """Whether the head is the architecture's own classifier, for other features."""
        return self.head is not None and [part.name for part in self.head.parts] == [self.zone]


def measure(one: Fingerprint, found: Shapes) -> tuple[int, int]:
    """How many classes and input channels a file has; 1000 and 3 if that cannot be told."""
    classes = [free.measure(found, 1000) for free in one.classifier]
    channels = [free.measure(found, 3) for free in one.stem]
    return next(filter(None, classes), 1000), next(filter(None, channels), 3)


def match(architecture: str, weights: Weights, size: tuple[int, int] | None = None) -> Match:
    """Find the place of each tensor of a file in an architecture for images of a ``size``; it may be incomplete.

    Without a size it is the architecture's own, or the one that the file's embedding of positions was made for. Raises
    ModelError if there is no such architecture.
    """
    found = match_sized(architecture, weights, size)
    if found.complete or size or not (other := find_size(found, shapes(weights.tensors))):
        return found
    resized = match_sized(architecture, weights, other)
    return replace(resized, size=other) if resized.complete else found


def find_size(found: Match, there: Shapes) -> tuple[int, int] | None:
    """The size of images that a file's positions were made for, square as the architecture's own; None if unknown."""
    for name, shape in found.expected.items():
        other = there.get(name, ())
        if "pos_embed" in name and len(shape) == len(other) == 3 and shape[1] != other[1]:
            height, width = preprocessing(found.architecture, 3).size
            side = math.isqrt(shape[1])
            extra = shape[1] - side**2
            wanted = math.isqrt(max(other[1] - extra, 0))
            if wanted**2 + extra == other[1] and height == width and wanted:
                return height * wanted // side, width * wanted // side
    return None


def match_sized(architecture: str, weights: Weights, size: tuple[int, int] | None) -> Match:
    """Find the place of each tensor of a file in an architecture as it is for images of one size."""
    one, found = find(architecture), shapes(weights.tensors)
    classes, channels = measure(one, found)
    expected = skeleton(architecture, 1000, 3, size)
    for free, count, unit in [
        *((free, classes, 1000) for free in one.classifier),
        *((free, channels, 3) for free in one.stem),
    ]:
        expected[free.name] = free.resize(expected[free.name], count, unit)
    named = {name: name for name, shape in expected.items() if found.get(name) == shape}
    plain = Match(architecture, expected, classes, channels, named)
    if not plain.complete and weights.ordered and kinds(found) == kinds(expected):
        plain = Match(architecture, expected, classes, channels, dict(zip(expected, found, strict=True)), by_order=True)
    if plain.complete:
        behind = find_head(weights, set(plain.sources.values()), "", classes)
        return finish(plain, weights, "", behind)
    for zone in zones(one):
        for body in (named, order_body(expected, found, zone) if weights.ordered else {}):
            sources = {name: source for name, source in body.items() if not name.startswith(f"{zone}.")}
            trial = Match(architecture, expected, classes, channels, sources, body is not named, zone=zone)
            if trial.complete and (head := find_head_at(trial, weights)):
                return finish(trial, weights, zone, head)
    return finish(plain, weights, "", None)


def zones(one: Fingerprint) -> Iterator[str]:
    """The modules that another head may take the place of: the classifier, and torchvision's sequence around it."""
    paths = {free.name.rpartition(".")[0] for free in one.classifier}
    if len(paths) == 1:
        (path,) = paths
        yield path
        if one.architecture.startswith("torchvision/") and "." in path:
            yield path.rpartition(".")[0]


def order_body(expected: Shapes, found: Shapes, zone: str) -> dict[str, str]:
    """The file's first tensors for the architecture's without its classifier, if kinds and shapes agree in order."""
    body = {name: shape for name, shape in expected.items() if not name.startswith(f"{zone}.")}
    first = dict(list(found.items())[: len(body)])
    return dict(zip(body, first, strict=True)) if kinds(body) == kinds(first) else {}


def find_head_at(trial: Match, weights: Weights) -> Head | None:
    """Find layers from what goes into the classifier, or from maximum and mean of the last maps, to scores."""
    inside = {name: shape for name, shape in trial.expected.items() if name.startswith(f"{trial.zone}.")}
    (last,) = list({name: shape for name, shape in trial.expected.items() if name not in inside}.values())[-1:]
    width = next(shape[1] for shape in inside.values() if len(shape) > 1)
    used = set(trial.sources.values())
    if head := find_head(weights, used, trial.zone, width):
        return head
    pooled = find_head(weights, used, trial.zone, last[0]) if len(last) == 1 else None
    return pooled if pooled and pooled.doubled else None


def find_head(weights: Weights, used: set[str], zone: str, width: int) -> Head | None:
    """Find layers from ``width`` features to scores among the tensors that have no place, or beside the network."""
    rest, around = (shapes(one) if weights.ordered else sort(shapes(one)) for one in (weights.tensors, weights.beside))
    found = {name: shape for name, shape in rest.items() if name not in used}
    inside = {name: shape for name, shape in found.items() if zone and name.startswith(f"{zone}.")}
    own, beside = (list(group(one).values()) for one in (found, around))
    trials = [inside, found, *own, *chains(beside), *beside]
    return next((head for one in trials if one and (head := read_head(one, width))), None)


def chains(groups: Sequence[Shapes]) -> Iterator[Shapes]:
    """All of a few groups one behind another, in every order; the file's comes first."""
    for order in permutations(groups) if 1 < len(groups) <= MOST_LINKS else ():
        yield {name: shape for one in order for name, shape in one.items()}


def group(found: Shapes) -> dict[str, Shapes]:
    """Tensors by the first part of their names, without what only training uses."""
    groups: dict[str, Shapes] = {}
    for name, shape in found.items():
        first = name.partition(".")[0]
        if not TRAINING.fullmatch(first):
            groups.setdefault(first, {})[name] = shape
    return groups


def sort(found: Shapes) -> Shapes:
    """Tensors in the order of the numbers in their names."""
    natural = {name: [part.zfill(6) if part.isdecimal() else part for part in name.split(".")] for name in found}
    return {name: found[name] for name in sorted(found, key=natural.__getitem__)}


def finish(found: Match, weights: Weights, zone: str, head: Head | None) -> Match:
    """Add a head to a match, and what is left out then."""
    names = {part.name for part in head.parts} if head else set()
    taken, inside = set(found.sources.values()), shapes(weights.tensors)
    every = [*inside, *(name for name in shapes(weights.beside) if name not in inside)]
    left = [name for name in every if name not in taken and name.rpartition(".")[0] not in names]
    layers = (name for name in left if name in inside and LAYER.search(name))
    strange = [name for name in layers if not TRAINING.fullmatch(name.partition(".")[0])]
    classes = head.classes if head else found.classes
    return replace(found, classes=classes, zone=zone, head=head, left_out=tuple(left), strange=tuple(strange))


def describe(found: Match, weights: Weights) -> tuple[str, ...]:
    """Say how a file's tensors were matched: what is left out, taken in order, rebuilt."""
    auxiliary = sorted({name.partition(".")[0] for name in weights.tensors if name.startswith(AUXILIARY)})
    notes = [f"The head {name}, which only training uses, is left out." for name in auxiliary]
    if found.by_order:
        notes.append(
            "The file has other names than the architecture; its tensors were taken in order, as all shapes agree."
        )
    if found.head:
        where = f"in place of {found.zone}" if found.zone else "behind the network's own outputs"
        pooled = " on the maximum and the mean of the last maps" * found.head.doubled
        notes.append(f"The head, {where}{pooled}, was made again from its tensors: {found.head.describe()}.")
    if found.left_out:
        names = ", ".join(printable(name) for name in found.left_out[:3]) + ", ..." * (len(found.left_out) > 3)
        notes.append(
            f"Left out, as {found.architecture} has no place for them: {len(found.left_out)} of the file's tensors "
            f"({names}), such as a loss or a metric has. If the network itself computes with them, its outputs differ."
        )
    return tuple(notes)


def fill(architecture: str, weights: Weights, size: tuple[int, int]) -> tuple[nn.Module, tuple[str, ...]]:
    """Build an architecture with the weights of a file; returns it with notes on how they fitted.

    Raises ModelError if they do not fit.
    """
    found = match(architecture, weights, size)
    if not found.complete:
        raise ModelError(misfit(found, shapes(weights.tensors)))
    classes = found.classes if not found.head else 1000
    if found.head and not found.zone:
        classes = measure(find(architecture), shapes(weights.tensors))[0]
    module = build(architecture, classes, found.channels, size)
    state = module.state_dict()  # with the versions of its modules, which some of torchvision's ask for
    state.update({name: weights.tensors[source] for name, source in found.sources.items()})
    try:
        module.load_state_dict(state)
        if found.head:
            every = {**weights.beside, **weights.tensors}
            module = attach(module, found.zone, found.head, every, found.own)
    except RuntimeError as error:
        raise ModelError(
            f"The weights are no plain numbers ({first_line(error)}). Save them as dense float32 tensors."
        ) from error
    return module, describe(found, weights)


def misfit(found: Match, there: Shapes) -> str:
    """Say in words how a file differs from an architecture."""
    expected = found.expected
    fitting = sum(there.get(name) == shape for name, shape in expected.items())
    parts = [
        f"{name} is {there[name]} instead of {shape}"
        for name, shape in expected.items()
        if there.get(name, shape) != shape
    ][:2]
    for title, one, other in (("missing", expected, there), ("unexpected", there, expected)):
        parts += count_names(title, one, other)
    return (
        f"The file does not fit {found.architecture}: {fitting} of the {len(expected)} tensors agree; "
        f"{'; '.join(parts)}. Choose the architecture that the weights were trained with."
    )


def count_names(title: str, one: Shapes, other: Shapes) -> Sequence[str]:
    """Say how many tensors one side has alone, and the first two."""
    names = [f"{printable(name)} {shape}" for name, shape in one.items() if name not in other]
    return [f"{len(names)} {title} ({', '.join(names[:2])})"] if names else []
