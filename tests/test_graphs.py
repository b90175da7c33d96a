"""Every network of safe operators gives what eager torch gives, and relevance of which each part is accounted for."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, Phase, assume, given, seed, settings
from torch import Tensor, nn

from explainers.concepts.layers import list_layers
from explainers.graph.export import export
from explainers.graph.loader import load
from explainers.graph.model import Model, gradient
from explainers.graph.stored import pack, unpack
from explainers.preprocessing import Preprocessing
from explainers.relevance.propagation import propagate
from explainers.relevance.tape import record
from tests.graphs import Plan, plans
from tests.model_files import archived

#: One network of so many goes through the bytes of an archive, and those of a kept model.
ARCHIVED = 8


def open_plan(plan: Plan, module: nn.Module) -> Model:
    half = (0.5,) * plan.channels
    preprocessing = Preprocessing(plan.size, min(plan.size), half, half)
    if plan.seed % ARCHIVED:
        return export(module, "random", preprocessing)
    return unpack(pack(load(archived(module, plan.images()), "random.pt2", preprocessing=preprocessing)))


def agree(found: Tensor, right: Tensor, tolerance: float) -> None:
    difference, scale = float((found - right).abs().max()), float(right.abs().max())
    assert difference <= tolerance * max(scale, 1e-3), f"{difference} of {scale}"


def check_outputs_and_gradients(model: Model, module: nn.Module, images: Tensor) -> None:
    """The right values are eager torch's, alone and in a batch of another size than the network was traced with."""
    given, same = images.clone().requires_grad_(), images.clone().requires_grad_()
    right, found = module(given), model.run(same)[0]
    agree(found.detach(), right.detach(), 1e-4)
    with torch.no_grad():
        agree(model(images[:1]), module(images[:1]), 1e-4)
    if right.requires_grad and right.grad_fn is not None:
        agree(gradient(found[:, 0], same), torch.autograd.grad(right[:, 0].sum(), given)[0], 1e-3)


def check_relevance(model: Model, images: Tensor) -> None:
    """Relevance is finite; what is in the map and what ended, as the account says, are the score together."""
    tape = record(model, images)
    seeds = torch.zeros_like(tape.output)[None]
    seeds[0, :, 0] = tape.output[:, 0]
    layer = list_layers(model).default
    found = propagate(tape, seeds, stops=["", layer], account=True)
    amounts = torch.stack([found.relevance[""].flatten(2).sum(2), *found.ended.values()])
    assert all(relevance.isfinite().all() for relevance in (*found.relevance.values(), amounts))
    scale = max(float(found.relevance[""].abs().flatten(2).sum(2).max()), float(amounts.abs().max()), 1e-3)
    assert float((amounts.sum(0) - seeds.sum(2)).abs().max()) <= 1e-3 * scale


def check(plan: Plan) -> None:
    module, images = plan.build(), plan.images(3)
    with torch.no_grad():
        right, alone = module(images), module(images[:1])
    assume(right.isfinite().all() and 1e-3 < right.abs().max() < 1e4)
    assume(torch.allclose(right[:1], alone, rtol=1e-4, atol=1e-6))  # else it decides by rounding
    model = open_plan(plan, module)
    check_outputs_and_gradients(model, module, images)
    check_relevance(model, images)


def fuzz(count: int, start: int) -> None:
    @seed(start)
    @settings(
        max_examples=count, deadline=None, database=None, phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(plan=plans())
    def check_each(plan: Plan) -> None:
        check(plan)

    check_each()


@pytest.mark.filterwarnings("ignore")
def test_a_random_network_is_explained() -> None:
    fuzz(30, 0)


def test_what_no_output_needs_has_no_layers() -> None:
    plan = Plan((("fused attention", 0, 0), ("tile", 1, 0)), (8, 8), 3, 1)
    assert [layer.name for layer in open_plan(plan, plan.build()).info.layers] == ["first", "steps.1", "last"]


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("start", range(1, 11))
def test_two_thousand_random_networks_are_explained(start: int) -> None:
    fuzz(200, start)
