"""Boxes and outlines around what is to be seen, from files of COCO and Pascal VOC. Free of torch."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import Any
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Bool
from PIL import Image

from explainers.errors import TableError
from explainers.images import Attachment
from explainers.labels import compose
from explainers.settings import settings
from explainers.texts import decode_text

#: Bounds on a file of annotations.
MAX_BYTES, MAX_BOXES = 64 << 20, 1_000_000


@dataclass(frozen=True)
class Box:
    """Something marked in a picture, in pixels of a picture of this ``size`` (width, height; (0, 0) if not said).

    ``outlines`` are polygons (x, y, x, y, ...); ``runs`` are lengths of pixels outside and inside by turns, column by
    column, as COCO writes a mask.
    """

    name: str
    left: float
    top: float
    right: float
    bottom: float
    size: tuple[int, int] = (0, 0)
    outlines: tuple[tuple[float, ...], ...] = ()
    runs: tuple[int, ...] = ()


def read_annotations(attachment: Attachment) -> dict[str, tuple[Box, ...]]:
    """Read what is marked in pictures, by the names that a file calls these; {} for a file of anything else.

    Raises TableError for one that is too large or broken.
    """
    name, data = attachment.name, attachment.data
    if len(data) > MAX_BYTES:
        raise TableError(f"{name} has {len(data):,} bytes; at most {MAX_BYTES:,} are read of annotations. Split it.")
    text = decode_text(data)
    if text is None:
        raise TableError(f"{name} is no text in UTF-8. Save it anew.")
    try:
        return read_voc(text) if name.lower().endswith(".xml") else read_coco(text)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, ArithmeticError, SyntaxError):
        raise TableError(
            f"{name} cannot be read as annotations. COCO's JSON with images, annotations and categories, or Pascal "
            "VOC's XML was expected."
        ) from None


def read_coco(text: str) -> dict[str, tuple[Box, ...]]:
    """Read COCO's JSON; {} for JSON that has no images and annotations."""
    content = json.loads(text)
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        return {}
    marks = content.get("annotations") or []
    if len(marks) > MAX_BOXES:
        raise ValueError
    names = {one["id"]: compose(str(one["name"])) for one in content.get("categories") or []}
    images = {one["id"]: one for one in content["images"]}
    found = defaultdict[str, list[Box]](list)
    for one in content["images"]:
        found[compose(str(one["file_name"]))] = []
    for mark in marks:
        if mark["image_id"] in images:
            image = images[mark["image_id"]]
            box = read_mark(mark, names, (int(image.get("width") or 0), int(image.get("height") or 0)))
            found[compose(str(image["file_name"]))].append(box)
    return {name: tuple(boxes) for name, boxes in found.items()}


def read_mark(mark: Mapping[str, Any], names: Mapping[Any, str], size: tuple[int, int]) -> Box:
    """Read one of COCO's annotations: a box, polygons, or a mask by its runs."""
    outlines: tuple[tuple[float, ...], ...] = ()
    runs: tuple[int, ...] = ()
    segments = mark.get("segmentation") or ()
    if isinstance(segments, Mapping):
        counts = segments["counts"]
        runs = read_runs(counts) if isinstance(counts, str) else tuple(int(count) for count in counts)
        size = int(segments["size"][1]), int(segments["size"][0])
    else:
        outlines = tuple(tuple(float(number) for number in outline) for outline in segments)
    name = names.get(mark.get("category_id"), str(mark.get("category_id", "")))
    if mark.get("bbox"):
        left, top, width, height = (float(number) for number in mark["bbox"])
        box = left, top, left + width, top + height
    else:
        box = surround(outlines)
    if not all(isfinite(number) for number in (*box, *(number for outline in outlines for number in outline))):
        raise ValueError
    return Box(name, *box, size, outlines, runs)


def surround(outlines: Collection[Sequence[float]]) -> tuple[float, float, float, float]:
    """The box around polygons; empty around none."""
    across = [number for outline in outlines for number in outline[::2]]
    down = [number for outline in outlines for number in outline[1::2]]
    return (min(across), min(down), max(across), max(down)) if across and down else (0.0, 0.0, 0.0, 0.0)


def read_runs(text: str) -> tuple[int, ...]:
    """Read runs that are written as text: groups of five bits, low ones first, differences from the last but one.

    As ``rleFrString`` of pycocotools does.
    """
    runs: list[int] = []
    value, shift = 0, 0
    for sign in text:
        bits = ord(sign) - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value, shift = 0, 0
    return tuple(runs)


def read_voc(text: str) -> dict[str, tuple[Box, ...]]:
    """Read Pascal VOC's XML about one picture; {} for other XML. What declares entities is refused."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError
    root = ElementTree.fromstring(text)
    if root.tag != "annotation" or not (name := root.findtext("filename")):
        return {}
    size = int(root.findtext("size/width") or 0), int(root.findtext("size/height") or 0)
    boxes = []
    for one in root.findall("object"):
        left, top, right, bottom = (
            float(one.findtext(f"bndbox/{side}") or "") for side in ("xmin", "ymin", "xmax", "ymax")
        )
        # The standard counts pixels from 1 and takes the last one in.
        boxes.append(Box(compose(one.findtext("name") or ""), left - 1, top - 1, right, bottom, size))
    return {compose(name): tuple(boxes)}


def draw_mask(boxes: Iterable[Box], size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Draw what is marked as a mask for a picture of a size (width, height): outlines, runs, else the boxes."""
    mask = np.zeros((size[1], size[0]), bool)
    for box in boxes:
        mask |= draw_box(box, size)
    return mask


def draw_box(box: Box, size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Draw one mark as a mask, scaled if it was made on a picture of another size."""
    from skimage.draw import polygon

    own = box.size if min(box.size) > 0 else size
    if own[0] * own[1] > settings().picture_pixels:
        raise TableError(f"A mark was made on a picture of {own[0]} × {own[1]} pixels, which is too large.")
    if box.runs:
        drawn = draw_runs(box.runs, own)
    else:
        drawn = np.zeros((own[1], own[0]), np.uint8)
        for outline in box.outlines or (corners(box),):
            across, down = np.array(outline[::2]), np.array(outline[1::2])
            if 3 <= len(across) == len(down):
                drawn[polygon(down - 0.5, across - 0.5, drawn.shape)] = 255  # a pixel's middle is half way in
    if own == size:
        return drawn > 0
    return np.asarray(Image.fromarray(drawn).resize(size, Image.Resampling.NEAREST)) > 0


def corners(box: Box) -> tuple[float, ...]:
    """The outline of a box."""
    return (box.left, box.top, box.right, box.top, box.right, box.bottom, box.left, box.bottom)


def draw_runs(runs: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """Draw a mask from its runs, column by column; raises TableError unless they are as long as the picture."""
    if min(runs) < 0 or sum(runs) != size[0] * size[1]:
        raise TableError("A mask of the annotations is not as large as its picture. Export it again.")
    flat = np.zeros(sum(runs), np.uint8)
    ends = np.cumsum(runs)
    for first, last in list(pairwise([0, *ends]))[1::2]:
        flat[first:last] = 255
    return np.ascontiguousarray(flat.reshape(size).T)
