"""Which class a label means: the one place that says so. Free of torch."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from explainers.info import ModelInfo
from explainers.outputs import FINDINGS, NUMBERS

#: Labels that say that none of the findings is there.
NOTHING = ("", "no finding", "none", "normal", "healthy", "negative")

#: What stands before a finding of which it is not known whether it is there, and between several findings.
UNKNOWN, BETWEEN = "?", "|"

#: How many names a sentence quotes.
QUOTED = 5


@dataclass(frozen=True)
class Meaning:
    """What a label says of a model's classes.

    ``there`` are the indices of those that it names, ``unknown`` those of which it says that this is not known.
    ``strange`` are names in it that are no class.
    """

    there: frozenset[int]
    unknown: frozenset[int]
    strange: tuple[str, ...]


def match_label(label: str | None, info: ModelInfo, decision: int) -> int:
    """Find the true decision in the place of one that was taken; -1 if the label does not tell.

    Of several findings a label names those that are there, with "|", ";" or "," between them, and with "?" before it
    one of which that is unknown; what it does not name is not there, unless it names something that is no class.
    """
    if label is None or info.kind == NUMBERS:
        return -1
    meaning = _read(label, info.class_names, info.kind)
    if info.kind != FINDINGS:
        return next(iter(meaning.there)) if len(meaning.there) == 1 and not meaning.strange else -1
    output = info.output_of(decision)
    if output in meaning.there:
        return output
    return -1 if output in meaning.unknown or meaning.strange else output + len(info.class_names)


def match_class(label: str, info: ModelInfo) -> int:
    """Find a class by its name, else by its index; -1 if there is none.

    Names are the same however accents are coded, then whatever the case, then with "_" or "-" for a space. Digits are
    an index only where no class has a number for a name.
    """
    return find_class(label, info.class_names)


def find_class(label: str, names: Sequence[str]) -> int:
    """Find a class among names, see ``match_class``."""
    for write, places in zip(WAYS, _places(tuple(names)), strict=True):
        if (found := places.get(write(label))) is not None:
            return found
    numbered = any(name.strip().isdecimal() for name in names)
    is_index = label.strip().isdecimal() and len(label) <= 9 and not numbered
    return int(label) if is_index and int(label) < len(names) else -1


def is_class_name(label: str, names: Sequence[str]) -> bool:
    """Tell whether a label is the name of a class, not its index."""
    return any(write(label) in places for write, places in zip(WAYS, _places(tuple(names)), strict=True))


def compose(text: str) -> str:
    """Write accents in the one way that names are compared in."""
    return unicodedata.normalize("NFC", text).strip()


def fold(text: str) -> str:
    """Write a name without its case."""
    return compose(text).casefold() if text.isascii() else compose(compose(text).casefold())


def loosen(text: str) -> str:
    """Write a name without its case, with spaces for what stands for them in names of files and columns."""
    return re.sub(r"[\s_-]+", " ", fold(text)).strip()


#: The ways in which a label is compared with names, strictest first.
WAYS = (compose, fold, loosen)


@lru_cache(maxsize=8)
def _places(names: tuple[str, ...]) -> tuple[Mapping[str, int], ...]:
    """Find names in each of WAYS; without those that two classes have."""
    found = []
    for write in WAYS:
        written = [write(name) for name in names]
        counts = Counter(written)
        found.append({name: place for place, name in enumerate(written) if counts[name] == 1})
    return tuple(found)


def read_label(label: str, info: ModelInfo) -> Meaning:
    """Read what a label says of a model's classes."""
    return _read(label, info.class_names, info.kind)


@lru_cache(maxsize=1)  # one label is asked about finding by finding
def _read(label: str, names: tuple[str, ...], kind: str) -> Meaning:
    there, unknown, strange = set[int](), set[int](), list[str]()
    for part in _split(label, names, kind):
        doubted = part.startswith(UNKNOWN) and find_class(part, names) < 0
        name = part[len(UNKNOWN) :].strip() if doubted else part
        place = find_class(name, names)
        if place >= 0:
            (unknown if doubted else there).add(place)
        elif not doubted and not says_nothing(name, kind):
            strange.append(name)
    return Meaning(frozenset(there), frozenset(unknown - there), tuple(strange))


def forget() -> None:
    """Forget the names and labels that were asked about last, which somebody may have uploaded."""
    _places.cache_clear()
    _read.cache_clear()


def says_nothing(name: str, kind: str) -> bool:
    """Tell whether a name says that none of a model's findings is there; "" says nothing of classes, too."""
    return not name or (kind == FINDINGS and loosen(name) in NOTHING)


def split_label(label: str, info: ModelInfo) -> list[str]:
    """Split a label into the names in it; a class whose name holds a separator stays whole."""
    return _split(label, info.class_names, info.kind)


def _split(label: str, names: tuple[str, ...], kind: str) -> list[str]:
    parts = [label]
    for separator in "|;," if kind == FINDINGS else BETWEEN:
        parts = [
            piece for part in parts for piece in ([part] if find_class(part, names) >= 0 else part.split(separator))
        ]
    return [part.strip() for part in parts]


def find_strange(labels: Iterable[str | None], info: ModelInfo) -> tuple[str, ...]:
    """List the names in labels that are no class of a model, each once, in the order in which they come."""
    if info.kind == NUMBERS:
        return ()
    known = dict.fromkeys(label for label in labels if label is not None)
    return tuple(dict.fromkeys(name for label in known for name in read_label(label, info).strange))


def list_names(labels: Iterable[str | None], info: ModelInfo) -> tuple[str, ...]:
    """List the names in labels, each once, in the order in which they come."""
    known = dict.fromkeys(label for label in labels if label)
    return tuple(
        dict.fromkeys(
            name.removeprefix(UNKNOWN)
            for label in known
            for name in split_label(label, info)
            if not says_nothing(name, info.kind)
        )
    )


def tell_strange(labels: Iterable[str | None], info: ModelInfo) -> str:
    """Say which labels are no class of a model, and which findings no label names; "" if there is nothing to say."""
    counts = Counter(label for label in labels if label is not None)
    if info.kind == NUMBERS or info.gives_map or not counts:
        return ""
    strange, classes = find_strange(counts, info), quote(info.class_names)
    if not strange:
        return tell_unnamed(counts, info)
    if len(strange) == len(list_names(counts, info)):
        who = f"None of the labels {quote(strange)} is" if len(strange) > 1 else f"The label {strange[0]} is not"
        return f"{who} the name of a class ({classes})."
    count = sum(number for label, number in counts.items() if read_label(label, info).strange)
    return (
        f"{count:,} of {counts.total():,} labels name what is no class ({quote(strange)}; the classes are {classes}); "
        f"what they do not tell counts as unknown. {tell_unnamed(counts, info)}".strip()
    )


def tell_unnamed(labels: Iterable[str], info: ModelInfo) -> str:
    """Say which findings no label names, for then it may be that nobody looked for them; "" if all are named."""
    if info.kind != FINDINGS:
        return ""
    meanings = [read_label(label, info) for label in labels]
    named = {place for meaning in meanings for place in meaning.there | meaning.unknown}
    never = [name for place, name in enumerate(info.class_names) if place not in named and not _is_nothing(name)]
    return f"No label names {quote(never)}; each picture with labels counts as without." if never else ""


def _is_nothing(name: str) -> bool:
    return loosen(name) in NOTHING


def quote(names: Sequence[str]) -> str:
    """List names for a sentence, the first few of many."""
    more = f" and {len(names) - QUOTED:,} more" if len(names) > QUOTED else ""
    return ", ".join(names[:QUOTED]) + more
