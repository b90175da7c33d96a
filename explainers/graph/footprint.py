"""What the values of a model take in memory for each image, computed anew rather than believed of a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)


@dataclass(frozen=True)
class Footprint:
    """Bytes for one image: the most that a forward pass holds at once (``peak``), and all its values (``total``).

    Both are 0 where only the numbers tell.
    """

    peak: int
    total: int

    @property
    def forward(self) -> int:
        """Bytes of a pass without gradients: as much again as its values is what operators need to work with."""
        return 2 * self.peak

    @property
    def tape(self) -> int:
        """Bytes of a tape and of the relevance passes on it: values, denominators, and relevance on its way."""
        return 2 * self.total + self.peak


def measure(
    shape: Sequence[int],
    plan: Sequence[tuple[fx.Node, Sequence[fx.Node]]],
    compute: Callable[[fx.Node, Mapping[fx.Node, Any]], Any],
    dtype: torch.dtype = torch.float32,
) -> Footprint:
    """Run a program on one image without numbers, by ``Model.plan``; views of one storage count once."""
    values: dict[fx.Node, Any] = {}
    held, seen, peak = dict[fx.Node, dict[int, int]](), dict[int, int](), 0
    kept = []  # without numbers they cost nothing, and no identity is given twice
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
            inputs = torch.zeros(1, *shape, dtype=dtype)
            for node, spent in plan:
                values[node] = inputs if node.op == "placeholder" else compute(node, values)
                kept.append(values[node])
                held[node] = {} if node.op == "get_attr" else storages(values[node])
                seen |= held[node]
                peak = max(peak, sum({key: size for one in held.values() for key, size in one.items()}.values()))
                for old in spent:
                    del values[old], held[old]
    except (DataDependentOutputException, DynamicOutputShapeException):
        return Footprint(0, 0)
    return Footprint(peak, sum(seen.values()))


def storages(value: Any) -> dict[int, int]:
    """The bytes of each storage behind a value, by the storage's identity."""
    several = value if isinstance(value, list | tuple) else (value,)
    held = [one.untyped_storage() for one in several if isinstance(one, Tensor)]
    return {storage._cdata: storage.nbytes() for storage in held}
