"""Occlusion: a patch slides over the image, and the score's drop is written where it lay."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaxtyping import Float

from explainers.attribution.batch import Batch
from explainers.attribution.method import Method, Scores
from explainers.attribution.perturbation import cover, masked_scores
from explainers.errors import SelectionError
from explainers.parameters import parameter

if TYPE_CHECKING:
    from torch import Tensor

    from explainers.attribution.batch import Index


@dataclass(frozen=True)
class Occlusion(Method):
    """Occlusion by a sliding window (Zeiler and Fergus 2014, arXiv:1311.2901), averaged where windows overlap.

    The window reaches every border: the last one of a row or column is cut off there.
    """

    name = "occlusion"
    title = "Occlusion"
    summary = "How much the score drops when a patch around a pixel is covered."
    citation = "Zeiler and Fergus 2014, arXiv:1311.2901"
    signed = True

    window: int = parameter(
        32, "Patch size", "The side of the square that covers the image.", low=4, high=128, step=4, unit="pixels"
    )
    stride: int = parameter(
        16,
        "Step",
        "How far the patch moves at a time. Smaller steps are finer and slower; at most the patch's size.",
        low=2,
        high=128,
        step=2,
        unit="pixels",
    )
    fill: str = cover("Cover", "What the patch shows instead of the image.")

    def attribute(self, batch: Batch) -> Scores:
        """Score the image under each window; raises SelectionError if the windows leave gaps."""
        import torch

        if self.stride > self.window:
            raise SelectionError(
                f"The patch of {self.window} pixels moves by {self.stride} pixels and would leave gaps. "
                "Choose a step that is at most the patch's size."
            )
        rows, columns = (self.windows(length) for length in batch.inputs.shape[2:])
        count = len(rows) * len(columns)

        def see(step: Index) -> Float[Tensor, "pair 1 height width"]:
            row, column = rows[step // len(columns)], columns[step % len(columns)]
            return 1 - row[:, None, :, None] * column[:, None, None]

        covered = masked_scores(batch, self.fill, see, count)
        drops = (batch.evaluate(batch.inputs) - covered).view(len(rows), len(columns), -1)
        overlap = rows.sum(0)[:, None] * columns.sum(0)
        return Scores((torch.einsum("rcb,rh,cw->bhw", drops, rows, columns) / overlap)[:, None])

    def windows(self, length: int) -> Float[Tensor, "window length"]:
        """Place the windows along one side: 1 where a window lies, 0 elsewhere."""
        import torch

        starts = torch.arange(max(0, math.ceil((length - self.window) / self.stride)) + 1) * self.stride
        offset = torch.arange(length) - starts[:, None]
        return ((offset >= 0) & (offset < self.window)).float()
