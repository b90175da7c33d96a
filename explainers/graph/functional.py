"""From a traced graph that changes values in place to one of functions: the same numbers, and no value ever changes."""

from __future__ import annotations

import operator
from functools import reduce
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram

from explainers.errors import ModelError
from explainers.graph.calls import functional

aten = torch.ops.aten

#: Operators that do nothing at inference.
IDENTITIES = frozenset(
    {
        aten.dropout.default,
        aten.dropout_.default,
        aten.feature_dropout.default,
        aten.feature_dropout_.default,
        aten.alpha_dropout.default,
        aten.detach.default,
        aten.alias.default,
        aten.lift_fresh_copy.default,
    }
)

#: Operators that share memory with their input for some layouts of it, though their schemas do not say so.
SOMETIMES_VIEWS = frozenset(
    {
        aten.reshape.default,
        aten.flatten.using_ints,
        aten.contiguous.default,
        aten.to.dtype,
        aten.expand_as.default,
        operator.getitem,
    }
)

#: The same function under another name. A view that torch saw need not be one in the memory layout of another run.
SYNONYMS = {
    aten.view.default: aten.reshape.default,
    aten._unsafe_view.default: aten.reshape.default,
    aten.view_copy.default: aten.reshape.default,
    aten.empty_like.default: aten.zeros_like.default,
    aten.new_empty.default: aten.new_zeros.default,
}

#: What stops a run where something is not as it was when the program was made, and gives nothing.
ASSERTIONS = frozenset(
    {
        aten._assert_tensor_metadata.default,
        aten._assert_async.msg,
        aten._assert_scalar.default,
        aten.sym_constrain_range.default,
        aten.sym_constrain_range_for_size.default,
    }
)

#: What gives a value of the first argument's shape that has nothing to do with its numbers.
FILLING = {aten.zero.default: aten.zeros_like.default, aten.fill.Scalar: aten.full_like.default}


def without_shared_changes(program: ExportedProgram) -> ExportedProgram:
    """Trace a program again by torch's functionalisation if it changes memory that several of its values share.

    Such are assignments to a slice, whose whole is read afterwards. Other changes in place need no new trace.
    """
    if not changes_shared_memory(program.graph):
        return program
    for node in program.graph.nodes:
        if node.target in IDENTITIES and len(node.args) > 2:
            node.update_arg(2, False)  # a program may have been exported in training mode
        elif node.target == aten.batch_norm.default and node.args[3] is not None:
            node.update_arg(5, False)
    traced: ExportedProgram = program.run_decompositions({})
    return traced


def changes_shared_memory(graph: fx.Graph) -> bool:
    """Whether a value is changed in place and another one with the same memory is read afterwards."""
    place = {node: number for number, node in enumerate(graph.nodes)}
    memory: dict[fx.Node, Any] = {}
    value: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        memory[node], value[node] = (node.target if node.op == "get_attr" else node), node
        if node.op == "call_function" and node.args and isinstance(node.args[0], fx.Node) and shares(node):
            memory[node] = memory[node.args[0]]
            value[node] = value[node.args[0]] if changes(node) else node
    groups: dict[Any, list[fx.Node]] = {}
    for node, shared in memory.items():
        groups.setdefault(shared, []).append(node)
    for node in filter(changes, graph.nodes):
        for other in groups[memory[node]] if node in memory else ():
            made_before = place[other] < place[node] and value[other] is not value[node]
            if made_before and any(place[user] > place[node] for user in other.users):
                return True
    return False


def changes(node: fx.Node) -> bool:
    """Whether a node changes its first argument in place."""
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def shares(node: fx.Node) -> bool:
    """Whether a node's value may have its memory in common with that of its first argument."""
    results = node.target._schema.returns if isinstance(node.target, torch._ops.OpOverload) else ()
    return node.target in SOMETIMES_VIEWS or any(result.alias_info for result in results)


def inline_wrapped(graph: fx.GraphModule) -> None:
    """Put the parts that a wrapper calls (no_grad, autocast, a checkpoint) in its place; all runs in one precision."""
    while wrappers := [node for node in graph.graph.nodes if isinstance(node.target, torch._ops.HigherOrderOperator)]:
        for node in wrappers:
            inline(graph, node)
    graph.graph.eliminate_dead_code()


def inline(graph: fx.GraphModule, node: fx.Node) -> None:
    """Put the part that one wrapper calls in its place; raises ModelError if it calls none, or more than one."""
    parts = [arg for arg in node.args if isinstance(arg, fx.Node) and isinstance(read(graph, arg), fx.GraphModule)]
    if len(parts) != 1:
        raise ModelError(
            f"The model's graph has the control flow {node.target}, of which Lightbox cannot say what it will do. "
            "Export the model without it."
        )
    body = read(graph, parts[0])
    given = node.args[node.args.index(parts[0]) + 1 :]
    values: dict[fx.Node, Any] = dict(zip(body.graph.find_nodes(op="placeholder"), given, strict=True))
    with graph.graph.inserting_before(node):
        for part in body.graph.nodes:
            if part.op == "get_attr":
                name = f"{parts[0].target}_{part.target}"
                setattr(graph, name, read(body, part))
                values[part] = graph.graph.get_attr(name)
            elif part.op == "call_function":
                values[part] = graph.graph.node_copy(part, values.__getitem__)
    results: Any = fx.node.map_arg(body.graph.output_node().args[0], values.__getitem__)
    for user in list(node.users):
        user.replace_all_uses_with(results[user.args[1]])
        graph.graph.erase_node(user)
    graph.graph.erase_node(node)


def read(module: fx.GraphModule, node: fx.Node) -> Any:
    """What a ``get_attr`` node reads, None for another node."""
    return reduce(getattr, str(node.target).split("."), module) if node.op == "get_attr" else None


