"""The model zoos of timm and torchvision: their architectures built by name, and filled with a checkpoint's weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from explainers.graph.class_names import imagenet_names
from explainers.preprocessing import INTERPOLATIONS, Preprocessing

#: Heads that only training uses; they are left out.
AUXILIARY = ("aux_classifier.", "AuxLogits.", "aux1.", "aux2.")

Shapes = dict[str, tuple[int, ...]]


def all_architectures() -> list[str]:
    """The qualified names of all models of timm, and of torchvision's for classification and segmentation."""
    import timm
    import torchvision

    modules = (torchvision.models, torchvision.models.segmentation)
    names = [name for module in modules for name in torchvision.models.list_models(module=module)]
    return [*(f"torchvision/{name}" for name in names), *(f"timm/{name}" for name in timm.list_models())]


def build(architecture: str, classes: int, channels: int = 3, size: tuple[int, int] | None = None) -> nn.Module:
    """Build an architecture by its qualified name, such as "timm/resnet50" or "torchvision/resnet50".

    ``size`` (height, width) matters to those made for one image size.
    """
    library, _, name = architecture.partition("/")
    make = build_timm if library == "timm" else build_torchvision
    return make(name, classes, channels, size)


def build_timm(name: str, classes: int, channels: int, size: tuple[int, int] | None) -> nn.Module:
    """Build an architecture of timm."""
    import timm

    config = timm.get_pretrained_cfg(name)
    resized = size and config and config.fixed_input_size and config.input_size[1:] != size
    options = {"img_size": size} if resized else {}
    module: nn.Module = timm.create_model(name, num_classes=classes, in_chans=channels, **options)
    return module


def build_torchvision(name: str, classes: int, channels: int, size: tuple[int, int] | None) -> nn.Module:
    """Build an architecture of torchvision; a segmentation model returns its map of class scores alone."""
    from torchvision import models

    segments = name in models.list_models(module=models.segmentation)
    options: dict[str, Any] = {"weights_backbone": None} if segments else {}
    if name in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": False}
    if size and name.startswith("vit_"):
        options = {"image_size": size[0]}
    module: nn.Module = models.get_model(name, weights=None, num_classes=classes, **options)
    if segments:
        module.register_forward_hook(lambda module, inputs, outputs: outputs["out"])
    if channels != 3:
        widen_stem(module, channels)
    return module


def output_shape(architecture: str, classes: int) -> tuple[int, ...]:
    """The shape of an architecture's output for one image: a score for each class, or a map of them."""
    from torchvision import models

    library, _, name = architecture.partition("/")
    segments = library == "torchvision" and name in models.list_models(module=models.segmentation)
    return (classes, *torchvision_preprocessing(name).size) if segments else (classes,)


def widen_stem(module: nn.Module, channels: int) -> None:
    """Let a network's first convolution take another number of channels, as people do who train on X-rays."""
    path, stem = next((path, part) for path, part in module.named_modules() if isinstance(part, nn.Conv2d))
    wide = nn.Conv2d(
        channels,
        stem.out_channels,
        stem.kernel_size,  # type: ignore[arg-type]
        stem.stride,  # type: ignore[arg-type]
        stem.padding,  # type: ignore[arg-type]
        bias=stem.bias is not None,
    )
    module.set_submodule(path, wide)


def preprocessing(architecture: str, channels: int) -> Preprocessing:
    """The preprocessing with which the architecture's published weights were evaluated, for that many channels."""
    library, _, name = architecture.partition("/")
    published = timm_preprocessing(name) if library == "timm" else torchvision_preprocessing(name)
    if published.channels == channels:
        return published
    mean, std = sum(published.mean) / published.channels, sum(published.std) / published.channels
    return replace(published, mean=(mean,) * channels, std=(std,) * channels)


def timm_preprocessing(name: str) -> Preprocessing:
    """Read timm's configuration of an architecture's default weights."""
    import timm

    config = timm.get_pretrained_cfg(name)
    if config is None:
        return Preprocessing()
    _, height, width = config.input_size
    resize = 0 if config.crop_mode == "squash" else int(min(height, width) / config.crop_pct)
    interpolation = config.interpolation if config.interpolation in INTERPOLATIONS else "bicubic"
    return Preprocessing((height, width), resize, tuple(config.mean), tuple(config.std), interpolation)


def torchvision_preprocessing(name: str) -> Preprocessing:
    """Read torchvision's transforms of an architecture's default weights; segmentation has no crop."""
    from torchvision import models

    transforms = models.get_model_weights(name).DEFAULT.transforms()
    (resize,) = transforms.resize_size
    (size,) = getattr(transforms, "crop_size", (resize,))
    return Preprocessing(
        (size, size), resize, tuple(transforms.mean), tuple(transforms.std), transforms.interpolation.value
    )


def class_names(architecture: str, classes: int) -> tuple[str, ...]:
    """The classes of the architecture's published weights if there are as many, else nothing."""
    library, _, name = architecture.partition("/")
    if classes == 1000:
        return imagenet_names()
    if library == "timm":
        return ()
    from torchvision import models

    names = tuple(models.get_model_weights(name).DEFAULT.meta["categories"])
    return names if len(names) == classes else ()


def shapes(tensors: Mapping[str, Shaped[Tensor, "..."]]) -> Shapes:
    """The shapes of a state dict's tensors without counters of training steps and heads that only training uses."""
    return {
        name: tuple(tensor.shape)
        for name, tensor in tensors.items()
        if not name.endswith("num_batches_tracked") and not name.startswith(AUXILIARY)
    }


def kinds(found: Shapes) -> list[tuple[str, tuple[int, ...]]]:
    """The last part of each tensor's name ("weight", "bias", ...) and its shape, in order."""
    return [(name.rpartition(".")[2], shape) for name, shape in found.items()]


def skeleton(architecture: str, classes: int, channels: int = 3, size: tuple[int, int] | None = None) -> Shapes:
    """The shapes of an architecture's tensors, found without allocating them where the architecture allows that."""
    try:
        with torch.device("meta"):
            return shapes(build(architecture, classes, channels, size).state_dict())
    except NotImplementedError:  # torchvision's RegNets read values of tensors while they are made
        return shapes(build(architecture, classes, channels, size).state_dict())
