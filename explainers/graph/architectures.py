"""Architectures of timm and torchvision: which one a checkpoint fits, and how to build it.

Building all of them to compare takes minutes, so a table of fingerprints is shipped, made anew by
``python -m explainers.graph.architectures`` when timm or torchvision is upgraded.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import re
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from explainers.errors import ModelError
from explainers.graph.checkpoint import Weights
from explainers.preprocessing import INTERPOLATIONS, Preprocessing
from explainers.proposal import Guess

TABLE = Path(__file__).with_name("architectures.json.xz")

#: How many of an architecture's tensors the table keeps to estimate the overlap with a file (bottom-k sketch).
SKETCH = 12

#: Heads that only training uses; they are left out.
AUXILIARY = ("aux_classifier.", "AuxLogits.", "aux1.", "aux2.")

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Free:
    """A tensor whose length along ``axis`` the user chooses; ``length`` is that for 1000 classes and 3 channels."""

    name: str
    position: int
    axis: int
    length: int

    def measure(self, shapes: Shapes, unit: int) -> int | None:
        """How many classes (``unit`` 1000) or channels (``unit`` 3) a file has, None if it has no such tensor."""
        shape = shapes.get(self.name) or dict(enumerate(shapes.values())).get(self.position, ())
        return shape[self.axis] * unit // self.length if self.axis < len(shape) else None


@dataclass(frozen=True)
class Fingerprint:
    """What the table keeps of an architecture: hashes of its tensors but for the free ones.

    ``named`` adds up the hashes of names and shapes, ``ordered`` those of positions, kinds and shapes (both modulo
    2^64); ``sketch`` has the smallest of the former, cut to 32 bits (Bar-Yossef et al. 2002).
    """

    architecture: str
    tensors: int
    named: int
    ordered: int
    sketch: tuple[int, ...]
    classifier: tuple[Free, ...]
    stem: tuple[Free, ...]

    @property
    def free(self) -> tuple[Free, ...]:
        """The tensors whose shapes depend on the number of classes or channels."""
        return self.classifier + self.stem


def digest(*parts: object) -> int:
    """A 64-bit hash that is the same in every process."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big")


def names(shapes: Shapes) -> dict[str, int]:
    """A hash of each tensor's name and shape."""
    return {name: digest(name, shape) for name, shape in shapes.items()}


def places(shapes: Shapes) -> list[int]:
    """A hash of each tensor's position, kind ("weight", "bias", ...) and shape."""
    return [digest(place, name.rpartition(".")[2], shape) for place, (name, shape) in enumerate(shapes.items())]


def shapes(tensors: Mapping[str, Tensor]) -> Shapes:
    """The shapes of a state dict's tensors without counters of training steps and heads that only training uses."""
    return {
        name: tuple(tensor.shape)
        for name, tensor in tensors.items()
        if not name.endswith("num_batches_tracked") and not name.startswith(AUXILIARY)
    }


def build(architecture: str, classes: int, channels: int = 3, size: tuple[int, int] | None = None) -> nn.Module:
    """Build an architecture by its qualified name, such as "timm/resnet50" or "torchvision/resnet50".

    ``size`` matters for architectures that are made for one image size only. Raises ModelError for an unknown name.
    """
    if architecture not in fingerprints():
        raise ModelError(f"There is no architecture '{architecture}'. Choose one from the list, such as timm/resnet50.")
    library, _, name = architecture.partition("/")
    return build_timm(name, classes, channels, size) if library == "timm" else build_torchvision(name, classes)


def build_timm(name: str, classes: int, channels: int, size: tuple[int, int] | None = None) -> nn.Module:
    """Build an architecture of timm."""
    import timm

    config = timm.get_pretrained_cfg(name)
    resized = size and config and config.fixed_input_size and config.input_size[1:] != size
    module: nn.Module = timm.create_model(
        name, num_classes=classes, in_chans=channels, **({"img_size": size} if resized else {})
    )
    return module


def build_torchvision(name: str, classes: int) -> nn.Module:
    """Build an architecture of torchvision; a segmentation model returns its map of class scores alone."""
    import torchvision

    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": False}
    elif name in torchvision.models.list_models(module=torchvision.models.segmentation):
        options = {"weights_backbone": None}
    module: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=classes, **options)
    if "weights_backbone" in options:
        module.register_forward_hook(lambda module, inputs, outputs: outputs["out"])
    return module


def preprocessing(architecture: str) -> Preprocessing:
    """The preprocessing with which the architecture's published weights were evaluated."""
    library, _, name = architecture.partition("/")
    return timm_preprocessing(name) if library == "timm" else torchvision_preprocessing(name)


