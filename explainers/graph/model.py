"""The one graph: an immutable program of ATen calls, and how to run all of it or a part."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import Any

import numpy as np
import torch

# Gradients and tracing import this when first needed; of two threads that do so at once, one finds it half imported.
import torch.fx.experimental.symbolic_shapes
from jaxtyping import Float
from torch import Tensor, fx

from explainers.breakdown import OPERATOR
from explainers.errors import SelectionError
from explainers.graph.footprint import Footprint, measure
from explainers.info import Layer, ModelInfo
from explainers.jobs import Progress, at_hand, passes
from explainers.memory import IMAGES_PER_PASS, PASS_MEMORY
from explainers.regions import pixels_of, region_mask
from explainers.targets import Target

aten = torch.ops.aten

#: How long one operator may take for the images that go through together, in seconds: no stop is heard meanwhile.
SECONDS = 0.7

#: After how many seconds of a forward pass a stop is listened for again on the way back, which takes some three times
#: as long; to listen costs 30 microseconds.
LISTENING = 0.005

Operators = Mapping[Any, Callable[..., Any]]
Plan = tuple[tuple[fx.Node, tuple[fx.Node, ...]], ...]


@dataclass(frozen=True, eq=False)
class Model:
    """A model as an immutable graph of ATen calls, with what is known about it in ``info``.

    ``program`` takes one input ``[batch, channel, height, width]`` with any batch size. It is never mutated, so
    sessions and threads share it without locks. Two models with the same ``info.digest`` give the same results.
    """

    info: ModelInfo
    program: fx.GraphModule
    derived: dict[Hashable, Any] = field(default_factory=dict, repr=False)  # what ``remember`` made

    def __call__(self, inputs: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch *output"]:
        """Run the whole program, without gradients, on as many images at once as ``images_at_once`` allows."""
        with torch.no_grad():
            parts = [self.run(part)[0] for part in torch.split(inputs, self.images_at_once(self.footprint.forward))]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def run(
        self,
        inputs: Float[Tensor, "batch channel height width"] | None = None,
        *,
        keep: Collection[str] = (),
        given: Mapping[str, Tensor] | None = None,
        operators: Operators | None = None,
    ) -> tuple[Float[Tensor, "batch *output"], dict[str, Tensor]]:
        """Run the program forward; returns its output and the values of the nodes named in ``keep``.

        ``given`` holds values of nodes by name: what only they need is not computed again, so a run may start in any
        layer (leave ``inputs`` out then). ``operators`` replaces ATen operators by other functions for this run.
        Counts as one forward pass. Gradients flow where the caller has them enabled; who keeps many values or wants
        gradients holds the memory for them, see ``PassMemory``. A stop is heard between two operators, on the way back
        as well: raises CancelledError.
        """
        if inputs is None or torch.is_grad_enabled():
            return self._run(inputs, keep, given or {}, operators or {})
        with PASS_MEMORY.hold(self.footprint.forward * len(inputs)):
            return self._run(inputs, keep, given or {}, operators or {})

    def _run(
        self, inputs: Tensor | None, keep: Collection[str], given: Mapping[str, Tensor], operators: Operators
    ) -> tuple[Tensor, dict[str, Tensor]]:
        values: dict[fx.Node, Any] = {}
        kept: dict[str, Tensor] = {}
        ends = frozenset(given), frozenset(keep)
        progress, slowest, unheard = at_hand.get(), 0.0, 0.0
        for node, spent in self.remember(ends, partial(self.plan, *ends)):
            if progress is not None:
                progress.check()
            start = time.perf_counter()
            if node.name in given:
                values[node] = given[node.name]
            elif node.op == "placeholder":
                # Channels side by side, as convolutions take them fastest: up to twice as fast as planes.
                values[node] = inputs.contiguous(memory_format=torch.channels_last) if inputs is not None else None
            else:
                values[node] = self.compute(node, values, operators)
            seconds = time.perf_counter() - start
            slowest, unheard = max(slowest, seconds), unheard + seconds
            if progress is not None and unheard >= LISTENING and listen(values[node], progress):
                unheard = 0.0
            if node.name in keep:
                kept[node.name] = values[node]
            for old in spent:
                del values[old]
        output: Tensor = values[self.output_node]
        self._note_speed(slowest / max(1, len(output)))
        if (counts := passes.get(None)) is not None:
            counts.forward += 1
            counts.images += len(output)
        return output, kept

    def _note_speed(self, seconds: float) -> None:
        """Note how long the slowest operator took for one image; the least of all passes, for others may interrupt."""
        self.derived["slowest"] = min(seconds, self.derived.get("slowest", seconds))

    @property
    def footprint(self) -> Footprint:
        """What the values of a pass take for one image, in bytes."""
        shape = self.info.preprocessing.channels, *self.info.preprocessing.size
        found: Footprint = self.remember(
            "footprint", lambda: measure(shape, self.plan(frozenset(), frozenset()), self.compute, self._find_type())
        )
        return found

    def _find_type(self) -> torch.dtype:
        """The type of the weights, which that of the images is, too."""
        return next((one.dtype for one in self.tensors if one.is_floating_point()), torch.float32)

    def images_at_once(self, size: int, most: int = IMAGES_PER_PASS) -> int:
        """How many images of ``size`` bytes each go through together, IMAGES_PER_PASS at most.

        No more than fit into a pass's share of the memory, and than the slowest operator takes SECONDS for. Where only
        the numbers tell how large the values are, one.
        """
        by_memory = PASS_MEMORY.share // size if size else 1
        slowest = self.derived.get("slowest", 0.0)
        by_time = int(SECONDS / slowest) if slowest else most
        return max(1, min(most, by_memory, by_time))

    def compute(self, node: fx.Node, values: Mapping[fx.Node, Any], operators: Operators | None = None) -> Any:
        """Read a constant, or call an operator on the values before it."""
        if node.op == "get_attr":
            return constant(self.program, node)
        target: Any = node.target
        operators = operators or {}
        arguments: Any
        keywords: Any
        arguments, keywords = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
        if target == aten.batch_norm.default and target not in operators and torch.is_grad_enabled():
            return normalise(*arguments, **keywords)
        try:
            return operators.get(target, target)(*arguments, **keywords)
        except Exception as error:
            error.add_note(f"{OPERATOR}{target}")
            raise

    def remember(self, key: Hashable, derive: Callable[[], Any]) -> Any:
        """Read what follows from the model alone, made once; two threads may make the same at once."""
        if (found := self.derived.get(key)) is None:
            found = self.derived[key] = derive()
        return found

    @property
    def constants(self) -> frozenset[int]:
        """The identities of weights and buffers, which live as long as the model."""
        found: frozenset[int] = self.remember("constants", self._find_constants)
        return found

    def _find_constants(self) -> frozenset[int]:
        return frozenset(map(id, self.tensors))

    @property
    def tensors(self) -> Iterator[Tensor]:
        """The weights and buffers that the program reads."""
        return (constant(self.program, node) for node in self.program.graph.find_nodes(op="get_attr"))

    def plan(self, given: frozenset[str], keep: frozenset[str]) -> Plan:
        """List the nodes that a run from ``given`` needs, in order, each with the values that are spent after it."""
        nodes = {node.name: node for node in self.program.graph.nodes}
        needed: set[fx.Node] = set()
        stack = [self.output_node, *(nodes[name] for name in keep)]
        while stack:
            node = stack.pop()
            if node not in needed:
                needed.add(node)
                stack += [] if node.name in given else node.all_input_nodes
        ordered = [node for node in self.program.graph.nodes if node in needed]
        last_use = {used: node for node in ordered if node.name not in given for used in node.all_input_nodes}
        spent: dict[fx.Node, list[fx.Node]] = {}
        for used, node in last_use.items():
            spent.setdefault(node, []).append(used)
        return tuple((node, tuple(spent.get(node, ()))) for node in ordered)

    @property
    def input_node(self) -> fx.Node:
        """The graph's single placeholder."""
        node: fx.Node = self.program.graph.find_nodes(op="placeholder")[0]
        return node

    @property
    def output_node(self) -> fx.Node:
        """The node whose value is the model's output."""
        return self.program.graph.output_node().all_input_nodes[0]


