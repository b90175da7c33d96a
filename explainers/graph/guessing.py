"""Which networks a file of weights holds, and which architectures they may belong to."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate

from explainers.graph.architectures import Fingerprint, fingerprints, hash_names, hash_places
from explainers.graph.checkpoint import printable
from explainers.graph.dialects import translate
from explainers.graph.matching import match
from explainers.graph.networks import Weights
from explainers.graph.zoo import shapes
from explainers.proposal import Guess

#: How many of a sketch's tensors a file must have to be looked at as this architecture with another head.
ENOUGH = 9

#: How many tensors a part of a file must have to be looked at as a network, and how many parts are looked at.
FEWEST, MOST_VIEWS = 8, 200


def find_networks(networks: Mapping[str, Weights]) -> dict[str, Weights]:
    """Take networks apart that a file keeps under one name each before their tensors', and free each of its own.

    Known ones come first. What is not part of one stays beside it.
    """
    found: dict[str, Weights] = {}
    known: dict[str, bool] = {}
    for path, foreign in networks.items():
        weights = translate(foreign)
        prefixes = find_prefixes(weights)
        for prefix in prefixes or [common_prefix(weights)]:
            name = f"{path}.{prefix}".strip(".") if prefix and len(prefixes) > 1 else path
            found[name], known[name] = view(weights, prefix, prefixes), bool(prefixes)
    return {name: found[name] for name in sorted(found, key=lambda name: not known[name])}


def find_prefixes(weights: Weights) -> list[str]:
    """Under which names in a file a known network stands: "" for the whole, none if none is known.

    Networks that an architecture fits whole go before those with its names and another head, and these before those
    with other names.
    """
    counts = Counter[str]({"": len(weights.tensors)})
    for name in weights.tensors:
        counts.update(accumulate(f"{part}." for part in name.split(".")[:-1][:4]))
    prefixes = sorted((one for one in counts if counts[one] >= FEWEST or not one), key=lambda one: one.count("."))
    for way in (fits_whole, has_names, has_beginning):
        chosen: list[str] = []
        for prefix in prefixes[:MOST_VIEWS]:
            if not any(prefix.startswith(other) for other in chosen) and way(view(weights, prefix)):
                chosen.append(prefix)
        if chosen:
            return chosen
    return []


def common_prefix(weights: Weights) -> str:
    """What stands before all names of a file."""
    first, *others = weights.tensors
    parts = first.split(".")[:-1]
    while parts and not all(name.startswith(f"{'.'.join(parts)}.") for name in others):
        parts.pop()
    return f"{'.'.join(parts)}." if parts else ""


def view(weights: Weights, prefix: str, others: Sequence[str] = ()) -> Weights:
    """A network under a prefix, with all other tensors beside it but those under the prefixes of ``others``."""
    if not prefix:
        return weights
    inside = {name.removeprefix(prefix): one for name, one in weights.tensors.items() if name.startswith(prefix)}
    outside = {name: one for name, one in weights.tensors.items() if not name.startswith((prefix, *others))}
    note = f"The names in the file were prefixed by '{printable(prefix)}', which was taken away."
    return replace(weights, tensors=inside, notes=(*weights.notes, note), beside={**weights.beside, **outside})


def fits_whole(weights: Weights) -> bool:
    """Whether an architecture has just such tensors."""
    found = shapes(weights.tensors)
    by_name, by_place = hash_names(found), hash_places(found) if weights.ordered else []
    return any(fits(one, by_name, by_place) for one in fingerprints().values())


def has_names(weights: Weights) -> bool:
    """Whether there are most of the tensors by which an architecture is told, by their names."""
    low = {value >> 32 for value in hash_names(shapes(weights.tensors)).values()}
    return any(sum(part in low for part in one.sketch) >= ENOUGH for one in fingerprints().values())


def has_beginning(weights: Weights) -> bool:
    """Whether the first tensors are an architecture's without its classifier."""
    by_place = hash_places(shapes(weights.tensors)) if weights.ordered else []
    sums = list(accumulate(by_place, initial=0))
    return any(begins(one, by_place, sums) for one in fingerprints().values())


