"""What is learnt from, and tested on, as tensors in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor

from explainers.preprocessing import Preprocessing
from sample_models import digits, lesions
from sample_models.drawing import draw_split
from sample_models.lesions import CLASSES


@dataclass(frozen=True, eq=False)
class Data:
    """Pictures, and what is to be learnt of them: a class each, or a map of classes each."""

    images: UInt8[Tensor, "sample channel height width"]
    truth: Integer[Tensor, "sample *map"]

    def __len__(self) -> int:
        return len(self.images)


def labels(split: str, count: int | None = None) -> Data:
    """Give the first ``count`` lesions of a split with their labels."""
    images, _ = draw_split(split, count)
    truth = [CLASSES.index(case.label) for case in lesions.split(split, count)]
    return Data(torch.from_numpy(images), torch.tensor(truth))


def maps(split: str, count: int | None = None) -> Data:
    """Give the first ``count`` lesions of a split with what each pixel shows: 0 skin, 1 lesion, 2 an artifact."""
    images, shown = draw_split(split, count)
    return Data(torch.from_numpy(images), torch.from_numpy(shown))


def written(first: int, last: int | None = None) -> Data:
    """Give the handwritten digits in a range of rows."""
    rows = digits.read_rows()[first:last]
    images = torch.from_numpy(np.stack([digits.draw(row) for row in rows]))
    return Data(images[:, None], torch.from_numpy(rows[:, 64].astype(np.int64)))


def normalise(
    images: UInt8[Tensor, "batch channel height width"], preprocessing: Preprocessing
) -> Float[Tensor, "batch channel height width"]:
    """Scale a batch as ``Preprocessing.normalise`` does one picture."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    return ((images.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)
