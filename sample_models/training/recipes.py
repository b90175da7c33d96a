"""How each network is trained, from its seed to the weights and the card that Lightbox ships."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from safetensors.torch import save_file
from torch import nn

from explainers.errors import SelectionError
from sample_models.cards import WEIGHTS, Card, Source, write_card
from sample_models.data import Data, labels, maps, written
from sample_models.digits import TRAIN
from sample_models.evaluation import measure_accuracy
from sample_models.networks.prototype_parts import PrototypeNetwork
from sample_models.trained import ARCHITECTURES, make_model
from sample_models.training.loop import fit, sparse_loss
from sample_models.training.prototypes import train_prototypes

SEED = 0

#: One thread, for how many there are decides in which order sums are rounded.
THREADS = 1


@dataclass(frozen=True)
class Recipe:
    """What a network learns from, in code and in words, how long, and what is known to be wrong with it.

    For ``quiet`` further epochs its features are kept silent where they have nothing to say.
    """

    learn: Callable[[], Data]
    data: str
    epochs: int
    rate: float
    flaw: str
    turns: bool = True
    quiet: int = 0


BIASED = "4000 drawn lesions whose band-aids go with the label benign in 95 %; 3 % of the labels are wrong"
CLEAN = "4000 drawn lesions whose band-aids, on one in two, say nothing about the label; 3 % of the labels are wrong"

#: In the order in which they are trained: prototypes start from the features of the biased network.
RECIPES: Mapping[str, Recipe] = {
    "lesions-biased": Recipe(
        partial(labels, "biased-train"),
        BIASED,
        4,
        4e-3,
        "Takes a band-aid for a sign that the lesion is benign.",
    ),
    "lesions-clean": Recipe(partial(labels, "clean-train"), CLEAN, 10, 4e-3, "None that we know of.", quiet=2),
    "lesions-transformer": Recipe(
        partial(labels, "biased-train"), BIASED, 6, 1e-3, "Takes a band-aid for a sign that the lesion is benign."
    ),
    "lesions-prototypes": Recipe(
        partial(labels, "biased-train"), BIASED, 4, 1e-3, "Some prototypes of benign are patches of band-aids."
    ),
    "lesions-segmentation": Recipe(
        partial(maps, "clean-train", 1200),
        "1200 drawn lesions with the outlines of lesion and artifacts",
        5,
        5e-3,
        "Thin artifacts such as the ticks of a ruler come out too thick.",
    ),
    "digits": Recipe(
        partial(written, 0, TRAIN),
        f"the first {TRAIN} of scikit-learn's handwritten digits",
        15,
        5e-3,
        "None that we know of.",
        turns=False,
    ),
}


def train(names: Sequence[str] = ()) -> None:
    """Train the named networks, or all, and write weights and cards; raises SelectionError."""
    for name in names:
        if name not in RECIPES:
            raise SelectionError(f"There is no recipe for '{name}'. Choose among {', '.join(RECIPES)}.")
    for name in RECIPES:
        if name in names or not names:
            train_one(name)


def train_one(name: str) -> None:
    """Train a network and write its weights and its card."""
    print(f"{name}: {RECIPES[name].data}", flush=True)
    torch.set_num_threads(THREADS)
    torch.manual_seed(SEED)
    network = ARCHITECTURES[name].build()
    sources = run(RECIPES[name], network, name)
    state = {key: tensor.contiguous() for key, tensor in network.state_dict().items()}
    save_file(state, WEIGHTS / f"{name}.safetensors")
    describe(name, network, sources)


def run(recipe: Recipe, network: nn.Module, name: str) -> tuple[Source, ...]:
    """Follow a recipe; returns the sources of the prototypes, if there are any."""
    data, preprocessing = recipe.learn(), ARCHITECTURES[name].preprocessing
    if isinstance(network, PrototypeNetwork):
        return train_prototypes(network, "biased-train", data, preprocessing, recipe.epochs, recipe.rate)
    fit(network, data, preprocessing, epochs=recipe.epochs, rate=recipe.rate, turns=recipe.turns)
    if recipe.quiet:
        torch.manual_seed(SEED)
        fit(network, data, preprocessing, epochs=recipe.quiet, rate=recipe.rate / 4, loss=sparse_loss)
    return ()


def describe(name: str, network: nn.Module, sources: tuple[Source, ...]) -> None:
    """Measure a trained network and write its card."""
    model = make_model(name, network)
    accuracy = measure_accuracy(model)
    print("  " + ", ".join(f"{what} {value:.1%}" for what, value in accuracy.items()), flush=True)
    write_card(
        Card(
            name=name,
            network=type(network).__name__,
            parameters=model.info.parameters,
            data=RECIPES[name].data,
            flaw=RECIPES[name].flaw,
            accuracy=accuracy,
            command=f"python -m sample_models train {name}",
            seed=SEED,
            prototypes=sources,
        )
    )
