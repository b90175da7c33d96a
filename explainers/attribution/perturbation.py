"""What methods have in common that hide parts of the image and look how the score changes. Free of torch at import."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jaxtyping import Float

from explainers.attribution.batch import Batch
from explainers.parameters import parameter
from explainers.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import Tensor

    from explainers.attribution.batch import Index

    #: Makes masks from the indices of steps: 1 keeps a pixel, 0 hides it.
    Masks = Callable[[Index], Float[Tensor, "pair 1 height width"]]

#: Images without information: black, the image's own mean colour, or 8 x 8 cells of colour left of the image.
BASELINES = ("black", "mean colour", "blurred")


def cover(title: str, help: str) -> Any:
    """Declare the parameter of what stands for no information."""
    return parameter("mean colour", title, help, choices=BASELINES)


def random_seed(what: str) -> Any:
    """Declare the parameter of a random seed, by what it draws."""
    return parameter(0, "Random seed", f"The same seed gives the same {what}.", low=0, high=2**31 - 1)


def baseline(
    preprocessing: Preprocessing, inputs: Float[Tensor, "batch channel height width"], kind: str
) -> Float[Tensor, "batch channel height width"]:
    """Make images without information, one for each input; ``kind`` is one of BASELINES."""
    from torch.nn.functional import adaptive_avg_pool2d, interpolate

    if kind == "black":
        mean, std = inputs.new_tensor(preprocessing.mean), inputs.new_tensor(preprocessing.std)
        return (-mean / std).view(1, -1, 1, 1).expand_as(inputs)
    cells = adaptive_avg_pool2d(inputs, 1 if kind == "mean colour" else 8)
    return interpolate(cells, inputs.shape[2:], mode="bilinear", align_corners=False)


def masked_scores(batch: Batch, fill: str, masks: Masks, count: int) -> Float[Tensor, "mask batch"]:
    """Score each image under each of ``count`` masks; where a mask is 0 the baseline ``fill`` is seen instead."""
    import torch

    hidden, found = baseline(batch.model.info.preprocessing, batch.inputs, fill), []
    for step, image in batch.sweep(count):
        seen = torch.lerp(hidden[image], batch.inputs[image], masks(step))
        found.append(batch.score(seen, image))
    return torch.cat(found).view(count, len(batch))