def listen(value: Any, progress: Progress) -> bool:
    """Hear a stop when a gradient comes back to a value; tells whether one can come."""
    if not (isinstance(value, Tensor) and value.requires_grad):
        return False
    value.register_hook(lambda gradient: progress.check())  # type: ignore[no-untyped-call]
    return True


def normalise(
    values: Float[Tensor, "batch channel *places"],
    weight: Float[Tensor, " channel"] | None,
    bias: Float[Tensor, " channel"] | None,
    mean: Float[Tensor, " channel"] | None,
    variance: Float[Tensor, " channel"] | None,
    training: bool,
    momentum: float,
    epsilon: float,
    *rest: bool,
) -> Float[Tensor, "batch channel *places"]:
    """Compute a batch norm so that its gradient is right whatever the memory layout.

    The derivative of torch's own (2.14.1, on the processor) is wrong where the gradient that comes in is laid out
    otherwise than the values, as behind a change between maps and tokens.
    """
    if training or mean is None or variance is None:
        values = values.contiguous()
        return torch.batch_norm(values, weight, bias, mean, variance, training, momentum, epsilon, False)
    scale = torch.rsqrt(variance + epsilon)
    scale = scale if weight is None else scale * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    shape = (-1, *(1,) * (values.dim() - 2))
    return torch.addcmul(shift.view(shape), values, scale.view(shape))


