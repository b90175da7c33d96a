"""The rules by group of operators: against autograd, against the same function written out, and where the sum goes.

In double precision. Formulas of the rules of affine operators and of normalisations are in test_relevance.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import deform_conv2d

import sample_models
from explainers.attribution.batch import Batch
from explainers.attribution.lrp import Lrp
from explainers.graph.export import make_model, trace
from explainers.graph.model import Model
from explainers.jobs import Progress
from explainers.preprocessing import Preprocessing
from explainers.relevance.composites import SHAPED, composite
from explainers.relevance.operators import RULES
from explainers.relevance.propagation import propagate, relevance
from explainers.relevance.seeds import seed_targets
from explainers.relevance.step import GRADIENT, UNDIFFERENTIABLE
from explainers.relevance.tape import Tape, record
from explainers.targets import Target
from tests.test_relevance import (
    PLAIN,
    assert_relevance,
    double_precision,
    exported,
    recorded,
    seeds,
    stab,
)

__all__ = ["double_precision"]  # a fixture of every test here

aten = torch.ops.aten
Function = Callable[[Tensor], Tensor]
EXACT = replace(PLAIN, stabilizer=1e-13)


def assert_accounted(tape: Tape) -> dict[str, Tensor]:
    """Where the relevance went; with the map it is all there was."""
    given = seeds(tape)
    found = propagate(tape, given, rules=PLAIN, account=True)
    values = found.relevance[""]
    rest = given.sum(2) - values.sum((2, 3, 4)) - sum(found.ended.values())
    assert values.isfinite().all()
    assert (rest.abs() <= 1e-6 * (values.abs().sum((2, 3, 4)) + given.abs().sum(2))).all()
    return dict(found.ended)


def assert_alike(one: Function, other: Function, *shape: int, tolerance: float = 1e-9) -> None:
    """The maps of two ways to write a function."""
    tapes = [recorded(exported(function, *shape)) for function in (one, other)]
    torch.testing.assert_close(tapes[0].output, tapes[1].output)
    first, second = (relevance(tape, seeds(tape), rules=EXACT) for tape in tapes)
    assert (first - second).abs().max() <= tolerance * second.abs().max() > 0
    for tape in tapes:
        assert_accounted(tape)


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


GRID, MATRIX, KERNEL, VECTOR, PLACES = random(1, 3, 3, 2).tanh(), random(6, 4), random(3, 2, 3), random(4), random(3, 4)

FILTER = torch.complex(random(3, 3), random(3, 3).flip(0))
FILTER_MATRIX = torch.fft.irfft2(torch.fft.rfft2(torch.eye(12).double().view(12, 3, 4)) * FILTER, s=(3, 4)).flatten(1)

#: Linear in the input, or of the given degree.
SHARED: dict[str, tuple[Function, tuple[int, ...], int]] = {
    "einsum": (lambda x: torch.einsum("bchw,kc->bk", x, MATRIX[:5, :2]), (2, 3, 4), 1),
    "product with itself": (lambda x: torch.einsum("bct,bdt->bcd", x, x), (3, 4), 2),
    "running sum": (lambda x: x.cumsum(-1), (3, 4), 1),
    "folding": (lambda x: functional.fold(x, (4, 4), 3), (9, 4), 1),
    "antialiased resizing": (lambda x: functional.interpolate(x, (2, 3), mode="bicubic", antialias=True), (2, 5, 7), 1),
    "bicubic resizing": (lambda x: functional.interpolate(x, (5, 7), mode="bicubic"), (2, 3, 4), 1),
    "sampling by a grid": (lambda x: torch.grid_sampler(x, GRID.expand(x.shape[0], 3, 3, 2), 0, 0, True), (2, 4, 4), 1),
    "transposed 1d convolution": (lambda x: functional.conv_transpose1d(x, KERNEL), (3, 6), 1),
    "standard deviation": (lambda x: x.std((2, 3)), (3, 4, 4), 1),
    "variance": (lambda x: x.var((2, 3)), (3, 4, 4), 2),
    "norm": (lambda x: x.norm(dim=1), (3, 4), 1),
    "product over a dimension": (lambda x: x.prod(1), (3, 4), 3),
}  # fmt: skip


@pytest.mark.parametrize("kind", SHARED)
def test_relevance_is_shared_by_what_each_input_contributes(kind: str) -> None:
    function, shape, degree = SHARED[kind]

    def expected(a: Tensor, r: Tensor) -> Tensor:
        def call(x: Tensor) -> Tensor:
            return function(x.view(1, *shape)[[0, 0]])[0].flatten()

        return a * (torch.autograd.functional.jacobian(call, a).T @ (r / stab(call(a)))) / degree

    tape = recorded(exported(function, *shape))
    assert_relevance(tape, expected)
    assert_accounted(tape)


def assign(x: Tensor) -> Tensor:
    x = x.clone()
    x[:, 0] = x[:, 1, :, :1] * 2
    return x


CHOSEN: dict[str, tuple[Function, tuple[int, ...]]] = {
    "narrow": (lambda x: x.narrow(1, 1, 2), (3, 4)),
    "tile": (lambda x: x.tile(1, 1, 2), (3, 4)),
    "expand as": (lambda x: x[:, :1].expand_as(x), (3, 4)),
    "matrix transposition": (lambda x: x.mT, (3, 4)),
    "unfolding": (lambda x: functional.unfold(x, 2, padding=1), (2, 3, 3)),
    "exact nearest interpolation": (lambda x: functional.interpolate(x, (5, 5), mode="nearest-exact"), (2, 3, 3)),
    "reflection": (lambda x: functional.pad(x, (1, 1, 1, 1), mode="reflect"), (2, 3, 3)),
    "triangle": (lambda x: x.triu(), (2, 4, 4)),
    "unpooling": (lambda x: functional.max_unpool2d(*functional.max_pool2d(x, 2, return_indices=True), 2), (2, 4, 4)),
    "gather": (lambda x: x.gather(2, torch.zeros(1, 3, 2, dtype=torch.long).expand(x.shape[0], -1, -1)), (3, 4)),
    "sort": (lambda x: x.sort(-1)[0], (3, 4)),
    "top values": (lambda x: x.topk(2, -1)[0], (3, 4)),
    "median": (lambda x: x.median(-1)[0], (3, 5)),
    "minimum": (lambda x: x.amin((1, 2)).unsqueeze(1), (3, 4)),
    "log of the sum of exponentials": (lambda x: x.logsumexp(-1), (3, 4)),
    "greater of two": (lambda x: torch.maximum(x[:, :2], x[:, 2:]), (4, 3)),
    "lesser of two": (lambda x: torch.minimum(x[:, :2], x[:, 2:]), (4, 3)),
    "greatest index on the way": (lambda x: x.cummax(-1)[0], (3, 4)),
    "stacking with a constant": (lambda x: torch.stack([x, torch.ones_like(x)], 1), (3, 4)),
    "log of a sum with a constant": (lambda x: torch.logaddexp(x, torch.ones_like(x)), (3, 4)),
    "masked values": (lambda x: x.masked_fill(x < 0, 0.5), (3, 4)),
    "choice by a condition": (lambda x: torch.where(x > 0, x, 0.3), (3, 4)),
    "padding with a value": (lambda x: functional.pad(x, (1, 1), value=0.7), (3, 4)),
    "scatter": (lambda x: torch.ones_like(x).scatter(1, (x[:, 2:] * 0).long(), x[:, 2:]), (3, 4)),
}  # fmt: skip


@pytest.mark.parametrize("kind", CHOSEN)
def test_relevance_follows_the_values_that_were_chosen(kind: str) -> None:
    function, shape = CHOSEN[kind]

    def expected(a: Tensor, r: Tensor) -> Tensor:
        return torch.autograd.functional.jacobian(lambda x: function(x.view(1, *shape)).flatten(), a).T @ r

    tape = recorded(exported(function, *shape))
    assert_relevance(tape, expected)
    assert_accounted(tape)


ACTIVATIONS: dict[str, Function] = {
    function.__name__: function
    for function in (
        torch.abs, torch.exp, torch.square, torch.sin, torch.cos, torch.atan, torch.erf, torch.expm1, torch.sinh,
        functional.logsigmoid, functional.softshrink, functional.hardshrink,
    )
} | {
    "clip": lambda x: x.clip(-0.5, 0.5),
    "threshold": lambda x: functional.threshold(x, 0.1, 0.0),
    "power": lambda x: x.abs() ** 2.5,
    "logarithm": lambda x: torch.log(x.abs()),
    "logarithm of one more": lambda x: torch.log1p(x.abs()),
    "square root": lambda x: x.abs().sqrt(),
    "reciprocal": lambda x: x.reciprocal(),
    "one over": lambda x: 1 / x,
    "random leaky": lambda x: functional.rrelu(x),
    "greater of it and a constant": lambda x: torch.maximum(x, torch.zeros_like(x) + 0.1),
    "rounding": lambda x: (x * 4).round(),
}  # fmt: skip


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_an_elementwise_function_passes_relevance_on(kind: str) -> None:
    tape = recorded(exported(ACTIVATIONS[kind], 3, 4))
    assert_relevance(tape, lambda a, r: r)
    assert_accounted(tape)


def halves(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[:, :2], x[:, 2:]


GATED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "one minus a gate": lambda x, g: x * (1 - g.sigmoid()),
    "subtracted from one": lambda x, g: torch.rsub(g.sigmoid(), 1.0) * x,
    "one plus a gate": lambda x, g: (1 + g.sigmoid()) * x,
    "a gate twice as large": lambda x, g: x * (2 * g.sigmoid()),
    "a gate made larger": lambda x, g: x * functional.interpolate(g.mean(2, keepdim=True).sigmoid(), 3, mode="linear"),
    "two gates": lambda x, g: x * (g.sigmoid() * g.square().sigmoid()),
    "a gate beside a squashed signal": lambda x, g: x.tanh() * g.sigmoid(),
    "a piece of many gates": lambda x, g: x * torch.cat([g, g], 1).sigmoid().chunk(2, 1)[0],
    "the other's inverse": lambda x, g: x * (1 / (g.square() + 1)),
    "the other's sign": lambda x, g: x * g.sign(),
    "gated linear unit": lambda x, g: functional.glu(torch.cat([x, g], 1), 1),
    "a mixture with a constant": lambda x, g: torch.lerp(torch.zeros_like(x), x, g.sigmoid()),
}


@pytest.mark.parametrize("kind", GATED)
def test_a_gate_in_whatever_form_gets_nothing(kind: str) -> None:
    tape = recorded(exported(lambda x: GATED[kind](*halves(x)), 4, 3))
    found = relevance(tape, seeds(tape), rules=EXACT)
    torch.testing.assert_close(found.flatten(2)[..., :6], seeds(tape))
    assert found.flatten(2)[..., 6:].count_nonzero() == 0
    assert_accounted(tape)


HAND_WRITTEN: dict[str, Function] = {
    "gelu": lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5)),
    "gelu by tanh": lambda x: 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))),
    "hard swish": lambda x: x * functional.relu6(x + 3) / 6,
    "hard swish by clamping": lambda x: x * (x + 3).clamp(0, 6) / 6,
    "swish": lambda x: x * torch.sigmoid(1.702 * x),
    "mish": lambda x: x * functional.softplus(x).tanh(),
}


@pytest.mark.parametrize("kind", HAND_WRITTEN)
def test_an_activation_written_by_hand_passes_relevance_on_as_torchs_own(kind: str) -> None:
    tape = recorded(exported(HAND_WRITTEN[kind], 3, 4))
    assert_relevance(tape, lambda a, r: r)


# Fused operators and the same written out.


class Recurrent(nn.Module):
    """A recurrent layer by torch, or by the formulas of its documentation."""

    def __init__(self, kind: str, written_out: bool) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.layer = getattr(nn, kind)(3, 4, batch_first=True)
        self.step, self.written_out = getattr(self, kind.lower()), written_out

    def lstm(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        i, f, g, o = self.project(x, state[0]).chunk(4, 1)
        cell = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
        return o.sigmoid() * cell.tanh(), cell

    def gru(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        layer, hidden = self.layer, state[0]
        r, z, n = functional.linear(x, layer.weight_ih_l0, layer.bias_ih_l0).chunk(3, 1)
        r_, z_, n_ = functional.linear(hidden, layer.weight_hh_l0, layer.bias_hh_l0).chunk(3, 1)
        update = (z + z_).sigmoid()
        return (1 - update) * (n + (r + r_).sigmoid() * n_).tanh() + update * hidden, hidden

    def rnn(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return self.project(x, state[0]).tanh(), state[1]

    def project(self, x: Tensor, hidden: Tensor) -> Tensor:
        layer = self.layer
        return functional.linear(x, layer.weight_ih_l0, layer.bias_ih_l0) + functional.linear(
            hidden, layer.weight_hh_l0, layer.bias_hh_l0
        )

    def forward(self, x: Tensor) -> Tensor:
        if not self.written_out:
            return self.layer(x)[0]  # type: ignore[no-any-return]
        state, found = (x.new_zeros(x.shape[0], 4), x.new_zeros(x.shape[0], 4)), []
        for moment in x.unbind(1):
            state = self.step(moment, state)
            found.append(state[0])
        return torch.stack(found, 1)


class Cells(nn.Module):
    """The same cell at every moment, as a module of torch."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        layer = Recurrent(kind, False).layer
        self.cell = getattr(nn, f"{kind}Cell")(3, 4)
        self.cell.load_state_dict({name.removesuffix("_l0"): value for name, value in layer.state_dict().items()})

    def forward(self, x: Tensor) -> Tensor:
        state, found = None, []
        for moment in x.unbind(1):
            state = self.cell(moment, state)
            found.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(found, 1)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_recurrent_layer_is_explained_by_its_cells(kind: str) -> None:
    assert_alike(Recurrent(kind, False), Recurrent(kind, True), 5, 3, tolerance=1e-6)
    assert_alike(Cells(kind), Recurrent(kind, True), 5, 3, tolerance=1e-6)


