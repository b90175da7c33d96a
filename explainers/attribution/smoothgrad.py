"""SmoothGrad: the gradient averaged over noisy copies of the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaxtyping import Float

from explainers.attribution.batch import Batch
from explainers.attribution.method import Method, Scores
from explainers.attribution.perturbation import random_seed
from explainers.parameters import parameter

if TYPE_CHECKING:
    from torch import Tensor

    from explainers.attribution.batch import Index


@dataclass(frozen=True)
class SmoothGrad(Method):
    """The mean gradient over copies with Gaussian noise (Smilkov et al. 2017, arXiv:1706.03825).

    All images of a batch get the same noise, each scaled by its own range of values.
    """

    name = "smoothgrad"
    title = "SmoothGrad"
    summary = "The gradient, averaged over noisy copies of the image so that only what is stable remains."
    citation = "Smilkov et al. 2017, arXiv:1706.03825"
    signed = True
    unit = "logit per unit of input"

    samples: int = parameter(
        24,
        "Noisy copies",
        "How many copies are averaged. More are smoother and slower.",
        low=4,
        high=128,
        step=4,
    )
    noise: float = parameter(
        0.15,
        "Noise",
        "The noise's standard deviation as a share of the span from the image's darkest to its brightest value.",
        low=0,
        high=1,
        step=0.05,
        unit="of the value range",
    )
    seed: int = random_seed("noise")

    def attribute(self, batch: Batch) -> Scores:
        """Average the gradients at the noisy copies."""
        import torch

        inputs, generator = batch.inputs, torch.Generator().manual_seed(self.seed)
        noise = (torch.randn(inputs.shape[1:], generator=generator) for _ in range(self.samples))
        drawn: dict[int, Tensor] = {}  # that of the steps at hand, for all of it may take more than the passes
        spread = self.noise * (inputs.amax((1, 2, 3)) - inputs.amin((1, 2, 3))).view(-1, 1, 1, 1)
        weights = torch.full((self.samples,), 1 / self.samples)

        def disturb(step: Index, image: Index) -> Float[Tensor, "pair channel height width"]:
            steps = step.tolist()
            for old in [old for old in drawn if old < steps[0]]:
                del drawn[old]
            drawn.update({new: next(noise) for new in dict.fromkeys(steps) if new not in drawn})
            return inputs[image] + spread[image] * torch.stack([drawn[place] for place in steps])

        return Scores(batch.sum_gradients(disturb, weights))
