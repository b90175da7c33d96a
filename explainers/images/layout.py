"""What folders say about the pictures in them: labels, and splits such as train and test. One rule for every source."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from explainers.images.naming import natural_key, words

SPLITS = words(
    "train training val valid validation validate dev devel test testing holdout eval evaluation fold "
    "trainval 训练集 训练 验证集 验证 测试集 测试"
)

#: Words of folders that hold pictures of any kind. The plain ones never are a label.
PLAIN = words(
    "image images img imgs data dataset datasets file files jpg jpeg png tif tiff bmp gif webp heic dcm dicom dicoms "
    "unlabeled unlabelled bilder daten"
)
#: These are a label where they stand beside one: case and control, photo and sketch.
USUAL = words(
    "picture pictures pic pics photo photos foto fotos part parts chunk batch set split input inputs raw original "
    "originals slice slices frame frames scan scans series study studies patient patients subject subjects case cases "
    "session visit view exam"
)
#: Words of folders of pictures that mark places in other pictures.
MASKS = words(
    "mask masks seg segs segmentation segmentations annotation annotations groundtruth groundtruths gt label labels"
)
PARTS = words("part chunk batch")

#: Folders as scanners name them, of a patient, a study or a series.
SCANNERS = re.compile(r"(pa|pat|st|stu|se|ser|im|ex)\d{3,}|[psi]\d{5,}", re.IGNORECASE)

#: How many names a sentence or a choice shows.
SHOWN = 5


@dataclass(frozen=True)
class Layout:
    """How folders were understood, in the order of the paths.

    ``splits`` has "" for a picture of none. ``masks`` are pictures in folders such as masks and segmentations, without
    a label. ``level`` is which folder is the label, 1 for the one next to the picture, 0 for none; ``choices`` are the
    levels that there are, each with names found there. ``sentence`` says all that in one line, "" without folders.
    """

    labels: tuple[str | None, ...]
    splits: tuple[str, ...]
    masks: tuple[bool, ...]
    level: int
    choices: Mapping[int, tuple[str, ...]]
    sentence: str


@dataclass(frozen=True)
class Siblings:
    """What the folders in one place are called: alike but for words that say nothing, or some with words that do.

    ``masks`` are the words of masks in names that say more, as in no_mask; ``images`` tells whether one is for pictures
    of any kind.
    """

    alike: bool
    telling: bool
    masks: frozenset[str]
    images: bool


@dataclass(frozen=True, eq=False)
class Place:
    """The folders above one picture, what each of them is, and how many of them are shared by all pictures."""

    folders: tuple[str, ...]
    roles: tuple[str, ...]
    shared: int

    @cached_property
    def telling(self) -> int:
        """Which folder is the label, counted up from the picture; 0 if none is."""
        own = [index for index in range(self.shared, len(self.folders)) if self.roles[index] == "label"]
        numbers = [index for index in range(self.shared, len(self.folders)) if self.roles[index] == "number"]
        chosen = (own or numbers)[-1:]
        return 0 if self.masked or not chosen else len(self.folders) - chosen[0]

    @property
    def masked(self) -> bool:
        """Whether the picture marks places in another one."""
        return "mask" in self.roles[self.shared :]

    def name(self, level: int) -> str | None:
        """The folder at a level; None where there is none but what all pictures share."""
        return self.folders[-level] if 0 < level <= len(self.folders) - self.shared else None

    def split(self, label: int) -> str:
        """The names of splits among the folders but the label."""
        chosen = len(self.folders) - label if label else None
        named = zip(self.folders, self.roles, strict=True)
        return "/".join(name for index, (name, role) in enumerate(named) if role == "split" and index != chosen)


def read_layout(paths: Sequence[tuple[str, ...]], level: int | None = None) -> Layout:
    """Understand pictures' paths, each the parts of a path with the file's name last.

    The label is the folder next to a picture, but for splits, which are kept apart, and for folders that say nothing,
    such as images; a folder around everything says nothing either. ``level`` chooses another one.
    """
    places = find_places(paths)
    each = list(dict.fromkeys(places))  # one for all pictures of a folder
    counts = Counter(places)
    votes: Counter[int] = Counter()
    for place in each:
        votes[place.telling] += counts[place]
    usual = max(sorted(votes.keys() - {0}), key=votes.__getitem__, default=0)
    chosen = usual if level is None else level
    levels = {place: place.telling if chosen == usual else chosen * bool(place.name(chosen)) for place in each}
    names = {place: place.name(levels[place]) for place in each}
    labels = tuple(map(names.__getitem__, places))
    kept = {place: place.split(levels[place]) for place in each}
    splits = tuple(map(kept.__getitem__, places))
    masks = tuple(place.masked and chosen == usual for place in places)
    deepest = max((len(place.folders) - place.shared for place in each), default=0)
    choices = {number: name_some([place.name(number) for place in each]) for number in range(deepest + 1)}
    sentence = describe(labels, splits, masks, chosen) if any(place.folders for place in each) else ""
    return Layout(labels, splits, masks, chosen, choices, sentence)


def find_places(paths: Sequence[tuple[str, ...]]) -> list[Place]:
    """Find out what each folder is, by its own name and by the names beside it."""
    keys = [(path[:-1], is_scan(path[-1])) for path in paths]
    folders = {folders for folders, _ in keys}
    shared = count_shared(folders)
    beside: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for path in folders:
        for depth, name in enumerate(path):
            beside[path[:depth]].add(name)
    siblings = {above: sum_up(names) for above, names in beside.items()}
    roles: dict[tuple[tuple[str, ...], bool], str] = {}
    known = {}
    for path, scan in set(keys):
        chain = [path[: depth + 1] for depth in range(len(path))]
        for one in chain:
            if (one, scan) not in roles:
                roles[one, scan] = name_role(one[-1], siblings[one[:-1]], scan)
        known[path, scan] = Place(path, tuple(roles[one, scan] for one in chain), shared)
    return [known[key] for key in keys]


def sum_up(names: Collection[str]) -> Siblings:
    """Sum up what the folders in one place are called."""
    rests = {name: remainder(name) for name in names}
    telling = [name for name, rest in rests.items() if rest]
    alike = len(rests) > 1 and len(set(rests.values())) == 1
    images = any(rest <= PLAIN for rest in map(split_words, names) if rest)
    return Siblings(alike, bool(telling), frozenset().union(*map(split_words, telling)) & MASKS, images)


def count_shared(folders: Collection[tuple[str, ...]]) -> int:
    """How many folders all paths begin with: paths between the first and the last in order begin as these do."""
    first, last = min(folders, default=()), max(folders, default=())
    return next(
        (depth for depth, (one, other) in enumerate(zip(first, last, strict=False)) if one != other),
        min(len(first), len(last)),
    )


def is_scan(file_name: str) -> bool:
    """Whether a file's name is one of a DICOM file: they often have no ending."""
    _, dot, ending = file_name.rpartition(".")
    return not dot or not ending.isalpha() or ending.lower() in ("dcm", "dicom", "ima")


