"""A network that compares patches with learned prototypes: this looks like that."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d

from sample_models.networks.residual import ResidualFeatures

#: Bounds the similarity of a patch that is a prototype: log(1 / epsilon).
EPSILON = 1e-4


class Prototypes(nn.Module):
    """Prototypes of one place each, the same number for every class, and how alike each place is to them."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.rand(count, width, 1, 1))

    def distances(self, features: Float[Tensor, "batch width h w"]) -> Float[Tensor, "batch prototype h w"]:
        """Squared Euclidean distances of every place to every prototype."""
        squares = (features * features).sum(1, keepdim=True)
        products = conv2d(features, self.vectors)
        return (squares - 2 * products + self.vectors.square().sum((1, 2, 3)).view(-1, 1, 1)).relu()

    def similarity(self, distances: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Turn squared distances into similarities: log((d² + 1) / (d² + epsilon))."""
        return ((distances + 1) / (distances + EPSILON)).log()

    def forward(self, features: Float[Tensor, "batch width h w"]) -> Float[Tensor, "batch prototype h w"]:
        """Give how alike every place is to every prototype."""
        return self.similarity(self.distances(features))


class PrototypeNetwork(nn.Module):
    """ProtoPNet (Chen et al. 2019, arXiv:1806.10574): a class scores by the places most alike to its prototypes."""

    def __init__(self, classes: int = 2, per_class: int = 10, width: int = 64) -> None:
        super().__init__()
        self.features = ResidualFeatures()
        self.add_on = nn.Sequential(
            nn.Conv2d(self.features.width, width, 1), nn.ReLU(), nn.Conv2d(width, width, 1), nn.Sigmoid()
        )
        self.prototypes = Prototypes(classes * per_class, width)
        self.classifier = nn.Linear(classes * per_class, classes, bias=False)
        self.owners = [prototype // per_class for prototype in range(classes * per_class)]
        own = torch.tensor(self.owners) == torch.arange(classes)[:, None]
        self.classifier.weight.data = torch.where(own, 1.0, -0.5)

    def embed(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch width h w"]:
        """Give the features that are compared with the prototypes, each between 0 and 1."""
        embedded: Tensor = self.add_on(self.features(images))
        return embedded

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch class"]:
        """Give the logits of the classes."""
        logits: Tensor = self.classifier(self.prototypes(self.embed(images)).amax((2, 3)))
        return logits
