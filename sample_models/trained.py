"""The networks that were trained for Lightbox, filled with the weights that it ships."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from safetensors.torch import load_file
from torch import nn

from explainers.graph.export import export
from explainers.graph.model import Model
from explainers.preprocessing import Preprocessing
from sample_models import SIZE
from sample_models.cards import WEIGHTS
from sample_models.lesions import CLASSES
from sample_models.networks.digits import DigitsNetwork
from sample_models.networks.prototype_parts import PrototypeNetwork
from sample_models.networks.residual import ResidualNetwork
from sample_models.networks.segmentation import SegmentationNetwork
from sample_models.networks.transformer import VisionTransformer

#: How lesions are seen; the mean is the mean colour of the pictures.
LESIONS = Preprocessing((SIZE, SIZE), SIZE, (0.62, 0.46, 0.39), (0.25, 0.25, 0.25), "bilinear")


DIGITS = Preprocessing((32, 32), 32, (0.3,), (0.35,), "bilinear")


@dataclass(frozen=True)
class Architecture:
    """A network without its weights, how it sees pictures, and the names of its classes."""

    build: Callable[[], nn.Module]
    preprocessing: Preprocessing
    class_names: tuple[str, ...]


ARCHITECTURES: Mapping[str, Architecture] = {
    "lesions-biased": Architecture(ResidualNetwork, LESIONS, CLASSES),
    "lesions-clean": Architecture(ResidualNetwork, LESIONS, CLASSES),
    "lesions-transformer": Architecture(VisionTransformer, LESIONS, CLASSES),
    "lesions-prototypes": Architecture(PrototypeNetwork, LESIONS, CLASSES),
    "lesions-segmentation": Architecture(SegmentationNetwork, LESIONS, ("skin", "lesion", "artifact")),
    "digits": Architecture(DigitsNetwork, DIGITS, tuple("0123456789")),
}


def fill(name: str) -> nn.Module:
    """Build a network with its shipped weights, as a module."""
    network = ARCHITECTURES[name].build()
    network.load_state_dict(load_file(WEIGHTS / f"{name}.safetensors"))
    return network.eval()


def load(name: str) -> Model:
    """Load a network with its shipped weights as a Model."""
    return make_model(name, fill(name))


def make_model(name: str, network: nn.Module) -> Model:
    """Make a Model of a network that is filled with weights."""
    architecture = ARCHITECTURES[name]
    return export(network, name, architecture.preprocessing, architecture.class_names, "trained for Lightbox")
