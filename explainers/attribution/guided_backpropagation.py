"""Guided backpropagation: the gradient without the paths that would lower the score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from explainers.attribution.gradients import plain_gradient
from explainers.attribution.method import Method, Scores
from explainers.graph.model import Model
from explainers.jobs import Progress
from explainers.results import ModelInfo, Target

aten = torch.ops.aten


def guide(operator: Callable[..., Any]) -> Callable[..., Any]:
    """Let an operator pass positive gradients only (its inputs may be constants, which have none)."""

    def guided(*arguments: Any, **keywords: Any) -> Any:
        output = operator(*arguments, **keywords)
        if output.requires_grad:
            output.register_hook(lambda gradient: gradient.clamp(min=0))
        return output

    return guided


#: The ReLU family, guided.
GUIDED = {
    operator: guide(operator)
    for operator in (aten.relu.default, aten.relu6.default, aten.hardtanh.default, aten.leaky_relu.default)
}

#: Activations of other shapes, on which guiding is not defined.
SMOOTH = (aten.gelu.default, aten.silu.default, aten.hardswish.default, aten.elu.default, aten.mish.default)


@dataclass(frozen=True)
class GuidedBackpropagation(Method):
    """The gradient with only positive gradients let through each ReLU (Springenberg et al. 2015, arXiv:1412.6806)."""

    name = "guided-backpropagation"
    title = "Guided backpropagation"
    summary = "Which edges and textures the network picks up; sharp, but says little about the class."
    citation = "Springenberg et al. 2015, arXiv:1412.6806"
    signed = True
    unit = "logit per unit of input"

    def attribute(
        self,
        model: Model,
        inputs: Float[Tensor, "batch channel height width"],
        targets: Sequence[Target],
        progress: Progress,
    ) -> Scores:
        """Differentiate once, guided at every ReLU."""
        return Scores(plain_gradient(model, inputs, targets, progress, GUIDED))

    @classmethod
    def unsuitable(cls, info: ModelInfo) -> str | None:
        """Refuse models without ReLUs and models with smooth activations, too."""
        smooth = [str(operator).split(".")[1] for operator in SMOOTH if str(operator) in info.operators]
        if smooth or not any(str(operator) in info.operators for operator in GUIDED):
            found = f"activations of the kind {' and '.join(smooth)}" if smooth else "none"
            return f"{cls.title} is defined for networks of ReLUs; this model has {found}. Choose another method."
        return super().unsuitable(info)
