"""Every rule against its formula, written out again over dense matrices in double precision; and what a tape does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import VisionTransformer
from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large

from explainers.attribution.batch import Batch
from explainers.attribution.lrp import Lrp
from explainers.errors import SelectionError
from explainers.graph.export import Reading, export
from explainers.graph.model import Model
from explainers.jobs import Passes, Progress, passes
from explainers.preprocessing import Preprocessing
from explainers.relevance import rules
from explainers.relevance.composites import COMPOSITES, Composite, choose_composite, composite
from explainers.relevance.propagation import propagate, relevance
from explainers.relevance.rules import Rule
from explainers.relevance.seeds import seed_entries, seed_targets
from explainers.relevance.tape import Tape, record
from explainers.targets import Target

EPSILON = 1e-6
PLAIN = Composite("plain", rules.epsilon(), rules.epsilon())


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Calling(nn.Module):
    """A function as a module, between reshapes that make images of what it takes and a vector of what it gives."""

    def __init__(self, function: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> None:
        super().__init__()
        self.function, self.shape = function, shape
        if isinstance(function, nn.Module):
            self.part = function

    def forward(self, images: Tensor) -> Tensor:
        return self.function(images.reshape(-1, *self.shape)).flatten(1)


def exported(function: Callable[[Tensor], Tensor], *shape: int, kind: str = "numbers") -> Model:
    """Export a function of tensors of this shape as a model of images of one row."""
    torch.manual_seed(5)
    size = int(torch.tensor(shape).prod())
    preprocessing = Preprocessing(size=(1, size), mean=(0.4,), std=(0.5,))
    return export(Calling(function, shape), "small", preprocessing, reading=Reading(kind=kind))


def recorded(model: Model, batch: int = 2, low: float = -1.0) -> Tape:
    generator = torch.Generator().manual_seed(6)
    size = (batch, model.info.preprocessing.channels, *model.info.preprocessing.size)
    return record(model, torch.rand(size, generator=generator) * (1 - low) + low)


def seeds(tape: Tape, count: int = 3) -> Tensor:
    return torch.randn(count, *tape.output.shape, generator=torch.Generator().manual_seed(7))


def stab(z: Tensor, epsilon: float = EPSILON) -> Tensor:
    return z + epsilon * torch.where(z < 0, -1.0, 1.0)


def inputs(tape: Tape) -> Tensor:
    return tape.value(tape.model.input_node).flatten(1)


def assert_relevance(tape: Tape, expected: Callable[[Tensor, Tensor], Tensor], rules: Composite = PLAIN) -> None:
    """Compare each seed and image with a formula of one input vector and one relevance vector."""
    given = seeds(tape)
    found = relevance(tape, given, rules=rules).flatten(2)
    for seed in range(len(given)):
        for image in range(tape.batch):
            one = expected(inputs(tape)[image], given[seed, image])
            torch.testing.assert_close(found[seed, image], one, rtol=1e-9, atol=1e-11)


# Affine operators: the operator is one matrix w and one vector b, made from its answers to unit vectors.

AFFINE: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "conv1d": (lambda: nn.Conv1d(3, 4, 3, stride=2, padding=1), (3, 9)),
    "conv2d": (lambda: nn.Conv2d(2, 3, 3, stride=2, padding=1), (2, 5, 6)),
    "grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2), (4, 4, 5)),
    "dilated": (lambda: nn.Conv2d(2, 2, 3, dilation=2, padding=2), (2, 5, 5)),
    "without bias": (lambda: nn.Conv2d(2, 3, 1, bias=False), (2, 3, 3)),
    "same": (lambda: nn.Conv2d(2, 3, (4, 3), padding="same"), (2, 5, 5)),
    "valid": (lambda: nn.Conv2d(2, 3, 2, padding="valid"), (2, 4, 4)),
    "conv3d": (lambda: nn.Conv3d(1, 2, 2, stride=(1, 2, 1)), (1, 3, 4, 3)),
    "transposed": (lambda: nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1, output_padding=1), (2, 3, 3)),
    "linear": (lambda: nn.Linear(6, 4), (3, 6)),
}


@cache
def affine(kind: str) -> tuple[Model, Tensor, Tensor, Tensor]:
    """The model, its matrix, its bias, and which weights of the matrix there are (ones for the flat rule)."""
    torch.manual_seed(4)
    module, shape = AFFINE[kind][0](), AFFINE[kind][1]
    model = exported(module, *shape)
    size = model.info.preprocessing.size[1]
    zero = model(torch.zeros(1, 1, 1, size))[0]
    matrix = (model(torch.eye(size).view(size, 1, 1, size)) - zero).T
    return model, matrix, zero, (matrix.abs() > 1e-12).double()


def split(values: Tensor) -> tuple[Tensor, Tensor]:
    return values.clamp(min=0), values.clamp(max=0)


def by_epsilon(a: Tensor, w: Tensor, b: Tensor, r: Tensor, ones: Tensor) -> Tensor:
    return a * (w.T @ (r / stab(w @ a + b)))


def by_contributions(a: Tensor, w: Tensor, b: Tensor, r: Tensor, sign: int) -> Tensor:
    """Alpha-beta's two halves: only the contributions a_i w_ij of one sign, and the bias if it has that sign."""
    contributions = (sign * w * a).clamp(min=0)
    z = contributions.sum(1) + (sign * b).clamp(min=0)
    return contributions.T @ (r / (z + EPSILON))


