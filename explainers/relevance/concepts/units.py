"""What a concept is: a channel, an attention head, a token dimension, a hidden unit, or a direction among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, one_hot, pad

from explainers.errors import SelectionError
from explainers.info import Layer
from explainers.regions import Region, pixels_of, region_mask
from explainers.relevance.rules import STABILIZER


@dataclass(frozen=True, eq=False)
class Concepts:
    """The channels of a layer, each a concept: also its heads, hidden units or token dimensions.

    Tensors are the layer's values ``[batch, *shape]`` and relevances ``[seed, batch, *shape]``; *places* are all their
    entries of one channel.
    """

    layer: Layer

    @property
    def count(self) -> int:
        """How many concepts there are."""
        return self.layer.channels

    def measure(
        self, values: Float[Tensor, "batch *shape"], relevance: Float[Tensor, "seed batch *shape"]
    ) -> Float[Tensor, "seed batch concept"]:
        """Add up the relevance of each concept over its places (Achtibat et al. 2023, arXiv:2206.03208)."""
        return self.flat(relevance).sum(-2)

    def strength(self, values: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch place concept"]:
        """How active each concept is in each place."""
        return self.flat(values)

    def maximum(self, values: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch concept"]:
        """The strongest activation of each concept."""
        return self.strength(values).amax(-2)

    def mean(self, values: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch concept"]:
        """The mean activation of each concept over its places."""
        return self.strength(values).mean(-2)

    def keep(
        self,
        values: Float[Tensor, "batch *shape"],
        relevance: Float[Tensor, "one_or_concept batch *shape"],
        concepts: Sequence[int],
    ) -> Float[Tensor, "concept batch *shape"]:
        """Make one seed for each chosen concept: the relevance that is the concept's, zero elsewhere.

        ``relevance`` is the same for all, or has a seed for each. Raises SelectionError for an unknown concept.
        """
        chosen = one_hot(torch.tensor(self.check(concepts), dtype=torch.long), self.count).to(relevance.dtype)
        return relevance * self.unflat(chosen[:, None, None])

    def change(
        self, values: Float[Tensor, "batch *shape"], factors: Mapping[int, float]
    ) -> Float[Tensor, "batch *shape"]:
        """Multiply what concepts contribute: 0 silences, 0.5 damps, 2 boosts; raises SelectionError."""
        scale = torch.ones(self.count, dtype=values.dtype)
        scale[self.check(list(factors))] = torch.tensor(list(factors.values()), dtype=values.dtype)
        return values * self.unflat(scale[None])

    def inside(self, region: Region, size: tuple[int, int]) -> Float[Tensor, "*broadcast"]:
        """Weigh the layer's places by the share of each that a region of the image covers, to multiply relevance with.

        ``region`` has corners (x, y) as shares of the model's input of ``size`` (height, width); () is everything.
        The layer's grid is laid evenly over the input, whatever the receptive field. Tokens that are no place of the
        image weigh nothing. Raises SelectionError for a layer without places.
        """
        if not region:
            return torch.ones(())
        if not self.layer.spatial:
            raise SelectionError(f"The layer {self.layer.name} has no places. Choose a layer before the pooling.")
        pixels = torch.tensor(region_mask(pixels_of(region, size), size), dtype=torch.float32)
        covered = adaptive_avg_pool2d(pixels[None, None], self.layer.grid).flatten()
        tokens = self.layer.shape[-2] if self.layer.layout in ("tokens", "heads") else len(covered)
        shapes = {
            "channels first": (1, *self.layer.grid),
            "channels last": (*self.layer.grid, 1),
            "tokens": (tokens, 1),
            "heads": (1, tokens, 1),
        }
        if self.layer.layout in ("tokens", "heads"):
            places = self.layer.place_tokens
            covered = pad(covered, (places.start, tokens - places.stop))
        return covered.reshape(shapes[self.layer.layout])

    def check(self, concepts: Sequence[int]) -> list[int]:
        """Return concepts as a list; raises SelectionError for one that the layer does not have."""
        for concept in concepts:
            if not 0 <= concept < self.count:
                raise SelectionError(
                    f"Concept {concept} was asked for, but the layer {self.layer.name} has 0 to {self.count - 1}."
                )
        return list(concepts)

    @property
    def first(self) -> bool:
        """Whether channels are the first dimension behind the batch, not the last."""
        return self.layer.layout not in ("channels last", "tokens")

    def flat(self, tensor: Float[Tensor, "*lead_shape"]) -> Float[Tensor, "*lead place channel"]:
        """Lay out values as places by channels."""
        lead = tensor.shape[: tensor.dim() - len(self.layer.shape)]
        if self.first:
            return tensor.reshape(*lead, self.layer.channels, -1).mT
        return tensor.reshape(*lead, -1, self.layer.channels)

    def unflat(self, tensor: Float[Tensor, "*lead place channel"]) -> Float[Tensor, "*lead_shape"]:
        """Lay out places by channels as the layer does; a single place becomes one that broadcasts."""
        places = self.layer.shape[1:] if self.first else self.layer.shape[:-1]
        if tensor.shape[-2] == 1:
            places = (1,) * len(places)
        shape = (self.layer.channels, *places) if self.first else (*places, self.layer.channels)
        return (tensor.mT if self.first else tensor).reshape(*tensor.shape[:-2], *shape)


@dataclass(frozen=True, eq=False)
class Directions(Concepts):
    """Linear combinations of a layer's channels, as NMF, sparse autoencoders or concept activation vectors find them.

    In each place the activation a is taken apart, a = sum_k u_k d_k + rest, with the directions d_k and the least
    squares u_k. Direction k gets u_k d_kc / a_c of the relevance of channel c. The stabiliser of a_c is shared out as
    a change of channel c would be, so that a direction along one channel has the channel's relevance, and directions
    that span all channels have all the relevance.
    """

    matrix: Float[Tensor, "concept channel"]

    @property
    def count(self) -> int:
        """How many directions there are."""
        return len(self.matrix)

    @cached_property
    def inverse(self) -> Float[Tensor, "channel concept"]:
        """What takes an activation to its coefficients u."""
        found: Tensor = torch.linalg.pinv(self.matrix)
        return found

    def strength(self, values: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch place concept"]:
        """The coefficient u of each direction in each place."""
        return self.flat(values) @ self.inverse

    def measure(
        self, values: Float[Tensor, "batch *shape"], relevance: Float[Tensor, "seed batch *shape"]
    ) -> Float[Tensor, "seed batch concept"]:
        """Add up the relevance along each direction over its places."""
        quotient, push = self.quotient(values, relevance)
        along = (quotient @ self.matrix.mT * self.strength(values)).sum(-2)
        return along + (quotient * push).sum(-2) @ (self.matrix.mT * self.inverse)

    def keep(
        self,
        values: Float[Tensor, "batch *shape"],
        relevance: Float[Tensor, "one_or_concept batch *shape"],
        concepts: Sequence[int],
    ) -> Float[Tensor, "concept batch *shape"]:
        """Make one seed for each chosen direction: the relevance along it."""
        chosen = self.check(concepts)
        quotient, push = self.quotient(values, relevance)
        along = (
            self.strength(values)[..., chosen].movedim(-1, 0)[..., None] + push * self.inverse.mT[chosen][:, None, None]
        )
        return self.unflat(quotient * along * self.matrix[chosen][:, None, None])

    def change(
        self, values: Float[Tensor, "batch *shape"], factors: Mapping[int, float]
    ) -> Float[Tensor, "batch *shape"]:
        """Multiply the part of the activation along directions."""
        chosen = self.check(list(factors))
        more = torch.tensor(list(factors.values()), dtype=values.dtype) - 1
        return values + self.unflat(self.strength(values)[..., chosen] * more @ self.matrix[chosen])

    def quotient(
        self, values: Float[Tensor, "batch *shape"], relevance: Float[Tensor, "seed batch *shape"]
    ) -> tuple[Float[Tensor, "seed batch place channel"], Float[Tensor, "batch place channel"]]:
        """Divide relevance by the stabilised activation; returns what was added to that as well."""
        activation = self.flat(values)
        push = torch.copysign(activation.new_tensor(STABILIZER), activation)
        return self.flat(relevance) / (activation + push), push
