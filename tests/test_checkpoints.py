"""Checkpoints as training code writes them: whatever is around, beside and in the names, outputs are the author's."""

from __future__ import annotations

import copy
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from explainers.errors import ModelError
from explainers.graph.guessing import find_networks, guess
from explainers.graph.loader import load, propose
from explainers.graph.matching import fill
from explainers.graph.model import Model
from explainers.graph.networks import read_networks
from explainers.preprocessing import Preprocessing
from tests.model_files import resnet, saved

SMALL = Preprocessing((64, 64), 64)
State = dict[str, Tensor]


def images(channels: int = 3, size: int = 64) -> Tensor:
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(1))


def resnet18(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    module: nn.Module = torchvision.models.resnet18(**options)
    return settle(module)


def settle(module: nn.Module) -> nn.Module:
    """Statistics as if it had been trained, so that no layer could be left out unseen."""
    generator = torch.Generator().manual_seed(2)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.running_mean = torch.randn(part.num_features, generator=generator) / 5
            part.running_var = torch.rand(part.num_features, generator=generator) + 0.5
    return module.eval()


def require_same(model: Model | nn.Module, module: nn.Module, inputs: Tensor) -> None:
    with torch.no_grad():
        found, expected = model(inputs), module(inputs)
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


def opened(content: Any, name: str = "model.pth", **given: Any) -> Model:
    data = content if isinstance(content, bytes) else saved(content)
    return load(data, name, preprocessing=SMALL, **given)


def rebuilt(content: Any, size: int = 64) -> tuple[nn.Module, str, tuple[str, ...]]:
    """The network of a file before it is traced, its architecture, and what is told of it."""
    zipped = not isinstance(content, bytes)
    networks = find_networks(read_networks(saved(content) if zipped else content, FORMATS[zipped]))
    weights = next(iter(networks.values()))
    architecture = guess(weights, "model.pth")[0].architecture
    module, notes = fill(architecture, weights, (size, size))
    return module.eval(), architecture, (*weights.notes, *notes)


FORMATS = {True: "checkpoint", False: "safetensors"}


def prefixed(prefix: str, module: nn.Module) -> State:
    return {prefix + name: tensor for name, tensor in module.state_dict().items()}


# What is around and beside the weights

LOSS = {
    "criterion.pos_weight": torch.ones(7),
    "train_auc.confmat": torch.zeros(7, 7),
    "loss.linear.weight": torch.eye(7),
}

AROUND: dict[str, Callable[[], Any]] = {
    "a loss and metrics": lambda: {"state_dict": prefixed("model.", resnet()) | LOSS},
    "a loss before it": lambda: {"state_dict": LOSS | prefixed("net.model.", resnet())},
    "arrays": lambda: {"model": {name: one.numpy() for name, one in resnet().state_dict().items()}, "n": np.int64(3)},
    "an unknown prefix": lambda: prefixed("image_tower.trunk.", resnet()),
    "a compiled part": lambda: {
        name.replace("layer1.", "layer1._orig_mod."): one for name, one in resnet().state_dict().items()
    },
    "counters of operations": lambda: {
        **resnet().state_dict(),
        "total_ops": torch.zeros(1),
        "layer1.total_params": torch.zeros(1),
    },
    "a head kept apart": lambda: {
        "backbone": {name: one for name, one in resnet().state_dict().items() if not name.startswith("fc")},
        "classifier": resnet().get_submodule("fc").state_dict(),
    },
    "the optimiser": lambda: {
        "net": resnet().state_dict(),
        "optimizer": torch.optim.AdamW(resnet().parameters()).state_dict(),
    },
    "a whole network": lambda: copy.deepcopy(resnet()),
    "a whole network in a mapping": lambda: {"epoch": 3, "model": nn.DataParallel(copy.deepcopy(resnet()))},
}  # fmt: skip


@pytest.mark.parametrize("content", AROUND.values(), ids=AROUND)
def test_a_network_is_found_whatever_is_around_it(content: Callable[[], Any]) -> None:
    module, architecture, _ = rebuilt(content())
    require_same(module, resnet(), images())
    assert architecture == "timm/resnet10t"


def test_what_is_left_out_is_said() -> None:
    proposal = propose(saved({**resnet18().state_dict(), "op_threshs": torch.rand(18)}), "xray.pt")
    assert any("Left out" in note and "op_threshs" in note for note in proposal.notes)
    assert "No architecture fits exactly; 102 of 103 tensors fit torchvision/resnet18." in proposal.notes


def test_layers_that_the_architecture_does_not_have_are_not_left_out() -> None:
    weights = {**resnet().state_dict(), "layer1.0.attention.weight": torch.zeros(64, 64)}
    with pytest.raises(ModelError, match=r"does not fit .*1 unexpected \(layer1.0.attention.weight"):
        opened(weights)


def test_one_of_several_networks_is_chosen() -> None:
    student, teacher = resnet(), settle(timm.create_model("resnet10t", num_classes=7))
    data = saved({"state_dict": prefixed("student.", student) | prefixed("teacher.", teacher)})
    proposal = propose(data, "distilled.ckpt")
    assert (proposal.networks, proposal.network) == (("state_dict.student", "state_dict.teacher"), "state_dict.student")
    assert "this is state_dict.student, and there is state_dict.teacher" in proposal.notes[0]
    require_same(opened(data), student, images())
    require_same(opened(data, network="state_dict.teacher"), teacher, images())
    with pytest.raises(ModelError, match="no network 'professor' in the file"):
        opened(data, network="professor")


def test_two_encoders_with_heads_of_their_own_are_two_networks() -> None:
    query, key = (with_head("fc", nn.Sequential(nn.Linear(512, 8), nn.ReLU(), nn.Linear(8, 4))) for _ in range(2))
    weights = prefixed("module.encoder_q.", query) | prefixed("module.encoder_k.", key)
    content = {"state_dict": weights | {"module.queue": torch.zeros(4, 100)}}
    assert propose(saved(content), "moco.pth").networks == ("state_dict.encoder_q", "state_dict.encoder_k")
    require_same(rebuilt(content)[0], query, images())


def test_of_two_heads_the_first_is_taken_and_the_other_said_to_be_left_out() -> None:
    module = settle(Beside(bare("resnet10t"), first=nn.Linear(512, 4)))
    found, _, notes = rebuilt({**module.state_dict(), "second.weight": torch.zeros(3, 512)})
    require_same(found, module, images())
    assert any("Left out" in note and "second.weight" in note for note in notes)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("vit.pth", lambda: timm.create_model("vit_tiny_patch16_224", num_classes=3, img_size=96)),
        ("vit_b.pth", lambda: torchvision.models.vit_b_32(image_size=96, num_classes=3)),
    ],
)
def test_positions_tell_the_size_of_images(name: str, module: Callable[[], nn.Module]) -> None:
    proposal = propose(saved(module().state_dict()), name)
    assert proposal.preprocessing.size == (96, 96)
    assert proposal.guesses[0].exact


