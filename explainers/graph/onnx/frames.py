"""The nodes of a file, of its functions and of the branches in them, imported one by one."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto, TypeProto
from torch import Tensor, fx

from explainers.errors import ModelError, UnsupportedOperatorError
from explainers.graph.checkpoint import first_line, printable
from explainers.graph.onnx.builder import Builder, dtype_of, is_batch, shape_of
from explainers.graph.onnx.file import (
    TYPE_OF,
    Functions,
    function_key,
    label,
    names_read,
    read_attributes,
    read_opsets,
    read_tensor,
)
from explainers.graph.onnx.registry import MOVES, READS_QUANTISED, Call, domain_of, find
from explainers.graph.onnx.scopes import Scope, find_scope, nest

#: How many nodes are imported of one file, its functions and loops written out, and how deep they may lie in each
#: other: functions that call others twice grow without bounds in a tiny file.
MAX_NODES = 50_000
MAX_DEPTH = 24


@dataclass(frozen=True, eq=False)
class Frame:
    """What the nodes of a graph, a function or a branch see of what was computed before.

    ``opsets`` are those of the domains, ``attributes`` those that the caller of a function gave, ``scope`` are the
    layers that its call is in.
    """

    builder: Builder
    opsets: Mapping[str, int]
    functions: Functions
    values: ChainMap[str, Any]
    attributes: Mapping[str, AttributeProto] = field(default_factory=dict)
    scope: Scope = field(default_factory=dict)
    depth: int = 0

    def add(self, nodes: Sequence[NodeProto], results: Iterable[str]) -> None:
        """Import nodes, which are in the order of computation; ``results`` are read after them.

        Raises ModelError that names the node that cannot be imported.
        """
        used = {*results, *names_read(nodes)}
        for node in nodes:
            self.builder.count_node(MAX_NODES)
            try:
                made = self.make(node, used)
            except ModelError as error:
                if str(error).startswith("The ONNX "):
                    raise
                raise type(error)(
                    f"The ONNX node '{label(node)}' ({printable(str(node.op_type))}) {str(error).rstrip('.')}."
                ) from error
            except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
                raise ModelError(
                    f"The ONNX node '{label(node)}' is no valid {printable(str(node.op_type))} of opset "
                    f"{self.opsets.get(domain_of(node), 0)} ({first_line(error)}). "
                    "The file is damaged, or was written by a faulty exporter; export it again."
                ) from error
            values = made if isinstance(made, tuple) else (made,)
            self.values.update((name, value) for name, value in zip(node.output, values, strict=False) if name)

    def make(self, node: NodeProto, used: Collection[str]) -> Any:
        """Make the outputs of one node."""
        node = resolve(node, self.attributes)
        inputs = tuple(self.values[name] if name else None for name in node.input)
        domain, outputs = domain_of(node), [name for name in node.output if name]
        self.builder.scope = scope = self.find_scope(node)
        self.builder.kinds.add(node.op_type)
        if (local := self.functions.get(function_key(node))) is not None:
            return self.call(local, node, inputs, scope)
        opset = self.opsets.get(domain, 1 if domain else 0)
        function = find(str(node.op_type), opset, domain)
        if function is None:
            return self.call(defined_by_onnx(node, opset, inputs), node, inputs, scope)
        used_outputs = max((place for place, name in enumerate(node.output, 1) if name in used), default=0)
        attributes = read_attributes(node)
        run = replace(self, scope=scope).run
        call = Call(self.builder, node.op_type, opset, attributes, inputs, len(outputs), used_outputs, run)
        made = function(call, *inputs)
        if made is NotImplemented:
            return self.call(defined_by_onnx(node, opset, inputs), node, inputs, scope)
        return self.keep_steps(node, function, inputs, made)

    def find_scope(self, node: NodeProto) -> Scope:
        """Find the layers that a node is in: those of a function's caller, and in them its own if it is named."""
        return find_scope(node) if not self.depth else nest(self.scope, node)

    def call(self, function: FunctionProto, node: NodeProto, inputs: Sequence[Any], scope: Scope) -> tuple[Any, ...]:
        """Import the nodes of a function in the place of its call."""
        given = {proto.name: proto for proto in (*function.attribute_proto, *node.attribute)}
        values = dict.fromkeys(function.input) | dict(zip(function.input, inputs, strict=False))
        opsets = read_opsets(function.opset_import)
        frame = Frame(self.builder, opsets, self.functions, ChainMap(values), given, scope, self.deeper())
        frame.add(function.node, function.output)
        return tuple(frame.values.get(name) for name in function.output)

    def run(self, graph: GraphProto, inputs: Sequence[Any]) -> list[Any]:
        """Import a branch, or the body of a loop once; returns its outputs."""
        self.builder.count_node(MAX_NODES)
        values: dict[str, Any] = {proto.name: read_tensor(proto) for proto in graph.initializer}
        values |= {entry.name: value for entry, value in zip(graph.input, inputs, strict=True)}
        frame = replace(self, values=self.values.new_child(values), depth=self.deeper())
        results = [entry.name for entry in graph.output]
        frame.add(graph.node, results)
        return [frame.values[name] for name in results]

    def deeper(self) -> int:
        """The depth of what is in this; raises ModelError where functions call themselves, or go too deep."""
        if self.depth == MAX_DEPTH:
            raise ModelError(
                f"The ONNX file's functions or branches lie over {MAX_DEPTH} deep in each other, or call themselves. "
                "Export the network without them."
            )
        return self.depth + 1

    def keep_steps(self, node: NodeProto, function: Callable[..., Any], inputs: Sequence[Any], made: Any) -> Any:
        """Note that numbers which are moved stay quantised; raises UnsupportedOperatorError for any other use."""
        steps = self.builder.steps
        nodes = [item for item in inputs if isinstance(item, fx.Node)]
        found = {steps[item] for item in nodes if item in steps}
        if not found or function in READS_QUANTISED:
            return made
        if function not in MOVES or len(found) > 1 or not all(item in steps for item in nodes):
            raise UnsupportedOperatorError("computes with quantised numbers themselves, which is not supported")
        self.builder.mark(made, found.pop())
        return made


