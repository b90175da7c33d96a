"""How the tensors of a file go into an architecture: by name or by order, with a head of their own or without."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from explainers.errors import ModelError
from explainers.graph.architectures import Fingerprint, find
from explainers.graph.checkpoint import first_line, printable
from explainers.graph.heads import Head, attach, read_head
from explainers.graph.networks import Weights
from explainers.graph.zoo import AUXILIARY, Shapes, build, kinds, shapes, skeleton

#: What only training keeps in a checkpoint.
TRAINING = re.compile(r"(\w*(criterion|loss|metric|queue|ema|teacher|accuracy|auc|f1)\w*|(train|val|valid|test)_\w+)")

#: Tensors that make a layer: what they are left out of computes something else.
LAYER = re.compile(r"\.(weight|running_mean)$")


@dataclass(frozen=True)
class Match:
    """Where an architecture's tensors are in a file: ``sources`` has the file's name for each of the architecture's.

    ``zone`` is the module that ``head`` takes the place of, "" for one behind the network. ``left_out`` are tensors
    without a place, ``strange`` those of them that are layers within the network. ``expected`` has the shapes for as
    many classes and channels as the file has.
    """

    architecture: str
    expected: Shapes
    classes: int
    channels: int
    sources: Mapping[str, str]
    by_order: bool = False
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

    Raises ModelError if there is no such architecture.
    """
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
        plain = Match(architecture, expected, classes, channels, dict(zip(expected, found, strict=True)), True)
    if plain.complete:
        behind = find_head(weights, set(plain.sources.values()), "", classes)
        return finish(plain, weights, "", behind)
    for zone in zones(one):
        for body in (named, order_body(expected, found, zone) if weights.ordered else {}):
            sources = {name: source for name, source in body.items() if not name.startswith(f"{zone}.")}
            width = next(shape[1] for name, shape in expected.items() if name.startswith(zone) and len(shape) > 1)
            trial = Match(architecture, expected, classes, channels, sources, body is not named, zone)
            head = find_head(weights, set(sources.values()), zone, width) if trial.complete else None
            if head:
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


def find_head(weights: Weights, used: set[str], zone: str, width: int) -> Head | None:
    """Find layers from ``width`` features to scores among the tensors that have no place, or beside the network."""
    found = {name: shape for name, shape in shapes(weights.tensors).items() if name not in used}
    beside = shapes(weights.beside)
    inside = {name: shape for name, shape in found.items() if zone and name.startswith(f"{zone}.")}
    groups = [inside, found, *group(found).values(), *group(beside).values()]
    heads = (read_head(one if weights.ordered else sort(one), width) for one in groups if one)
    return next((head for head in heads if head), None)


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
    roots = {name.partition(".")[0] for name in found.expected} if not found.by_order else set()
    strange = [name for name in left if name in inside and name.partition(".")[0] in roots and LAYER.search(name)]
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
