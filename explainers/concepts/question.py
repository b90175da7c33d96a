"""What every question about the concepts behind one decision is."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from explainers.cache import digest
from explainers.info import ModelInfo
from explainers.jobs import Progress
from explainers.parameters import parameter
from explainers.questions import Question, R, refuse_other_outputs
from explainers.relevance.choice import RuleChoice
from explainers.relevance.concepts.tapes import TAPES
from explainers.subjects import Case

if TYPE_CHECKING:
    from torch import Tensor

    from explainers.relevance.concepts.decision import Decision
    from explainers.relevance.concepts.units import Concepts

#: What the parameter of a region means.
WITHIN = "Corners x,y of a part of the picture that alone counts, as shares of width and height; empty for all of it."


@dataclass(frozen=True)
class ConceptQuestion(RuleChoice, Question[Case, R]):
    """A question about what the concepts of a layer did for one decision (Achtibat et al. 2023, arXiv:2206.03208)."""

    citation = "Achtibat et al. 2023, arXiv:2206.03208"
    subject = Case

    layer: str = parameter(
        "", "Layer", "The layer whose channels are looked into; empty for a late one with places.", kind="concept layer"
    )

    @abstractmethod
    def look(self, about: Case, decision: Decision, concepts: Concepts) -> R:
        """Answer from the decision on its tape."""

    @classmethod
    def unsuitable(cls, info: ModelInfo) -> str | None:
        """Refuse models that give neither a score for each class nor a map of them."""
        return refuse_other_outputs(cls.title, info)

    def answer(self, about: Case, progress: Progress) -> R:
        """Find the picture's tape, or record it, and look into the layer."""
        from explainers.relevance.concepts.decision import Decision
        from explainers.relevance.concepts.layers import choose_concepts
        from explainers.relevance.tape import record

        rules, note = self.choose_rules(about.model)
        concepts = choose_concepts(about.model, self.layer)
        key = (about.info.digest, about.picture.digest, digest(about.info.private, vars(about.info.preprocessing)))
        tape = TAPES.get(key, lambda budget: record(about.model, about.tensor(), budget))
        found = self.look(about, Decision(tape, (about.target,), rules), concepts)
        return replace(found, provenance={"layer": concepts.layer.name, "note": note, **found.provenance})


def as_array(tensor: Tensor) -> Float32[np.ndarray, "..."]:
    """Copy into an array of results, not a view of the tape."""
    import torch

    found: Float32[np.ndarray, "..."] = tensor.detach().to(torch.float32, copy=True).numpy()
    return found


def rank_concepts(values: Float32[np.ndarray, " concept"], count: int) -> list[int]:
    """List the concepts with the greatest values of either sign, greatest first."""
    return [int(concept) for concept in np.argsort(-np.abs(values), kind="stable")[:count]]