def constant(program: fx.GraphModule, node: fx.Node) -> Tensor:
    """Read the weight or buffer behind a ``get_attr`` node."""
    found: Any = reduce(getattr, str(node.target).split("."), program)
    assert isinstance(found, Tensor)
    return found


def count_stored(tensors: Iterable[Tensor]) -> int:
    """The bytes of all tensors together; views of one storage count once."""
    storages = (tensor.untyped_storage() for tensor in tensors)
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def score(
    outputs: Float[Tensor, "repeat_batch class *places"], targets: Sequence[Target]
) -> Float[Tensor, " repeat_batch"]:
    """Pick the explained output of each image: a class's logit, or its lead over another.

    Of a map of logits it is their mean in the target's region.
    ``outputs`` may hold the batch several times over, repeats outermost; raises SelectionError for an unknown class.
    """
    classes = outputs.shape[1]
    for target in targets:
        for index in (target.index, target.versus or 0):
            if not 0 <= index < classes:
                raise SelectionError(f"Class {index} was asked for, but the model has classes 0 to {classes - 1}.")
    if outputs.dim() == 4:
        weights = place_weights(outputs.shape[2:], targets).repeat(len(outputs) // len(targets), 1, 1, 1)
        outputs = (outputs * weights).sum((2, 3))
    repeats = len(outputs) // len(targets)
    rows = torch.arange(len(outputs), device=outputs.device)
    chosen = outputs[rows, torch.tensor([target.index for target in targets] * repeats)]
    if any(target.usual for target in targets):
        chosen = chosen - torch.tensor([target.usual for target in targets] * repeats)
    contrast = [target.versus for target in targets]
    if all(versus is None for versus in contrast):
        return chosen
    others = torch.tensor([0 if versus is None else versus for versus in contrast] * repeats)
    asked = torch.tensor([versus is not None for versus in contrast] * repeats)
    return chosen - torch.where(asked, outputs[rows, others], 0.0)


def place_weights(shape: Sequence[int], targets: Sequence[Target]) -> Float[Tensor, "batch 1 height width"]:
    """Weigh the places of a map of logits so that the weighted sum is the mean in each target's region."""
    size = (shape[0], shape[1])
    everywhere = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    masks = [region_mask(pixels_of(target.region or everywhere, size), size) for target in targets]
    weights = torch.from_numpy(np.stack(masks)).float()[:, None]
    return weights / weights.sum((2, 3), keepdim=True)


def gradient(
    outputs: Float[Tensor, " repeat_batch"], inputs: Float[Tensor, "repeat_batch *shape"]
) -> Float[Tensor, "repeat_batch *shape"]:
    """Differentiate each image's score by its own input; counts as one backward pass."""
    return gradients(outputs, [inputs])[0]


def gradients(
    outputs: Float[Tensor, " repeat_batch"], inputs: Sequence[Float[Tensor, "repeat_batch ..."]]
) -> tuple[Float[Tensor, "repeat_batch ..."], ...]:
    """Differentiate each image's score by several of its values at once; counts as one backward pass."""
    if (counts := passes.get(None)) is not None:
        counts.backward += 1
    return torch.autograd.grad(outputs.sum(), inputs)


def spatial_map(values: Float[Tensor, "batch *shape"], layer: Layer) -> Float[Tensor, "batch channel rows columns"]:
    """Lay out a layer's output as channels over a grid, whatever its layout; tokens that are no place are left out."""
    rows, columns = layer.grid
    if layer.layout == "channels first":
        return values
    if layer.layout == "channels last":
        return values.permute(0, 3, 1, 2)
    if layer.layout == "tokens":
        return values[:, layer.place_tokens].transpose(1, 2).reshape(len(values), -1, rows, columns)
    raise SelectionError(f"The layer {layer.name} has no spatial map. Choose a layer before the pooling.")
