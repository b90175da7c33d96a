"""Layer names: which layers an ONNX node is in, from what the exporters write."""

from __future__ import annotations

import ast

from onnx import NodeProto

from explainers.graph.onnx.file import label

#: Layers by path, each with its path and kind, as torch's exporter notes them in ``nn_module_stack``.
Scope = dict[str, tuple[str, str]]

NAMES, KINDS = "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy"


def find_scope(node: NodeProto) -> Scope:
    """Find the layers that a node is in, the outermost first."""
    notes = {entry.key: entry.value for entry in node.metadata_props}
    return read_notes(notes[NAMES], notes.get(KINDS, "[]")) if NAMES in notes else read_name(node)


def nest(outer: Scope, node: NodeProto) -> Scope:
    """Find the layers of a node in a function: those of the function's call, and in its last those that it names."""
    inner = find_scope(node)
    if any(entry.key == NAMES for entry in node.metadata_props):
        return inner
    folder = next(reversed(outer), "")
    if not folder or not node.name:
        return outer or inner
    return outer | {f"{folder}.{path}": (f"{folder}.{path}", kind) for path, (_, kind) in inner.items()}


def read_notes(names: str, kinds: str) -> Scope:
    """Read the lists that torch's newer exporter notes at every node; the last entry is the operator itself."""
    try:
        paths, classes = ast.literal_eval(names), ast.literal_eval(kinds)
        return {path: (path, kind) for path, kind in zip(paths[:-1], classes, strict=False) if path}
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return {}


def read_name(node: NodeProto) -> Scope:
    """Read the layers out of a node's name, such as "/layer4/layer4.1/conv1/Conv" or "model/block/Conv2D".

    torch's older exporter begins with a slash, and repeats the name of a list in its items ("layer4.1").
    """
    *parts, last = label(node).split("/")
    paths: list[str] = []
    for part in filter(None, parts or [last]):
        folder, _, inside = part.rpartition(".")
        parent = paths[-1] if paths else ""
        if folder and (parent == folder or parent.endswith(f".{folder}")):
            part = inside
        paths.append(f"{parent}.{part}" if parent else part)
    return {path: (path, node.op_type) for path in paths}