def timm_preprocessing(name: str) -> Preprocessing:
    """Read timm's configuration of an architecture's default weights."""
    import timm

    config = timm.get_pretrained_cfg(name)
    if config is None:
        return Preprocessing()
    size = (config.input_size[1], config.input_size[2])
    resize = 0 if config.crop_mode == "squash" else int(min(size) / config.crop_pct)
    interpolation = config.interpolation if config.interpolation in INTERPOLATIONS else "bicubic"
    return Preprocessing(size, resize, tuple(config.mean), tuple(config.std), interpolation)


def torchvision_preprocessing(name: str) -> Preprocessing:
    """Read torchvision's transforms of an architecture's default weights."""
    import torchvision

    transforms = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    resize = transforms.resize_size[0]
    size = transforms.crop_size[0] if hasattr(transforms, "crop_size") else resize
    mean, std = tuple(transforms.mean), tuple(transforms.std)
    return Preprocessing((size, size), resize, mean, std, transforms.interpolation.value)


@cache
def fingerprints() -> dict[str, Fingerprint]:
    """Read the table of all architectures."""
    rows = json.loads(lzma.decompress(TABLE.read_bytes()))
    return {row[0]: Fingerprint(*row[:4], tuple(row[4]), *(tuple(Free(*free) for free in part) for part in row[5:])) for row in rows}


def take_fingerprint(architecture: str, wide: Shapes, narrow: Shapes) -> Fingerprint:
    """Make an architecture's fingerprint from its shapes with 1000 classes and 3 channels, and with 7 and 1."""
    free = [
        (Free(name, place, axis, lengths[0]), lengths)
        for place, name in enumerate(wide)
        for axis, lengths in enumerate(zip(wide[name], narrow[name], strict=True))
        if lengths[0] != lengths[1]
    ]
    classifier = tuple(one for one, lengths in free if lengths[0] * 7 == lengths[1] * 1000)
    stem = tuple(one for one, lengths in free if lengths[0] == lengths[1] * 3)
    assert len(classifier) + len(stem) == len(free), f"{architecture}: {free}"
    open_names, open_places = {one.name for one, _ in free}, {one.position for one, _ in free}
    named = [value for name, value in names(wide).items() if name not in open_names]
    ordered = [value for place, value in enumerate(places(wide)) if place not in open_places]
    sketch = tuple(sorted(value >> 32 for value in named)[:SKETCH])
    return Fingerprint(architecture, len(wide), sum(named) % 2**64, sum(ordered) % 2**64, sketch, classifier, stem)


def all_architectures() -> list[str]:
    """The qualified names of all classifiers of timm and torchvision and torchvision's segmentation models."""
    import timm
    import torchvision

    modules = (torchvision.models, torchvision.models.segmentation)
    seen = [name for module in modules for name in torchvision.models.list_models(module=module)]
    return [*(f"torchvision/{name}" for name in seen), *(f"timm/{name}" for name in timm.list_models())]


def skeleton(architecture: str, classes: int, channels: int) -> Shapes:
    """The shapes of an architecture's tensors, found without allocating them."""
    library, _, name = architecture.partition("/")
    with torch.device("meta"):
        return shapes(
            (
                build_timm(name, classes, channels) if library == "timm" else build_torchvision(name, classes)
            ).state_dict()
        )


if __name__ == "__main__":
    import sys, warnings
    warnings.simplefilter("ignore")
    rows = []
    for a in all_architectures():
        try:
            wide = skeleton(a, 1000, 3)
            try:
                narrow = skeleton(a, 7, 1)
            except Exception as e:
                print(a, "1ch", repr(e)[:200]); narrow = skeleton(a, 7, 3)
            if list(wide) != list(narrow): print(a, "names differ"); continue
            rows.append(astuple(take_fingerprint(a, wide, narrow)))
        except BaseException as e:
            print(a, repr(e)[:300])
            if isinstance(e, KeyboardInterrupt): raise
    TABLE.write_bytes(lzma.compress(json.dumps(rows).encode()))


def fill(module: nn.Module, weights: Weights) -> tuple[str, ...]:
    """Put a checkpoint's tensors into a module, by name or else by position; returns notes."""
    expected, found = shapes(module.state_dict()), shapes(weights.tensors)
    names = dict(zip(expected, found, strict=True))
    module.load_state_dict({name: weights.tensors[source] for name, source in names.items()}, strict=False)
    return ()
