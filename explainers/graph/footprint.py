"""What the values of a model take in memory for each image, computed anew rather than believed of a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode

from explainers.graph.model import Model


@dataclass(frozen=True)
class Footprint:
    """Bytes for one image: the most that a forward pass holds at once (``peak``), and all its values (``total``)."""

    peak: int
    total: int


def footprint(model: Model) -> Footprint:
    """Measure a model once by a run without numbers, and remember it on the model."""
    found: Footprint = model.remember("footprint", lambda: measure(model))
    return found


def measure(model: Model) -> Footprint:
    """Run the program on one image without numbers, as ``Model.run`` does; views of one storage count once."""
    preprocessing = model.info.preprocessing
    values: dict[fx.Node, Any] = {}
    held, seen, peak = dict[fx.Node, dict[int, int]](), dict[int, int](), 0
    kept = []  # without numbers they cost nothing, and no identity is given twice
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        inputs = torch.zeros(1, preprocessing.channels, *preprocessing.size)
        for node, spent in model.plan(frozenset(), frozenset()):
            values[node] = inputs if node.op == "placeholder" else model.compute(node, values)
            kept.append(values[node])
            held[node] = {} if node.op == "get_attr" else storages(values[node])
            seen |= held[node]
            peak = max(peak, sum({key: size for one in held.values() for key, size in one.items()}.values()))
            for old in spent:
                del values[old], held[old]
    return Footprint(peak, sum(seen.values()))


def storages(value: Any) -> dict[int, int]:
    """The bytes of each storage behind a value, by the storage's identity."""
    several = value if isinstance(value, list | tuple) else (value,)
    held = [one.untyped_storage() for one in several if isinstance(one, Tensor)]
    return {storage._cdata: storage.nbytes() for storage in held}
