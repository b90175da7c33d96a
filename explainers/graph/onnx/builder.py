"""The graph in the making: ATen calls on what depends on the image, numbers for all that does not."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, fx

from explainers.errors import ModelError
from explainers.graph.checkpoint import first_line

aten = torch.ops.aten

#: What an ONNX value is during the import: a node if it depends on the image, else its numbers.
Value = fx.Node | Shaped[Tensor, "..."]

#: Shapes are traced with this many images, a prime that no network has as a size: its multiples, wherever the file's
#: arithmetic on shapes takes them, are the batch.
BATCH = 1_000_003

#: How many numbers one image's value may have, and all constants that are computed during the import together.
MAX_NUMBERS = 1 << 28
MAX_CONSTANTS = 1 << 30

DYNAMIC = "Export the model again with a dynamic batch dimension"


class Builder:
    """Makes the graph call by call.

    ``fixed`` is the number of images that the file was written for, 0 if any; ``scope`` are the layers that the next
    calls are in, as torch's exporter notes them. ``kinds`` are the ONNX operators that were imported; ``steps`` are
    scale and zero point of the values that are whole numbers in the file and stand in the graph for what they mean.
    """

    def __init__(self, fixed: int) -> None:
        self.graph = fx.Graph()
        self.weights: dict[str, Tensor] = {}
        self.fixed = fixed
        self.scope: dict[str, tuple[str, str]] = {}
        self.kinds: set[str] = set()
        self.steps: dict[fx.Node, tuple[float, float]] = {}
        self.constants: dict[str, Tensor] = {}
        self._readers: dict[int, tuple[Tensor, fx.Node]] = {}
        self._sizes: dict[int, fx.Node] = {}
        self._computed = 0
        self._imported = 0

    def count_node(self, most: int) -> None:
        """Count one more node that is imported; raises ModelError if there are more than these."""
        self._imported += 1
        if self._imported > most:
            raise ModelError(
                f"The ONNX file has over {most:,} nodes with its functions and loops written out, which is more than "
                "Lightbox imports. Export a smaller network."
            )

    def mark(self, made: Any, steps: tuple[float, float]) -> Any:
        """Note the scale and zero point with which a file quantises what these values stand for."""
        for item in made if isinstance(made, tuple) else (made,):
            if isinstance(item, fx.Node):
                self.steps[item] = steps
        return made

    def add_input(self, shape: Sequence[int]) -> fx.Node:
        """Add the placeholder for a batch of images of this shape."""
        self.input = self.graph.placeholder("images")
        self.input.meta["val"] = torch.empty(BATCH, *shape, device="meta")
        return self.input

    def emit(self, target: Any, *arguments: Any, **keywords: Any) -> Any:
        """Add a call, or compute its value right away if it depends neither on the image nor on the batch.

        Returns a tuple for operators with several outputs. Raises ModelError if the call cannot be made, its value is
        too large, or it mixes the images of a batch.
        """
        leaves: list[Any] = []
        fx.node.map_aggregate((arguments, keywords), leaves.append)
        nodes = [leaf for leaf in leaves if isinstance(leaf, fx.Node)]
        traced = self._trace(target, arguments, keywords)
        if not nodes and not any(is_batch(leaf) for leaf in leaves):
            return self._compute(target, arguments, keywords, traced)
        if isinstance(traced, Tensor) and not traced.numel():
            raise ModelError("leaves nothing of the image")
        if any(has_batch(node.meta["val"]) for node in nodes) and not has_batch(traced):
            raise ModelError(f"fixes the number of images, or mixes them. {DYNAMIC}")
        node = self._add(target, *fx.node.map_aggregate((arguments, keywords), self._argument), traced)
        if isinstance(traced, Tensor):
            return node
        return tuple(self._add(operator.getitem, (node, place), {}, item) for place, item in enumerate(traced))

    def _trace(self, target: Any, arguments: Any, keywords: Any) -> Any:
        """Find the shape of a call's value; raises ModelError if the call cannot be made."""
        try:
            traced = target(*fx.node.map_aggregate(arguments, on_meta), **fx.node.map_aggregate(keywords, on_meta))
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            raise ModelError(f"cannot be computed: {first_line(error)}") from error
        for item in traced if isinstance(traced, (tuple, list)) else (traced,):
            if count(item) > MAX_NUMBERS:
                raise ModelError(f"makes {count(item):,} numbers of one image; at most {MAX_NUMBERS:,} are computed")
        return traced

    def _compute(self, target: Any, arguments: Any, keywords: Any, traced: Any) -> Any:
        """Compute a constant."""
        items = traced if isinstance(traced, (tuple, list)) else (traced,)
        self._computed += sum(item.numel() for item in items)
        if self._computed > MAX_CONSTANTS:
            raise ModelError(f"computes with constants of over {MAX_CONSTANTS:,} numbers, which are not in the file")
        made = target(*arguments, **keywords)
        return tuple(made) if isinstance(made, list) else made

    def _add(self, target: Any, arguments: Any, keywords: Any, traced: Any) -> fx.Node:
        """Add a call with its traced value, in the layers of the moment."""
        node = self.graph.call_function(target, arguments, keywords)
        node.meta |= {"val": traced, "nn_module_stack": self.scope}
        return node

    def _argument(self, item: Any) -> Any:
        """Turn an argument into what a graph holds: tensors are read by nodes, multiples of the batch computed."""
        if isinstance(item, Tensor):
            return self.read(item)
        return self._size(item // BATCH) if is_batch(item) else item

    def read(self, tensor: Shaped[Tensor, "..."]) -> fx.Node:
        """Find the node that reads a constant, added once."""
        if id(tensor) not in self._readers:
            own = next((name for name, weight in self.weights.items() if weight is tensor), "constant")
            if tensor.dtype != torch.bool and tensor.numel() < 64 and (tensor.ne(0) & (tensor % BATCH == 0)).any():
                raise ModelError(f"computes with the number of images. {DYNAMIC}")
            name = f"onnx_{len(self.constants)}_" + re.sub(r"\W", "_", own)
            self.constants[name] = tensor.contiguous()
            with self.graph.inserting_after(self.input):
                node = self.graph.get_attr(name)
            node.meta["val"] = tensor.to("meta")
            self._readers[id(tensor)] = tensor, node
        return self._readers[id(tensor)][1]

    def _size(self, multiple: int) -> fx.Node:
        """Find the node that computes a multiple of the number of images, added once."""
        if multiple not in self._sizes:
            first = self._size(1) if multiple != 1 else self.input
            target: Any = aten.sym_size.int if multiple == 1 else operator.mul
            with self.graph.inserting_after(first):
                node = self.graph.call_function(target, (first, 0 if multiple == 1 else multiple))
            node.meta["val"] = multiple * BATCH
            self._sizes[multiple] = node
        return self._sizes[multiple]


def on_meta(item: Any) -> Any:
    """Stand in for an argument, with its shape alone."""
    if isinstance(item, fx.Node):
        return item.meta["val"]
    if isinstance(item, torch.device):
        return torch.device("meta")
    return item.to("meta") if isinstance(item, Tensor) else item


def is_batch(item: Any) -> bool:
    """Whether a number is a multiple of the number of images."""
    return isinstance(item, int) and not isinstance(item, bool) and item != 0 and item % BATCH == 0


def has_batch(traced: Any) -> bool:
    """Whether a traced value has a dimension that is a multiple of the number of images."""
    if isinstance(traced, (tuple, list)):
        return any(has_batch(item) for item in traced)
    return isinstance(traced, Tensor) and any(is_batch(size) for size in traced.shape)


def count(traced: Tensor) -> int:
    """How many numbers a traced value has for one image."""
    number = traced.numel()
    while is_batch(number):
        number //= BATCH
    return number


def shape_of(value: Value) -> list[int]:
    """The sizes of a value, in which multiples of BATCH stand for the batch."""
    return list(value.meta["val"].shape if isinstance(value, fx.Node) else value.shape)


def dtype_of(value: Value) -> torch.dtype:
    """The type of a value's numbers."""
    found: torch.dtype = value.meta["val"].dtype if isinstance(value, fx.Node) else value.dtype
    return found
