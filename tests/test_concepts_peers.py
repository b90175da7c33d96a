"""The same concepts as from the published definition: zennit's relevance, masked at the layer by hooks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from explainers.relevance.composites import composite
from explainers.relevance.concepts.decision import Decision
from explainers.relevance.concepts.layers import find_concepts
from explainers.relevance.tape import record
from explainers.targets import Target
from tests.test_relevance_peers import pair, picture, zennit_composite  # skips these tests where zennit is missing


def condition(module: nn.Module, layer: str, channels: list[int]) -> tuple[Tensor, Tensor]:
    """Propagate the logit of class 3 through some channels of a layer; returns their relevances and the heatmap."""
    found: list[Tensor] = []

    def mask(flow: Tensor) -> Tensor:
        chosen = torch.isin(torch.arange(flow.shape[1]), torch.tensor(channels))
        found.append(flow.sum((2, 3))[0, channels])
        return flow * chosen[:, None, None]

    def watch(part: nn.Module, given: object, output: Tensor) -> None:
        output.register_hook(mask)

    with zennit_composite("epsilon-plus-flat", module).context(module) as modified:
        hook = module.get_submodule(layer).register_forward_hook(watch)
        inputs = picture().requires_grad_()
        output = modified(inputs)
        seed = torch.zeros_like(output)
        seed[0, 3] = output[0, 3].detach()
        (heatmap,) = torch.autograd.grad(output, inputs, seed)
        hook.remove()
    return found[0], heatmap.sum(1)[0]


@pytest.mark.parametrize(("name", "layer"), [("resnet18", "layer3"), ("resnet18", "layer4"), ("vgg16", "features.28")])
def test_concepts_are_those_of_zennit_with_masks(name: str, layer: str) -> None:
    module, model = pair(name)
    concepts = find_concepts(model, layer)
    decision = Decision(
        record(model, picture()), (Target(3),), composite("epsilon-plus-flat", model.info.preprocessing)
    )
    found = decision.measure(concepts)[0]
    expected, _ = condition(module, layer, list(range(concepts.count)))
    assert torch.cosine_similarity(found, expected, dim=0) >= 0.99999
    assert (found - expected).norm() <= 1e-4 * expected.norm() > 0
    chosen = found.abs().topk(2).indices.tolist()
    for channel, heatmap in zip(chosen, decision.heatmaps(concepts, chosen)[:, 0], strict=True):
        _, masked = condition(module, layer, [channel])
        assert torch.cosine_similarity(heatmap.flatten(), masked.flatten(), dim=0) >= 0.99999
        assert (heatmap - masked).norm() <= 1e-4 * masked.norm() > 0