def by_alpha_beta(a: Tensor, w: Tensor, b: Tensor, r: Tensor, ones: Tensor) -> Tensor:
    return 2 * by_contributions(a, w, b, r, 1) - by_contributions(a, w, b, r, -1)


def by_gamma(a: Tensor, w: Tensor, b: Tensor, r: Tensor, ones: Tensor) -> Tensor:
    """A positive output favours its positive contributions, a negative one its negative ones."""
    result = torch.zeros_like(a)
    for z, row, bias, share in zip(w @ a + b, w, b, r, strict=True):
        favoured = (row * a).clamp(min=0) if z > 0 else (row * a).clamp(max=0)
        extra = bias.clamp(min=0) if z > 0 else bias.clamp(max=0)
        parts = row * a + 0.25 * favoured
        result += parts * share / stab(parts.sum() + bias + 0.25 * extra)
    return result


def by_wsquare(a: Tensor, w: Tensor, b: Tensor, r: Tensor, ones: Tensor) -> Tensor:
    return (w**2).T @ (r / (w.square().sum(1) + b**2 + EPSILON))


def by_flat(a: Tensor, w: Tensor, b: Tensor, r: Tensor, ones: Tensor) -> Tensor:
    return ones.T @ (r / (ones.sum(1) + EPSILON))


def by_zbox(a: Tensor, w: Tensor, b: Tensor, r: Tensor, ones: Tensor) -> Tensor:
    """Every input lies between -1 and 2."""
    positive, negative = split(w)
    contributions = w * a - positive * -1.0 - negative * 2.0
    return contributions.T @ (r / stab(contributions.sum(1)))


RULES: dict[str, tuple[Rule, Callable[..., Tensor]]] = {
    "epsilon": (rules.epsilon(EPSILON), by_epsilon),
    "z-plus": (rules.zplus(), lambda a, w, b, r, ones: by_contributions(a, w, b, r, 1)),
    "alpha-beta": (rules.alpha_beta(2.0, 1.0), by_alpha_beta),
    "gamma": (rules.gamma(0.25), by_gamma),
    "w-square": (rules.wsquare(), by_wsquare),
    "flat": (rules.flat(), by_flat),
}


