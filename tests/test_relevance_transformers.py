"""The same relevance as the published implementation of AttnLRP and CP-LRP: LXT, in double precision.

LXT multiplies the input by the gradient of a network whose layers it patches. It has no stabilisers, which are tiny
here too. For vision transformers it ships CP-LRP inside attention; AttnLRP, which it ships for language models, is put
around the same call of attention. Install it into an environment of its own: pip install lxt==2.1 transformers==4.52.4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import vit_b_16

from explainers.graph.export import export
from explainers.preprocessing import Preprocessing
from explainers.relevance.composites import composite
from explainers.relevance.propagation import relevance
from explainers.relevance.tape import record

patches = pytest.importorskip("lxt.efficient.patches", reason="LXT is the oracle of these tests")


def small() -> nn.Module:
    return timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=4, num_classes=10)


def randomise(module: nn.Module) -> nn.Module:
    """Random weights everywhere, also where an untrained network has zeros."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.1) if parameter.dim() == 1 else nn.init.xavier_normal_(parameter.flatten(1))
    return module.double().eval()


def patch(module: nn.Module, rules: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bend the backward pass of normalisations, activations and attention as LXT does."""
    for kind in {type(part) for part in module.modules() if isinstance(part, nn.LayerNorm)}:
        monkeypatch.setattr(kind, "forward", patches.layer_norm_forward)
    monkeypatch.setattr(nn.GELU, "original_forward", nn.GELU.forward, raising=False)
    monkeypatch.setattr(nn.GELU, "forward", patches.non_linear_forward)
    wrap = patches.wrap_attention_forward if rules == "attnlrp" else patches.cp_wrap_attention_forward
    attend = functional.scaled_dot_product_attention
    wrapped = partial(wrap(lambda _, *operands, **keywords: attend(*operands, **keywords)), None)
    monkeypatch.setattr(functional, "scaled_dot_product_attention", wrapped)


@pytest.mark.parametrize("rules", ["attnlrp", "cp-lrp"])
@pytest.mark.parametrize(("make", "side"), [(small, 32), (vit_b_16, 224)], ids=["small", "vit_b_16"])
def test_relevance_is_that_of_lxt(
    make: Callable[[], nn.Module], side: int, rules: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    module = randomise(make())
    preprocessing = Preprocessing(size=(side, side), resize=side)
    torch.set_default_dtype(torch.float64)
    model = export(module, "transformer", preprocessing)
    torch.set_default_dtype(torch.float32)
    image = torch.rand(1, 3, side, side, dtype=torch.float64) * 4 - 2
    tape = record(model, image)
    seed = torch.zeros_like(tape.output)
    seed[0, 3] = tape.output[0, 3]
    exact = replace(composite(rules, preprocessing, 1e-12), stabilizer=1e-12)
    found = relevance(tape, seed[None], rules=exact)[0]
    patch(module, rules, monkeypatch)
    inputs = image.clone().requires_grad_()
    expected: Tensor = torch.autograd.grad(module(inputs)[0, 3], inputs)[0] * inputs.detach()
    assert torch.cosine_similarity(found.flatten(), expected.flatten(), dim=0) >= 0.9999
    assert (found - expected).norm() <= 1e-6 * expected.norm() > 0
