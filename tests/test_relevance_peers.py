"""The same relevance as the published implementation: zennit with its canonizers, in double precision.

Two things are not zennit's and are told to it here in a canonizer, as its documentation asks for: the sum of a
residual connection is a module of its own, and in squeeze-excitation all relevance goes to the signal.
"""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.densenet import DenseNet, _DenseLayer
from torchvision.models.efficientnet import MBConv
from torchvision.models.mobilenetv3 import InvertedResidual
from torchvision.models.resnet import BasicBlock
from torchvision.models.vgg import make_layers
from torchvision.ops.misc import SqueezeExcitation

from explainers.graph.export import export
from explainers.graph.model import Model
from explainers.preprocessing import Preprocessing
from explainers.relevance.composites import composite
from explainers.relevance.propagation import relevance
from explainers.relevance.tape import record
from tests.conftest import release

zennit = pytest.importorskip("zennit", reason="zennit is the oracle of these tests")

from zennit.canonizers import (  # noqa: E402
    AttributeCanonizer,
    CompositeCanonizer,
    NamedMergeBatchNorm,
    SequentialMergeBatchNorm,
)
from zennit.composites import (  # noqa: E402
    EpsilonAlpha2Beta1Flat,
    EpsilonGammaBox,
    EpsilonPlus,
    EpsilonPlusFlat,
    LayerMapComposite,
    layer_map_base,
)
from zennit.core import Composite as ZennitComposite  # noqa: E402
from zennit.layer import Sum  # noqa: E402
from zennit.rules import Epsilon  # noqa: E402
from zennit.torchvision import ResNetCanonizer  # noqa: E402
from zennit.types import Linear  # noqa: E402

SIDE = 32
PREPROCESSING = Preprocessing(size=(SIDE, SIDE), resize=SIDE)
#: The widths of a VGG of few channels.
NARROW: list[str | int] = [8, 8, "M", 16, 16, "M", 32, 32, "M", 64, 64, "M", 64, 64, "M"]
ARCHITECTURES = {
    "shallow resnet": lambda weights, **options: models.ResNet(BasicBlock, [1, 1, 1, 1], **options),
    "resnet18": models.resnet18,
    "resnet50": models.resnet50,
    "narrow vgg": lambda weights, **options: models.VGG(make_layers(NARROW, batch_norm=True), **options),
    "vgg16": models.vgg16,
    "vgg16_bn": models.vgg16_bn,
    "densenet121": models.densenet121,
    "efficientnet_b0": models.efficientnet_b0,
    "mobilenet_v3_small": models.mobilenet_v3_small,
}
#: Those whose blocks others have, too.
MORE = ("resnet18", "resnet50", "vgg16", "vgg16_bn", "efficientnet_b0")
COMPOSITES = ("epsilon", "epsilon-plus", "epsilon-plus-flat", "epsilon-alpha2-beta1-flat", "epsilon-gamma-box")


def residual_forward(self: nn.Module, inputs: Tensor) -> Tensor:
    made = self.block(inputs)
    return self.canonizer_sum(torch.stack([inputs, made], dim=-1)) if self.use_res_connect else made


def gated_forward(self: SqueezeExcitation, inputs: Tensor) -> Tensor:
    return inputs + (self._scale(inputs) * inputs - inputs).detach()


def densenet_forward(self: DenseNet, inputs: Tensor) -> Tensor:
    return self.classifier(self.canonizer_pool(self.features(inputs).relu()).flatten(1))


def describe(name: str, module: nn.Module) -> dict[str, object] | None:
    if isinstance(module, (MBConv, InvertedResidual)):
        return {"forward": residual_forward.__get__(module), "canonizer_sum": Sum()}
    if isinstance(module, SqueezeExcitation):
        return {"forward": gated_forward.__get__(module)}
    if isinstance(module, DenseNet):
        return {"forward": densenet_forward.__get__(module), "canonizer_pool": nn.AdaptiveAvgPool2d(1)}
    return None


def canonizer(module: nn.Module) -> CompositeCanonizer:
    if isinstance(module, DenseNet):
        blocks = [name for name, part in module.named_modules() if isinstance(part, _DenseLayer)]
        pairs = [(["features.conv0"], "features.norm0"), *(([f"{name}.conv1"], f"{name}.norm2") for name in blocks)]
        return CompositeCanonizer([NamedMergeBatchNorm(pairs), AttributeCanonizer(describe)])
    if isinstance(module, models.ResNet):
        return ResNetCanonizer()
    return CompositeCanonizer([SequentialMergeBatchNorm(), AttributeCanonizer(describe)])


def zennit_composite(name: str, module: nn.Module) -> ZennitComposite:
    low, high = (
        ((bound - torch.tensor(PREPROCESSING.mean)) / torch.tensor(PREPROCESSING.std)).view(1, 3, 1, 1).double()
        for bound in (0, 1)
    )
    canonizers = [canonizer(module)]
    if name == "epsilon":
        return LayerMapComposite([*layer_map_base(), (Linear, Epsilon())], canonizers=canonizers)
    if name == "epsilon-gamma-box":
        return EpsilonGammaBox(low=low, high=high, canonizers=canonizers)
    kinds = {
        "epsilon-plus": EpsilonPlus,
        "epsilon-plus-flat": EpsilonPlusFlat,
        "epsilon-alpha2-beta1-flat": EpsilonAlpha2Beta1Flat,
    }
    return kinds[name](canonizers=canonizers)


def randomise(module: nn.Module) -> nn.Module:
    """Random weights of the size that keeps activations alive, and random statistics of every batch norm."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.2)
            part.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0, 0.2)
            part.eps = 1e-12  # zennit before 1.0 applies it once more after merging
        elif isinstance(part, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(part.weight)
            if part.bias is not None:
                nn.init.normal_(part.bias, 0, 0.1)
    return module


@lru_cache(maxsize=1)
def pair(name: str) -> tuple[nn.Module, Model]:
    """A network in double precision, as a module for zennit and as a Model; one at a time."""
    release()
    torch.manual_seed(1)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):  # the dense layers of a VGG would hold a gigabyte in double precision
            module = ARCHITECTURES[name](weights=None, num_classes=20).eval()
            if isinstance(module, models.VGG):
                wide = 49 * (64 if name == "narrow vgg" else 512)
                module.classifier = nn.Sequential(nn.Linear(wide, 64), nn.ReLU(), nn.Linear(64, 20))
        randomise(module.to_empty(device="cpu"))
        return module, export(module, name, PREPROCESSING)
    finally:
        torch.set_default_dtype(torch.float32)


def picture() -> Tensor:
    return torch.rand(1, 3, SIDE, SIDE, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 4 - 2


@pytest.mark.parametrize("rules", COMPOSITES)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.exhaustive] * (name in MORE)) for name in ARCHITECTURES]
)
def test_relevance_is_that_of_zennit(name: str, rules: str) -> None:
    module, model = pair(name)
    model.derived.clear()  # what other rules made of its weights
    tape = record(model, picture())
    seed = torch.zeros_like(tape.output)
    seed[0, 3] = tape.output[0, 3]
    found = relevance(tape, seed[None], rules=composite(rules, PREPROCESSING))[0]
    with zennit_composite(rules, module).context(module) as modified:
        inputs = picture().requires_grad_()
        (expected,) = torch.autograd.grad(modified(inputs), inputs, seed)
    assert torch.cosine_similarity(found.flatten(), expected.flatten(), dim=0) >= 0.99999
    assert (found - expected).norm() <= 1e-4 * expected.norm() > 0
