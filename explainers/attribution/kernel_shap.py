"""Kernel SHAP: a fair share of the score for each patch of the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaxtyping import Float, Float64, Int

from explainers.attribution.batch import Batch
from explainers.attribution.method import Method, Scores
from explainers.attribution.perturbation import cover, masked_scores, random_seed
from explainers.parameters import parameter

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class KernelShap(Method):
    """Shapley values of square patches by Kernel SHAP (Lundberg and Lee 2017, arXiv:1705.07874).

    Coalitions of visible patches are drawn in pairs with their complements (Covert and Lee 2021, arXiv:2012.01536) and
    are the same for all images of a batch; the sum f(image) - f(all hidden) is exact by construction. A patch's value
    is spread evenly over its pixels.
    """

    name = "kernel-shap"
    title = "Kernel SHAP"
    summary = "Each patch's fair share of the score, over all combinations of visible and hidden patches."
    citation = "Lundberg and Lee 2017, arXiv:1705.07874"
    signed = True

    patches: int = parameter(
        6, "Patches", "How many patches the image has in a row; more are finer and need more trials.", low=2, high=16
    )
    trials: int = parameter(
        256, "Trials", "How many combinations are tried. More are more exact and slower.", low=32, high=8192, step=32
    )
    fill: str = cover("Cover", "What is seen where a patch is hidden.")
    seed: int = random_seed("combinations")

    def attribute(self, batch: Batch) -> Scores:
        """Score the coalitions and solve for the patches' values."""
        import torch

        patch = patch_of_pixel(batch.inputs.shape[2], batch.inputs.shape[3], self.patches)
        coalitions = draw_coalitions(self.patches**2, self.trials, torch.Generator().manual_seed(self.seed))
        found = masked_scores(batch, self.fill, lambda step: coalitions[step][:, None, patch], len(coalitions))
        values = solve_shapley(coalitions.double(), found.double())
        values /= torch.bincount(patch.flatten(), minlength=len(values)).clamp(min=1)[:, None]
        return Scores(values.to(batch.inputs).T[:, None, patch], expected=found[1] - found[0])


def patch_of_pixel(height: int, width: int, patches: int) -> Int[Tensor, "height width"]:
    """Number the patches of a grid, row by row, and tell for each pixel in which one it lies."""
    import torch

    rows, columns = torch.arange(height) * patches // height, torch.arange(width) * patches // width
    return rows[:, None] * patches + columns


def draw_coalitions(patches: int, trials: int, generator: torch.Generator) -> Float[Tensor, "coalition patch"]:
    """Draw coalitions by the Shapley kernel, each with its complement, after the empty and the full one."""
    import torch

    size = torch.arange(1, patches)
    chosen = 1 + torch.multinomial(1 / (size * (patches - size)), trials // 2, replacement=True, generator=generator)
    ranks = torch.rand(trials // 2, patches, generator=generator).argsort(1).argsort(1)
    drawn = (ranks < chosen[:, None]).float()
    ends = torch.tensor([0.0, 1.0])[:, None].expand(2, patches)
    return torch.cat([ends, drawn, 1 - drawn])


def solve_shapley(
    coalitions: Float64[Tensor, "coalition patch"], found: Float64[Tensor, "coalition batch"]
) -> Float64[Tensor, "patch batch"]:
    """Fit the patches' values to the coalitions' scores by least squares, their sum held at f(full) - f(empty).

    The first two coalitions are the empty and the full one. Values are their mean plus a part that sums to zero; the
    rows of the centred coalitions do too, so the least-squares solution of smallest norm keeps the sum.
    """
    import torch

    empty, lead = found[0], found[1] - found[0]
    share = coalitions.mean(1, keepdim=True)
    deviations: Tensor = torch.linalg.lstsq(coalitions - share, found - empty - share * lead, driver="gelsd").solution
    values: Tensor = lead / coalitions.shape[1] + deviations
    return values
