"""What methods have in common that hide parts of the image and look how the score changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from explainers.attribution.method import IMAGES_PER_PASS, Index, chunks, sweep
from explainers.graph.model import Model, score
from explainers.jobs import Progress
from explainers.preprocessing import Preprocessing
from explainers.results import Target

#: Images without information: black, the image's own mean colour, or 8 x 8 cells of colour left of the image.
BASELINES = ("black", "mean colour", "blurred")

#: Makes masks from the indices of steps: 1 keeps a pixel, 0 hides it.
Masks = Callable[[Index], Float[Tensor, "pair 1 height width"]]


def baseline(
    preprocessing: Preprocessing, inputs: Float[Tensor, "batch channel height width"], kind: str
) -> Float[Tensor, "batch channel height width"]:
    """Make images without information, one for each input; ``kind`` is one of BASELINES."""
    if kind == "black":
        mean, std = inputs.new_tensor(preprocessing.mean), inputs.new_tensor(preprocessing.std)
        return (-mean / std).view(1, -1, 1, 1).expand_as(inputs)
    cells = adaptive_avg_pool2d(inputs, 1 if kind == "mean colour" else 8)
    return interpolate(cells, inputs.shape[2:], mode="bilinear", align_corners=False)


def evaluate(
    model: Model, inputs: Float[Tensor, "batch channel height width"], targets: Sequence[Target]
) -> Float[Tensor, " batch"]:
    """Score inputs without gradients."""
    parts = chunks(len(targets), IMAGES_PER_PASS)
    return torch.cat([score(model(inputs[p.start : p.stop]), targets[p.start : p.stop]) for p in parts])


def masked_scores(
    model: Model,
    inputs: Float[Tensor, "batch channel height width"],
    hidden: Float[Tensor, "batch channel height width"],
    masks: Masks,
    count: int,
    targets: Sequence[Target],
    progress: Progress,
) -> Float[Tensor, "mask batch"]:
    """Score each image under each of ``count`` masks; where a mask is 0 the pixels of ``hidden`` are seen instead."""
    found = []
    for step, image in sweep(count, len(targets), progress):
        seen = torch.lerp(hidden[image], inputs[image], masks(step))
        found.append(score(model(seen), [targets[i] for i in image.tolist()]))
    return torch.cat(found).view(count, len(targets))