def name_role(name: str, siblings: Siblings, scan: bool) -> str:
    """Say what a folder is: "label", "number" (a label if there is no other), "split", "mask" or "container"."""
    own, rest = split_words(name), remainder(name)
    if not own:
        return name_number(name, scan)
    in_parts = not PARTS.isdisjoint(own) and name[-1].isdecimal()
    if SCANNERS.fullmatch(name):
        return "container"
    if rest and siblings.images and not MASKS.isdisjoint(own):
        return "mask"
    if rest and not siblings.alike and not in_parts:
        return "label"
    if not MASKS.isdisjoint(own):
        return "mask" if rest or siblings.masks.isdisjoint(own) else "label"
    if not SPLITS.isdisjoint(own):
        return "split"
    if not rest and not own <= PLAIN and siblings.telling:
        return "label"
    if not own.isdisjoint(PLAIN | USUAL):
        return "container"
    return name_number(name, scan) if sum(map(str.isdecimal, name)) >= 3 else "label"


def name_number(name: str, scan: bool) -> str:
    """Say what a folder is whose name has no letters: a class, or the number of a patient, a study or a series."""
    runs = re.findall(r"\d+", name)
    if len(runs) >= 5 or (scan and sum(map(len, runs)) >= 3):
        return "container"
    return "number" if runs and (scan or sum(map(len, runs)) >= 3) else "label"


def split_words(name: str) -> frozenset[str]:
    """Take the words out of a name, in small letters."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", re.sub(r"^(\d+|[A-Za-z])[.)]\s+", "", name))  # 1. Images
    joined = re.sub(r"(?i)(hold|ground)[\W_](out|truths?)", r"\1\2", spaced)
    return frozenset(word.casefold() for word in re.findall(r"[^\W\d_]+", joined))


def remainder(name: str) -> frozenset[str]:
    """What is left of a name without its numbers and without words that say nothing about what a picture shows."""
    own = split_words(name)
    return own - SPLITS - PLAIN - USUAL - MASKS if own else frozenset([name])


def name_some(names: Sequence[str | None]) -> tuple[str, ...]:
    """The first of the names in natural order, each once."""
    return tuple(sorted({name for name in names if name}, key=lambda name: natural_key([name])))[:SHOWN]


def describe(labels: Sequence[str | None], splits: Sequence[str], masks: Sequence[bool], level: int) -> str:
    """Say in one line how folders were understood."""
    parts = ["Folders give no labels"]
    if found := {label for label in labels if label}:
        where = "the folders next to the pictures" if level == 1 else f"the folders {level} levels above the pictures"
        more = f" and {len(found) - SHOWN:,} more" if len(found) > SHOWN else ""
        parts = [f"Labels are {where}: {', '.join(name_some(labels))}{more}"]
    if kept := sorted({split for split in splits if split}, key=lambda name: (order_split(name), natural_key([name]))):
        words = [*kept[:SHOWN], "others"] if len(kept) > SHOWN else kept
        parts.append(f"{join(words)} {'are' if len(words) > 1 else 'is'} kept as the split")
    if loose := sum(not label and not mask for label, mask in zip(labels, masks, strict=True)) * bool(found):
        parts.append(f"{loose:,} picture{'s' * (loose > 1)} beside them {'have' if loose > 1 else 'has'} no label")
    if marks := sum(masks):
        parts.append(f"{marks:,} picture{'s' * (marks > 1)} in folders of masks {'have' if marks > 1 else 'has'} none")
    return "; ".join(parts) + "."


def order_split(name: str) -> int:
    """Where a split stands in the usual order: what is learned from, what settings are chosen by, what is tested on."""
    kinds = ("train", "fold", "val", "dev", "test", "hold")
    return next((place for place, kind in enumerate(kinds) if kind in name.casefold()), len(kinds))


def join(words: Sequence[str]) -> str:
    """Put words into a sentence."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
