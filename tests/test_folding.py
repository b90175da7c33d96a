"""What a graph computes alike for every image, or in branches for training alone, is written as one layer."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from timm.models.byobnet import MobileOneBlock, RepVggBlock
from timm.models.fastvit import RepMixer
from timm.models.repvit import RepVggDw
from timm.utils import reparameterize_model
from torch import Tensor, nn
from torch.nn import functional

from explainers.graph import folding
from explainers.graph.export import export
from explainers.graph.model import Model
from explainers.graph.stored import pack, unpack
from explainers.preprocessing import Preprocessing
from explainers.relevance.propagation import relevance
from explainers.relevance.seeds import seed_entries
from explainers.relevance.tape import record

SIDE = 12


class Standardised(nn.Conv2d):
    """A convolution whose weight is standardised in each run (Qiao et al. 2019, arXiv:1903.10520)."""

    @property
    def standardised(self) -> Tensor:
        return (self.weight - self.weight.mean((1, 2, 3), keepdim=True)) / self.weight.std((1, 2, 3), keepdim=True)

    def forward(self, images: Tensor) -> Tensor:
        return functional.conv2d(images, self.standardised, self.bias, self.stride, self.padding)


class Mixed(nn.Module):
    """Two kernels that each image mixes (Yang et al. 2019, arXiv:1904.04971)."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = nn.Parameter(torch.randn(2, 8, 3, 3, 3) / 5)
        self.router, self.head = nn.Linear(3, 2), nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        shares, count = self.router(images.mean((2, 3))).softmax(1), images.shape[0]
        weight = (shares @ self.kernels.flatten(1)).reshape(count * 8, 3, 3, 3)
        made = functional.conv2d(images.reshape(1, count * 3, SIDE, SIDE), weight, padding=1, groups=count)
        return self.head(torch.relu(made.reshape(count, 8, SIDE, SIDE)).mean((2, 3)))


def network(*layers: nn.Module, width: int = 8) -> nn.Sequential:
    """Layers with a head behind them, with statistics that are not those it begins with."""
    module = nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 4))
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_(std=0.3)
                layer.running_var.uniform_(0.3, 2)
                layer.weight.uniform_(0.3, 2)
                layer.bias.normal_(std=0.3)
    return module.eval()


def opened(module: nn.Module) -> Model:
    return export(module, "folded", Preprocessing((SIDE, SIDE), SIDE))


def operators(model: Model) -> list[str]:
    return [str(node.target) for node in model.program.graph.nodes if node.op == "call_function"]


def explain(model: Model, images: Tensor) -> Tensor:
    tape = record(model, images)
    return relevance(tape, seed_entries(tape.output, (1,)))[0]


def test_standardised_weights_are_computed_once_and_a_batch_norm_behind_them_is_folded() -> None:
    torch.manual_seed(0)
    module = network(Standardised(3, 8, 3), nn.BatchNorm2d(8))
    model = opened(module)
    assert operators(model)[:2] == ["aten.conv2d.default", "aten.relu.default"]
    assert model.info.digest == opened(module).info.digest
    images = torch.randn(2, 3, SIDE, SIDE)
    assert torch.allclose(model(images), module(images), atol=1e-5)
    assert torch.equal(unpack(pack(model))(images), model(images))


def test_relevance_with_weights_that_are_computed_is_that_with_plain_ones_for_every_picture() -> None:
    torch.manual_seed(0)
    module = network(Standardised(3, 16, 3), nn.ReLU(), Standardised(16, 16, 3), width=16)
    plain = copy.deepcopy(module)
    with torch.no_grad():
        for place in (0, 2):
            plain[place] = nn.Conv2d(module[place].in_channels, 16, 3)
            plain[place].weight.copy_(module[place].standardised)
            plain[place].bias.copy_(module[place].bias)
    one, other = opened(module), opened(plain)
    for seed in range(12):
        images = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
        assert torch.allclose(explain(one, images), explain(other, images), atol=1e-6)


