"""Which rules relevance follows, as a person chooses them. Free of torch at import."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from explainers.parameters import parameter
from explainers.relevance import COMPOSITES

if TYPE_CHECKING:
    from explainers.graph.model import Model
    from explainers.relevance.composites import Composite


@dataclass(frozen=True)
class RuleChoice:
    """The parameters of every question that relevance answers."""

    composite: str = parameter(
        "automatic",
        "Rules",
        "Which rule is used in which layer; automatic chooses for the kind of model.",
        choices=("automatic", *COMPOSITES),
    )
    epsilon: float = parameter(
        1e-6,
        "Epsilon",
        "Absorbs weak and contradictory relevance in epsilon rules; larger makes maps sparser and less noisy.",
        low=1e-9,
        high=1.0,
        step=1e-6,
    )
    gamma: float = parameter(
        0.25, "Gamma", "How much gamma rules favour what speaks for the class.", low=0.0, high=10.0, step=0.05
    )
    overrides: str = parameter(
        "",
        "Other rules for some layers",
        "Pairs of a pattern on layer names and a rule, such as: conv_stem=flat, blocks.6.*=epsilon. "
        "The first that matches wins.",
        kind="text",
    )

    def choose_rules(self, model: Model) -> tuple[Composite, str]:
        """Make the composite for a model; returns it with sentences that say why, and what differs."""
        from explainers.relevance.composites import assign, choose_composite, composite, read_overrides

        name, reason = choose_composite(model) if self.composite == "automatic" else (self.composite, "")
        chosen = composite(name, model.info.preprocessing, self.epsilon, self.gamma)
        chosen = replace(chosen, overrides=read_overrides(model, self.overrides, self.epsilon, self.gamma))
        return chosen, " ".join(filter(None, (reason, assign(model, chosen).note)))
