"""The networks and the picture that all contestants get: random weights from one seed, made alike in every process."""

from __future__ import annotations

import torch
from skimage import data
from torch import Tensor, nn
from torchvision import models

from explainers.graph.export import export
from explainers.graph.model import Model
from explainers.preprocessing import Preprocessing

SIDE = 224
MAKERS = {"resnet18": models.resnet18, "resnet50": models.resnet50, "vgg16": models.vgg16, "vit_b_16": models.vit_b_16}

#: The class whose score everybody explains.
CLASS = 3


def build_module(name: str) -> nn.Module:
    """Make a network with random weights, its batch norms with statistics of data, its head not zero."""
    torch.manual_seed(0)
    module = MAKERS[name]()
    if name == "vit_b_16":
        nn.init.normal_(module.heads.head.weight, std=0.02)
    with torch.no_grad():
        module.train()(torch.randn(8, 3, SIDE, SIDE))
    return module.eval().requires_grad_(False)


def build_model(name: str) -> Model:
    """Make the same network as Lightbox opens it."""
    return export(build_module(name), name, Preprocessing(size=(SIDE, SIDE)))


def photograph() -> Tensor:
    """A photograph as a batch of one: [1, 3, SIDE, SIDE]."""
    preprocessing = Preprocessing(size=(SIDE, SIDE))
    return torch.from_numpy(preprocessing.normalise(preprocessing.crop(data.astronaut())))[None]