def guess(weights: Weights, file_name: str) -> tuple[Guess, ...]:
    """Rank the architectures that a network may belong to: those that fit, or else the three nearest."""
    found = shapes(weights.tensors)
    by_name, by_place = hash_names(found), hash_places(found) if weights.ordered else []
    ported = "_conv_stem.weight" in found  # a library whose weights came from TensorFlow, like timm's tf_ ones

    def order(architecture: str) -> tuple[object, ...]:
        return doubts(architecture, file_name, weights.ordered, ported)

    exact = [one.architecture for one in fingerprints().values() if fits(one, by_name, by_place)]
    if exact:
        return tuple(Guess(architecture, len(found), len(found)) for architecture in sorted(exact, key=order))
    sums = list(accumulate(by_place, initial=0))
    begun = sorted((one.architecture for one in fingerprints().values() if begins(one, by_place, sums)), key=order)
    near = [one.architecture for one in nearest(by_name)]
    deep = [] if begun or near or not weights.ordered else [one for one in fingerprints() if has_deep_classifier(one)]
    candidates = dict.fromkeys([*begun[:3], *near, *deep])
    trials = {architecture: match(architecture, weights) for architecture in candidates}
    placed = {architecture: len(found) - len(set(one.left_out) & set(found)) for architecture, one in trials.items()}
    if complete := [architecture for architecture, one in trials.items() if one.complete]:
        best = max(complete, key=lambda architecture: placed[architecture])
        same = sorted(equals(best), key=order)
        return tuple(Guess(architecture, placed[best], len(found)) for architecture in same)
    guesses = [Guess(architecture, placed[architecture], len(found)) for architecture in trials if placed[architecture]]
    return tuple(sorted(guesses, key=lambda one: -one.fitting))


def has_deep_classifier(architecture: str) -> bool:
    """Whether a classifier is of several layers, which all are replaced where one is put in its place."""
    return bool(re.fullmatch(r"torchvision/(alexnet|vgg.*|mobilenet_v3.*)", architecture))


def equals(architecture: str) -> list[str]:
    """The architectures with the same tensors but for classifier and stem."""
    one = fingerprints()[architecture]
    return [
        name
        for name, other in fingerprints().items()
        if other.tensors == one.tensors and (other.named == one.named or other.ordered == one.ordered)
    ]


def fits(one: Fingerprint, by_name: Mapping[str, int], by_place: Sequence[int]) -> bool:
    """Whether all tensors of a network have their places in an architecture, by name or else by position."""
    if len(by_name) != one.tensors:
        return False
    free = {free.name: free.position for free in (*one.classifier, *one.stem)}
    if (sum(by_name.values()) - sum(by_name.get(name, 0) for name in free)) % 2**64 == one.named:
        return True
    placed = sum(by_place) - sum(by_place[place] for place in free.values() if by_place)
    return bool(by_place) and placed % 2**64 == one.ordered


def begins(one: Fingerprint, by_place: Sequence[int], sums: Sequence[int]) -> bool:
    """Whether a network's first tensors are, by position, all of an architecture's but for the classifier at its end.

    ``sums`` are the running sums of ``by_place``.
    """
    length = one.tensors - len(one.classifier)
    if not 0 < length < len(by_place) + 1 or any(free.position < length for free in one.classifier):
        return False
    return (sums[length] - sum(by_place[free.position] for free in one.stem)) % 2**64 == one.ordered


def doubts(architecture: str, file_name: str, torch_file: bool, ported: bool) -> tuple[object, ...]:
    """Sort key among architectures of equal tensors: what the file is named after first, then the plainest name."""
    library, _, name = architecture.partition("/")
    named = name in re.sub(r"\W", "_", file_name.lower())
    habitual = library == ("torchvision" if torch_file else "timm")
    return name.startswith("tf_") != ported, -len(name) if named else 0, not habitual, len(name), name


def nearest(by_name: Mapping[str, int], count: int = 3) -> list[Fingerprint]:
    """The architectures whose sketches share most with a network; the plainest names first among equals."""
    low = {value >> 32 for value in by_name.values()}
    shared = {name: sum(value in low for value in one.sketch) for name, one in fingerprints().items()}
    near = [one for name, one in fingerprints().items() if shared[name]]
    near.sort(key=lambda one: (-shared[one.architecture], abs(one.tensors - len(by_name)), len(one.architecture)))
    return near[:count]
