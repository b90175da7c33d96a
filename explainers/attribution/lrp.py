"""Layer-wise relevance propagation: one forward pass, one walk backwards over its tape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaxtyping import Float

from explainers.attribution.batch import Batch
from explainers.attribution.method import Method, Scores
from explainers.parameters import parameter
from explainers.relevance.choice import RuleChoice

if TYPE_CHECKING:
    from torch import Tensor

    from explainers.graph.model import Model
    from explainers.relevance.composites import Composite
    from explainers.relevance.propagation import Pass
    from explainers.targets import Target


@dataclass(frozen=True)
class Lrp(RuleChoice, Method):
    """Layer-wise relevance propagation (Bach et al. 2015), by rules for every operator of the model's graph.

    The relevance at the output is the logit itself (as in zennit-crp, not 1), for a contrast one logit minus the
    other. What the biases and stabilisers took on the way is in the details, and ``expected`` leaves it out.
    """

    name = "lrp"
    title = "Relevance (LRP)"
    summary = "How the class's score, taken apart layer by layer, comes from the pixels."
    citation = "Bach et al. 2015, doi:10.1371/journal.pone.0130140"
    signed = True

    layer: str = parameter(
        "", "Layer", "The layer whose relevance is shown, enlarged to the image; empty for the pixels.", kind="layer"
    )

    def attribute(self, batch: Batch) -> Scores:
        """Record one forward pass and propagate the targets' logits once."""
        import torch

        chosen, reason = self.choose_rules(batch.model)
        maps, expected, details = [], [], []
        for _, image in batch.sweep(1):
            found, scores = self.explain(batch.model, batch.inputs[image], batch.choose(image), chosen)
            maps.append(self.draw(batch.model, found.relevance[self.layer][0], batch.inputs.shape[2:]))
            expected.append(scores - sum((amounts[0] for amounts in found.ended.values()), torch.zeros_like(scores)))
            details += [tell(found, scores, row, float(maps[-1][row].sum())) for row in range(len(scores))]
        return Scores(torch.cat(maps), None if self.layer else torch.cat(expected), tuple(details), reason)

    def explain(
        self,
        model: Model,
        inputs: Float[Tensor, "batch channel height width"],
        targets: Sequence[Target],
        composite: Composite,
    ) -> tuple[Pass, Float[Tensor, " batch"]]:
        """Propagate one batch; returns the pass and the explained scores."""
        from explainers.relevance.propagation import propagate
        from explainers.relevance.seeds import seed_targets
        from explainers.relevance.tape import record

        tape = record(model, inputs)
        seeds = seed_targets(tape.output, targets)
        return propagate(tape, seeds, rules=composite, stops=[self.layer], account=True), seeds[0].flatten(1).sum(1)

    def draw(
        self, model: Model, relevance: Float[Tensor, "batch *shape"], size: Sequence[int]
    ) -> Float[Tensor, "batch channel height width"]:
        """Enlarge a layer's relevance to the input's size, keeping its sum; the input's own stays as it is."""
        from torch.nn.functional import interpolate

        from explainers.graph.model import spatial_map

        if not self.layer:
            return relevance
        maps = spatial_map(relevance, model.info.layer(self.layer)).sum(1, keepdim=True)
        cells = maps.shape[2] * maps.shape[3] / (size[0] * size[1])
        return interpolate(maps, tuple(size), mode="bilinear", align_corners=False) * cells


def tell(found: Pass, scores: Float[Tensor, " batch"], row: int, drawn: float) -> Mapping[str, float]:
    """Say where the relevance of one image went."""
    from explainers.relevance.step import GRADIENT

    ended = {kind: float(amounts[0, row]) for kind, amounts in found.ended.items()}
    rest = float(scores[row]) - drawn - sum(ended.values())
    return {
        "relevance at the output": float(scores[row]),
        "relevance in the map": drawn,
        **{kind if kind == GRADIENT else f"ended in {kind}": amount for kind, amount in ended.items()},
        "elsewhere": rest,
    }