def spread(x: Tensor) -> Tensor:
    centred = x - x.mean((2, 3), keepdim=True)
    return centred / (centred.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()


FUSED: dict[str, tuple[Function, Function, tuple[int, ...]]] = {
    "instance norm": (functional.instance_norm, spread, (3, 4, 4)),
    "dense layer": (
        lambda x: torch.addmm(VECTOR, x.flatten(1), MATRIX),
        lambda x: functional.linear(x.flatten(1), MATRIX.T, VECTOR),
        (2, 3),
    ),
    "sum with products": (
        lambda x: torch.baddbmm(x[:, :2], x[:, 2:], x[:, :3], beta=0.5, alpha=3),
        lambda x: x[:, :2] * 0.5 + (x[:, 2:] @ x[:, :3]) * 3,
        (4, 3),
    ),
    "mixture": (lambda x: torch.lerp(x[:, :2], x[:, 2:], 0.3), lambda x: x[:, :2] * 0.7 + x[:, 2:] * 0.3, (4, 3)),
    "cosine similarity": (
        lambda x: functional.cosine_similarity(x, PLACES[None], dim=1),
        lambda x: (x * PLACES[None]).sum(1) / (x.norm(dim=1) * PLACES[None].norm(dim=1)),
        (3, 4),
    ),
    "filtering frequencies": (
        lambda x: torch.fft.irfft2(torch.fft.rfft2(x) * FILTER, s=(3, 4)),
        lambda x: x.flatten(1) @ FILTER_MATRIX,
        (1, 3, 4),
    ),
    "convolution with a kernel for each image": (
        lambda x: functional.conv2d(x[:, 0].reshape(1, -1, 1, 4), x[:, 1].reshape(-1, 1, 1, 4), groups=x.shape[0]).view(
            -1, 1
        ),
        lambda x: (x[:, 0] * x[:, 1]).sum(-1, keepdim=True),
        (3, 4),
    ),
    "spread and mean": (
        lambda x: torch.cat(torch.std_mean(x, 2), 1),
        lambda x: torch.cat([x.std(2), x.mean(2)], 1),
        (3, 4),
    ),
    "log of a softmax": (lambda x: x.log_softmax(-1), lambda x: x - x.logsumexp(-1, keepdim=True), (3, 4)),
    "assignment to a slice": (
        assign,
        lambda x: torch.cat([(x[:, 1:2, :, :1] * 2).expand(-1, -1, -1, 4), x[:, 1:]], 1),
        (2, 3, 4),
    ),
}


@pytest.mark.parametrize("kind", FUSED)
def test_one_operator_and_the_same_written_out_have_one_map(kind: str) -> None:
    one, other, shape = FUSED[kind]
    assert_alike(one, other, *shape)


def test_a_program_of_core_operators_alone_has_the_map_of_the_one_it_was_made_of() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(1)
            self.first, self.norm, self.second = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ConvTranspose2d(8, 8, 2)
            self.groups, self.rows, self.head = nn.GroupNorm(2, 8), nn.LayerNorm(8), nn.Linear(8, 4)

        def forward(self, images: Tensor) -> Tensor:
            maps = functional.max_pool2d(self.norm(self.first(images)).relu(), 2)
            tokens = self.rows(self.groups(self.second(maps)).flatten(2).transpose(1, 2))
            mixed = functional.scaled_dot_product_attention(*(tokens[:, None] * size for size in (1, 2, 3)))
            return self.head(functional.gelu(mixed[:, 0]).mean(1))

    batch, image = torch.export.Dim("batch"), torch.rand(2, 3, 12, 12)
    program = torch.export.export(Mixed().eval(), (image,), dynamic_shapes=({0: batch},))
    preprocessing, found = Preprocessing((12, 12), 12), []
    for one in (program, program.run_decompositions()):
        tape = record(make_model(trace(one), "mixed", preprocessing), image)
        rules = replace(composite("epsilon-plus", preprocessing, 1e-12), stabilizer=1e-12)
        found.append(relevance(tape, seeds(tape), rules=rules))
    assert (found[0] - found[1]).abs().max() <= 1e-6 * found[0].abs().max() > 0


def test_where_something_is_sampled_gets_no_relevance_and_what_is_sampled_all() -> None:
    kernel = random(2, 2, 3, 3)

    def deform(x: Tensor) -> Tensor:
        offsets = x[:, :1].tile(1, 18, 1, 1)
        return deform_conv2d(x, offsets, kernel, VECTOR[:2], padding=1)

    def expected(a: Tensor, r: Tensor) -> Tensor:
        x = a.view(1, 2, 4, 5)

        def call(moving: Tensor) -> Tensor:
            offsets = x[:, :1].tile(1, 18, 1, 1)
            return deform_conv2d(moving.view_as(x), offsets, kernel, VECTOR[:2], padding=1).flatten()

        return a * (torch.autograd.functional.jacobian(call, a).T @ (r / stab(call(a))))

    tape = recorded(exported(deform, 2, 4, 5))
    assert_relevance(tape, expected)
    assert_accounted(tape)


def test_the_account_is_told_in_words_with_the_share_that_went_by_gradient() -> None:
    model = exported(lambda x: torch.heaviside(x, torch.zeros_like(x)) + x.cumprod(1), 3, 4)
    images = recorded(model).value(model.input_node)
    details = Lrp().attribute(Batch(model, images, [Target(1)] * 2, Progress())).details[0]
    assert details["elsewhere"] == pytest.approx(0, abs=1e-9)
    assert {"elsewhere by gradient", "ended in operators without a derivative"} <= set(details)


# Attention.

QUERY, BIAS, HIDDEN = random(1, 2, 5, 6), random(5, 5), random(5, 5) > 0.8
Operands = tuple[Tensor, Tensor, Tensor, Tensor | None]


def tokens(x: Tensor) -> list[Tensor]:
    return [part.reshape(-1, 2, 5, 6) for part in x.unbind(1)]


def constant(x: Tensor, made: Tensor = QUERY) -> Tensor:
    return made.expand(x.shape[0], -1, -1, -1)


ATTENTION: dict[str, Callable[[Tensor], Operands]] = {
    "all from the image": lambda x: (*tokens(x), None),
    "a learned query": lambda x: (constant(x), *tokens(x)[1:], None),
    "learned keys": lambda x: (tokens(x)[0], constant(x), tokens(x)[2], None),
    "learned values": lambda x: (*tokens(x)[:2], constant(x), None),
    "learned queries and keys": lambda x: (constant(x), constant(x).flip(2), tokens(x)[2], None),
    "a learned query and values": lambda x: (constant(x), tokens(x)[1], constant(x).flip(2), None),
    "additive mask": lambda x: (*tokens(x), BIAS),
    "boolean mask": lambda x: (*tokens(x), ~HIDDEN),
    "infinite mask": lambda x: (*tokens(x), torch.zeros(5, 5).double().masked_fill(HIDDEN, -torch.inf)),
    "mask from the image": lambda x: (*tokens(x), x[:, 0, :, :, :5]),
}


def write_attention_out(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    scores = query @ key.transpose(-2, -1) * 6**-0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(-1) @ value


@pytest.mark.parametrize("kind", ATTENTION)
def test_attention_in_one_operator_and_written_out_have_one_map(kind: str) -> None:
    assert_alike(
        lambda x: functional.scaled_dot_product_attention(*ATTENTION[kind](x)),
        lambda x: write_attention_out(*ATTENTION[kind](x)),
        3, 2, 5, 6,
        tolerance=1e-8,
    )  # fmt: skip


def test_causal_attention_is_attention_with_that_mask() -> None:
    later = torch.ones(5, 5).bool().triu(1)
    assert_alike(
        lambda x: functional.scaled_dot_product_attention(*tokens(x), is_causal=True),
        lambda x: write_attention_out(*tokens(x), ~later),
        3, 2, 5, 6,
        tolerance=1e-8,
    )  # fmt: skip


def test_grouped_attention_is_attention_with_keys_and_values_repeated() -> None:
    def parts(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = x.unbind(1)
        return query, key[:, :2], value[:, 1:3]

    def repeated(x: Tensor) -> Tensor:
        query, key, value = parts(x)
        return write_attention_out(query, key.repeat_interleave(2, 1), value.repeat_interleave(2, 1), None)

    fused = lambda x: functional.scaled_dot_product_attention(*parts(x), enable_gqa=True)  # noqa: E731
    assert_alike(fused, repeated, 3, 4, 5, 6, tolerance=1e-8)


# Where there is no rule.


def test_what_has_no_rule_goes_by_gradient_times_input_and_the_account_says_so() -> None:
    tape = recorded(exported(lambda x: x.cumprod(1), 3, 4))
    assert aten.cumprod.default not in RULES

    def expected(a: Tensor, r: Tensor) -> Tensor:
        def call(x: Tensor) -> Tensor:
            return x.view(3, 4).cumprod(0).flatten()

        return a * (torch.autograd.functional.jacobian(call, a).T @ (r / stab(call(a))))

    assert_relevance(tape, expected)
    ended = assert_accounted(tape)
    assert ended[GRADIENT].abs().min() > 0


UNDIFFERENTIATED: dict[str, Function] = {
    "heaviside": lambda x: torch.heaviside(x, torch.ones_like(x)),
    "zeta": lambda x: torch.special.zeta(x + 3, x + 2),
    "airy": lambda x: torch.special.airy_ai(x),
}


@pytest.mark.parametrize("kind", UNDIFFERENTIATED)
def test_relevance_ends_where_there_is_no_derivative_and_the_account_says_so(kind: str) -> None:
    tape = recorded(exported(lambda x: UNDIFFERENTIATED[kind](x) + x, 3, 4))
    ended = assert_accounted(tape)
    assert ended[UNDIFFERENTIABLE].abs().min() > 0


def test_every_core_operator_has_a_rule_or_carries_no_relevance() -> None:
    silent = re.compile(
        "any|arange|arg(max|min)|bitwise_.*|empty.*|eq|full|g[et]|is(inf|nan)|l[et]|logical_.*|ne|nonzero|rand.*|"
        "scalar_tensor|sym_.*|_local_scalar_dense|resize_"
    )  # no image's numbers in them
    written_out = {"addmm", "convolution", "copy", "native_dropout", "native_group_norm", "native_layer_norm"}
    written_out |= {"_native_batch_norm_legit_no_training"}
    by_gradient = {"_embedding_bag", "_native_batch_norm_legit", "_pdist_forward"}
    core = {
        (name, getattr(getattr(aten, name), overload))
        for name in dir(aten)
        if isinstance(getattr(aten, name), torch._ops.OpOverloadPacket)
        for overload in getattr(aten, name).overloads()
        if torch.Tag.core in getattr(getattr(aten, name), overload).tags and "backward" not in name
    }
    left = {name for name, operator in core if operator not in RULES and operator not in SHAPED}
    assert len(core) > 150
    assert {name for name in left if not silent.fullmatch(name)} == written_out | by_gradient


# Similarity to prototypes.


def by_distance(features: Tensor, prototypes: Tensor) -> Tensor:
    distances = (features.square().sum(1, keepdim=True) - 2 * functional.conv2d(features, prototypes)) + (
        prototypes.square().sum((1, 2, 3)).view(-1, 1, 1)
    )
    return ((distances.relu() + 1) / (distances.relu() + 1e-4)).log()


PROTOTYPES = random(3, 4, 1, 1)


def test_a_similarity_is_shared_by_how_near_each_channel_is() -> None:
    tape = recorded(exported(lambda x: by_distance(x, PROTOTYPES), 4, 2, 2))

    def expected(a: Tensor, r: Tensor) -> Tensor:
        found = torch.zeros(4, 4)
        for prototype, arriving in zip(PROTOTYPES.view(3, 4), r.view(3, 4), strict=True):
            for place in range(4):
                near = 1 / ((a.view(4, 4)[:, place] - prototype) ** 4 + 1e-12)
                found[:, place] += arriving[place] * near / near.sum()
        return found.flatten()

    assert_relevance(tape, expected)
    assert_accounted(tape)


def test_what_is_no_distance_is_not_taken_for_a_similarity_to_prototypes() -> None:
    def cosine(x: Tensor) -> Tensor:
        return functional.conv2d(x, PROTOTYPES) / (x.square().sum(1, keepdim=True) + 1e-3)

    tape = recorded(exported(cosine, 4, 2, 2))
    products = recorded(exported(lambda x: functional.conv2d(x, PROTOTYPES), 4, 2, 2))
    torch.testing.assert_close(relevance(tape, seeds(tape), rules=EXACT), relevance(products, seeds(tape), rules=EXACT))


def test_patches_like_the_prototypes_speak_for_what_a_prototypical_network_says() -> None:
    torch.set_default_dtype(torch.float32)
    model: Model = sample_models.load("lesions-prototypes")
    images = torch.stack(
        [
            torch.from_numpy(model.info.preprocessing.normalise(model.info.preprocessing.crop(sample.read().pixels)))
            for sample in next(one for one in sample_models.MODELS if one.name == model.info.name).pictures[:4]
        ]
    )
    tape = record(model, images)
    given = seed_targets(tape.output, [Target(int(place)) for place in tape.output.argmax(1)])
    found = propagate(tape, given, stops=["", "add_on.3"], account=True)
    rest = given.sum(2) - found.relevance[""].sum((2, 3, 4)) - sum(found.ended.values())
    assert (rest.abs() <= 1e-3 * given.sum(2)).all()
    torch.testing.assert_close(found.relevance["add_on.3"].sum((2, 3, 4)), given.sum(2))
    assert (found.relevance[""].sum((2, 3, 4)) > 0).all()
