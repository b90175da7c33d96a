"""The cases that ONNX publishes for its operators, each made the file of a one-image network."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from itertools import groupby
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from explainers.errors import ModelError
from explainers.graph.onnx.file import FLOATS, OPSETS
from tests.onnx_files import rebuilt

node = helper.make_node

#: Cases in which Lightbox means to differ: activations are not rounded, equal numbers are in no order, and where ONNX's
#: numbers are not onnxruntime's, the latter count.
MEANT = (
    "quantizelinear",
    "qlinear",
    "top_k_same_values",
    "resize_downsample_scales_linear_align_corners",
    "resize_downsample_scales_cubic_align_corners",
)

#: How many of the published cases are imported at least, with an input as the image, and with all as constants.
IMPORTED = {"image": 750, "constants": 1210}


@cache
def cases() -> list[Any]:
    """All cases of opsets that are read, with tensors of numbers as results."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numbers that overflow on purpose
        from onnx.backend.test.case.node import collect_testcases

        found = [case for case in collect_testcases(None) if case.model is not None]
    return [case for case in found if is_read(case.model) and not any(name in case.name for name in MEANT)]


def is_read(model: onnx.ModelProto) -> bool:
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    return (
        bool(versions) and versions[0] in OPSETS and {entry.domain for entry in model.opset_import} <= {"", "ai.onnx"}
    )


def is_number(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic) and np.asarray(value).dtype.kind not in "OUS"


def write(case: Any, places: list[int], result: int) -> tuple[bytes, np.ndarray]:
    """Write a case as a file in which these inputs come from the image, and the others are constants."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    graph, parts, first = model.graph, [], [node("Neg", ["images"], ["all"])]
    values = case.data_sets[0][0]
    for place, (entry, value) in enumerate(zip(graph.input, values, strict=True)):
        if place in places:
            first += cut(graph, entry, value, sum(part.shape[1] for part in parts))
            parts.append(np.asarray(value, np.float32).reshape(len(value), -1))
        else:
            first += hold(graph, entry, value)
    images = np.concatenate(parts, 1)[:, None, None] if parts else np.zeros((1, 1, 1, 1), np.float32)
    last = [node("Cast", [graph.output[result].name], ["floats"], to=TensorProto.FLOAT)]
    if not parts:
        add(graph, row=np.array([1, -1]), column=np.array([-1, 1]))
        last += [node("Reshape", ["floats", "row"], ["flat"]), node("Reshape", ["all", "column"], ["nothing"])]
        last += [node("Add", ["flat", "nothing"], ["floats2"])]
    last.append(node("Neg", [last[-1].output[0]], ["scores"]))
    inner = list(graph.node)
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend([*first, *inner, *last])
    graph.input.append(helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", *images.shape[1:]]))
    graph.output.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, None))
    return model.SerializeToString(), -images


def add(graph: onnx.GraphProto, **constants: Any) -> None:
    graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items())


def cut(graph: onnx.GraphProto, entry: onnx.ValueInfoProto, value: np.ndarray, start: int) -> list[onnx.NodeProto]:
    """Cut an input out of the image, whose numbers lie along its last axis."""
    name, shape = entry.name, np.array([-1, *value.shape[1:]])
    end = start + int(np.prod(value.shape[1:]))
    add(graph, **{f"{name}_from": [start], f"{name}_to": [end], f"{name}_axis": [3], f"{name}_shape": shape})
    return [
        node("Slice", ["all", f"{name}_from", f"{name}_to", f"{name}_axis"], [f"{name}_flat"]),
        node("Reshape", [f"{name}_flat", f"{name}_shape"], [f"{name}_whole"]),
        node("Cast", [f"{name}_whole"], [name], to=entry.type.tensor_type.elem_type),
    ]


def hold(graph: onnx.GraphProto, entry: onnx.ValueInfoProto, value: Any) -> list[onnx.NodeProto]:
    """Make an input a constant; a sequence is made of its tensors."""
    if isinstance(value, list):
        names = [f"{entry.name}_{place}" for place in range(len(value))]
        add(graph, **dict(zip(names, value, strict=True)))
        return [node("SequenceConstruct", names, [entry.name])]
    if value is None:
        return [node("Optional", [], [entry.name])]
    add(graph, **{entry.name: value})
    return []


def choices(case: Any) -> Iterator[list[int]]:
    """Which inputs may be the image: the first of floating-point numbers, and all that are of as many images."""
    values = case.data_sets[0][0]
    floats = [
        place
        for place, (entry, value) in enumerate(zip(case.model.graph.input, values, strict=True))
        if is_number(value) and value.ndim and value.size and entry.type.tensor_type.elem_type in FLOATS
    ]
    if floats:
        yield floats[:1]
        if len(same := [place for place in floats if len(values[place]) == len(values[floats[0]])]) > 1:
            yield same


def compare(case: Any, places: list[int], result: int) -> bool:
    """Compare an import with the published result; returns whether it could be imported for any number of images."""
    data, images = write(case, places, result)
    expected = np.asarray(case.data_sets[0][1][result])
    try:
        graph = rebuilt(data)
    except ModelError:
        return False
    try:
        found = -graph(torch.from_numpy(images)).detach().numpy()
    except RuntimeError:
        return False  # its constants are written out for so many images, which is then told when the file is loaded
    rough = expected.dtype != np.float32 or any(
        entry.type.tensor_type.elem_type not in (TensorProto.FLOAT, 0) for entry in case.model.graph.input
    )
    found = found if places else found.reshape(expected.shape)
    assert found.shape == expected.shape, case.name
    tolerance = 0.02 if rough else 1e-3
    exact = {"rtol": tolerance, "atol": max(tolerance / 10, 1e-5), "equal_nan": True}
    assert np.allclose(found, expected.astype(np.float32), **exact), case.name
    return True


def check(case: Any, kind: str) -> bool:
    """Compare all results of a case; returns whether it could be imported."""
    values, results = case.data_sets[0]
    wanted = [place for place, value in enumerate(results) if is_number(value) and np.asarray(value).size]
    texts = any(is_number(value) is False and isinstance(value, np.ndarray) for value in values)
    if not wanted or texts:
        return False
    ways = list(choices(case)) if kind == "image" else [[]]
    return bool(ways) and all(any(compare(case, way, place) for way in ways) for place in wanted)


@pytest.mark.parametrize("kind", IMPORTED)
def test_a_published_case_of_each_operator_is_refused_or_right(kind: str) -> None:
    def operator(case: Any) -> str:
        return str(case.model.graph.node[0].op_type)

    ordered = sorted(cases(), key=operator)
    assert sum(check(next(group), kind) for _, group in groupby(ordered, operator)) > IMPORTED[kind] / 12


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", IMPORTED)
def test_every_published_case_is_refused_or_right(kind: str) -> None:
    imported = sum(check(case, kind) for case in cases())
    assert imported >= IMPORTED[kind], imported
