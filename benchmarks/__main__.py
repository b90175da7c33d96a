"""Lightbox beside its peers, in one table: ``python -m benchmarks`` writes ``benchmarks/RESULTS.md``.

A peer's time, memory and passes stand beside Lightbox's on the same network and photograph, with the cosine of what
both found: a ratio without agreement is worth nothing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks import indexing, peers
from benchmarks.contest import Measured, Prepare, describe_machine, hold
from benchmarks.peers import captum, lightbox

RESULTS = Path(__file__).parent / "RESULTS.md"
PACKAGES = ("torch", "torchvision", "captum", "zennit", "zennit-crp", "lxt", "grad-cam")
LAYERS = ("layer3", "layer4")


@dataclass(frozen=True)
class Contest:
    """What is asked for, of which network, and who answers."""

    name: str
    network: str
    lightbox: Prepare
    peers: Mapping[str, Prepare]


def sampling(name: str, peer: Callable[[Any, Tensor], Tensor], kind: str, **parameters: Any) -> Contest:
    """A method that draws at random, beside captum and beside itself with another seed."""
    contest = versus_captum(name, peer, kind, **parameters)
    return replace(contest, peers={**contest.peers, "another seed": partial(contest.lightbox, seed=1)})


def versus_captum(name: str, peer: Callable[[Any, Tensor], Tensor], kind: str, **parameters: Any) -> Contest:
    """A method that captum has too."""
    ours = partial(lightbox, "resnet18", name, **parameters)
    return Contest(name, "resnet18", ours, {"captum": partial(captum, "resnet18", kind, peer)})


def versus_zennit(network: str) -> Contest:
    """One map of relevance of a convolutional network."""
    ours = partial(lightbox, network, "lrp", composite="epsilon-plus-flat")
    return Contest("lrp", network, ours, {"zennit": partial(peers.zennit, network)})


def versus_lxt(rules: str) -> Contest:
    """One map of relevance of a vision transformer."""
    ours = partial(lightbox, "vit_b_16", "lrp", composite=rules)
    return Contest("attention-lrp", f"vit_b_16, {rules}", ours, {"lxt": partial(peers.lxt, "vit_b_16", rules)})


def versus_crp(network: str, layer: str) -> Contest:
    """Conditional heatmaps of the most relevant concepts of a layer."""
    ours, theirs = (partial(prepare, network, layer) for prepare in (peers.lightbox_concepts, peers.zennit_crp))
    return Contest("concepts", f"{network}, {layer}", ours, {"zennit-crp": theirs})


def contests() -> list[Contest]:
    """All contests, in the order of the table."""
    ours, theirs = (partial(prepare, "resnet18", LAYERS) for prepare in (indexing.lightbox, indexing.zennit_crp))
    return [
        versus_captum("gradient", peers.saliency, "Saliency"),
        sampling("smoothgrad", peers.smoothgrad, "Saliency", samples=peers.COPIES, noise=peers.NOISE),
        versus_captum("integrated-gradients", peers.integrated, "IntegratedGradients", steps=peers.STEPS),
        Contest(
            "gradcam", "resnet18", partial(lightbox, "resnet18", "gradcam", layer="layer4"),
            {"grad-cam": partial(peers.grad_cam, "resnet18", "layer4")},
        ),
        versus_captum("occlusion", peers.occlusion, "Occlusion", window=peers.WINDOW, stride=peers.STRIDE),
        sampling("kernel-shap", peers.kernel_shap, "KernelShap", patches=peers.PATCHES, trials=peers.TRIALS),
        versus_zennit("resnet18"),
        versus_zennit("vgg16"),
        versus_lxt("cp-lrp"),
        versus_lxt("attnlrp"),
        versus_crp("resnet18", "layer3"),
        versus_crp("vgg16", "features.28"),
        Contest("index", f"resnet18, {' and '.join(LAYERS)}", ours, {"zennit-crp": theirs}),
    ]  # fmt: skip


COLUMNS = (
    "method", "network", "peer", "Lightbox s", "peer s", "**peer / Lightbox**", "Lightbox MiB", "peer MiB",
    "peer / Lightbox", "Lightbox passes", "peer passes", "cosine",
)  # fmt: skip
HEAD = f"| {' | '.join(COLUMNS)} |\n{len(COLUMNS) * '|---'}|"


def write_row(contest: Contest, peer: str, ours: Measured, theirs: Measured) -> str:
    """The line of Lightbox and one peer."""
    cells = (
        contest.name, contest.network, peer,
        f"{ours.median:.3f}", f"{theirs.median:.3f}", f"**{theirs.ratio(ours):.2f}**",
        f"{ours.megabytes:.0f}", f"{theirs.megabytes:.0f}", f"{theirs.megabytes / ours.megabytes:.2f}",
        tell(ours), tell(theirs), f"{theirs.cosine(ours):.6f}",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def tell(measured: Measured) -> str:
    """Say passes forward and backward, and the images that went forward."""
    counts = measured.passes
    return f"{counts.forward} + {counts.backward} ({counts.images})"


def run_module(name: str) -> str:
    """What another benchmark prints."""
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    """Run what was chosen; write the results down when that was everything."""
    names = list(dict.fromkeys(contest.name for contest in contests()))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[*names, "queries"], help="print these, write nothing down")
    parser.add_argument("--rounds", type=int, default=7, help="measured runs of each contestant (default: 7)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default: 2)")
    given = parser.parse_args()
    begin, lines = time.monotonic(), [describe_machine(PACKAGES, given.threads), "", HEAD]
    print("\n".join(lines), flush=True)
    for contest in contests():
        if given.only is None or contest.name in given.only:
            measured = hold({"lightbox": contest.lightbox, **contest.peers}, given.rounds, given.threads)
            for peer in contest.peers:
                lines.append(write_row(contest, peer, measured["lightbox"], measured[peer]))
                print(lines[-1], flush=True)
    if given.only is None or "queries" in given.only:
        lines += ["", run_module("index")]
        print(lines[-1])
    if given.only is None:
        write_results(lines, begin)


def write_results(lines: list[str], begin: float) -> None:
    """Write the results with how to read and to repeat them."""
    command = " ".join(["python -m benchmarks", *sys.argv[1:]])
    made = f"`make bench`: {command}, {time.strftime('%Y-%m-%d')}, {(time.monotonic() - begin) / 60:.0f} minutes"
    RESULTS.write_text("\n".join(["# Lightbox beside its peers", "", made, "", *lines, "", READING]))


READING = f"""How to read it: times are medians of runs in turn, ratios are medians over the rounds; above 1 the peer
takes more. Memory is the most that a process held above what it held with its network loaded. Passes are calls of the
network, forward + backward, and in brackets the images that went forward. The cosine is that of what both found.

- Networks have random weights from one seed; the picture is scikit-image's astronaut, {peers.SIDE} pixels square.
- SmoothGrad and Kernel SHAP draw at random, so no two runs agree: *another seed* is Lightbox beside itself.
- pytorch-grad-cam scales every map to 0..1, which a cosine does not see unless the map has no zero.
- LXT ships CP-LRP for vision transformers; attnlrp is what it ships for language models, put around the same attention.
- *index* is {indexing.PICTURES} pictures read from files, for two layers; the cosine is that of the {indexing.BEST}
  highest relevances of every concept.
- RISE has no peer among these.
"""


if __name__ == "__main__":
    main()