def test_weights_that_depend_on_the_image_are_another_image_s_no_more() -> None:
    torch.manual_seed(0)
    module = Mixed().eval()
    model = opened(module)
    for seed in range(12):
        images = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
        assert torch.allclose(record(model, images).output, module(images), atol=1e-5)
    images = torch.randn(3, 3, SIDE, SIDE)
    assert torch.allclose(model(images), module(images), atol=1e-5)


def test_no_large_constant_is_made_of_a_small_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.rand(8, 1, 1))

        def forward(self, values: Tensor) -> Tensor:
            return values * self.scale.exp().expand(8, SIDE, SIDE).contiguous()

    module = network(nn.Conv2d(3, 8, 3, padding=1), Wide())
    images = torch.randn(2, 3, SIDE, SIDE)
    kept = len(pack(opened(module)))
    monkeypatch.setattr(folding, "LARGEST", 1024)
    model = opened(module)
    assert len(pack(model)) < kept
    assert "aten.exp.default" not in operators(model)
    assert torch.allclose(model(images), module(images), atol=1e-6)


def test_what_no_image_changes_is_no_layer_and_what_the_author_wrote_into_it_counts() -> None:
    class Placed(nn.Module):
        def __init__(self, number: float) -> None:
            super().__init__()
            self.table, self.number = nn.Linear(1, 8), number

        def forward(self, values: Tensor) -> Tensor:
            return values + self.table(torch.tensor([[self.number]])).view(1, 8, 1, 1)

    digests = set()
    for number in (0.5, 0.7):
        torch.manual_seed(0)
        model = opened(network(nn.Conv2d(3, 8, 3), Placed(number)))
        digests.add(model.info.digest)
        assert [layer.name for layer in model.info.layers] == ["0", "1", "2", "3", "4", "5"]
    assert len(digests) == 2


