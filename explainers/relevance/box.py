"""Between which values the input of a network's first layer lies, whatever comes before that layer."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx

from explainers.graph.model import Model

#: How many images the bounds are tried on, half of them of lowest and highest values alone.
TRIALS = 8


def find_bounds(
    model: Model, layer: fx.Node, low: tuple[float, ...], high: tuple[float, ...]
) -> tuple[Float[Tensor, "1 *shape"], Float[Tensor, "1 *shape"]] | None:
    """Find the least and the greatest value of every input of a layer, for images between ``low`` and ``high``.

    They are what the lowest and the highest image become: right where values only move (cuts, pixels put into
    channels, padding) or grow or fall alone (a normalisation, a pooling). None where that does not hold for random
    images, as behind a mixture of channels.
    """
    size = model.info.preprocessing.size
    ends = torch.tensor([low, high])[:, :, None, None].expand(-1, -1, *size)
    generator = torch.Generator().manual_seed(0)
    share = torch.rand(TRIALS, len(low), *size, generator=generator)
    share[TRIALS // 2 :] = share[TRIALS // 2 :].round()
    made = evaluate(model, layer.args[0], torch.cat([ends, ends[:1] + share * (ends[1:] - ends[:1])]))
    least, greatest = made[:2].amin(0, keepdim=True), made[:2].amax(0, keepdim=True)
    slack = 1e-5 * float(made.abs().max())
    holds = bool(((made >= least - slack) & (made <= greatest + slack)).all())
    return (least, greatest) if holds and len(made) == TRIALS + 2 else None


def evaluate(model: Model, wanted: Any, images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "..."]:
    """Run the program as far as one node."""
    needed, stack = {wanted}, [wanted]
    while stack:
        new = set(stack.pop().all_input_nodes) - needed
        needed |= new
        stack += new
    values: dict[fx.Node, Any] = {model.input_node: images}
    with torch.no_grad():
        for node in model.program.graph.nodes:
            if node in needed and node not in values:
                values[node] = model.compute(node, values)
    found: Tensor = values[wanted]
    return found
