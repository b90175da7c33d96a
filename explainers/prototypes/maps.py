"""A map of samples on which those that are decided alike lie together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from sklearn.manifold import TSNE

from explainers.asking import ask
from explainers.errors import SelectionError
from explainers.index.subjects import IndexLayer
from explainers.jobs import Progress
from explainers.parameters import parameter
from explainers.prototypes.vectors import EmbedDecisions, Vectors
from explainers.questions import Question
from explainers.results import Result

#: Samples drawn at most; of more, a random part.
DRAWN = 3000


@dataclass(frozen=True)
class Map(Result):
    """Places of samples on a plane; ``rows`` says whose, ``note`` what was left out ("" for nothing)."""

    rows: Int[np.ndarray, " sample"]
    places: Float[np.ndarray, "sample 2"]
    note: str


def project(points: Float[np.ndarray, "sample dimension"], seed: int) -> Float[np.ndarray, "sample 2"]:
    """Project on the two directions of greatest variance (PCA)."""
    left, lengths, _ = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    return np.asarray(left[:, :2] * lengths[:2])


def embed_neighbours(points: Float[np.ndarray, "sample dimension"], seed: int) -> Float[np.ndarray, "sample 2"]:
    """Place neighbours beside each other: t-SNE (van der Maaten and Hinton 2008), which begins at the projection."""
    start = project(points, seed)
    start *= 1e-4 / max(start[:, 0].std(), 1e-12)
    perplexity = min(30.0, (len(points) - 1) / 3)
    return np.asarray(TSNE(2, perplexity=perplexity, init=start, random_state=seed).fit_transform(points))


#: The methods by name, the fastest first.
METHODS: Mapping[str, Callable[[Float[np.ndarray, "sample dimension"], int], Float[np.ndarray, "sample 2"]]] = {
    "PCA": project,
    "t-SNE": embed_neighbours,
}


@dataclass(frozen=True)
class DrawMap(Question[IndexLayer, Map]):
    """A map of the samples of some classes, see ``draw_map``; no pass of the model."""

    name = "decision-map"
    title = "Map of decisions"
    summary = "Which samples are decided alike, as places on a plane."
    citation = "van der Maaten and Hinton 2008 (t-SNE)"
    subject = IndexLayer

    classes: tuple[int, ...] = parameter((), "Classes", "The classes drawn; empty for all.", kind="classes")
    method: str = parameter("PCA", "Map by", "How the plane is found.", choices=tuple(METHODS))

    def answer(self, about: IndexLayer, progress: Progress) -> Map:
        """Place the samples by their vectors."""
        vectors = ask(EmbedDecisions(), about).result()
        drawn = np.isin(vectors.classes, self.classes) if self.classes else np.ones(len(vectors.classes), bool)
        return draw_map(vectors, np.flatnonzero(drawn), self.method)


def draw_map(vectors: Vectors, rows: Int[np.ndarray, " sample"], method: str = "PCA", seed: int = 0) -> Map:
    """Place samples on a plane by their nu in the layer's directions; of more than 3000, a random part.

    Raises SelectionError for an unknown method or fewer than three samples.
    """
    if method not in METHODS or len(rows) < 3:
        raise SelectionError(
            f"A map of {len(rows)} samples by '{method}' was asked for. It needs at least three samples and one of the "
            f"methods {', '.join(METHODS)}."
        )
    ordered = vectors.order[np.isin(vectors.order, rows)][:DRAWN]
    note = f"{DRAWN} of {len(rows)} samples, drawn at random." if len(rows) > DRAWN else ""
    return Map(ordered, METHODS[method](vectors.points.coordinates[0, ordered], seed), note)