class Behind(nn.Module):
    """Tokens back to a map, a batch norm behind a GELU, and tokens again."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.deep = nn.Conv2d(3, 16, 3, 3), nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.norm, self.dense, self.head = nn.BatchNorm2d(16), nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.dense(self.conv(images).flatten(2).transpose(1, 2))
        made = tokens.transpose(1, 2).reshape(-1, 16, 4, 4)
        made = self.norm(functional.gelu(self.deep(made)))
        return self.head((tokens + made.flatten(2).transpose(1, 2)).mean(1) ** 2)


def test_the_gradient_of_a_batch_norm_between_tokens_and_maps_is_that_of_finite_differences() -> None:
    torch.manual_seed(0)
    module = network(Behind())[0]
    with torch.no_grad():
        module.norm.running_var.uniform_(0.3, 2)
    model, exact = opened(module), copy.deepcopy(module).double()
    images = torch.randn(1, 3, SIDE, SIDE).requires_grad_()
    (found,) = torch.autograd.grad(model.run(images)[0][0, 1], images)
    for _ in range(5):
        step = torch.randn(images.shape, dtype=torch.double)
        ends = (float(exact(images.detach() + side * 1e-6 * step)[0, 1]) for side in (1, -1))
        expected = (next(ends) - next(ends)) / 2e-6
        assert abs(float((found * step).sum()) - expected) < 1e-4 * float(found.abs().sum())


class Dense(nn.Module):
    """Tokens, a dense layer, a batch norm of its channels in one of its layouts, and a head."""

    def __init__(self, norm: Callable[[nn.Module, Tensor], Tensor], kind: type[nn.Module]) -> None:
        super().__init__()
        self.conv, self.dense, self.head = nn.Conv2d(3, 9, 4, 4), nn.Linear(9, 9), nn.Linear(9, 4)
        self.norm, self.apply_norm = kind(9), norm

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.apply_norm(self.norm, self.dense(self.conv(images).permute(0, 2, 3, 1))).mean((1, 2)))


#: Batch norms of what a dense layer gives, and whether they are of its channels.
LAYOUTS: dict[str, tuple[Callable[[nn.Module, Tensor], Tensor], type[nn.Module], bool]] = {
    "rows": (lambda norm, values: norm(values.flatten(0, 2)).reshape_as(values), nn.BatchNorm1d, True),
    "channels of tokens": (
        lambda norm, values: norm(values.flatten(1, 2).transpose(1, 2)).mT.reshape_as(values), nn.BatchNorm1d, False,
    ),
    "channels of maps": (
        lambda norm, values: norm(values.permute(0, 3, 1, 2)).permute(0, 2, 3, 1), nn.BatchNorm2d, True,
    ),
    "tokens": (lambda norm, values: norm(values.flatten(1, 2)).reshape_as(values), nn.BatchNorm1d, False),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_batch_norm_behind_a_dense_layer_is_folded_where_it_scales_its_channels(name: str) -> None:
    torch.manual_seed(0)
    norm, kind, folded = LAYOUTS[name]
    module = Dense(norm, kind)
    with torch.no_grad():
        module.norm.running_mean.normal_(std=0.3)
        module.norm.running_var.uniform_(0.3, 2)
        module.norm.weight.uniform_(0.3, 2)
    model, images = opened(module.eval()), torch.randn(2, 3, SIDE, SIDE)
    assert torch.allclose(model(images), module(images), atol=1e-5)
    assert ("aten.batch_norm.default" not in operators(model)) == folded


#: Blocks in the form for training.
BRANCHES: dict[str, Callable[[], nn.Module]] = {
    "RepVGG": partial(RepVggBlock, 8, 8),
    "RepVGG in groups": partial(RepVggBlock, 8, 8, group_size=2),
    "RepVGG with a stride": partial(RepVggBlock, 8, 8, stride=2),
    "MobileOne": partial(MobileOneBlock, 8, 8, num_conv_branches=3),
    "MobileOne by channel": partial(MobileOneBlock, 8, 8, group_size=1),
    "RepMixer": partial(RepMixer, 8, 3),
    "RepViT": partial(RepVggDw, 8, 3),
    "RepViT of old": partial(RepVggDw, 8, 3, legacy=True),
}


@pytest.mark.parametrize("name", BRANCHES)
def test_branches_that_are_written_for_training_are_explained_as_the_layer_that_they_stand_for(name: str) -> None:
    torch.manual_seed(0)
    module = network(nn.Conv2d(3, 8, 3), nn.ReLU(), BRANCHES[name]())
    fused = reparameterize_model(copy.deepcopy(module)).eval()
    images = torch.randn(2, 3, SIDE, SIDE)
    one, other = opened(module), opened(fused)
    assert operators(one).count("aten.conv2d.default") == 2
    assert (one(images) - module(images)).abs().max() < 1e-5 * module(images).abs().max()
    assert torch.allclose(explain(one, images), explain(other, images), rtol=1e-3, atol=1e-6)
    assert torch.equal(unpack(pack(one))(images), one(images))


class Residual(nn.Module):
    """A convolution and what it reads, added."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, values: Tensor) -> Tensor:
        return values + sum(layer(values) for layer in self.layers)


def test_sums_that_are_no_one_convolution_stay_as_they_are() -> None:
    torch.manual_seed(0)
    kept = {
        "a residual": Residual(nn.Conv2d(8, 8, 3, padding=1)),
        "other groups": Residual(nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=8)),
        "not about one middle": Residual(nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=2, dilation=2)),
    }
    for name, block in kept.items():
        module = network(nn.Conv2d(3, 8, 3), block)
        model, images = opened(module), torch.randn(2, 3, SIDE, SIDE)
        assert torch.allclose(model(images), module(images), atol=1e-5), name
        assert operators(model).count("aten.conv2d.default") == 1 + len(block.layers), name
