"""Lesions drawn by all cores. Free of torch, so that the processes that draw start at once."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context

import numpy as np
from jaxtyping import UInt8

from sample_models import SIZE, lesions
from sample_models.lesions import ARTIFACTS, Case


@cache
def draw_split(
    name: str, count: int | None = None
) -> tuple[UInt8[np.ndarray, "sample 3 height width"], UInt8[np.ndarray, "sample height width"]]:
    """Draw the first ``count`` lesions of a split: the pictures, and the maps of what their pixels show."""
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        images, shown = zip(*pool.map(draw_case, lesions.split(name, count), chunksize=25), strict=True)
    return np.stack(images), np.stack(shown)


def draw_case(case: Case) -> tuple[UInt8[np.ndarray, "3 height width"], UInt8[np.ndarray, "height width"]]:
    """Draw one picture, and what each pixel shows: 0 skin, 1 lesion, 2 an artifact, which may cover the lesion."""
    lesion = lesions.draw(case.seed, SIZE, malignant=case.malignant, artifacts=case.artifacts)
    shown = lesion.masks["lesion"].astype(np.uint8)
    for name in ARTIFACTS:
        if name in lesion.masks:
            shown[lesion.masks[name]] = 2
    return lesion.pixels.transpose(2, 0, 1), shown
