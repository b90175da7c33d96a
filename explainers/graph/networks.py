"""The networks in a file of weights: found in what training code writes, freed of wrappers, with whole tensors."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from explainers.errors import ModelError
from explainers.graph.checkpoint import SAVE_LINE, printable, read_pickle, read_safetensors
from explainers.graph.pickles import Array, StandIn
from explainers.settings import settings

Tensors = dict[str, Shaped[Tensor, "..."]]

#: Where training scripts keep the weights inside a checkpoint; averaged weights come first, they predict best.
WRAPPERS = ("state_dict_ema", "model_ema", "ema", "state_dict", "model_state_dict", "model", "net", "weights", "params")

#: What wrappers of modules put before every name, and into names.
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.")
INFIXES = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")

#: Entries of a checkpoint that hold no network.
OTHERS = re.compile(r"(optim|scaler|scheduler|lr_sched|callbacks|loops|hyper_parameters|hparams|args|config|meta).*")

#: Entries of a checkpoint that hold the last layers of the network in another.
HEADS = ("head", "fc", "classifier", "cls", "linear")

#: How deep the parts of a file are searched, and how many are looked at.
DEEPEST, MOST_PARTS = 6, 10_000


@dataclass(frozen=True)
class Weights:
    """The named tensors of one network, in the file's order, and notes on what was done to get at them.

    ``ordered`` tells whether that order is the one in which the author's modules were made. ``beside`` are tensors that
    the file keeps next to the network: a head of its own, a loss, a metric.
    """

    tensors: Tensors
    ordered: bool
    notes: tuple[str, ...] = ()
    beside: Tensors = field(default_factory=dict)


def read_networks(data: bytes, format: str) -> dict[str, Weights]:
    """Read a "safetensors" file or a "checkpoint"; returns its networks by where they are in it, likeliest first.

    Raises UnsafeFileError if a checkpoint holds what could run code, ModelError if it is damaged, too large or holds no
    weights.
    """
    content: Any = read_safetensors(data) if format == "safetensors" else read_pickle(data)
    entries = find_entries(content)
    check_bounds([tensor for entry in entries.values() for tensor in entry.values()])
    sizes = {path: sum(tensor.numel() for tensor in entry.values()) for path, entry in entries.items()}
    heads = [path for path in entries if path.rpartition(".")[2] in HEADS]
    kept = [path for path in entries if sizes[path] * 100 >= max(sizes.values()) and path not in heads] or heads[:1]
    whole = describe_classes(content)
    return {
        path: free(
            path,
            entries[path],
            {f"{head}.{name}": one for head in heads for name, one in entries[head].items() if head != path},
            format == "checkpoint",
            whole,
        )
        for path in sorted(kept, key=rank)
    }


def read_checkpoint(data: bytes) -> Weights:
    """Read the likeliest network of a checkpoint, see ``read_networks``."""
    return next(iter(read_networks(data, "checkpoint").values()))


def find_entries(content: Any) -> dict[str, Tensors]:
    """All parts of a file that hold named tensors, by their paths in it."""
    found: dict[str, Tensors] = {}
    seen: set[int] = set()
    queue = deque([("", content, 0)])
    while queue and len(seen) < MOST_PARTS:
        path, item, depth = queue.popleft()
        if id(item) in seen or depth > DEEPEST:
            continue
        seen.add(id(item))
        members = members_of(item)
        tensors = {key: tensor for key, one in members.items() if (tensor := as_tensor(one)) is not None}
        if any(tensor.dim() for tensor in tensors.values()):
            found[path] = tensors
        queue += [
            (f"{path}.{key}".lstrip("."), one, depth + 1)
            for key, one in members.items()
            if isinstance(one, dict | StandIn) and not OTHERS.fullmatch(key)
        ]
    return found


def members_of(item: Any) -> dict[str, Any]:
    """What a mapping, or the stand-in of a module or of a mapping, holds under texts."""
    if isinstance(item, StandIn) and isinstance(item.state.get("_modules"), dict):
        return dict(state_of(item))
    items = item if isinstance(item, dict) else item.state | item.items if isinstance(item, StandIn) else {}
    return {key: one for key, one in items.items() if isinstance(key, str) and key != "n_averaged"}


def state_of(module: StandIn) -> Iterator[tuple[str, Any]]:
    """The parameters and lasting buffers of a pickled module, as ``Module.state_dict`` names and orders them."""
    stack = [("", module)]
    for _ in range(MOST_PARTS):
        if not stack:
            return
        prefix, part = stack.pop()
        passing = part.state.get("_non_persistent_buffers_set") or ()
        for group in ("_parameters", "_buffers"):
            yield from ((prefix + name, one) for name, one in named(part, group) if name not in passing)
        children = [(f"{prefix}{name}.", one) for name, one in named(part, "_modules") if isinstance(one, StandIn)]
        stack += reversed(children)


def named(module: StandIn, group: str) -> list[tuple[str, Any]]:
    """The entries of one of a pickled module's mappings."""
    items = module.state.get(group)
    return [(name, one) for name, one in items.items() if isinstance(name, str)] if isinstance(items, dict) else []


