"""Pictures that mark places in other pictures, known by their names. Free of torch."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import takewhile
from operator import eq

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from explainers.cases.annotations import draw_mask
from explainers.cases.dataset import Dataset
from explainers.cases.pairing import ENDING, split_path
from explainers.images import Picture, Sample
from explainers.labels import fold

#: What a mask's name adds to that of its picture: x_mask, x_segmentation, x-mask-0, x_lesion_mask_1.
ADDED = re.compile(
    r"(?P<picture>.+?)(?:[ _.-]+(?:lesion|tumou?r|organ))?"
    r"[ _.-]+(?:masks?|seg|segm|segmentations?|annotations?|anno|groundtruth|gt|roi|labels?)(?:[ _-]*\(?\d+\)?)?",
    re.IGNORECASE,
)

#: Without one of these, a name has nothing added; quicker to tell.
WORD = re.compile("mask|seg|anno|groundtruth|gt|roi|label")

#: A mask with no more different values than this has numbers of classes, not shades.
SHADES = 32


def find_masks(names: Sequence[str], in_folders: Sequence[bool]) -> dict[int, int]:
    """Find the pictures that are masks of others, by their names; returns the number of the picture for each.

    ``in_folders`` marks what lies in folders of masks. What has no picture that goes with it stays a picture.
    """
    paths = [split_path(name) for name in names]
    stems = [fold(re.sub(ENDING, "", path[-1])) for path in paths]
    added = [ADDED.fullmatch(stem) if WORD.search(stem) else None for stem in stems]
    candidates = [place for place in range(len(names)) if added[place] or in_folders[place]]
    if not candidates:
        return {}
    others, by_stem, by_folder = set(range(len(names))) - set(candidates), defaultdict(list), defaultdict(list)
    for place in sorted(others):
        by_stem[stems[place]].append(place)
        for depth in range(len(paths[place])):
            by_folder[tuple(paths[place][:depth])].append(place)
    found = {}
    for place in candidates:
        match = added[place]
        near = by_stem.get(match["picture"], []) if match else []
        near = near or (by_stem.get(stems[place], []) if in_folders[place] else [])
        if not near and in_folders[place]:  # several masks beside the one picture that they belong to
            near = by_folder.get(tuple(paths[place][:-2]), []) if len(paths[place]) > 2 else []
        if (partner := choose_nearest(paths, place, near)) is not None:
            found[place] = partner
    return found


def choose_nearest(paths: Sequence[Sequence[str]], place: int, near: Sequence[int]) -> int | None:
    """Choose the one whose path has most in common with that of a mask; None if there is not one alone."""
    shared = [sum(takewhile(bool, map(eq, paths[place], paths[other]))) for other in near]
    best = [other for other, count in zip(near, shared, strict=True) if count == max(shared)]
    return best[0] if len(best) == 1 else None


def group_masks(found: Mapping[int, int]) -> dict[int, list[int]]:
    """List the masks of each picture."""
    groups = defaultdict[int, list[int]](list)
    for mask, picture in found.items():
        groups[picture].append(mask)
    return dict(groups)


def read_mask(dataset: Dataset, row: int, size: tuple[int, int]) -> Bool[np.ndarray, "h w"] | None:
    """Read which places of an entry are marked, by its masks or else by its boxes and outlines; None without any.

    ``size`` (width, height) is that of the picture. Raises ImageError and TableError.
    """
    if dataset.masks.get(row):
        marked = [to_mask(open_entry(mask).pixels, size) for mask in dataset.masks[row]]
        return np.asarray(np.any(marked, axis=0))
    return draw_mask(dataset.boxes[row], size) if dataset.boxes.get(row) else None


def open_entry(entry: Sample | Picture) -> Picture:
    """Give the picture of an entry."""
    return entry if isinstance(entry, Picture) else entry.read()


def to_mask(pixels: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Make a mask of a picture that is one: all that is not black, of many shades all brighter than half the range."""
    grey = pixels.max(axis=-1)
    shades = np.count_nonzero(np.bincount(grey.ravel(), minlength=256))
    mask: np.ndarray = grey > (0 if shades <= SHADES else int(grey.max()) // 2)
    if mask.shape != size[::-1]:
        mask = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    return mask
