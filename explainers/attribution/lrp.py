"""Layer-wise relevance propagation: one forward pass, one walk backwards over its tape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from explainers.attribution.method import Method, Scores, sweep
from explainers.errors import SelectionError
from explainers.graph.model import Model, spatial_map
from explainers.jobs import Progress
from explainers.parameters import parameter
from explainers.relevance import rules
from explainers.relevance.composites import COMPOSITES, Composite, choose_composite
from explainers.relevance.composites import composite as make_composite
from explainers.relevance.propagation import Pass, propagate
from explainers.relevance.rules import Rule
from explainers.relevance.seeds import seed_targets
from explainers.relevance.tape import record
from explainers.results import Target


@dataclass(frozen=True)
class Lrp(Method):
    """Layer-wise relevance propagation (Bach et al. 2015), by rules for every operator of the model's graph.

    The relevance at the output is the logit itself (as in zennit-crp, not 1), for a contrast one logit minus the
    other. What the biases and stabilisers took on the way is in the details, and ``expected`` leaves it out.
    """

    name = "lrp"
    title = "Relevance (LRP)"
    summary = "How the class's score, taken apart layer by layer, comes from the pixels."
    citation = "Bach et al. 2015, doi:10.1371/journal.pone.0130140"
    signed = True

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
    layer: str = parameter(
        "", "Layer", "The layer whose relevance is shown, enlarged to the image; empty for the pixels.", kind="layer"
    )

    def attribute(
        self,
        model: Model,
        inputs: Float[Tensor, "batch channel height width"],
        targets: Sequence[Target],
        progress: Progress,
    ) -> Scores:
        """Record one forward pass and propagate the targets' logits once."""
        chosen, reason = self.choose_rules(model)
        maps, expected, details = [], [], []
        for _, image in sweep(1, len(targets), progress):
            found, scores = self.explain(model, inputs[image], [targets[i] for i in image.tolist()], chosen)
            maps.append(self.draw(model, found.relevance[self.layer][0], inputs.shape[2:]))
            expected.append(scores - sum((amounts[0] for amounts in found.ended.values()), torch.zeros_like(scores)))
            details += [tell(found, scores, row, float(maps[-1][row].sum())) for row in range(len(scores))]
        return Scores(torch.cat(maps), None if self.layer else torch.cat(expected), tuple(details), reason)

    def choose_rules(self, model: Model) -> tuple[Composite, str]:
        """Make the composite for a model; returns it and, if it was chosen for the model, a sentence that says why."""
        name, reason = choose_composite(model) if self.composite == "automatic" else (self.composite, "")
        chosen = make_composite(name, model.info.preprocessing, self.epsilon, self.gamma)
        return replace(chosen, overrides=read_overrides(model, self.overrides, self.epsilon, self.gamma)), reason

    def explain(
        self,
        model: Model,
        inputs: Float[Tensor, "batch channel height width"],
        targets: Sequence[Target],
        composite: Composite,
    ) -> tuple[Pass, Float[Tensor, " batch"]]:
        """Propagate one batch; returns the pass and the explained scores."""
        tape = record(model, inputs)
        seeds = seed_targets(tape.output, targets)
        return propagate(tape, seeds, rules=composite, stops=[self.layer], account=True), seeds[0].flatten(1).sum(1)

    def draw(
        self, model: Model, relevance: Float[Tensor, "batch *shape"], size: Sequence[int]
    ) -> Float[Tensor, "batch channel height width"]:
        """Enlarge a layer's relevance to the input's size, keeping its sum; the input's own stays as it is."""
        if not self.layer:
            return relevance
        maps = spatial_map(relevance, model.info.layer(self.layer)).sum(1, keepdim=True)
        cells = maps.shape[2] * maps.shape[3] / (size[0] * size[1])
        return interpolate(maps, tuple(size), mode="bilinear", align_corners=False) * cells


def read_overrides(model: Model, text: str, epsilon: float, gamma: float) -> tuple[tuple[str, Rule], ...]:
    """Read pairs "pattern=rule" with commas between them; raises SelectionError for an unknown rule or layer."""
    known = {
        "epsilon": rules.epsilon(epsilon),
        "gamma": rules.gamma(gamma),
        "z-plus": rules.zplus(),
        "alpha2-beta1": rules.alpha_beta(2.0, 1.0),
        "w-square": rules.wsquare(),
        "flat": rules.flat(),
    }
    pairs = [[part.strip() for part in pair.partition("=")[::2]] for pair in text.split(",") if pair.strip()]
    for pattern, rule in pairs:
        if rule not in known:
            raise SelectionError(f"There is no rule '{rule}' for '{pattern}'. Choose one of {', '.join(known)}.")
        if not any(fnmatchcase(layer.name, pattern) for layer in model.info.layers):
            raise SelectionError(f"No layer is named like '{pattern}'. The page Model lists the layers' names.")
    return tuple((pattern, known[rule]) for pattern, rule in pairs)


def tell(found: Pass, scores: Float[Tensor, " batch"], row: int, drawn: float) -> Mapping[str, float]:
    """Say where the relevance of one image went."""
    ended = {kind: float(amounts[0, row]) for kind, amounts in found.ended.items()}
    rest = float(scores[row]) - drawn - sum(ended.values())
    return {
        "relevance at the output": float(scores[row]),
        "relevance in the map": drawn,
        **{f"ended in {kind}": amount for kind, amount in ended.items()},
        "elsewhere": rest,
    }
