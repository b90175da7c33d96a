"""How prototypes are learnt (Chen et al. 2019, arXiv:1806.10574): near to their class, then put onto real patches."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import cross_entropy

from explainers.preprocessing import Preprocessing
from sample_models import SIZE
from sample_models.cards import Source
from sample_models.data import Data, normalise
from sample_models.lesions import CLASSES, samples
from sample_models.networks.prototype_parts import PrototypeNetwork
from sample_models.trained import fill
from sample_models.training.loop import fit

#: Weights of the losses that draw patches to a prototype of their class and push them from those of others.
CLUSTER, SEPARATION = 0.8, 0.08

#: Weight of the L1 norm that lets a class do without the prototypes of others.
SPARSITY = 1e-3

#: How far behind a prototype's place its patch reaches, in places.
MARGIN = 1


def train_prototypes(
    network: PrototypeNetwork, split: str, data: Data, preprocessing: Preprocessing, epochs: int, rate: float
) -> tuple[Source, ...]:
    """Train in the paper's steps, from the biased network's features: prototypes, then all, projection, classifier.

    Tells which patch of the split each prototype is.
    """
    network.features.load_state_dict(fill("lesions-biased").get_submodule("features").state_dict())
    network.classifier.requires_grad_(False)
    network.features.requires_grad_(False)
    fit(network, data, preprocessing, epochs=1, rate=3 * rate, loss=prototype_loss)
    network.features.requires_grad_(True)
    fit(network, data, preprocessing, epochs=epochs - 1, rate=rate, loss=prototype_loss)
    patches = project(network, data, preprocessing)
    fit_classifier(network, data, preprocessing)
    names = [sample.name for sample in samples(split)]
    return tuple(
        Source(prototype, CLASSES[network.owners[prototype]], names[sample], (row, column), box_of(row, column))
        for prototype, (sample, row, column) in enumerate(patches)
    )


def prototype_loss(
    network: PrototypeNetwork, images: Float[Tensor, "batch 3 height width"], truth: Int64[Tensor, " batch"]
) -> Float[Tensor, ""]:
    """Cross-entropy, with a prototype of its class near to each image and those of others far from it."""
    distances = network.prototypes.distances(network.embed(images))
    nearest = distances.amin((2, 3))
    logits = network.classifier(network.prototypes.similarity(nearest))
    own = owned(network, truth)
    cluster = nearest.masked_fill(~own, torch.inf).amin(1).mean()
    separation = nearest.masked_fill(own, torch.inf).amin(1).mean()
    return cross_entropy(logits, truth) + CLUSTER * cluster - SEPARATION * separation


def owned(network: PrototypeNetwork, truth: Int64[Tensor, " batch"]) -> Bool[Tensor, "batch prototype"]:
    """Which prototypes belong to the class of each image."""
    return torch.tensor(network.owners) == truth[:, None]


@torch.no_grad()
def distances_to(
    network: PrototypeNetwork, data: Data, preprocessing: Preprocessing
) -> Float[Tensor, "sample prototype h w"]:
    """Measure how far every place of every picture is from every prototype."""
    parts = (network.embed(normalise(images, preprocessing)) for images in torch.split(data.images, 100))
    return torch.cat([network.prototypes.distances(part) for part in parts])


@torch.no_grad()
def project(network: PrototypeNetwork, data: Data, preprocessing: Preprocessing) -> list[tuple[int, int, int]]:
    """Replace each prototype by the nearest patch of its class; returns the samples, rows and columns of the patches.

    No two are in the same sample.
    """
    patches = nearest_patches(network, distances_to(network, data, preprocessing), data)
    for prototype, (sample, row, column) in enumerate(patches):
        embedded = network.embed(normalise(data.images[sample : sample + 1], preprocessing))
        network.prototypes.vectors[prototype] = embedded[0, :, row, column, None, None]
    return patches


def nearest_patches(
    network: PrototypeNetwork, distances: Float[Tensor, "sample prototype h w"], data: Data
) -> list[tuple[int, int, int]]:
    """Find the sample, row and column of each prototype's nearest patch, in a sample that no other prototype has."""
    free = owned(network, data.truth)
    found = []
    for prototype in range(distances.shape[1]):
        far = distances[:, prototype].masked_fill(~free[:, prototype, None, None], torch.inf)
        sample, row, column = (int(index) for index in torch.unravel_index(far.argmin(), far.shape))
        free[sample] = False
        found.append((sample, row, column))
    return found


def fit_classifier(network: PrototypeNetwork, data: Data, preprocessing: Preprocessing) -> None:
    """Fit the last layer alone, with an L1 norm on the weights of other classes' prototypes."""
    similarities = network.prototypes.similarity(distances_to(network, data, preprocessing).amin((2, 3)))
    foreign = ~owned(network, torch.arange(len(CLASSES)))
    network.classifier.requires_grad_(True)
    optimiser = torch.optim.Adam(network.classifier.parameters(), 1e-2)
    for _ in range(300):
        optimiser.zero_grad()
        sparsity = (network.classifier.weight * foreign).abs().sum()
        (cross_entropy(network.classifier(similarities), data.truth) + SPARSITY * sparsity).backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def box_of(row: int, column: int, stride: int = 16) -> tuple[int, int, int, int]:
    """The pixels (left, top, right, bottom) around a place that its features mostly depend on."""
    left, top = (max(0, (index - MARGIN) * stride) for index in (column, row))
    right, bottom = (min(SIZE, (index + 1 + MARGIN) * stride) for index in (column, row))
    return left, top, right, bottom