@pytest.mark.parametrize("low", [-1.0, 0.0], ids=["signed", "nonnegative"])
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("kind", AFFINE)
def test_a_rule_is_its_formula_on_every_affine_operator(kind: str, name: str, low: float) -> None:
    model, w, b, ones = affine(kind)
    rule, formula = RULES[name]
    tape = recorded(model, low=low)
    assert_relevance(tape, lambda a, r: formula(a, w, b, r, ones), Composite(name, rule, rule))


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("kind", ["conv2d", "grouped", "dilated", "without bias"])
def test_packed_convolutions_in_single_precision_give_what_plain_ones_do(kind: str, name: str) -> None:
    module, shape = AFFINE[kind][0](), AFFINE[kind][1]
    rule = RULES[name][0]
    plain = recorded(exported(module, *shape))
    given = seeds(plain)
    expected = relevance(plain, given, rules=Composite(name, rule, rule))
    torch.set_default_dtype(torch.float32)
    packed = record(exported(module.float(), *shape), inputs(plain).float().view(2, 1, 1, -1))
    found = relevance(packed, given.float(), rules=Composite(name, rule, rule))
    torch.testing.assert_close(found, expected.float(), rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("cache", [1, 4 << 20], ids=["images one by one", "images together"])
@pytest.mark.parametrize("name", ["z-plus", "alpha-beta", "w-square", "flat"])
def test_wide_convolutions_in_single_precision_give_what_plain_ones_do(
    name: str, cache: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("explainers.relevance.winograd.CACHE", cache)
    rule = RULES[name][0]
    torch.manual_seed(4)
    layers = [part for size in (2, 128) for part in (nn.Conv2d(size, 128, 3, padding=1), nn.ReLU())]
    module = nn.Sequential(*layers, nn.AvgPool2d(8))
    plain = recorded(exported(module, 2, 32, 40))
    given = seeds(plain)
    expected = relevance(plain, given, rules=Composite(name, rule, rule))
    torch.set_default_dtype(torch.float32)
    wide = record(exported(module.float(), 2, 32, 40), inputs(plain).float().view(2, 1, 1, -1))
    found = relevance(wide, given.float(), rules=Composite(name, rule, rule))
    assert (found - expected).norm() <= 5e-5 * expected.norm() > 0


def test_the_box_rule_is_its_formula() -> None:
    module = nn.Conv2d(2, 3, 3, padding=1)
    tape = recorded(exported(module, 2, 4, 4))
    rule = rules.zbox((-1.0, -1.0), (2.0, 2.0))
    given = seeds(tape)
    found = relevance(tape, given, rules=Composite("box", rule, rule)).flatten(2)
    values = inputs(tape).view(2, 2, 4, 4)
    low, high = torch.full_like(values, -1.0), torch.full_like(values, 2.0)
    positive, negative = split(module.weight.detach())
    box = [(values, module.weight.detach()), (-low, positive), (-high, negative)]
    z = sum(functional.conv2d(a, w, padding=1) for a, w in box)
    quotient = given[0].view_as(z) / stab(z)
    expected = sum(a * functional.conv_transpose2d(quotient, w, padding=1) for a, w in box)
    torch.testing.assert_close(found[0], expected.flatten(1))


# Other operators: linear ones by the epsilon rule on their Jacobian, the rest by what the papers say.


def split_by_jacobian(function: Callable[[Tensor], Tensor], a: Tensor, r: Tensor) -> Tensor:
    jacobian = torch.autograd.functional.jacobian(function, a)
    return a * (jacobian.T @ (r / stab(function(a))))


LINEAR: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {
    "average pooling": (lambda x: functional.avg_pool2d(x, 2, padding=1), (2, 4, 6)),
    "average pooling 1d": (lambda x: functional.avg_pool1d(x, 3), (2, 9)),
    "adaptive average pooling": (lambda x: functional.adaptive_avg_pool2d(x, (2, 3)), (2, 5, 5)),
    "mean": (lambda x: x.mean((2, 3), keepdim=True), (3, 4, 4)),
    "sum": (lambda x: x.sum(1), (3, 4)),
    "bilinear interpolation": (lambda x: functional.interpolate(x, (5, 7), mode="bilinear"), (2, 3, 4)),
    "residual sum": (lambda x: x + x.flip(2), (2, 3, 4)),
    "difference": (lambda x: x[:, :1] - x[:, 1:] , (2, 5)),
    "sum with a constant": (lambda x: x + torch.arange(1.0, 5.0), (3, 4)),
    "broadcast sum": (lambda x: x[:, :, :1] + x, (3, 4)),
    "sum with weight": (lambda x: torch.add(x[:, 0], x[:, 1], alpha=3), (2, 4)),
}  # fmt: skip


@pytest.mark.parametrize("kind", LINEAR)
def test_a_linear_operator_splits_by_contributions(kind: str) -> None:
    function, shape = LINEAR[kind]
    tape = recorded(exported(function, *shape))
    assert_relevance(tape, lambda a, r: split_by_jacobian(lambda x: function(x.view(1, *shape)).flatten(), a, r))


MOVES: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {
    "permute": (lambda x: x.permute(0, 2, 1).contiguous().transpose(1, 2), (3, 4)),
    "slice and select": (lambda x: torch.cat([x[:, 1:, ::2].flatten(1), x[:, 0]], 1), (3, 4)),
    "split": (lambda x: torch.cat(x.split([1, 2], 1)[::-1], 1), (3, 4)),
    "chunk": (lambda x: x.chunk(2, 2)[1], (3, 4)),
    "unbind and stack": (lambda x: torch.stack([x.unbind(1)[2], x.unbind(1)[0]], 1), (3, 4)),
    "expand": (lambda x: x.unsqueeze(1).expand(-1, 2, -1, -1), (3, 4)),
    "roll and flip": (lambda x: x.roll(1, 2).flip(1), (3, 4)),
    "pad": (lambda x: functional.pad(x, (1, 2)), (3, 4)),
    "index": (lambda x: x[:, torch.tensor([2, 0, 0])], (3, 4)),
    "nearest interpolation": (lambda x: functional.interpolate(x, scale_factor=2), (2, 3, 3)),
    "pixel shuffle": (lambda x: functional.pixel_shuffle(x, 2), (4, 3, 3)),
    "max pooling": (lambda x: functional.max_pool2d(x, 3, 2, 1), (2, 5, 5)),
    "max pooling 1d": (lambda x: functional.max_pool1d(x, 2), (2, 6)),
    "adaptive max pooling": (lambda x: functional.adaptive_max_pool2d(x, 2), (2, 5, 5)),
    "squeeze": (lambda x: x[:, :1].squeeze(1), (3, 4)),
}


@pytest.mark.parametrize("kind", MOVES)
def test_relevance_goes_back_to_where_values_came_from(kind: str) -> None:
    function, shape = MOVES[kind]
    tape = recorded(exported(function, *shape))

    def expected(a: Tensor, r: Tensor) -> Tensor:
        return torch.autograd.functional.jacobian(lambda x: function(x.view(1, *shape)).flatten(), a).T @ r

    assert_relevance(tape, expected)


ACTIVATIONS: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {
    **{
        function.__name__: lambda function=function: function
        for function in (
            torch.relu, functional.gelu, functional.silu, functional.hardswish, functional.hardsigmoid, torch.sigmoid,
            torch.tanh, functional.hardtanh, functional.relu6, functional.leaky_relu, functional.elu, functional.mish,
        )
    },
    "dropout": nn.Dropout,
    "unfolded batch norm": lambda: nn.BatchNorm1d(3),
}  # fmt: skip


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_an_elementwise_operator_passes_relevance_on(kind: str) -> None:
    tape = recorded(exported(ACTIVATIONS[kind](), 3, 4))
    assert_relevance(tape, lambda a, r: r)


def test_a_gate_gets_nothing_and_the_signal_all() -> None:
    tape = recorded(exported(lambda x: x[:, :2] * torch.sigmoid(x[:, 2:]).unsqueeze(1).squeeze(1), 4, 3))
    assert_relevance(tape, lambda a, r: torch.cat([r, torch.zeros(6)]))


def test_a_broadcast_gate_leaves_the_signal_its_shape() -> None:
    tape = recorded(exported(lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)), 2, 3, 3))
    assert_relevance(tape, lambda a, r: r)


