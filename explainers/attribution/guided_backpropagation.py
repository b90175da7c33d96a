"""Guided backpropagation: the gradient without the paths that would lower the score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, reduce
from typing import TYPE_CHECKING, Any

from explainers.attribution.batch import Batch
from explainers.attribution.method import Method, Scores
from explainers.info import ModelInfo

if TYPE_CHECKING:
    from explainers.graph.model import Operators

#: The ReLU family, which is guided.
RELUS = ("aten.relu.default", "aten.relu6.default", "aten.hardtanh.default", "aten.leaky_relu.default")

#: Activations of other shapes, on which guiding is not defined.
SMOOTH = ("aten.gelu.default", "aten.silu.default", "aten.hardswish.default", "aten.elu.default", "aten.mish.default")


@cache
def guided_operators() -> Operators:
    """The ReLU family, each letting positive gradients pass only."""
    import torch

    operators: list[Any] = [reduce(getattr, name.split("."), torch.ops) for name in RELUS]
    return {operator: guide(operator) for operator in operators}


def guide(operator: Callable[..., Any]) -> Callable[..., Any]:
    """Let an operator pass positive gradients only (its inputs may be constants, which have none)."""

    def guided(*arguments: Any, **keywords: Any) -> Any:
        output = operator(*arguments, **keywords)
        if output.requires_grad:
            output.register_hook(lambda gradient: gradient.clamp(min=0))
        return output

    return guided


@dataclass(frozen=True)
class GuidedBackpropagation(Method):
    """The gradient with only positive gradients let through each ReLU (Springenberg et al. 2015, arXiv:1412.6806)."""

    name = "guided-backpropagation"
    title = "Guided backpropagation"
    summary = "Which edges and textures the network picks up; sharp, but says little about the class."
    citation = "Springenberg et al. 2015, arXiv:1412.6806"
    signed = True
    unit = "logit per unit of input"

    def attribute(self, batch: Batch) -> Scores:
        """Differentiate once, guided at every ReLU."""
        return Scores(batch.gradient(guided_operators()))

    @classmethod
    def unsuitable(cls, info: ModelInfo) -> str | None:
        """Refuse models without ReLUs and models with smooth activations, too."""
        smooth = [name.split(".")[1] for name in SMOOTH if name in info.operators]
        if smooth or not any(name in info.operators for name in RELUS):
            found = f"activations of the kind {' and '.join(smooth)}" if smooth else "none"
            return f"{cls.title} is defined for networks of ReLUs; this model has {found}. Choose another method."
        return super().unsuitable(info)
