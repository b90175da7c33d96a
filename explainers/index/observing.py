"""What the model says and uses in a batch: one forward pass, one relevance pass for all layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float32

from explainers.errors import SelectionError
from explainers.graph.model import Model
from explainers.index.loading import Loaded
from explainers.index.recipe import Recipe
from explainers.index.samples import write_sample
from explainers.index.store import COLUMNS, Block
from explainers.predictions import summarise
from explainers.relevance.composites import choose_composite, composite
from explainers.relevance.concepts.layers import find_concepts
from explainers.relevance.propagation import propagate
from explainers.relevance.seeds import seed_targets
from explainers.relevance.tape import Tape, find_node, record
from explainers.targets import Target


def make_recipe(model: Model, layers: Sequence[str], name: str, epsilon: float, gamma: float) -> Recipe:
    """Describe an index of layers of a model by a composite's name, or "automatic"; raises SelectionError."""
    info = model.info
    if len(info.output_shape) not in (1, 3):
        raise SelectionError(
            f"An index needs one score for each class, or a map of them; {info.name} returns another shape."
        )
    if not layers:
        raise SelectionError("No layer was chosen. Choose at least one to index.")
    chosen = choose_composite(model)[0] if name == "automatic" else name
    composite(chosen, info.preprocessing, epsilon, gamma)
    counts = {layer: find_concepts(model, layer).count for layer in layers}
    return Recipe(info.name, info.digest, info.preprocessing, chosen, epsilon, gamma, counts, info.class_names)


def observe(model: Model, recipe: Recipe, loaded: Loaded) -> Block:
    """Compute the rows of pictures that were read; counts the passes.

    Where the true class is known and not the one predicted, these pictures alone go through the network once more,
    which costs less than a second seed for all of the batch.
    """
    inputs = torch.from_numpy(loaded.inputs)
    tape = record(model, inputs)
    predictions = [summarise(model.info, outputs) for outputs in tape.output.float().numpy()]
    predicted = [prediction.top(1)[0] for prediction in predictions]
    labels = [match_label(sample.label, recipe.class_names, model.info.output_shape[0]) for sample in loaded.samples]
    table = pd.DataFrame(
        {
            "name": [sample.name for sample in loaded.samples],
            "digest": loaded.digests,
            "label_name": [sample.label or "" for sample in loaded.samples],
            "label": labels,
            "predicted": predicted,
            "output": [prediction.logits[index] for prediction, index in zip(predictions, predicted, strict=True)],
            "probability": [one.probabilities[index] for one, index in zip(predictions, predicted, strict=True)],
            "sample": [write_sample(sample) for sample in loaded.samples],
        }
    ).astype(COLUMNS)
    mistakes = [row for row, label in enumerate(labels) if label not in (-1, predicted[row])]
    values = {(layer, "predicted"): found for layer, found in attribute(tape, recipe, predicted).items()}
    for layer in recipe.layers:
        concepts = find_concepts(model, layer)
        activation = tape.value(find_node(model, concepts.layer.node))
        values[layer, "max"] = concepts.maximum(activation).numpy().T
        values[layer, "mean"] = concepts.mean(activation).numpy().T
        values[layer, "label"] = np.empty((concepts.count, 0), np.float32)
    if mistakes:
        found = attribute(record(model, inputs[mistakes]), recipe, [labels[row] for row in mistakes])
        values.update({(layer, "label"): array for layer, array in found.items()})
    return Block(table, values)


def attribute(
    tape: Tape, recipe: Recipe, classes: Sequence[int]
) -> Mapping[str, Float32[np.ndarray, "concept sample"]]:
    """Sum up each concept's relevance for one class of each picture, in all layers at once."""
    rules = composite(recipe.composite, tape.model.info.preprocessing, recipe.epsilon, recipe.gamma)
    seeds = seed_targets(tape.output, [Target(index) for index in classes])
    concepts = {layer: find_concepts(tape.model, layer) for layer in recipe.layers}
    found = propagate(tape, seeds, rules=rules, stops=[one.layer.node for one in concepts.values()]).relevance
    return {
        layer: one.measure(tape.value(find_node(tape.model, one.layer.node)), found[one.layer.node])[0].numpy().T
        for layer, one in concepts.items()
    }


def match_label(label: str | None, class_names: Sequence[str], classes: int) -> int:
    """Find the class that a label means: by name, whatever its case, else by index; -1 if there is none."""
    if label is None:
        return -1
    names = [name.casefold() for name in class_names]
    if label.casefold() in names:
        return names.index(label.casefold())
    return int(label) if label.isdecimal() and int(label) < classes else -1
