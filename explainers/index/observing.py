"""What the model says and uses in a batch: one forward pass, one relevance pass for all layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float32

from explainers.breakdown import telling_breakdown
from explainers.errors import SelectionError
from explainers.graph.model import Model
from explainers.index.loading import Loaded
from explainers.index.recipe import Recipe
from explainers.index.samples import write_sample
from explainers.index.store import COLUMNS, Block, mistaken
from explainers.info import ModelInfo
from explainers.labels import match_label
from explainers.predictions import Prediction, summarise
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
            "An index needs one score for each class, or a map of them; the model returns another shape."
        )
    if not layers:
        raise SelectionError("No layer was chosen. Choose at least one to index.")
    chosen = choose_composite(model)[0] if name == "automatic" else name
    composite(chosen, info.preprocessing, epsilon, gamma)
    counts = {layer: find_concepts(model, layer).count for layer in layers}
    return Recipe(info.name, info.digest, info.preprocessing, chosen, epsilon, gamma, counts, info.decision_names)


def observe(model: Model, recipe: Recipe, loaded: Loaded) -> Block:
    """Compute the rows of pictures that were read, as many at once as their tape may have memory; counts the passes."""
    size = model.images_at_once(model.footprint.tape, most=len(loaded.samples))
    with telling_breakdown(f"The index of {model.info.name}"):
        return join([observe_part(model, recipe, part) for part in loaded.split(size)])


def join(blocks: Sequence[Block]) -> Block:
    """Put the rows of blocks behind one another."""
    if len(blocks) == 1:
        return blocks[0]
    table = pd.concat([block.table for block in blocks], ignore_index=True)
    return Block(
        table, {key: np.concatenate([block.values[key] for block in blocks], axis=1) for key in blocks[0].values}
    )


def observe_part(model: Model, recipe: Recipe, loaded: Loaded) -> Block:
    """Compute the rows of pictures from one tape.

    A picture has a row for each decision on it: one for its class; of several findings one for each, there or not.
    Where the true class is known and not the one predicted, these pictures alone go through the network once more,
    which costs less than a second seed for all of the batch.
    """
    inputs, info = torch.from_numpy(loaded.inputs), model.info
    tape = record(model, inputs)
    predictions = [summarise(info, outputs) for outputs in tape.output.float().numpy()]
    decided = [prediction.decisions(info) for prediction in predictions]
    table = tabulate(info, loaded, predictions, decided)
    rounds = [attribute(tape, recipe, decisions) for decisions in zip(*decided, strict=True)]
    repeats, mistakes = len(rounds), np.flatnonzero(mistaken(table))
    values = {}
    for layer in recipe.layers:
        concepts = find_concepts(model, layer)
        activation = tape.value(find_node(model, concepts.layer.node))
        found = np.stack([one[layer] for one in rounds], axis=-1).reshape(concepts.count, -1)
        values[layer, "predicted"] = found
        values[layer, "max"] = concepts.maximum(activation).numpy().T.repeat(repeats, axis=1)
        values[layer, "mean"] = concepts.mean(activation).numpy().T.repeat(repeats, axis=1)
        values[layer, "label"] = found[:, mistakes]  # whether a finding is there or not, its score is the same
    if len(mistakes) and not info.decisions_about(0):
        other = attribute(record(model, inputs[mistakes]), recipe, table["label"].to_numpy()[mistakes].tolist())
        values.update({(layer, "label"): array for layer, array in other.items()})
    return Block(table, values)


def tabulate(
    info: ModelInfo, loaded: Loaded, predictions: Sequence[Prediction], decided: Sequence[Sequence[int]]
) -> pd.DataFrame:
    """Make the table of pictures that were read, a row for each decision on each."""
    rows = [
        {
            "name": sample.name,
            "digest": content,
            "label_name": sample.label or "",
            "label": match_label(sample.label, info, decision),
            "predicted": decision,
            "output": prediction.logits[info.output_of(decision)],
            "probability": prediction.likelihood(info, decision),
            "sample": write_sample(sample),
        }
        for sample, content, prediction, decisions in zip(
            loaded.samples, loaded.digests, predictions, decided, strict=True
        )
        for decision in decisions
    ]
    return pd.DataFrame(rows).astype(COLUMNS)


def attribute(
    tape: Tape, recipe: Recipe, decisions: Sequence[int]
) -> Mapping[str, Float32[np.ndarray, "concept sample"]]:
    """Sum up each concept's relevance for one decision on each picture, in all layers at once."""
    rules = composite(recipe.composite, tape.model.info.preprocessing, recipe.epsilon, recipe.gamma)
    seeds = seed_targets(tape.output, [Target(tape.model.info.output_of(decision)) for decision in decisions])
    concepts = {layer: find_concepts(tape.model, layer) for layer in recipe.layers}
    found = propagate(tape, seeds, rules=rules, stops=[one.layer.node for one in concepts.values()]).relevance
    return {
        layer: one.measure(tape.value(find_node(tape.model, one.layer.node)), found[one.layer.node])[0].numpy().T
        for layer, one in concepts.items()
    }
