"""Times of relevance passes beside one gradient, zennit and zennit-crp, as ratios of interleaved pairs in one run.

Every line measures its contestants in turn, several times, on the same network and image; a ratio is the median of the
ratios of neighbours, so that a machine that slows down in between does not decide it. Run it with ``make bench``.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.contest import describe_machine
from benchmarks.networks import SIDE, build_module
from benchmarks.peers import zennit_rules
from explainers.graph.export import export
from explainers.graph.model import Model
from explainers.preprocessing import Preprocessing
from explainers.relevance.composites import choose_composite, composite
from explainers.relevance.propagation import propagate, relevance
from explainers.relevance.seeds import seed_targets
from explainers.relevance.tape import record
from explainers.targets import Target

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # zennit-crp's own imports are deprecated in parts
    from crp.attribution import CondAttribution

#: The networks, with the layer whose concepts are asked for; zennit has no rules for one without.
NETWORKS = {"resnet18": "layer3", "resnet50": "layer3", "vgg16": "features.28", "vit_b_16": ""}
PACKAGES = ("torch", "torchvision", "zennit", "zennit-crp")
Contestant = Callable[[], Tensor | None]


def measure(contestants: dict[str, Contestant], pairs: int) -> dict[str, list[float]]:
    """Run all in turn, once to warm up and then ``pairs`` times; returns seconds of each run."""
    for contestant in contestants.values():
        contestant()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(pairs):
        for name, contestant in contestants.items():
            start = time.perf_counter()
            contestant()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(upper: list[float], lower: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(upper, lower, strict=True))


def cosine(one: Tensor, other: Tensor) -> float:
    return float(torch.cosine_similarity(one.double().flatten(), other.double().flatten(), dim=0))


def build(name: str) -> tuple[nn.Module, Model]:
    """A network as a module and as a Model."""
    module = build_module(name)
    return module, export(module, name, Preprocessing(size=(SIDE, SIDE)))


def compare_maps(name: str, pairs: int, batch: int) -> None:
    """Print one LRP map beside one gradient, and beside zennit where it has rules for the network."""
    module, model = build(name)
    images = torch.randn(batch, 3, SIDE, SIDE)
    rules = composite(choose_composite(model)[0], model.info.preprocessing)
    targets = [Target(3)] * batch

    def gradient() -> Tensor:
        inputs = images.clone().requires_grad_()
        return torch.autograd.grad(module(inputs)[:, 3].sum(), inputs)[0]

    def ours() -> Tensor:
        tape = record(model, images)
        return propagate(tape, seed_targets(tape.output, targets), rules=rules, account=True).relevance[""][0]

    def theirs() -> Tensor:
        with zennit_rules(name).context(module) as modified:
            inputs = images.clone().requires_grad_()
            output = modified(inputs)
            return torch.autograd.grad(output, inputs, seed_targets(output.detach(), targets)[0])[0]

    contestants: dict[str, Contestant] = {"gradient": gradient, "lightbox": ours}
    if NETWORKS[name]:
        contestants["zennit"] = theirs
    seconds = measure(contestants, pairs)
    line = f"| {name} | {batch} | {statistics.median(seconds['gradient']):.3f} "
    line += f"| {statistics.median(seconds['lightbox']):.3f} | {ratio(seconds['lightbox'], seconds['gradient']):.2f} "
    if "zennit" in seconds:
        likeness = cosine(ours(), theirs())
        line += f"| {ratio(seconds['zennit'], seconds['lightbox']):.2f} | {likeness:.6f} |"
    else:
        line += "| no rules | |"
    print(line, flush=True)


def compare_concepts(name: str, pairs: int, count: int) -> None:
    """Print conditional heatmaps of a layer's ``count`` most relevant channels beside zennit-crp.

    The cost of a further seed is in units of the plain backward pass below the layer.
    """
    module, model = build(name)
    layer = NETWORKS[name]
    node = model.info.layer(layer).node
    image = torch.randn(1, 3, SIDE, SIDE)
    rules = composite("epsilon-plus-flat", model.info.preprocessing)
    tape = record(model, image)
    at_layer = relevance(tape, seed_targets(tape.output, [Target(3)]), rules=rules, stop=layer)
    channels = at_layer.sum((0, 1, 3, 4)).abs().topk(count).indices.tolist()
    attribution = CondAttribution(module, no_param_grad=False)

    def condition(seeds: Tensor) -> Tensor:
        masks = torch.zeros(count, 1, seeds.shape[2], 1, 1)
        masks[range(count), 0, channels] = 1
        return seeds * masks

    def ours() -> Tensor:
        """All that a person waits for: the forward pass, the way down to the layer, and the concepts."""
        fresh = record(model, image)
        seeds = relevance(fresh, seed_targets(fresh.output, [Target(3)]), rules=rules, stop=layer)
        return relevance(fresh, condition(seeds), rules=rules, start=layer).sum(2)[:, 0]

    def theirs() -> Tensor:
        conditions = [{layer: [channel], "y": [3]} for channel in channels]
        kind = zennit_rules(name)
        inputs = image.clone().requires_grad_()  # more than eight at once would not fit into memory
        parts = attribution.generate(inputs, conditions, kind, batch_size=8, verbose=False)
        return torch.cat([part.heatmap.detach() for part in parts])

    def backward() -> float:
        inputs = image.clone().requires_grad_()
        value = model.run(inputs, keep={node})[1][node]
        start = time.perf_counter()
        torch.autograd.grad(value, inputs, at_layer[0])
        return time.perf_counter() - start

    seeds = condition(at_layer)
    plain: list[float] = []
    seconds = measure(
        {
            "lightbox": ours,
            "crp": theirs,
            "one": lambda: relevance(tape, seeds[:1], rules=rules, start=layer),
            "all": lambda: relevance(tape, seeds, rules=rules, start=layer),
            "plain": lambda: plain.append(backward()),
        },
        pairs,
    )
    runs = zip(seconds["all"], seconds["one"], plain[1:], strict=True)
    further = statistics.median((many - one) / (count - 1) / below for many, one, below in runs)
    likeness = cosine(ours(), theirs())
    print(
        f"| {name} {layer} | {count} | {statistics.median(seconds['lightbox']):.3f} "
        f"| {ratio(seconds['crp'], seconds['lightbox']):.2f} | {further:.2f} | {likeness:.6f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7, help="measured runs of each contestant (default: 7)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default: 2)")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=[*NETWORKS])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16], help="batch sizes (default: 1 16)")
    parser.add_argument("--concepts", nargs="+", type=int, default=[8, 64], help="numbers of concepts (default: 8 64)")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(f"{describe_machine(PACKAGES, given.threads)}\n")
    print("| network | batch | gradient s | lightbox s | lightbox / gradient | zennit / lightbox | cosine to zennit |")
    print("|---|---|---|---|---|---|---|")
    for name in given.networks:
        for batch in given.batches:
            compare_maps(name, given.pairs, batch)
    print(
        "\n| layer | concepts | lightbox s | zennit-crp / lightbox | further seed / backward | cosine to zennit-crp |"
    )
    print("|---|---|---|---|---|---|")
    for name in given.networks:
        for count in given.concepts if NETWORKS[name] else ():
            compare_concepts(name, given.pairs, count)


if __name__ == "__main__":
    main()
