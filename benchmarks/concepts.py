"""The same concepts as zennit-crp: channel relevances and conditional heatmaps, side by side.

Every network has random weights with statistics of its batch norms from data. The figures are printed as a table and
asserted: a cosine of at least 0.9999 for every picture. Run it with ``python -m benchmarks.concepts`` where zennit-crp
is installed (see requirements.txt here).
"""

from __future__ import annotations

import argparse

import torch
from crp.concepts import ChannelConcept
from torch import Tensor, nn

from benchmarks.relevance import NETWORKS, SIDE, CondAttribution, EpsilonPlusFlat, build, cosine, machine
from explainers.concepts.decision import Decision
from explainers.concepts.layers import find_concepts
from explainers.relevance.composites import composite
from explainers.relevance.tape import record
from explainers.results import Target

CLOSE = 0.9999
LAYERS = [("resnet18", "layer3"), ("resnet18", "layer4"), ("vgg16", "features.28")]


def ask_peer(module: nn.Module, name: str, layer: str, image: Tensor, target: int) -> tuple[Tensor, CondAttribution]:
    """The channel relevances of zennit-crp for one class."""
    attribution = CondAttribution(module, no_param_grad=False)
    kind = EpsilonPlusFlat(canonizers=[NETWORKS[name][1]()])
    found = attribution(image.clone().requires_grad_(), [{"y": [target]}], kind, record_layer=[layer])
    return ChannelConcept().attribute(found.relevances[layer], abs_norm=False)[0].detach(), attribution


def compare(name: str, layer: str, pictures: int, count: int) -> None:
    """Print the lowest cosines over pictures, and assert that they are close to one."""
    module, model = build(name)
    concepts = find_concepts(model, layer)
    rules = composite("epsilon-plus-flat", model.info.preprocessing)
    worst, same = {"relevance": 1.0, "heatmaps": 1.0}, 0
    for seed in range(pictures):
        image = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
        tape = record(model, image)
        target = int(tape.output.argmax())
        decision = Decision(tape, (Target(target),), rules)
        ours = decision.measure(concepts)[0]
        theirs, attribution = ask_peer(module, name, layer, image, target)
        chosen = theirs.abs().topk(count).indices.tolist()
        same += chosen == ours.abs().topk(count).indices.tolist()
        worst["relevance"] = min(worst["relevance"], cosine(ours, theirs))
        conditions = [{layer: [channel], "y": [target]} for channel in chosen]
        kind = EpsilonPlusFlat(canonizers=[NETWORKS[name][1]()])
        heatmaps = attribution(image.clone().requires_grad_(), conditions, kind).heatmap.detach()
        pairs = zip(decision.heatmaps(concepts, chosen)[:, 0], heatmaps, strict=True)
        worst["heatmaps"] = min(worst["heatmaps"], *(cosine(one, other) for one, other in pairs))
    print(f"| {name} {layer} | {pictures} | {worst['relevance']:.7f} | {worst['heatmaps']:.7f} | {same} |", flush=True)
    assert min(worst.values()) >= CLOSE, f"{name} {layer}: {worst}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=5, help="pictures for each layer (default: 5)")
    parser.add_argument("--count", type=int, default=8, help="concepts for each picture (default: 8)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default: 2)")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(f"{machine()}\n")
    print(f"| layer | pictures | lowest cosine of relevances | of heatmaps | same order of the first {given.count} |")
    print("|---|---|---|---|---|")
    for name, layer in LAYERS:
        compare(name, layer, given.pictures, given.count)


if __name__ == "__main__":
    main()