def resolve(node: NodeProto, given: Mapping[str, AttributeProto]) -> NodeProto:
    """Put the attributes that a function's caller gave in the place of the references to them."""
    if not any(proto.ref_attr_name for proto in node.attribute):
        return node
    found = NodeProto()
    found.CopyFrom(node)
    del found.attribute[:]
    for proto in node.attribute:
        if not proto.ref_attr_name:
            found.attribute.append(proto)
        elif proto.ref_attr_name in given:
            found.attribute.add().CopyFrom(given[proto.ref_attr_name])
            found.attribute[-1].name = proto.name
    return found


def defined_by_onnx(node: NodeProto, opset: int, inputs: Sequence[Any]) -> FunctionProto:
    """Find the function as which ONNX itself defines an operator; raises UnsupportedOperatorError if it has none."""
    schema = find_schema(str(node.op_type), opset, domain_of(node))
    if schema is None or not (schema.has_function or schema.has_context_dependent_function):
        raise UnsupportedOperatorError(f"is an operator that Lightbox does not know, of opset {opset}")
    if schema.has_function:
        versions = schema.function_opset_versions
        body = schema.get_function_with_opset_version(nearest(versions, opset))
    else:
        types = [type_of(item).SerializeToString() for item in inputs]
        version = nearest(schema.context_dependent_function_opset_versions, opset)
        body = schema.get_context_dependent_function_with_opset_version(version, node.SerializeToString(), types)
    function: FunctionProto = FunctionProto.FromString(body)
    if not function.node:
        raise UnsupportedOperatorError(f"is used in a way that Lightbox does not know, of opset {opset}")
    defaults = [item.default_value for item in schema.attributes.values() if item.default_value.name]
    function.attribute_proto.extend(defaults)
    return function


def nearest(versions: Sequence[int], opset: int) -> int:
    """The newest version up to an opset, the oldest if all are newer."""
    return max((version for version in versions if version <= opset), default=min(versions))


@cache
def find_schema(kind: str, opset: int, domain: str) -> Any:
    """Find what ONNX says of an operator, None if it has no such."""
    try:
        return onnx.defs.get_schema(kind, opset, domain)
    except onnx.defs.SchemaError:
        return None


def type_of(value: Any) -> TypeProto:
    """Write the type of a value as ONNX does; that of an input that is left out is empty."""
    if isinstance(value, Tensor | fx.Node):
        sizes = [None if is_batch(size) else size for size in shape_of(value)]
        return onnx.helper.make_tensor_type_proto(TYPE_OF[dtype_of(value)], sizes)
    return TypeProto()


def is_known(node: NodeProto, opsets: Mapping[str, int], functions: Functions) -> bool:
    """Whether an operator is one of the file's functions, can be imported, or is defined by ONNX as a function."""
    domain = domain_of(node)
    opset = opsets.get(domain, 1 if domain else 0)
    if function_key(node) in functions or find(str(node.op_type), opset, domain):
        return True
    schema = find_schema(str(node.op_type), opset, domain)
    return schema is not None and bool(schema.has_function or schema.has_context_dependent_function)
