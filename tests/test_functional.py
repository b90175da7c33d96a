"""Values that are changed in place become functions of others: the same outputs, gradients and relevance."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from explainers.graph.export import export
from explainers.graph.model import Model
from explainers.graph.stored import pack, unpack
from explainers.preprocessing import Preprocessing
from explainers.relevance.propagation import propagate
from explainers.relevance.seeds import seed_entries
from explainers.relevance.tape import record

SIDE = 8
Change = Callable[[Tensor], Tensor]


class Changed(nn.Module):
    """A network in whose middle something is done."""

    def __init__(self, change: Change) -> None:
        super().__init__()
        self.conv, self.head, self.change = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 4), change
        self.register_buffer("room", torch.zeros(1, 8, SIDE, SIDE))

    def forward(self, images: Tensor) -> Tensor:
        values = torch.relu(self.conv(images))
        return self.head(self.change(values).mean((2, 3)))


def change(values: Tensor, *steps: Callable[[Tensor], object]) -> Tensor:
    """A copy of values to which things were done in place."""
    copied = values.clone()
    for step in steps:
        step(copied)
    return copied


def put(part: Callable[[Tensor], Tensor], what: Change) -> Change:
    """Overwrite a part of a copy by something else."""

    def change(values: Tensor) -> Tensor:
        copied = values.clone()
        part(copied).copy_(what(values))
        return copied

    return change


def shift(values: Tensor) -> Tensor:
    """A shift module (Wu et al. 2018, arXiv:1711.08141): channels moved to the side."""
    made = torch.zeros_like(values)
    made[:, :2, :, 1:] = values[:, :2, :, :-1]
    made[:, 2:4, :, :-1] = values[:, 2:4, :, 1:]
    made[:, 4:] = values[:, 4:]
    return made


def shift_written_out(values: Tensor) -> Tensor:
    zeros = torch.zeros_like(values[:, :2, :, :1])
    right = torch.cat([zeros, values[:, :2, :, :-1]], 3)
    left = torch.cat([values[:, 2:4, :, 1:], zeros], 3)
    return torch.cat([right, left, values[:, 4:]], 1)


def add_to_slice(values: Tensor) -> Tensor:
    copied = values * 1
    copied[:, 2:5] += values[:, :3]
    return copied


def change_through_views(values: Tensor) -> Tensor:
    copied = values.clone()
    tokens = copied.flatten(2).transpose(1, 2)
    tokens[:, 3:9][:, 1:] *= 2
    return copied + tokens.transpose(1, 2).unflatten(2, (SIDE, SIDE))


def change_through_views_written_out(values: Tensor) -> Tensor:
    tokens = values.flatten(2)
    doubled = torch.cat([tokens[:, :, :4], tokens[:, :, 4:9] * 2, tokens[:, :, 9:]], 2).unflatten(2, (SIDE, SIDE))
    return doubled + doubled


def change_the_base(values: Tensor) -> Tensor:
    copied = values.clone()
    part = copied[:, :4]
    copied *= 3
    return torch.cat([part, copied[:, 4:]], 1)


def every_second(values: Tensor) -> Tensor:
    copied = values.clone()
    copied[:, ::2] = 0
    return copied


def masked(values: Tensor) -> Tensor:
    copied = values.clone()
    copied[copied < 0.3] = 0
    return copied


def listed(values: Tensor) -> Tensor:
    copied = values.clone()
    copied[:, [0, 2]] = values[:, [2, 0]]
    return copied


#: Something done in place, and the same without.
CHANGES: dict[str, tuple[Change, Change]] = {
    "a slice": (
        put(lambda whole: whole[:, :4], lambda values: values[:, 4:] * 2),
        lambda values: torch.cat([values[:, 4:] * 2, values[:, 4:]], 1),
    ),
    "a slice from the end": (
        put(lambda whole: whole[..., -3:-1], lambda values: values[..., :2]),
        lambda values: torch.cat([values[..., :-3], values[..., :2], values[..., -1:]], -1),
    ),
    "a column": (
        put(lambda whole: whole[:, :, 0], lambda values: values[:, :, 1] * 2),
        lambda values: torch.cat([values[:, :, 1:2] * 2, values[:, :, 1:]], 2),
    ),
    "a number in a column": (
        lambda values: change(values, lambda whole: whole[:, :, 0].fill_(0.5)),
        lambda values: torch.cat([torch.full_like(values[:, :, :1], 0.5), values[:, :, 1:]], 2),
    ),
    "a channel doubled": (
        lambda values: change(values, lambda whole: whole[:, 0].mul_(2)),
        lambda values: torch.cat([values[:, :1] * 2, values[:, 1:]], 1),
    ),
    "a sum in a slice": (
        add_to_slice,
        lambda values: torch.cat([values[:, :2], values[:, 2:5] + values[:, :3], values[:, 5:]], 1),
    ),
    "everything": (put(lambda whole: whole, lambda values: values * 2), lambda values: values * 2),
    "one image's shape": (
        put(lambda whole: whole, lambda values: values.mean((2, 3), keepdim=True)),
        lambda values: values.mean((2, 3), keepdim=True).expand(-1, -1, SIDE, SIDE),
    ),
    "a shift": (shift, shift_written_out),
    "views of views": (change_through_views, change_through_views_written_out),
    "the base of a view": (change_the_base, lambda values: values * 3),
    "a mask": (masked, lambda values: torch.where(values < 0.3, torch.zeros(()), values)),
    "every second": (
        every_second,
        lambda values: values * torch.tensor([0.0, 1.0]).repeat(4).view(1, 8, 1, 1),
    ),
    "a list": (listed, lambda values: values[:, [2, 1, 0, 3, 4, 5, 6, 7]]),
}


def opened(change: Change) -> tuple[Changed, Model]:
    torch.manual_seed(0)
    module = Changed(change).eval()
    return module, export(module, "changed", Preprocessing((SIDE, SIDE), SIDE))


def explain(model: Model, images: Tensor) -> tuple[Tensor, Tensor]:
    """The relevance of an image, and how much of it is not accounted for."""
    tape = record(model, images)
    found = propagate(tape, seed_entries(tape.output, (1,)), account=True)
    rest = tape.output[:, 1] - found.relevance[""][0].sum((1, 2, 3)) - sum(part[0] for part in found.ended.values())
    return found.relevance[""][0], rest


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_assigned_in_place_is_explained_as_what_is_written_without(name: str) -> None:
    in_place, written_out = CHANGES[name]
    module, model = opened(in_place)
    images = torch.randn(3, 3, SIDE, SIDE)
    assert torch.allclose(model(images), module(images), atol=1e-6)
    assert torch.allclose(unpack(pack(model))(images), model(images))
    inputs = images.clone().requires_grad_()
    (found,) = torch.autograd.grad(model.run(inputs)[0][:, 1].sum(), inputs)
    exact = images.double().requires_grad_()
    (expected,) = torch.autograd.grad(copy.deepcopy(module).double()(exact)[:, 1].sum(), exact)
    assert torch.allclose(found.double(), expected, atol=1e-6)
    relevance, rest = explain(model, images)
    assert torch.allclose(relevance, explain(opened(written_out)[1], images)[0], atol=1e-6)
    assert rest.abs().max() < 1e-5


def test_a_buffer_that_is_overwritten_by_each_image_is_a_value_like_others() -> None:
    class Kept(Changed):
        def forward(self, images: Tensor) -> Tensor:
            values = torch.relu(self.conv(images))
            self.room.copy_(values.mean(0, keepdim=True) * 0 + 1)
            return self.head((values * self.room).mean((2, 3)))

    torch.manual_seed(0)
    module = Kept(lambda values: values).eval()
    model = export(module, "kept", Preprocessing((SIDE, SIDE), SIDE))
    images = torch.randn(2, 3, SIDE, SIDE)
    for batch in (images, images[:1]):
        assert torch.allclose(model(batch), module(batch), atol=1e-6)


def test_parts_without_gradient_or_in_another_precision_are_parts_like_others() -> None:
    class Wrapped(Changed):
        def forward(self, images: Tensor) -> Tensor:
            with torch.no_grad():
                values = torch.relu(self.conv(images))
                with torch.autocast("cpu", enabled=False):
                    values = values * 2
            return self.head(values.mean((2, 3)))

    torch.manual_seed(0)
    module = Wrapped(lambda values: values).eval()
    model = export(module, "wrapped", Preprocessing((SIDE, SIDE), SIDE))
    plain = opened(lambda values: values * 2)[1]
    images = torch.randn(2, 3, SIDE, SIDE)
    assert torch.allclose(model(images), module(images), atol=1e-6)
    assert {layer.name for layer in model.info.layers} >= {"conv", "head"}
    assert torch.allclose(explain(model, images)[0], explain(plain, images)[0], atol=1e-6)


def test_a_view_of_values_is_explained_in_another_memory_layout() -> None:
    module, model = opened(lambda values: values.view(values.shape[0], 8, 1, -1) * 2)
    images = torch.randn(2, 3, SIDE, SIDE)
    assert torch.allclose(record(model, images).output, module(images), atol=1e-5)
