"""The one training loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float, Int64, Integer, UInt8
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from explainers.preprocessing import Preprocessing
from sample_models.data import Data, normalise
from sample_models.networks.residual import ResidualNetwork

BATCH = 32

#: The loss of a network on a batch, given images and what is to be learnt of them.
Loss = Callable[[Any, Float[Tensor, "batch channel height width"], Int64[Tensor, "batch *map"]], Float[Tensor, ""]]


def classification_loss(
    network: nn.Module, images: Float[Tensor, "batch channel height width"], truth: Int64[Tensor, "batch *map"]
) -> Float[Tensor, ""]:
    """Cross-entropy of an image's class, or of every pixel's."""
    return cross_entropy(network(images), truth)


def sparse_loss(
    network: ResidualNetwork, images: Float[Tensor, "batch 3 height width"], truth: Int64[Tensor, " batch"]
) -> Float[Tensor, ""]:
    """Cross-entropy, and the mean feature, so that features are silent where they have nothing to say.

    Without it they are as active on bare skin as on a lesion, and relevance lies everywhere.
    """
    features: Tensor = network.features(images)
    return cross_entropy(network.classify(features), truth) + features.mean()


def fit(
    network: nn.Module,
    data: Data,
    preprocessing: Preprocessing,
    *,
    epochs: int,
    rate: float,
    turns: bool = True,
    loss: Loss = classification_loss,
) -> None:
    """Train the parameters that require gradients by AdamW, with a rate that rises to ``rate`` and falls once.

    With ``turns`` each batch is turned and mirrored at random. Prints the mean loss of each epoch.
    """
    network.to(memory_format=torch.channels_last)
    optimiser = AdamW([each for each in network.parameters() if each.requires_grad], rate, weight_decay=0.05)
    steps = len(data) // BATCH
    schedule = OneCycleLR(optimiser, rate, total_steps=steps * epochs)
    network.train()
    for epoch in range(1, epochs + 1):
        start, total = time.perf_counter(), 0.0
        for images, truth in batches(data, turns):
            optimiser.zero_grad()
            value = loss(network, normalise(images, preprocessing), truth.long())
            value.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            total += float(value.detach())
        print(f"  epoch {epoch} of {epochs}: loss {total / steps:.3f}, {time.perf_counter() - start:.0f} s", flush=True)
    network.eval()


def batches(
    data: Data, turns: bool
) -> Iterator[tuple[UInt8[Tensor, "batch channel height width"], Integer[Tensor, "batch *map"]]]:
    """Go through the data once in random order, in batches of the same size."""
    for rows in torch.split(torch.randperm(len(data)), BATCH)[: len(data) // BATCH]:
        images, truth = data.images[rows], data.truth[rows]
        if turns:
            quarters, mirrored = int(torch.randint(4, ())), bool(torch.randint(2, ()))
            images = turn(images, quarters, mirrored)
            truth = turn(truth, quarters, mirrored) if truth.dim() > 1 else truth
        yield images, truth


def turn(values: Tensor, quarters: int, mirrored: bool) -> Tensor:
    """Turn and mirror the last two dimensions."""
    turned = torch.rot90(values, quarters, (-2, -1))
    return turned.flip(-1) if mirrored else turned