def describe_classes(content: Any) -> tuple[str, ...]:
    """Say of a pickled network that its code was not read."""
    items = content.values() if isinstance(content, dict) else [content]
    kinds = [printable(item.name, 100) for item in items if isinstance(item, StandIn) and "_modules" in item.state]
    return tuple(
        f"The file holds a whole network of the class {kind}. Its tensors were read, but none of its code: see whether "
        "the architecture chosen computes as that class does."
        for kind in dict.fromkeys(kinds)
    )


def as_tensor(item: Any) -> Shaped[Tensor, "..."] | None:
    """A tensor, or an array as a tensor; None for anything else."""
    return item.tensor() if isinstance(item, Array) else item if isinstance(item, Tensor) else None


def rank(path: str) -> int:
    """Sort key of an entry by its name."""
    name = path.rpartition(".")[2]
    return WRAPPERS.index(name) if name in WRAPPERS else len(WRAPPERS)


def check_bounds(tensors: list[Shaped[Tensor, "..."]]) -> None:
    """Raise ModelError unless there are tensors, not too many and not too large."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if not tensors:
        raise ModelError(f"The file holds no named tensors. Save the model's weights by {SAVE_LINE}.")
    if len(tensors) > settings().model_tensors or size > settings().model_bytes:
        raise ModelError(
            f"The file holds {len(tensors):,} tensors of {size:,} bytes; at most {settings().model_tensors:,} tensors "
            f"and {settings().model_bytes:,} bytes are loaded."
        )


def free(path: str, tensors: Tensors, beside: Tensors, ordered: bool, notes: tuple[str, ...]) -> Weights:
    """Take away what wrappers put into names, and put tensors together that training keeps in parts."""
    told = [*notes, *([f"The weights were taken from the checkpoint's entry '{printable(path)}'."] if path else [])]
    tensors = {INFIXES.sub("", name): tensor for name, tensor in tensors.items()}
    while prefix := next((prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        told.append(f"The names in the file were prefixed by '{prefix}', which was taken away.")
    joined, count = join_parts(tensors)
    if count:
        told.append(f"{count} tensors were put together from the parts that pruning or normalising keeps.")
    return Weights(joined, ordered, tuple(told), beside)


def join_parts(tensors: Tensors) -> tuple[Tensors, int]:
    """Put pruned, weight-normalised and spectrally normalised tensors together; returns how many there were."""
    joined: Tensors = {}
    used: set[str] = set()
    count = 0
    for name, tensor in tensors.items():
        for pattern, others, join in PARTS:
            match = re.fullmatch(pattern, name)
            names = [match.expand(other) for other in others] if match else []
            if match and all(other in tensors for other in names):
                whole = join(*(tensors[one].float() for one in (name, *names)))
                joined["".join(match.groups())] = whole
                used |= {name, *names}
                count += 1
                break
        else:
            joined[name] = tensor
    return {name: tensor for name, tensor in joined.items() if name not in used}, count


def mask(whole: Tensor, kept: Tensor) -> Tensor:
    """A pruned tensor (torch.nn.utils.prune)."""
    return whole * kept


def scale(lengths: Tensor, direction: Tensor) -> Tensor:
    """A weight-normalised tensor (Salimans and Kingma 2016, arXiv:1602.07868), its norm taken over all other axes."""
    axes = [axis for axis in range(direction.dim()) if lengths.dim() == 0 or lengths.shape[axis] == 1]
    length: Tensor = torch.linalg.vector_norm(direction, dim=axes, keepdim=True)
    return direction * (lengths / length)


def divide(whole: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """A spectrally normalised tensor (Miyato et al. 2018, arXiv:1802.05957), by the singular vectors in the file.

    Its rows are the axis as long as the left vector, which is the second for transposed convolutions.
    """
    rows = 0 if whole.shape[0] == left.numel() and whole[0].numel() == right.numel() else 1
    return whole / (left @ whole.movedim(rows, 0).flatten(1) @ right)


#: By which names torch keeps tensors in parts, and how these are joined.
PARTS: tuple[tuple[str, tuple[str, ...], Callable[..., Tensor]], ...] = (
    (r"(.*?)(\w+)_orig", (r"\1\2_mask",), mask),
    (r"(.*?)(\w+)_orig", (r"\1\2_u", r"\1\2_v"), divide),
    (r"(.*?)(\w+)_g", (r"\1\2_v",), scale),
    (r"(.*?)parametrizations\.(\w+)\.original0", (r"\1parametrizations.\2.original1",), scale),
    (
        r"(.*?)parametrizations\.(\w+)\.original",
        (r"\1parametrizations.\2.0._u", r"\1parametrizations.\2.0._v"),
        divide,
    ),
)
