"""Programs exported in half or double precision, made to compute in single."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as trees


def compute_in_single(program: ExportedProgram) -> tuple[str, ...]:
    """Turn all that a program computes in its input's precision into float32, in place; tells so in a note.

    What it computes in another precision than its input's on purpose stays as it is.
    """
    inputs = program.graph_signature.user_inputs
    kinds = {node.meta["val"].dtype for node in program.graph.nodes if node.name in inputs}
    (kind,) = kinds if len(kinds) == 1 else (torch.float32,)
    if kind not in (torch.float16, torch.bfloat16, torch.float64):
        return ()

    def single(item: Any) -> Any:
        if isinstance(item, Tensor) and item.dtype == kind:
            whole = item.detach().float()
            return nn.Parameter(whole, item.requires_grad) if isinstance(item, nn.Parameter) else whole
        return torch.float32 if item is kind else item

    for held in (program.state_dict, program.constants):
        held.update({name: single(item) for name, item in held.items()})
    for node in program.graph.nodes:
        node.args, node.kwargs = trees.tree_map(single, (node.args, node.kwargs))
        node.meta["val"] = trees.tree_map(single, node.meta.get("val"))
    return (f"The program was exported in {str(kind).removeprefix('torch.')}; it is computed in float32.",)