def test_a_product_of_two_signals_is_halved() -> None:
    tape = recorded(exported(lambda x: x[:, :2] * x[:, 2:], 4, 3))
    assert_relevance(tape, lambda a, r: torch.cat([r, r]) / 2)


def test_a_constant_factor_or_divisor_takes_nothing() -> None:
    tape = recorded(exported(lambda x: x * torch.arange(1.0, 4.0) / 7, 4, 3))
    assert_relevance(tape, lambda a, r: r)


def test_a_quotient_leaves_all_to_the_numerator() -> None:
    tape = recorded(exported(lambda x: x[:, :2] / (3 + x[:, 2:]), 4, 3))
    assert_relevance(tape, lambda a, r: torch.cat([r, torch.zeros(6)]))


def test_a_matrix_product_gives_half_to_each_factor() -> None:
    tape = recorded(exported(lambda x: x[:, :2] @ x[:, 2:].mT, 5, 4))

    def expected(a: Tensor, r: Tensor) -> Tensor:
        left, right = a[:8].view(2, 4), a[8:].view(3, 4)
        quotient = r.view(2, 3) / stab(left @ right.T)
        return torch.cat([left * (quotient @ right), right * (quotient.T @ left)]).flatten() / 2

    assert_relevance(tape, expected)


def test_softmax_is_expanded_at_its_input() -> None:
    tape = recorded(exported(lambda x: x.softmax(-1).flip(-1), 1, 5))  # one that is not taken off the end
    assert_relevance(tape, lambda a, r: a * (r.flip(0) - a.softmax(0) * r.sum()))


NORMS: dict[str, tuple[Callable[[], nn.Module], int, bool]] = {
    "layer norm": (lambda: nn.LayerNorm(4), 1, True),
    "group norm": (lambda: nn.GroupNorm(2, 4), 2, True),
    "RMS norm": (lambda: nn.RMSNorm(4), 1, False),
}