def test_averaged_weights_are_proposed_before_the_last() -> None:
    last, averaged = resnet(), settle(timm.create_model("resnet10t", num_classes=7))
    data = saved({"model": last.state_dict(), "model_ema": prefixed("module.", averaged), "discriminator": LOSS})
    proposal = propose(data, "last.pt")
    assert (proposal.networks, proposal.network) == (("model_ema", "model"), "model_ema")
    require_same(opened(data), averaged, images())


def test_a_file_of_one_network_offers_no_choice() -> None:
    assert propose(saved({"state_dict": resnet().state_dict()}), "a.pt").networks == ()


# Heads


def fastai_head(features: int) -> nn.Sequential:
    layers = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(2 * features), nn.Dropout(0.25),
              nn.Linear(2 * features, 32, bias=False), nn.ReLU(), nn.BatchNorm1d(32), nn.Dropout(0.5),
              nn.Linear(32, 2, bias=False))  # fmt: skip
    head = nn.Sequential(*layers)
    head[0] = Concatenated()
    return head


class Concatenated(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return torch.cat([maps.amax((2, 3), keepdim=True), maps.mean((2, 3), keepdim=True)], 1)


def with_head(path: str, head: nn.Module, **options: Any) -> nn.Module:
    module = resnet18(**options)
    module.set_submodule(path, head)
    return settle(module)


class TimmBody(nn.Module):
    """As fastai wraps timm's networks."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.model.forward_features(images)
        return maps


class Beside(nn.Module):
    """A backbone with a head beside it, as people write their own."""

    def __init__(self, backbone: nn.Module, **heads: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.names = tuple(heads)
        for name, head in heads.items():
            self.add_module(name, head)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.backbone(images).flatten(1)
        for name in self.names:
            features = self.get_submodule(name)(features)
        return features


def bare(name: str) -> nn.Module:
    module: nn.Module = timm.create_model(name, num_classes=0)
    return module


HEADS: dict[str, Callable[[], nn.Module]] = {
    "two layers": lambda: with_head(
        "fc", nn.Sequential(nn.Linear(512, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 2))
    ),
    "batch norm before the activation": lambda: with_head(
        "fc", nn.Sequential(nn.Linear(512, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 2))
    ),
    "no activation, as the numbers leave no room": lambda: with_head(
        "fc", nn.Sequential(nn.Linear(512, 16), nn.Linear(16, 2))
    ),
    "named layers": lambda: with_head(
        "fc", nn.Sequential(OrderedDict(fc1=nn.Linear(512, 16), relu=nn.ReLU(), output=nn.Linear(16, 2)))
    ),
    "three layers": lambda: with_head(
        "fc",
        nn.Sequential(nn.Linear(512, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)),
    ),
    "fastai on torchvision": lambda: nn.Sequential(nn.Sequential(*list(resnet18().children())[:-2]), fastai_head(512)),
    "fastai on a deep classifier": lambda: nn.Sequential(
        nn.Sequential(*list(torchvision.models.alexnet().children())[:-2]), fastai_head(256)
    ),
    "maximum and mean of timm": lambda: timm.create_model("resnet10t", num_classes=3, global_pool="catavgmax"),
    "fastai on timm": lambda: nn.Sequential(TimmBody(bare("resnet10t")), fastai_head(512)),
    "beside a backbone without": lambda: Beside(bare("resnet10t"), head=nn.Linear(512, 4)),
    "beside a cut sequence": lambda: Beside(nn.Sequential(*list(resnet18().children())[:-1]), fc=nn.Linear(512, 4)),
    "behind a whole network": lambda: Beside(resnet18(), classifier=nn.Linear(1000, 4)),
    "in two parts": lambda: Beside(bare("resnet10t"), norm=nn.BatchNorm1d(512), head=nn.Linear(512, 4)),
}


@pytest.mark.parametrize("make", HEADS.values(), ids=HEADS)
def test_a_head_of_ones_own_is_made_again(make: Callable[[], nn.Module]) -> None:
    module = settle(make())
    require_same(rebuilt(module.state_dict())[0], module, images())


def exhaustive(*values: Any) -> Any:
    return pytest.param(*values, marks=pytest.mark.exhaustive)


def layers(features: int) -> nn.Module:
    return nn.Sequential(nn.Linear(features, 8), nn.ReLU(), nn.Linear(8, 3))


@pytest.mark.parametrize(
    ("name", "path", "head"),
    [
        ("efficientnet_b0", "classifier", lambda: nn.Linear(1280, 3)),
        ("mobilenet_v3_small", "classifier", lambda: nn.Linear(576, 3)),
        exhaustive("vgg11_bn", "classifier", lambda: layers(25088)),
        exhaustive("densenet121", "classifier", lambda: layers(1024)),
        exhaustive("convnext_tiny", "classifier.2", lambda: layers(768)),
        exhaustive("regnet_y_400mf", "fc", lambda: layers(440)),
        exhaustive("swin_t", "head", lambda: layers(768)),
        exhaustive("shufflenet_v2_x0_5", "fc", lambda: nn.Sequential(nn.Dropout(), nn.Linear(1024, 3))),
        exhaustive("mnasnet0_5", "classifier", lambda: layers(1280)),
    ],
)
def test_a_head_replaces_the_classifier_of_any_family(name: str, path: str, head: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    module = torchvision.models.get_model(name, weights=None)
    module.set_submodule(path, head())
    require_same(rebuilt(settle(module).state_dict())[0], module, images())


def test_safetensors_keep_heads_of_several_modules_by_their_widths() -> None:
    module = settle(Beside(bare("resnet10t"), norm=nn.BatchNorm1d(512), fc=nn.Linear(512, 4)))
    require_same(rebuilt(safetensors.torch.save(module.state_dict()))[0], module, images())


def test_safetensors_keep_heads_by_the_numbers_in_their_names() -> None:
    layers = [nn.Linear(512, 16), nn.ReLU(), *(nn.Dropout() for _ in range(8)), nn.Linear(16, 2)]
    module = with_head("fc", nn.Sequential(*layers))
    require_same(rebuilt(safetensors.torch.save(module.state_dict()))[0], module, images())


def test_the_guess_in_a_head_is_said() -> None:
    data = saved(HEADS["two layers"]().state_dict())
    (note,) = (note for note in propose(data, "a.pt").notes if "head" in note)
    assert "in place of fc" in note
    assert "linear 512 to 16, ReLU, linear 16 to 2; that its activation is a ReLU is a guess" in note
    assert propose(data, "a.pt").classes == 2


def test_a_backbone_without_any_head_is_refused() -> None:
    with pytest.raises(ModelError, match=r"does not fit .*2 missing \(fc.weight"):
        opened(bare("resnet10t").state_dict())


# Tensors in parts


def parted(change: Callable[[nn.Conv2d | nn.Linear], object]) -> nn.Module:
    torch.manual_seed(0)
    module = copy.deepcopy(resnet())
    for part in list(module.modules()):
        if isinstance(part, nn.Conv2d | nn.Linear):
            change(part)
    module.train()(images())
    return module.eval()


PARTS: dict[str, Callable[[Any], object]] = {
    "pruned": lambda part: prune.l1_unstructured(part, "weight", 0.5),
    "pruned by rows": lambda part: prune.ln_structured(part, "weight", 0.3, n=2, dim=0),
    "weight-normalised": parametrizations.weight_norm,
    "weight-normalised by columns": lambda part: parametrizations.weight_norm(part, dim=1),
    "weight-normalised as a whole": lambda part: parametrizations.weight_norm(part, dim=None),
    "weight-normalised the older way": nn.utils.weight_norm,
    "spectrally normalised": parametrizations.spectral_norm,
    "spectrally normalised the older way": nn.utils.spectral_norm,
}


@pytest.mark.parametrize("change", PARTS.values(), ids=PARTS)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_tensors_that_training_keeps_in_parts_are_put_together(change: Callable[[Any], object]) -> None:
    module = parted(change)
    found, _, notes = rebuilt(module.state_dict())
    require_same(found, module, images())
    assert any("tensors were put together" in note for note in notes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_precision_are_computed_in_single(dtype: torch.dtype) -> None:
    module = copy.deepcopy(resnet()).to(dtype)
    for content in (saved(module.state_dict()), safetensors.torch.save(module.state_dict())):
        model = opened(content)
        assert model(images()).dtype == torch.float32
        require_same(model, copy.deepcopy(module).float(), images())


# Channels


FAMILIES = ("resnet18", "vgg11_bn", "densenet121", "efficientnet_b0", "mobilenet_v2", "vit_b_16", "swin_t")


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet18", 1),
        ("resnet18", 4),
        *(pytest.param(name, 13, marks=pytest.mark.exhaustive) for name in FAMILIES),
        *(pytest.param(name, 1, marks=pytest.mark.exhaustive) for name in FAMILIES[1:]),
        pytest.param("resnet18", 2, marks=pytest.mark.exhaustive),
    ],
)
def test_torchvisions_networks_take_as_many_channels_as_the_file(name: str, channels: int) -> None:
    torch.manual_seed(0)
    module = torchvision.models.get_model(name, weights=None, num_classes=2)
    path, stem = next((path, part) for path, part in module.named_modules() if isinstance(part, nn.Conv2d))
    options = {"stride": stem.stride, "padding": stem.padding, "bias": stem.bias is not None}
    module.set_submodule(path, nn.Conv2d(channels, stem.out_channels, stem.kernel_size, **options))
    data = saved(settle(module).state_dict())
    proposal = propose(data, f"{name}.pth")
    assert (proposal.architecture, proposal.channels) == (f"torchvision/{name}", channels)
    size = 224 if name == "vit_b_16" else 64
    given = Preprocessing((size, size), size, (0.5,) * channels, (0.5,) * channels)
    require_same(load(data, "a.pth", preprocessing=given), module, images(channels, size))


# Names of other libraries

Names = list[tuple[str, str]]

BLOCK: Names = [
    (r"attn\.proj\.", "attention.output.dense."),
    (r"mlp\.fc1\.", "intermediate.dense."),
    (r"mlp\.fc2\.", "output.dense."),
    (r"norm1\.", "layernorm_before."),
    (r"norm2\.", "layernorm_after."),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^norm\.", "layernorm."),
]

#: How Hugging Face's own conversion scripts rename timm's tensors, with what they put before all but the classifier's.
PUBLISHED: dict[str, tuple[str, str, Names]] = {
    "vit_tiny_patch16_224": (
        "vit.",
        "attention.attention.",
        [*BLOCK, (r"^blocks\.", "encoder.layer."), (r"^cls_token", "embeddings.cls_token"),
         (r"^pos_embed", "embeddings.position_embeddings"), (r"^head\.", "classifier.")],
    ),
    "deit_tiny_distilled_patch16_224": (
        "deit.",
        "attention.attention.",
        [*BLOCK, (r"^blocks\.", "encoder.layer."), (r"^cls_token", "embeddings.cls_token"),
         (r"^dist_token", "embeddings.distillation_token"), (r"^pos_embed", "embeddings.position_embeddings"),
         (r"^head\.", "cls_classifier."), (r"^head_dist\.", "distillation_classifier.")],
    ),
    "swin_tiny_patch4_window7_224": (
        "swin.",
        "attention.self.",
        [*BLOCK, (r"^layers\.1\.downsample", "encoder.layers.0.downsample"),
         (r"^layers\.2\.downsample", "encoder.layers.1.downsample"),
         (r"^layers\.3\.downsample", "encoder.layers.2.downsample"), (r"^layers\.", "encoder.layers."),
         (r"^patch_embed\.norm", "embeddings.norm"), (r"attn\.relative", "attention.self.relative"),
         (r"^head\.fc\.", "classifier.")],
    ),
    "convnext_tiny": (
        "convnext.",
        "",
        [(r"^stem\.0\.", "embeddings.patch_embeddings."), (r"^stem\.1\.", "embeddings.layernorm."),
         (r"^stages\.(\d)\.downsample\.", r"encoder.stages.\1.downsampling_layer."),
         (r"^stages\.(\d)\.blocks\.", r"encoder.stages.\1.layers."), (r"conv_dw", "dwconv"), (r"mlp\.fc", "pwconv"),
         (r"(\d)\.norm\.", r"\1.layernorm."), (r"gamma$", "layer_scale_parameter"), (r"^head\.norm\.", "layernorm."),
         (r"^head\.fc\.", "classifier.")],
    ),
    "resnet18": (
        "resnet.",
        "",
        [(r"^conv1\.", "embedder.embedder.convolution."), (r"^bn1\.", "embedder.embedder.normalization."),
         *((rf"^layer{stage + 1}\.", f"encoder.stages.{stage}.layers.") for stage in range(4)),
         (r"downsample\.0\.", "shortcut.convolution."), (r"downsample\.1\.", "shortcut.normalization."),
         *((rf"\bconv{place + 1}\.", f"layer.{place}.convolution.") for place in range(3)),
         *((rf"\bbn{place + 1}\.", f"layer.{place}.normalization.") for place in range(3)),
         (r"^fc\.", "classifier.1.")],
    ),
}  # fmt: skip


def published(name: str, state: State) -> State:
    """A state dict of timm's as Hugging Face's scripts convert it, query, key and value apart."""
    prefix, attention, rules = PUBLISHED[name]
    renamed: State = {}
    for key, tensor in state.items():
        if match := re.fullmatch(r"(.*)attn\.qkv\.(weight|bias)", key):
            parts = dict(zip(("query", "key", "value"), tensor.chunk(3), strict=True))
            found = {f"{match[1]}{attention}{part}.{match[2]}": one.clone() for part, one in parts.items()}
        else:
            found = {key: tensor}
        for old, one in found.items():
            new = old
            for pattern, replacement in rules:
                new = re.sub(pattern, replacement, new)
            renamed[new if "classifier" in new else prefix + new] = one
    return renamed


@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224",
        "resnet18",
        pytest.param("swin_tiny_patch4_window7_224", marks=pytest.mark.exhaustive),
        pytest.param("convnext_tiny", marks=pytest.mark.exhaustive),
        pytest.param("deit_tiny_distilled_patch16_224", marks=pytest.mark.exhaustive),
    ],
)
def test_names_of_hugging_face_are_turned_into_timms(name: str) -> None:
    torch.manual_seed(0)
    module = settle(timm.create_model(name, num_classes=3))
    data = safetensors.torch.save(published(name, module.state_dict()))
    proposal = propose(data, f"{name}.safetensors")
    assert proposal.architecture == f"timm/{name}"
    assert proposal.classes == 3
    assert any("Hugging Face" in note and "renamed to timm's" in note for note in proposal.notes)
    require_same(load(data, f"{name}.safetensors"), module, images(3, 224))


def test_names_of_the_authors_of_swin_are_turned_into_timms() -> None:
    torch.manual_seed(0)
    module = timm.create_model("swin_tiny_patch4_window7_224", num_classes=3).eval()
    older = {
        re.sub(r"layers\.(\d)\.downsample", lambda match: f"layers.{int(match[1]) - 1}.downsample", name): tensor
        for name, tensor in module.state_dict().items()
    }
    renamed = {name.replace("head.fc.", "head."): tensor for name, tensor in older.items()}
    index = {"layers.0.blocks.0.attn.relative_position_index": torch.zeros(49, 49, dtype=torch.int64)}
    found, architecture, notes = rebuilt({"model": renamed | index}, 224)
    assert architecture == "timm/swin_tiny_patch4_window7_224"
    assert not any("Left out" in note for note in notes)
    for name, tensor in module.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor)


class Vit(nn.Module):
    """A vision transformer written out, with the names that Hugging Face's has."""

    def __init__(self) -> None:
        super().__init__()
        self.vit = nn.Module()
        self.vit.embeddings = nn.Module()
        self.vit.embeddings.cls_token = nn.Parameter(torch.randn(1, 1, 192))
        self.vit.embeddings.position_embeddings = nn.Parameter(torch.randn(1, 197, 192))
        self.vit.embeddings.patch_embeddings = nn.ModuleDict({"projection": nn.Conv2d(3, 192, 16, 16)})
        self.vit.encoder = nn.ModuleDict({"layer": nn.ModuleList(self.make_layer() for _ in range(12))})
        self.vit.layernorm = nn.LayerNorm(192, eps=1e-12)
        self.classifier = nn.Linear(192, 3)

    def make_layer(self) -> nn.ModuleDict:
        attention = nn.ModuleDict({name: nn.Linear(192, 192) for name in ("query", "key", "value")})
        return nn.ModuleDict(
            {
                "attention": nn.ModuleDict({"attention": attention, "output": dense(192, 192)}),
                "intermediate": dense(192, 768),
                "output": dense(768, 192),
                "layernorm_before": nn.LayerNorm(192, eps=1e-12),
                "layernorm_after": nn.LayerNorm(192, eps=1e-12),
            }
        )

    def forward(self, images: Tensor) -> Tensor:
        parts = self.vit.embeddings
        patches = parts.patch_embeddings["projection"](images).flatten(2).transpose(1, 2)
        tokens = torch.cat([parts.cls_token.expand(len(images), -1, -1), patches], 1) + parts.position_embeddings
        for layer in self.vit.encoder["layer"]:
            normal = layer["layernorm_before"](tokens)
            query, key, value = (
                layer["attention"]["attention"][name](normal).unflatten(2, (3, 64)).transpose(1, 2)
                for name in ("query", "key", "value")
            )
            weights = (query @ key.transpose(2, 3) / 8).softmax(3)
            tokens = tokens + layer["attention"]["output"]["dense"]((weights @ value).transpose(1, 2).flatten(2))
            hidden = nn.functional.gelu(layer["intermediate"]["dense"](layer["layernorm_after"](tokens)))
            tokens = tokens + layer["output"]["dense"](hidden)
        scores: Tensor = self.classifier(self.vit.layernorm(tokens)[:, 0])
        return scores


def dense(width: int, out: int) -> nn.ModuleDict:
    return nn.ModuleDict({"dense": nn.Linear(width, out)})


def test_a_transformer_of_hugging_face_computes_the_same_here() -> None:
    torch.manual_seed(0)
    module = Vit().eval()
    for content in (safetensors.torch.save(module.state_dict()), saved(module.state_dict())):
        require_same(load(content, "model"), module, images(3, 224))
