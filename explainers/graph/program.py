"""A serialised program of ``torch.export``, as plain data: brought into one form, and every text in it checked.

What wraps a part of it (no_grad, autocast, checkpoints) is taken away, one output is kept with what it needs, training
is switched off, and half precision becomes single. Then nothing stays in it but listed calls, names and sizes.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch._export.serde.schema import Layout, ScalarType

from explainers.errors import ModelError, UnsafeFileError
from explainers.graph import calls
from explainers.graph.checkpoint import SAVE_LINE, printable
from explainers.proposal import Output

#: Calls that run a part of a program under some setting, which changes nothing here.
WRAPPERS = frozenset(
    f"torch.ops.higher_order.{name}"
    for name in (
        "wrap_with_set_grad_enabled",
        "wrap_with_autocast",
        "tag_activation_checkpoint",
        "wrap_activation_checkpoint",
        "invoke_subgraph",
        "wrap",
    )
)

#: Where a graph describes its values by name.
VALUES = ("tensor_values", "sym_int_values", "sym_bool_values", "sym_float_values")


#: Arguments by which a call would behave as in training.
INFERENCE: dict[str, Any] = {
    "train": {"as_bool": False},
    "training": {"as_bool": False},
    "use_input_stats": {"as_bool": False},
    "dropout_p": {"as_float": 0.0},
}

#: Types that are computed in single precision instead, and those that are so where the images are of double precision.
HALVES: dict[int, int] = {
    ScalarType.HALF: ScalarType.FLOAT,
    ScalarType.BFLOAT16: ScalarType.FLOAT,
    ScalarType.COMPLEXHALF: ScalarType.COMPLEXFLOAT,
}
DOUBLES: dict[int, int] = {ScalarType.DOUBLE: ScalarType.FLOAT, ScalarType.COMPLEXDOUBLE: ScalarType.COMPLEXFLOAT}
FLOATING = frozenset({ScalarType.FLOAT, ScalarType.DOUBLE, ScalarType.HALF, ScalarType.BFLOAT16})

#: Functions in symbolic sizes (sympy's srepr), which torch evaluates as Python.
SIZE_FUNCTIONS = (
    "Add Mul Integer Rational Max Min FloorDiv CleanDiv CeilDiv Mod PythonMod IntTrueDiv ToFloat FloorToInt CeilToInt "
    "TruncToInt Equality Unequality StrictGreaterThan StrictLessThan GreaterThan LessThan"
)
SYMBOL = re.compile(r"Symbol\('[suz]\d{1,6}'(, (positive|nonnegative|integer)=(True|False))*\)")

#: What a text in a program may be, by the field that it stands in; names, for any other field.
NAME = re.compile(r"((?!__)\w+(\.(?!__)\w+)*)?", re.ASCII)
NUMBER = re.compile(r"-?Infinity|NaN")
TEXTS = {
    "nn_module_stack": re.compile(r"[\w.,;@()\[\]<>' -]*"),
    "as_string": re.compile(r"[\w ,.>-]{0,100}", re.ASCII),
    "torch_version": re.compile(r"[\w.+-]{0,50}", re.ASCII),
    "as_float": NUMBER,
    "as_floats": NUMBER,
}

#: How every program is called: with one positional argument, giving one tensor.
LEAF: dict[str, Any] = {"type": None, "context": None, "children_spec": []}
ARGUMENTS: dict[str, Any] = {"type": "builtins.tuple", "context": "null", "children_spec": [LEAF]}
KEYWORDS: dict[str, Any] = {"type": "builtins.dict", "context": "[]", "children_spec": []}
CALL: dict[str, Any] = {
    "inputs": [],
    "outputs": [],
    "in_spec": json.dumps([1, {"type": "builtins.tuple", "context": "null", "children_spec": [ARGUMENTS, KEYWORDS]}]),
    "out_spec": json.dumps([1, LEAF]),
    "forward_arg_names": None,
}

EXPORT_AGAIN = (
    "Write it by `torch.export.save(torch.export.export(model.eval(), (images,), "
    'dynamic_shapes=({0: torch.export.Dim("batch")},)), "model.pt2")`, where images is a batch of two.'
)

SINGLE = "The program computes in half or double precision; here it is computed in single precision (float32)."


@dataclass(frozen=True)
class CleanProgram:
    """A program that is safe to open, as plain data.

    ``outputs`` are those that can be explained, the kept one first, where the file gives several. ``precision`` says
    which types of the program became which, and ``notes`` what of all this people should know.
    """

    content: dict[str, Any]
    outputs: tuple[Output, ...]
    precision: Mapping[int, int]
    notes: tuple[str, ...]


def clean_program(program: dict[str, Any], output: str | None = None) -> CleanProgram:
    """Keep of a serialised program what is needed for one output, by its name or the first that looks like scores.

    Raises UnsafeFileError for anything that is not listed here, ModelError unless there is one input of images and an
    output of that name.
    """
    module = program["graph_module"]
    graph = inline(module["graph"])
    inputs, specs = keep_images(graph["inputs"], module["signature"]["input_specs"])
    chosen, outputs = choose_output(graph, module["module_call_graph"], output)
    graph = prune({**graph, "inputs": inputs, "outputs": [chosen]})
    (image,) = (name for spec in specs for name in names(spec.get("user_input", {})))
    wide = graph["tensor_values"][image]["dtype"] in DOUBLES
    precision = HALVES | DOUBLES if wide else HALVES
    cleaned = clean(graph)
    converted = convert(cleaned, precision)
    kept = ("opset_version", "range_constraints", "schema_version", "verifiers", "torch_version")
    content = {
        **clean({key: program[key] for key in kept}),
        "guards_code": [],
        "graph_module": {
            "graph": converted,
            "signature": {"input_specs": clean(specs), "output_specs": [{"user_output": {"arg": clean(chosen)}}]},
            "module_call_graph": [{"fqn": "", "signature": CALL}],
            "metadata": {},
            "treespec_namedtuple_fields": {},
        },
    }
    others = ", ".join(f"'{one.name}'" for one in outputs[1:])
    notes = [f"Of the program's outputs, '{outputs[0].name}' is explained, not {others}."] if outputs else []
    notes += [] if converted == cleaned else [SINGLE]
    return CleanProgram(content, outputs, precision, tuple(notes))


# One graph without wrappers


#: The fields of a serialised program in which names of values stand.
NAME_FIELDS = ("name", "as_name")


def names(item: Any) -> Iterator[str]:
    """The names of values in a part of a graph, in order."""
    if isinstance(item, list):
        for one in item:
            yield from names(one)
    elif isinstance(item, dict):
        for key, one in item.items():
            if key in NAME_FIELDS and isinstance(one, str):
                yield one
            else:
                yield from names(one)


def substitute(item: Any, fields: Sequence[str], table: Mapping[Any, Any]) -> Any:
    """Copy plain data with what stands in some fields as a table has it."""
    if isinstance(item, list):
        return [substitute(one, fields, table) for one in item]
    if not isinstance(item, dict):
        return item
    return {
        key: table.get(one, one) if key in fields and isinstance(one, str | int) else substitute(one, fields, table)
        for key, one in item.items()
    }


def rename(item: Any, renamed: Mapping[str, str]) -> Any:
    """Copy a part of a graph with values under other names."""
    return substitute(item, NAME_FIELDS, renamed)


def rename_node(node: dict[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    """Copy a call with values under other names; arguments keep theirs."""
    inputs = [{**one, "arg": rename(one["arg"], renamed)} for one in node["inputs"]]
    outputs = rename(node["outputs"], renamed)
    return {**node, "inputs": inputs, "outputs": outputs, "name": renamed.get(str(node["name"]), node["name"])}


def inline(graph: dict[str, Any]) -> dict[str, Any]:
    """Copy a graph with the calls that are inside of wrappers in the place of these."""
    nodes: list[dict[str, Any]] = []
    values = {kind: dict(graph[kind]) for kind in VALUES}
    kept = [node for node in graph["nodes"] if node["target"] not in WRAPPERS]
    taken = {*names(graph["inputs"]), *(name for node in kept for name in names(node["outputs"]))}
    renamed: dict[str, str] = {}
    for original in graph["nodes"]:
        node = rename_node(original, renamed)
        if node["target"] not in WRAPPERS:
            nodes.append(node)
            continue
        inner, inside = open_wrapper(node)
        made = [name for one in inner["nodes"] for name in names(one["outputs"])]
        inside |= {name: free_name(name, taken) for name in made}
        nodes += [rename_node(one, inside) for one in inner["nodes"]]
        renamed |= zip(names(original["outputs"]), names(rename(inner["outputs"], inside)), strict=True)
        for kind in VALUES:
            values[kind] |= {inside[name]: inner[kind][name] for name in made if name in inner[kind]}
    return {**graph, "nodes": nodes, "outputs": rename(graph["outputs"], renamed), **values}


def open_wrapper(node: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The graph inside of a wrapper, and which value each of its inputs is."""
    arguments = [one["arg"] for one in node["inputs"]]
    (inner,) = (inline(one["as_graph"]["graph"]) for one in arguments if "as_graph" in one)
    inside = list(names(inner["inputs"]))
    outside = list(names(arguments[len(arguments) - len(inner["inputs"]) :]))
    return inner, dict(zip(inside, outside, strict=True))