@pytest.mark.parametrize("kind", NORMS)
def test_a_normalisation_is_affine_with_its_spread_held_constant(kind: str) -> None:
    make, groups, centred = NORMS[kind]
    module = make()
    for parameter in module.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(8))
    tape = recorded(exported(module, 4, 1) if groups > 1 else exported(module, 1, 4))

    def expected(a: Tensor, r: Tensor) -> Tensor:
        rows = a.view(groups, -1)
        average = torch.full((rows.shape[1],) * 2, 1 / rows.shape[1]) * centred
        power = (rows - rows @ average).square().mean(1)
        eps = module.eps if module.eps is not None else torch.finfo(torch.float64).eps
        blocks = [(torch.eye(rows.shape[1]) - average) / (item + eps).sqrt() for item in power]
        matrix = module.weight.detach()[:, None] * torch.block_diag(*blocks)
        bias = module.bias.detach() if centred else torch.zeros(4)
        return by_epsilon(a, matrix, bias, r, matrix)

    assert_relevance(tape, expected)


# Attention, against gradient x input of a network whose backward pass is bent the AttnLRP way.


def bent_layer_norm(x: Tensor, shape: list[int], weight: Tensor, bias: Tensor, eps: float, *_: Any) -> Tensor:
    std = (x.var(-1, correction=0, keepdim=True) + eps).sqrt()
    return (x - x.mean(-1, keepdim=True)) / std.detach() * weight + bias


def bent_gelu(x: Tensor) -> Tensor:
    return x * (functional.gelu(x) / x).detach()


def halve(x: Tensor) -> Tensor:
    return x / 2 + x.detach() / 2


def bent_attention(query: Tensor, key: Tensor, value: Tensor, *_: Any) -> Tensor:
    weights = (halve(query) @ halve(key).mT / query.shape[-1] ** 0.5).softmax(-1)
    return halve(weights) @ halve(value)


def constant_attention(query: Tensor, key: Tensor, value: Tensor, *_: Any) -> Tensor:
    return (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1).detach() @ value


aten = torch.ops.aten


@cache
def transformer() -> Model:
    torch.manual_seed(9)
    module = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=4, num_classes=10)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.1) if parameter.dim() == 1 else nn.init.xavier_normal_(parameter.flatten(1))
    return export(module.double(), "transformer", Preprocessing(size=(32, 32), resize=32))


def one_hot(tape: Tape, index: int = 3) -> Tensor:
    return seed_targets(tape.output, [Target(index)] * tape.batch)


@pytest.mark.parametrize(("name", "attention"), [("attnlrp", bent_attention), ("cp-lrp", constant_attention)])
def test_relevance_of_a_transformer_is_gradient_times_input_of_the_bent_network(name: str, attention: Any) -> None:
    tape = recorded(transformer())
    found = relevance(tape, one_hot(tape), rules=composite(name, tape.model.info.preprocessing, 1e-12))[0]
    images = tape.value(tape.model.input_node).clone().requires_grad_()
    bent = {
        aten.layer_norm.default: bent_layer_norm,
        aten.gelu.default: bent_gelu,
        aten.scaled_dot_product_attention.default: attention,
    }
    output = tape.model.run(images, operators=bent)[0]
    expected = torch.autograd.grad(output[:, 3].sum(), images)[0] * images
    assert torch.cosine_similarity(found.flatten(), expected.flatten(), dim=0) >= 0.9999
    assert (found - expected).norm() <= 1e-2 * expected.norm()


