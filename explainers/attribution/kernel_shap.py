"""Kernel SHAP: a fair share of the score for each patch of the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from explainers.attribution.method import Method, Scores
from explainers.attribution.perturbation import BASELINES, baseline, masked_scores
from explainers.graph.model import Model
from explainers.jobs import Progress
from explainers.parameters import parameter
from explainers.results import Target


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
    fill: str = parameter("mean colour", "Cover", "What is seen where a patch is hidden.", choices=BASELINES)
    seed: int = parameter(0, "Random seed", "The same seed tries the same combinations.", low=0, high=2**31 - 1)

    def attribute(
        self,
        model: Model,
        inputs: Float[Tensor, "batch channel height width"],
        targets: Sequence[Target],
        progress: Progress,
    ) -> Scores:
        """Score the coalitions and solve for the patches' values."""
        patch = patch_of_pixel(inputs.shape[2], inputs.shape[3], self.patches)
        coalitions = draw_coalitions(self.patches**2, self.trials, torch.Generator().manual_seed(self.seed))
        hidden = baseline(model.info.preprocessing, inputs, self.fill)
        found = masked_scores(
            model, inputs, hidden, lambda step: coalitions[step][:, None, patch], len(coalitions), targets, progress
        )
        values = solve_shapley(coalitions.double(), found.double())
        values /= torch.bincount(patch.flatten(), minlength=len(values)).clamp(min=1)[:, None]
        return Scores(values.to(inputs).T[:, None, patch], expected=found[1] - found[0])


def patch_of_pixel(height: int, width: int, patches: int) -> Int[Tensor, "height width"]:
    """Number the patches of a grid, row by row, and tell for each pixel in which one it lies."""
    rows, columns = torch.arange(height) * patches // height, torch.arange(width) * patches // width
    return rows[:, None] * patches + columns


def draw_coalitions(patches: int, trials: int, generator: torch.Generator) -> Float[Tensor, "coalition patch"]:
    """Draw coalitions by the Shapley kernel, each with its complement, after the empty and the full one."""
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
    empty, lead = found[0], found[1] - found[0]
    share = coalitions.mean(1, keepdim=True)
    deviations: Tensor = torch.linalg.lstsq(coalitions - share, found - empty - share * lead, driver="gelsd").solution
    values: Tensor = lead / coalitions.shape[1] + deviations
    return values