def make_functional(graph: fx.GraphModule) -> None:
    """Replace in-place operators by functional ones and leave out what does nothing at inference.

    After an in-place call its input has the new value too, so later readers of the input read the result instead.
    Parts put into a whole become a concatenation, and values that overwrite others take their place.
    """
    position = {node: place for place, node in enumerate(graph.graph.nodes)}
    for node in list(graph.graph.nodes):
        if (node.op == "call_module" and node.target == "_guards_fn") or node.target in ASSERTIONS:
            graph.graph.erase_node(node)
            continue
        if node.op != "call_function":
            continue
        node.target = SYNONYMS.get(node.target, node.target)
        if node.target in IDENTITIES:
            replace(graph, node, node.args[0])
        elif node.target == aten.batch_norm.default and node.args[3] is not None:
            node.update_arg(5, False)  # a program may have been exported in training mode
        elif isinstance(node.target, torch._ops.OpOverload):
            read_result(node, position)
            rewrite(graph, node)


def read_result(node: fx.Node, position: dict[fx.Node, int]) -> None:
    """Make an in-place operator functional: whoever reads what it changed, later than that, reads its result."""
    target: Any = node.target
    if node.args and (twin := functional(target)):
        changed: Any = node.args[0]
        node.target = twin
        changed.replace_all_uses_with(node, lambda user: position.get(user, -1) > position[node])


def rewrite(graph: fx.GraphModule, node: fx.Node) -> None:
    """Write one call as what explanations have rules for."""
    with graph.graph.inserting_before(node):
        if node.target in (aten.copy.default, aten.fill.Tensor):
            replace(graph, node, overwrite(node))
        elif node.target in FILLING:
            node.target = FILLING[node.target]
        elif node.target in (aten.slice_scatter.default, aten.select_scatter.default):
            replace(graph, node, put_together(node))
        elif node.target == aten.index_put.default:
            replace(graph, node, overwrite_by_mask(node))
        elif node.target == aten._to_copy.default and {*node.kwargs} == {"dtype"}:
            node.target, node.args, node.kwargs = aten.to.dtype, (node.args[0], node.kwargs["dtype"]), {}
        elif node.target == aten._native_batch_norm_legit_no_training.default:
            (first,) = node.users
            arguments = (*node.args[:5], False, *node.args[5:], False)
            replace(graph, first, call(node, aten.batch_norm.default, arguments, first.meta["val"]))


def call(node: fx.Node, target: Any, arguments: tuple[Any, ...], value: Any) -> fx.Node:
    """Add a call to the graph of a node, in the same layers, with the value that it will have."""
    made = node.graph.call_function(target, arguments)
    made.meta = {"val": value, "layers": [], "nn_module_stack": node.meta.get("nn_module_stack")}
    return made


def overwrite(node: fx.Node) -> fx.Node:
    """Give the value that overwrites another one the shape and type of that."""
    old: fx.Node
    new: fx.Node
    arguments: Any = node.args
    old, new = arguments[:2]
    given, like = new.meta["val"], node.meta["val"]
    if given.dtype != like.dtype:
        new = call(node, aten.to.dtype, (new, like.dtype), given.to(like.dtype))
    if str(given.shape) == str(like.shape):
        return new
    sizes = [
        size if isinstance(size, int) else call(node, aten.sym_size.int, (old, dim), size)
        for dim, size in enumerate(like.shape)
    ]
    return call(node, aten.expand.default, (new, sizes), like)


def put_together(node: fx.Node) -> fx.Node:
    """Write a whole with one part replaced as the pieces before, the part and the pieces behind, one after another.

    The node itself where the part is every second place of the whole, or so.
    """
    whole: fx.Node
    part: fx.Node
    arguments: Any = node.args
    whole, part, *rest = arguments
    like = whole.meta["val"]
    dim = rest[0] % like.dim() if rest else 0
    if str(part.meta["val"].shape) == str(like.shape):
        return part
    size = like.shape[dim]
    if not all(isinstance(number, int | None) for number in (size, *rest)):
        return node
    if node.target == aten.select_scatter.default:
        first = rest[1] % size
        last, step = first + 1, 1
        part = call(node, aten.unsqueeze.default, (part, dim), part.meta["val"].unsqueeze(dim))
    else:
        first, last, step = slice(*(*rest[1:], None, None, None)[:3]).indices(size)
    if step != 1:
        return node
    around = [(start, end) for start, end in ((0, first), (last, size)) if start < end]
    pieces = [
        call(node, aten.slice.Tensor, (whole, dim, start, end), like.narrow(dim, start, end - start))
        for start, end in around
    ]
    pieces.insert(1 if first else 0, part)
    return call(node, aten.cat.default, (pieces, dim), like)


def overwrite_by_mask(node: fx.Node) -> fx.Node:
    """Write one value put where a mask is set as a choice between the two; the node itself for other assignments."""
    arguments: Any = node.args
    whole, indices, new, *accumulate = arguments
    *before, mask = indices
    value, like = mask.meta["val"], whole.meta["val"]
    if any(before) or any(accumulate) or value.dtype != torch.bool or new.meta["val"].numel() != 1:
        return node
    for _ in range(like.dim() - value.dim() - len(before)):
        value = value.unsqueeze(-1)
        mask = call(node, aten.unsqueeze.default, (mask, -1), value)
    return call(node, aten.where.self, (mask, new, whole), like)


def replace(graph: fx.GraphModule, old: fx.Node, new: fx.Node) -> None:
    """Put one node in another's place, layer names included, and erase the old one; nothing if they are the same."""
    if new is old:
        return
    new.meta["layers"] = [*new.meta.get("layers", []), *old.meta["layers"]]
    old.replace_all_uses_with(new)
    graph.graph.erase_node(old)
