"""How right a sample model is, and where it looks, on data whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from explainers.attribution.batch import Batch
from explainers.attribution.method import make_method
from explainers.graph.model import Model
from explainers.jobs import Progress
from explainers.targets import Target
from sample_models import SIZE, lesions
from sample_models.data import Data, labels, maps, normalise, written
from sample_models.digits import TRAIN

#: What the lesion models are tested on.
TESTS = ("biased-test", "moved-test", "clean-test")

#: The methods of which the report tells where they look.
METHODS = ("lrp", "gradcam", "integrated-gradients")


def measure_accuracy(model: Model, count: int | None = None) -> Mapping[str, float]:
    """Measure a sample model's accuracy on the first ``count`` pictures of each split for tests.

    For a segmentation it is the intersection over union of each class.
    """
    if model.info.name == "digits":
        return {"test": accuracy(model, written(TRAIN, count and TRAIN + count))}
    if model.info.gives_map:
        return intersection_over_union(model, maps("clean-test", count))
    return {split: accuracy(model, labels(split, count)) for split in TESTS}


def accuracy(model: Model, data: Data) -> float:
    """The share of pictures whose best class is the true one."""
    return float((decide(model, data) == data.truth).float().mean())


def intersection_over_union(model: Model, data: Data) -> Mapping[str, float]:
    """Intersection over union of each class, over all pixels of all pictures."""
    said = decide(model, data)
    found = {}
    for index, name in enumerate(model.info.class_names):
        both, either = (said == index) & (data.truth == index), (said == index) | (data.truth == index)
        found[name] = float(both.sum() / either.sum())
    return found


def decide(model: Model, data: Data) -> Tensor:
    """The best class of every picture, or of every pixel."""
    parts = torch.split(data.images, 50)
    return torch.cat([model(normalise(part, model.info.preprocessing)).argmax(1) for part in parts])


def share_on_band_aid(model: Model, name: str, count: int = 60) -> float:
    """The share of what speaks for "benign" that lies on the band-aid, by a method with its default parameters.

    It is the mean over the first ``count`` benign lesions with a band-aid in the biased test; of signed scores only
    what is positive counts.
    """
    images, masks = benign_with_band_aid(count)
    inputs = normalise(images, model.info.preprocessing).contiguous()
    scores = make_method(name, {}).attribute(Batch(model, inputs, [Target(0)] * len(inputs), Progress()))
    positive = scores.values.sum(1).clamp(min=0)
    return float(((positive * masks).sum((1, 2)) / positive.sum((1, 2))).mean())


def benign_with_band_aid(
    count: int,
) -> tuple[Float[Tensor, "sample 3 height width"], Bool[Tensor, "sample height width"]]:
    """Draw benign lesions of the biased test beside a band-aid, with the masks of the band-aids."""
    cases = [case for case in lesions.split("biased-test") if not case.malignant and "band-aid" in case.artifacts]
    drawn = [
        lesions.draw(case.seed, SIZE, malignant=case.malignant, artifacts=case.artifacts) for case in cases[:count]
    ]
    images = torch.from_numpy(np.stack([lesion.pixels.transpose(2, 0, 1) for lesion in drawn]))
    return images, torch.from_numpy(np.stack([lesion.masks["band-aid"] for lesion in drawn]))