def test_attention_in_one_operator_and_in_three_give_the_same() -> None:
    def fused(x: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(*x.unbind(1))

    def in_three(x: Tensor) -> Tensor:
        query, key, value = x.unbind(1)
        return ((query @ key.mT) * 6**-0.5).softmax(-1) @ value

    one, three = (recorded(exported(function, 3, 2, 5, 6)) for function in (fused, in_three))
    exact = replace(PLAIN, stabilizer=1e-13)  # which comes in once more where the scores are a value of their own
    torch.testing.assert_close(relevance(one, seeds(one), rules=exact), relevance(three, seeds(three), rules=exact))


# Conservation.


class Small(nn.Module):
    """Convolutions, a residual sum, a gate, pooling and a dense head."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1, bias=bias)
        self.block = nn.Conv2d(6, 6, 3, padding=1, bias=bias)
        self.squeeze = nn.Conv2d(6, 6, 1)
        self.head = nn.Linear(6, 4, bias=bias)

    def forward(self, images: Tensor) -> Tensor:
        stem = functional.max_pool2d(self.stem(images).relu(), 2)
        block = self.block(stem).relu()
        gated = block * self.squeeze(block.mean((2, 3), keepdim=True)).sigmoid()
        return self.head((stem + gated).mean((2, 3)))


@cache
def small(bias: bool = True) -> Model:
    torch.manual_seed(10)
    return export(Small(bias), "small", Preprocessing(size=(12, 12), resize=12))


@pytest.mark.parametrize("name", COMPOSITES)
def test_without_biases_the_input_has_all_the_relevance_of_the_output(name: str) -> None:
    tape = recorded(small(bias=False))
    rules_ = replace(composite(name, tape.model.info.preprocessing, 1e-12), stabilizer=1e-12)
    given = seeds(tape).abs() * tape.output.sign()
    gap = relevance(tape, given, rules=rules_).sum((2, 3, 4)) - given.sum(2)
    assert (gap.abs() <= 1e-5 * given.abs().sum(2)).all()


@pytest.mark.parametrize("name", COMPOSITES)
@pytest.mark.parametrize("make", [small, transformer])
def test_what_does_not_reach_the_input_is_accounted_for(make: Callable[[], Model], name: str) -> None:
    tape = recorded(make())
    given = seeds(tape)
    found = propagate(tape, given, rules=composite(name, tape.model.info.preprocessing), account=True)
    rest = given.sum(2) - found.relevance[""].sum((2, 3, 4)) - sum(found.ended.values())
    scale = found.relevance[""].abs().sum((2, 3, 4)) + given.abs().sum(2)
    assert (rest.abs() <= 1e-6 * scale).all()
    assert found.ended["bias"].abs().min() > 0


# The tape and partial passes.


def test_a_tape_costs_one_forward_pass_and_each_walk_one_backward_pass() -> None:
    token = passes.set(counts := Passes())
    tape = recorded(small())
    for _ in range(3):
        relevance(tape, seeds(tape))
    passes.reset(token)
    assert (counts.forward, counts.backward, counts.images) == (1, 3, 2)


def test_many_seeds_give_what_each_gives_alone() -> None:
    for model in (small(), transformer()):
        tape = recorded(model)
        together = relevance(tape, seeds(tape))
        for place, seed in enumerate(seeds(tape)):
            torch.testing.assert_close(together[place], relevance(tape, seed[None])[0])


def test_a_walk_in_two_parts_ends_where_one_walk_does() -> None:
    tape = recorded(small())
    middle = relevance(tape, seeds(tape), stop="block")
    found = propagate(tape, seeds(tape), stops=["block", ""])
    torch.testing.assert_close(found.relevance["block"], middle)
    stem = tape.model.info.layer("stem").node
    below = relevance(tape, relevance(tape, seeds(tape), stop=stem), start=stem)
    torch.testing.assert_close(below, found.relevance[""])


def test_relevance_of_channels_adds_up_to_that_of_all() -> None:
    tape = recorded(small())
    stem = relevance(tape, seeds(tape, 1), stop="stem")
    channels = torch.eye(6).view(6, 1, 6, 1, 1)
    each = relevance(tape, stem * channels, start="stem")
    masked = relevance(tape, seeds(tape, 1).expand(6, -1, -1), mask={"stem": channels})
    torch.testing.assert_close(each, masked)
    torch.testing.assert_close(each.sum(0, keepdim=True), relevance(tape, seeds(tape, 1)))


def test_a_small_budget_changes_memory_but_not_relevance() -> None:
    model = small()
    full = recorded(model)
    scarce = record(model, full.value(model.input_node), budget=1)
    torch.testing.assert_close(relevance(scarce, seeds(full)), relevance(full, seeds(full)))
    assert scarce.bytes < full.bytes
    assert not scarce.derived


@pytest.mark.parametrize("name", COMPOSITES)
def test_seeds_that_go_one_by_one_end_where_those_together_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for model in (small(), transformer()):
        rules, tape = composite(name, model.info.preprocessing), recorded(model)
        together = relevance(tape, seeds(tape, 5), rules=rules)
        with monkeypatch.context() as patch:
            patch.setattr("explainers.relevance.propagation.CACHE", 1)
            torch.testing.assert_close(relevance(tape, seeds(tape, 5), rules=rules), together)


def test_denominators_are_made_once() -> None:
    tape = recorded(small())
    relevance(tape, seeds(tape))
    before = dict(tape.derived)
    relevance(tape, seeds(tape, 5))
    assert tape.derived == before


class Standardised(nn.Conv2d):
    """A convolution whose weight the graph computes, as in BiT and NFNet (Qiao et al. 2019, arXiv:1903.10520)."""

    def standard(self) -> Tensor:
        centred = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return centred / (centred.square().mean((1, 2, 3), keepdim=True) + 1e-5).sqrt()

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.conv2d(images, self.standard(), self.bias, padding=1)


def test_weights_that_the_graph_computes_are_not_taken_for_those_of_another_pass() -> None:
    torch.manual_seed(0)
    parts = [part for width in (3, 16, 16) for part in (Standardised(width, 16, 3, padding=1), nn.ReLU())]
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))
    plain = [nn.Conv2d(part.in_channels, 16, 3, padding=1) if isinstance(part, nn.Conv2d) else part for part in parts]
    for ours, theirs in zip(parts, plain, strict=True):
        if isinstance(ours, Standardised):
            theirs.load_state_dict({"weight": ours.standard(), "bias": ours.bias})
    models = [export(nn.Sequential(*one, *head), "net", Preprocessing((32, 32), 32)) for one in (parts, plain)]
    for seed in range(12):
        image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
        tapes = [record(model, image) for model in models]
        torch.testing.assert_close(tapes[0].output, tapes[1].output, rtol=1e-4, atol=1e-5)
        maps = [relevance(tape, seed_targets(tape.output, [Target(0)])) for tape in tapes]
        torch.testing.assert_close(maps[0], maps[1], rtol=1e-3, atol=1e-4 * float(maps[1].abs().max()))
        del tapes, maps


def test_threads_share_a_tape() -> None:
    tape = recorded(transformer())
    found: list[Tensor] = []
    threads = [threading.Thread(target=lambda: found.append(relevance(tape, seeds(tape)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(torch.equal(one, found[0]) for one in found)


def test_seeds_of_another_shape_are_refused() -> None:
    tape = recorded(small())
    with pytest.raises(SelectionError, match=r"needs \(seeds, 2, 4\)"):
        relevance(tape, torch.zeros(1, 2, 5))


def test_a_layer_behind_the_start_is_refused() -> None:
    tape = recorded(small())
    with pytest.raises(SelectionError, match="'head' does not come before"):
        relevance(tape, torch.zeros(1, 2, 6, 12, 12), start="stem", stop="head")


def test_an_unknown_layer_is_refused() -> None:
    tape = recorded(small())
    with pytest.raises(SelectionError, match="no layer 'attic'"):
        relevance(tape, seeds(tape), stop="attic")


# Composites and seeds.


def test_the_first_layer_and_overrides_get_their_own_rules() -> None:
    model, tape = small(), recorded(small())
    plus = composite("epsilon-plus", model.info.preprocessing)
    flat = replace(plus, name="like epsilon-plus-flat", overrides=(("st*", rules.flat()),))
    named = composite("epsilon-plus-flat", model.info.preprocessing)
    torch.testing.assert_close(relevance(tape, seeds(tape), rules=flat), relevance(tape, seeds(tape), rules=named))


def test_a_composite_is_chosen_from_the_graph() -> None:
    assert choose_composite(small())[0] == "epsilon-plus-flat"
    assert choose_composite(transformer())[0] == "attnlrp"
    assert "4 attention layers" in choose_composite(transformer())[1]


def test_an_unknown_composite_is_refused() -> None:
    with pytest.raises(SelectionError, match="epsilon-gamma-box"):
        composite("epsilon-delta", Preprocessing())


def test_a_contrast_is_the_difference_of_two_classes() -> None:
    tape = recorded(small())
    first, second = (relevance(tape, one_hot(tape, index)) for index in (1, 2))
    contrast = relevance(tape, seed_targets(tape.output, [Target(1, 2)] * 2))
    torch.testing.assert_close(contrast, first - second)


def test_the_method_says_where_relevance_went_and_why_it_chose_its_rules() -> None:
    model = small()
    images = recorded(model).value(model.input_node)
    scores = Lrp().attribute(Batch(model, images, [Target(1), Target(2, 0)], Progress()))
    details = scores.details[0]
    torch.testing.assert_close(scores.values.sum((1, 2, 3)), scores.expected)
    assert details["relevance at the output"] == pytest.approx(float(model(images)[0, 1]))
    assert details["elsewhere"] == pytest.approx(0, abs=1e-9)
    assert "convolutions" in scores.note


def test_relevance_of_a_layer_is_drawn_with_its_sum() -> None:
    model = small()
    images = recorded(model).value(model.input_node)
    scores = Lrp(layer="stem").attribute(Batch(model, images, [Target(1)] * 2, Progress()))
    tape = record(model, images)
    expected = relevance(tape, one_hot(tape, 1), stop="stem")[0].sum((1, 2, 3))
    torch.testing.assert_close(scores.values.sum((1, 2, 3)), expected)


class Segmenter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3)

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)["out"]


def test_relevance_of_a_segmentation_starts_in_a_region() -> None:
    torch.manual_seed(11)
    tape = recorded(export(Segmenter(), "segmenter", Preprocessing(size=(64, 64), resize=64)), batch=1)
    region = torch.zeros(64, 64, dtype=torch.bool)
    region[:20, :20] = True
    pixel = torch.zeros_like(region)
    pixel[40, 30] = True
    given = torch.cat([seed_entries(tape.output, (1,), mask) for mask in (region, pixel, None)])
    found = propagate(tape, given, account=True)
    assert given[1].count_nonzero() == 1
    assert found.relevance[""].isfinite().all()
    accounted = found.relevance[""].sum((2, 3, 4)) + sum(found.ended.values())
    torch.testing.assert_close(accounted, given.sum((2, 3, 4)), rtol=1e-6, atol=1e-9)
    with pytest.raises(SelectionError, match="region has the shape"):
        seed_entries(tape.output, (1,), region[:5])


class Detector(nn.Module):
    """Four boxes of (left, top, right, bottom, score), each from its own quarter of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 8, 8, stride=8)
        self.boxes = nn.Conv2d(8, 5, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.boxes(self.features(images).relu()).flatten(2).transpose(1, 2)


def test_relevance_of_a_box_stays_in_what_the_box_sees() -> None:
    torch.manual_seed(12)
    tape = recorded(export(Detector(), "detector", Preprocessing(size=(16, 16), resize=16)))
    found = relevance(tape, seed_entries(tape.output, (1, 4)))[0]
    assert found[:, :, :8, 8:].abs().sum() > 0
    assert found[:, :, 8:].count_nonzero() == found[:, :, :, :8].count_nonzero() == 0
    with pytest.raises(SelectionError, match="Output 4 was asked for"):
        seed_entries(tape.output, (4, 0))


def test_a_layer_that_attention_held_constant_leads_to_has_no_relevance() -> None:
    class Asking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query = nn.Linear(4, 4)

        def forward(self, images: Tensor) -> Tensor:
            tokens = images.reshape(-1, 3, 4)
            return functional.scaled_dot_product_attention(self.query(tokens), tokens, tokens).flatten(1)

    tape = recorded(export(Asking(), "asking", Preprocessing(size=(1, 12), mean=(0.5,), std=(0.5,))))
    held = composite("cp-lrp", tape.model.info.preprocessing)
    assert relevance(tape, seeds(tape), rules=held, stop="query").count_nonzero() == 0
    assert relevance(tape, seeds(tape), stop="query").count_nonzero() > 0


def map_of(overrides: str) -> Tensor:
    model = small()
    images = recorded(model).value(model.input_node)
    return Lrp(overrides=overrides).attribute(Batch(model, images, [Target(1)] * 2, Progress())).values


def test_a_rule_by_layer_name_changes_the_map_and_the_first_pattern_wins() -> None:
    assert not torch.equal(map_of("stem=epsilon"), map_of(""))
    assert torch.equal(map_of("stem=epsilon, st*=w-square"), map_of("stem=epsilon"))


@pytest.mark.parametrize(
    ("overrides", "told"), [("stem=magic", "no rule 'magic'"), ("nowhere*=flat", "No layer is named like")]
)
def test_an_unknown_rule_or_layer_in_the_overrides_is_refused(overrides: str, told: str) -> None:
    with pytest.raises(SelectionError, match=told):
        map_of(overrides)


def test_each_image_has_its_own_account_where_a_network_merges_the_batch_behind_its_tokens() -> None:
    torch.manual_seed(0)
    network = VisionTransformer(32, 16, 2, 2, 16, 32, num_classes=5)  # whose attention puts tokens before images
    nn.init.normal_(network.heads.head.weight)
    tape = recorded(export(network.eval(), "transformer", Preprocessing((32, 32), 32)))
    seeds = seed_entries(tape.output, (1,))
    found = propagate(tape, seeds, account=True)
    ended = sum(found.ended.values()) + found.relevance[""].sum((2, 3, 4))
    torch.testing.assert_close(ended, seeds.sum(2), rtol=1e-3, atol=1e-4)
