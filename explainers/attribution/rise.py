"""RISE: the image is seen through random masks, and masks that keep the score high add up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaxtyping import Float

from explainers.attribution.batch import Batch, chunks
from explainers.attribution.method import Method, Scores
from explainers.attribution.perturbation import cover, masked_scores, random_seed
from explainers.memory import IMAGES_PER_PASS
from explainers.parameters import parameter

if TYPE_CHECKING:
    from torch import Tensor

    from explainers.attribution.batch import Index


@dataclass(frozen=True)
class Rise(Method):
    """RISE (Petsiuk et al. 2018, arXiv:1806.07421): the mean score over random masks, weighted by the masks.

    The mean of all scores is taken off first. The paper's map differs from this one by a constant, up to noise that
    grows with the constant; logits, unlike the paper's probabilities, have no zero to count from.
    """

    name = "rise"
    title = "RISE"
    summary = "How much higher the score is on average when a pixel is visible through a random mask."
    citation = "Petsiuk et al. 2018, arXiv:1806.07421"
    signed = True

    masks: int = parameter(
        400,
        "Masks",
        "How many random masks are tried. More are less noisy and slower.",
        low=50,
        high=8000,
        step=50,
    )
    cells: int = parameter(
        7, "Cells", "How many cells a mask has in a row; more cells are finer and need more masks.", low=2, high=32
    )
    probability: float = parameter(
        0.5, "Visible share", "How much of the image a mask leaves visible, on average.", low=0.1, high=0.9, step=0.05
    )
    fill: str = cover("Cover", "What is seen where a mask hides the image.")
    seed: int = random_seed("masks")

    def attribute(self, batch: Batch) -> Scores:
        """Score the images under the masks and add up the masks by the scores."""
        import torch

        height, width = batch.inputs.shape[2:]
        generator = torch.Generator().manual_seed(self.seed)
        visible = torch.rand(self.masks, 1, self.cells, self.cells, generator=generator) < self.probability
        shifts = torch.rand(self.masks, 2, generator=generator)

        def grow(step: Index) -> Float[Tensor, "pair 1 height width"]:
            return grow_masks(visible[step].float(), shifts[step], height, width)

        found = masked_scores(batch, self.fill, grow, self.masks)
        leads = (found - found.mean(0)) / (self.masks * self.probability)
        values = batch.inputs.new_zeros(len(batch), 1, height, width)
        for part in chunks(self.masks, IMAGES_PER_PASS):
            step = torch.arange(part.start, part.stop)
            values += torch.einsum("kb,kchw->bchw", leads[step], grow(step))
        return Scores(values)


def grow_masks(
    visible: Float[Tensor, "mask 1 cells cells"], shifts: Float[Tensor, "mask 2"], height: int, width: int
) -> Float[Tensor, "mask 1 height width"]:
    """Enlarge masks smoothly to a cell more than the image and cut its size out of them, shifted by 0..1 cells."""
    import torch
    from torch.nn.functional import interpolate

    cells = visible.shape[-1]
    cell = math.ceil(height / cells), math.ceil(width / cells)
    large = interpolate(visible, ((cells + 1) * cell[0], (cells + 1) * cell[1]), mode="bilinear", align_corners=False)
    corners = (shifts * torch.tensor(cell)).long().tolist()
    return torch.stack(
        [mask[:, top : top + height, left : left + width] for mask, (top, left) in zip(large, corners, strict=True)]
    )
