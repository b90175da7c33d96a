"""One decision, taken apart by concepts: Concept Relevance Propagation on a tape that is recorded once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from explainers.errors import SelectionError
from explainers.graph.model import score
from explainers.memory import PASS_MEMORY
from explainers.regions import Region
from explainers.relevance.composites import Composite
from explainers.relevance.concepts.units import Concepts
from explainers.relevance.propagation import relevance
from explainers.relevance.seeds import seed_targets
from explainers.relevance.tape import Tape, find_node
from explainers.targets import Target


@dataclass(frozen=True, eq=False)
class Decision:
    """What is explained: a tape, one target for each of its images, and the rules of relevance.

    What a layer's relevance is depends on these alone; the tape keeps it, so that a further concept costs only the
    pass below its layer. Source: Achtibat et al. 2023, arXiv:2206.03208; the seed is the explained logit itself.
    """

    tape: Tape
    targets: tuple[Target, ...]
    rules: Composite

    @property
    def output(self) -> float:
        """The explained output of the first image."""
        return float(score(self.tape.output, self.targets)[0])

    @property
    def seeds(self) -> Float[Tensor, "1 batch *output"]:
        """Where relevance starts."""
        return seed_targets(self.tape.output, self.targets)

    def values(self, concepts: Concepts) -> Float[Tensor, "batch *shape"]:
        """The activations of a layer."""
        found: Tensor = self.tape.value(find_node(self.tape.model, concepts.layer.node))
        return found

    def relevance(self, node: str = "") -> Float[Tensor, "1 batch *shape"]:
        """The relevance of a node's values ("": the input's); one backward pass the first time."""
        return self.tape.remember(
            ("relevance", node, self.targets, self.rules),
            lambda: relevance(self.tape, self.seeds, rules=self.rules, stop=node),
        )

    def local(self, concepts: Concepts, region: Region = ()) -> Float[Tensor, "1 batch *shape"]:
        """The relevance of a layer in its places under a region of the image, see ``Concepts.inside``."""
        return self.relevance(concepts.layer.node) * concepts.inside(region, self.tape.model.info.preprocessing.size)

    def measure(self, concepts: Concepts, region: Region = ()) -> Float[Tensor, "batch concept"]:
        """The signed relevance of every concept, over all its places or those in a region."""
        return concepts.measure(self.values(concepts), self.local(concepts, region))[0]

    def heatmaps(
        self, concepts: Concepts, chosen: Sequence[int], region: Region = ()
    ) -> Float[Tensor, "concept batch height width"]:
        """The conditional heatmap of each chosen concept, in one pass from their layer down, of very many in a few.

        With a ``region`` only the concepts' places in it count: a condition on neurons instead of channels.
        """
        local = self.local(concepts, region)
        return torch.cat([found.sum(2) for found in self.follow(concepts, local, chosen)])

    def follow(
        self, concepts: Concepts, flow: Float[Tensor, "1 batch *shape"], chosen: Sequence[int], stop: str = ""
    ) -> Iterator[Float[Tensor, "concept batch *stop"]]:
        """Propagate each chosen concept's part of a layer's relevance down to another layer ("": the input).

        In one pass; more concepts than a quarter of a pass's memory has place for in several, each given as it comes.
        """
        values = self.values(concepts)
        end: Tensor = self.tape.value(find_node(self.tape.model, stop) if stop else self.tape.model.input_node)
        size = max(1, PASS_MEMORY.share // 4 // (values.nbytes + end.nbytes))
        for first in range(0, max(1, len(chosen)), size):
            seeds = concepts.keep(values, flow, chosen[first : first + size])
            yield relevance(self.tape, seeds, rules=self.rules, start=concepts.layer.node, stop=stop)


@dataclass(frozen=True)
class Level:
    """The concepts of one layer in a graph of parents, and how relevance comes to them from the level before.

    ``weights`` are the parts of the upper concepts' relevance that flow on to these; their sum over the upper concepts
    is a concept's ``relevance``.
    """

    layer: str
    concepts: Int[Tensor, " lower"]
    relevance: Float[Tensor, " lower"]
    weights: Float[Tensor, "upper lower"]


def trace_parents(
    decision: Decision, concepts: Concepts, chosen: Sequence[int], below: Sequence[Concepts], count: int = 3
) -> list[Level]:
    """Follow the relevance of chosen concepts down to the concepts of lower layers that it comes from.

    Each level holds the ``count`` most relevant parents of every concept of the level before and costs one pass, with
    a seed for each of those. All weights are parts of the first concepts' relevance: from level to level only what
    came down from them is followed (the attribution graph of Achtibat et al. 2023, arXiv:2206.03208). The first level
    has a weight for each concept's own relevance. Raises SelectionError for a layer that does not lead to the one
    before, or for a tape of several images.
    """
    if decision.tape.batch != 1:
        raise SelectionError(f"Parents are traced for one image, not {decision.tape.batch}. Record one image alone.")
    values, flow = decision.values(concepts), decision.relevance(concepts.layer.node)
    own = torch.cat([concepts.measure(values, concepts.keep(values, flow, [one]))[:, 0, one] for one in chosen])
    levels = [Level(concepts.layer.name, torch.tensor(list(chosen)), own, own.diag())]
    upper, traced = concepts, list(chosen)
    for lower in below:
        parts, arrived = list[Tensor](), torch.zeros(())
        for found in decision.follow(upper, flow, traced, lower.layer.node):
            parts.append(lower.measure(decision.values(lower), found)[:, 0])
            arrived = arrived + found.sum(0, keepdim=True)
        weights = torch.cat(parts)
        parents = torch.unique(weights.abs().topk(min(count, lower.count)).indices)
        levels.append(Level(lower.layer.name, parents, weights.sum(0)[parents], weights[:, parents]))
        upper, traced, flow = lower, parents.tolist(), arrived
    return levels