def free_name(name: str, taken: set[str]) -> str:
    """A name that is not taken yet, which it then is."""
    found = next(
        one for one in itertools.chain([name], (f"{name}_{count}" for count in itertools.count(1))) if one not in taken
    )
    taken.add(found)
    return found


# One image in, one tensor out


def keep_images(
    inputs: Sequence[dict[str, Any]], specs: Sequence[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Leave out inputs that are constants; raises ModelError unless one is left besides weights."""
    kept = [(given, spec) for given, spec in zip(inputs, specs, strict=True) if "constant_input" not in spec]
    count = sum("user_input" in spec for _, spec in kept)
    if count != 1:
        raise ModelError(f"The program takes {count} inputs; Lightbox explains models of one image. {EXPORT_AGAIN}")
    return [given for given, _ in kept], [spec for _, spec in kept]


def choose_output(
    graph: dict[str, Any], signatures: Sequence[dict[str, Any]], wanted: str | None
) -> tuple[dict[str, Any], tuple[Output, ...]]:
    """Pick an output by its name, or scores (batch, classes), or the first; returns it, and all if there are several.

    Raises ModelError if there is no tensor of numbers, or none of that name.
    """
    (spec,) = (one["signature"]["out_spec"] for one in signatures if not one["fqn"])
    labels = name_leaves(json.loads(spec)[1])
    given = graph["outputs"][len(graph["outputs"]) - len(labels) :]  # updates of the program's own state come first
    values = {
        label: (one, graph["tensor_values"][one["as_tensor"]["name"]])
        for label, one in zip(labels, given, strict=True)
        if "as_tensor" in one
    }
    numbers = {label: found for label, found in values.items() if found[1]["dtype"] in FLOATING and found[1]["sizes"]}
    each = {label: found for label, found in numbers.items() if "as_expr" in found[1]["sizes"][0]}
    found = {label: (one, describe(label, value)) for label, (one, value) in (each or numbers).items()}
    if not found:
        raise ModelError(f"The program gives no tensor of floating-point scores for each image. {EXPORT_AGAIN}")
    if wanted is not None and wanted not in found:
        raise ModelError(f"The program has no output '{printable(wanted)}'. Choose one of {', '.join(found)}.")
    scores = [label for label, (_, described) in found.items() if len(described.shape) == 1]
    chosen = wanted or (scores or list(found))[0]
    outputs = [described for label, (_, described) in found.items() if label != chosen]
    return found[chosen][0], (found[chosen][1], *outputs) if outputs else ()


def name_leaves(spec: dict[str, Any], path: str = "") -> list[str]:
    """The names of a program's outputs, in order: keys and fields, or numbers from one."""
    children = spec["children_spec"]
    if spec["type"] is None:
        return [path or "output"]
    context: Any = json.loads(spec["context"]) if spec["type"] != "collections.namedtuple" else None
    if isinstance(context, list) and context and isinstance(context[0], list):
        context = context[0]  # a dataclass tells the fields that are set, and those that are none
    keyed = isinstance(context, list) and len(context) == len(children)
    keys = [printable(str(key)) for key in (context if keyed else range(1, len(children) + 1))]
    start = f"{path}." if path else "" if keyed else "output "
    return [leaf for key, child in zip(keys, children, strict=True) for leaf in name_leaves(child, f"{start}{key}")]


def describe(label: str, value: dict[str, Any]) -> Output:
    """An output and its shape for one image; sizes that are not known are 0."""
    return Output(label, tuple(int(size.get("as_int", 0)) for size in value["sizes"][1:]))


def prune(graph: dict[str, Any]) -> dict[str, Any]:
    """Leave out the calls that the output does not need; those that write over a value stay."""
    needed, nodes, tensors = set(names(graph["outputs"])), list[dict[str, Any]](), dict(graph["tensor_values"])
    for node in reversed(graph["nodes"]):
        if needed.intersection(names(node["outputs"])) or re.search(r"_\.\w+$", str(node["target"])):
            write_out = WRITTEN_OUT.get(node["target"])
            nodes += write_out(node, tensors)[::-1] if write_out else [infer(node)]
            needed |= {name for one in node["inputs"] for name in names(one["arg"])}
    made = {name for node in nodes for name in names(node["outputs"])} | set(names(graph["inputs"]))
    described = {**graph, "tensor_values": tensors}
    values = {kind: {name: one for name, one in described[kind].items() if name in made} for kind in VALUES}
    return {**graph, "nodes": nodes[::-1], **values}


def write_weight_norm(node: dict[str, Any], values: dict[str, Any]) -> list[dict[str, Any]]:
    """Write a weight norm as the operators that it is made of, which check the sizes of what they take as it does not.

    The sizes of their values are added to ``values``, by name.
    """
    given = {one["name"]: one for one in node["inputs"]}
    (made,) = names(node["outputs"])
    (magnitude,) = names(given["g"]["arg"])
    parts = {kind: {"as_tensor": {"name": f"{made}_{kind}"}} for kind in ("length", "scale")}
    values |= {f"{made}_{kind}": values[magnitude] for kind in parts}

    def call(name: str, output: dict[str, Any], **arguments: dict[str, Any]) -> dict[str, Any]:
        inputs = [{"name": key, "arg": argument, "kind": 1} for key, argument in arguments.items()]
        outputs = {"outputs": [output], "name": next(names(output))}
        return {**node, "target": f"torch.ops.aten.{name}", "inputs": inputs, **outputs}

    direction, dim = given["v"]["arg"], given.get("dim", {"arg": {"as_int": 0}})["arg"]
    return [
        call("norm_except_dim.default", parts["length"], v=direction, pow={"as_int": 2}, dim=dim),
        call("div.Tensor", parts["scale"], self=given["g"]["arg"], other=parts["length"]),
        call("mul.Tensor", node["outputs"][0], self=direction, other=parts["scale"]),
    ]


def write_batch_norm(node: dict[str, Any], values: dict[str, Any]) -> list[dict[str, Any]]:
    """Write the batch norm of programs in core operators as the one that checks the sizes of its statistics."""
    settings = {"training": {"as_bool": False}, "cudnn_enabled": {"as_bool": False}}
    inputs = [*node["inputs"], *({"name": name, "arg": argument, "kind": 1} for name, argument in settings.items())]
    first = node["outputs"][0]
    made = {"outputs": [first], "name": next(names(first))}
    return [{**node, "target": "torch.ops.aten.batch_norm.default", "inputs": inputs, **made}]


def write_zeros(node: dict[str, Any], values: dict[str, Any]) -> list[dict[str, Any]]:
    """Write memory that nobody has written to as zeros: a sound program writes to it before it reads."""
    return [{**node, "target": node["target"].replace("empty", "zeros")}]


#: Operators that trust the sizes of what they take, or show old memory, and how each is written as others that do not.
WRITTEN_OUT = {
    "torch.ops.aten.empty_like.default": write_zeros,
    "torch.ops.aten.new_empty.default": write_zeros,
    "torch.ops.aten._weight_norm.default": write_weight_norm,
    "torch.ops.aten._native_batch_norm_legit_no_training.default": write_batch_norm,
}


def infer(node: dict[str, Any]) -> dict[str, Any]:
    """Copy a call so that it does what it does in inference; a norm without running statistics always takes its own."""
    given = {one["name"]: one["arg"] for one in node["inputs"]}
    if "as_none" in given.get("running_mean", {}):
        return node
    inputs = [{**one, "arg": INFERENCE.get(one["name"], one["arg"])} for one in node["inputs"]]
    return {**node, "inputs": inputs}


def convert(item: Any, precision: Mapping[int, int]) -> Any:
    """Copy plain data with types of numbers as another precision has them."""
    return substitute(item, ("dtype", "as_scalar_type"), precision)


# Every text checked


def clean(item: Any, field: str = "") -> Any:
    """Copy plain data with every text checked by the field that it stands in; devices become the CPU."""
    if isinstance(item, str):
        return check_text(item, field)
    if isinstance(item, list):
        return [clean(one, field) for one in item]
    if not isinstance(item, dict):
        return Layout.Strided if field in ("layout", "as_layout") else item
    if field == "as_graph":
        raise UnsafeFileError(
            "The program has a graph as an argument, which is none of the operators, names and sizes that are "
            f"accepted from an archive. {EXPORT_AGAIN}"
        )
    if field in ("device", "as_device"):
        return {"type": "cpu", "index": None}
    if field == "metadata":
        item = {"nn_module_stack": item.get("nn_module_stack", "")}
    return {check_text(key, "name"): clean(one, key) for key, one in item.items()}


def check_text(text: str, field: str) -> str:
    """Give a text back if it is harmless in its field; raises UnsafeFileError."""
    special = {"target": is_operator, "as_operator": is_operator, "expr_str": is_size}
    if special.get(field, TEXTS.get(field, NAME).fullmatch)(text):
        return text
    if field == "target" and calls.is_random(call_name(text)):
        raise ModelError(
            f"The program draws random numbers (by {printable(text)}), as a network does in training only. "
            f"{EXPORT_AGAIN}"
        )
    raise UnsafeFileError(
        f"The program has '{printable(text)}' as {field}, which is none of the operators, names and sizes that are "
        f"accepted from an archive, so it was not opened. Upload the weights alone, by {SAVE_LINE}, if you can."
    )


def call_name(target: str) -> str:
    """What a serialised program calls, as graphs name it."""
    return target.removeprefix("torch.ops.") if target.startswith("torch.ops.") else target.removeprefix("_")


def is_operator(target: str) -> bool:
    """Whether a call goes to a listed operator."""
    return target.startswith(("torch.ops.", "_operator.")) and calls.find(call_name(target)) is not None


def is_size(expression: str) -> bool:
    """Whether a symbolic size is nothing but sums, products and the like of symbols and whole numbers."""
    rest = SYMBOL.sub("", expression)
    words = re.findall(r"[A-Za-z_]\w*", rest)
    return (
        len(expression) <= 1000
        and bool(re.fullmatch(r"[\w(), -]*", rest, re.ASCII))
        and set(words) <= set(SIZE_FUNCTIONS.split())
    )
