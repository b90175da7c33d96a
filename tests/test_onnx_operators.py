"""Each ONNX operator alone: a file of one node, imported and run, against onnxruntime, over its attributes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from explainers.graph.onnx.file import parse
from explainers.graph.onnx.importer import import_graph
from explainers.graph.onnx.registry import OPERATORS

RANDOM = np.random.default_rng(0)


def numbers(*shape: int, low: float = -2.0, high: float = 2.0) -> np.ndarray:
    return RANDOM.uniform(low, high, shape).astype(np.float32)


def integers(*values: Any) -> np.ndarray:
    return np.array(values, np.int64)


#: The input of every file, unless the case asks for another.
IMAGES = numbers(2, 4, 6, 6)
Case = tuple[str, list[Any], dict[str, Any], int]


def case(kind: str, *inputs: Any, opset: int = 17, **attributes: Any) -> Case:
    """A node whose first input is the image unless an "x" says otherwise; other inputs are constants, or None."""
    return kind, list(inputs) if "x" in [i for i in inputs if isinstance(i, str)] else ["x", *inputs], attributes, opset


def write(nodes: list[onnx.NodeProto], constants: dict[str, Any], opset: int) -> bytes:
    """Write a file of these nodes, from "x" to "y0", between two that keep them from being the first and the last."""
    cast = helper.make_node("Cast", ["y0"], ["floats"], to=TensorProto.FLOAT)
    ends = helper.make_node("Neg", ["images"], ["x"]), helper.make_node("Neg", ["floats"], ["scores"])
    graph = helper.make_graph(
        [ends[0], *nodes, cast, ends[1]],
        "one",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", *IMAGES.shape[1:]])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8 if opset < 19 else 11
    return model.SerializeToString()


def write_case(case: Case, outputs: tuple[str, ...] = ("y0",)) -> bytes:
    """Write the file of one node."""
    kind, inputs, attributes, opset = case
    names = [item if isinstance(item, str) else "" if item is None else f"c{i}" for i, item in enumerate(inputs)]
    constants = {name: item for name, item in zip(names, inputs, strict=True) if name not in ("x", "")}
    return write([helper.make_node(kind, names, outputs, name="tested", **attributes)], constants, opset)


def run_onnxruntime(data: bytes, images: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    return onnxruntime.InferenceSession(data, options).run(None, {"images": images})[0]


def run_imported(data: bytes, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return import_graph(parse(data)).graph(torch.from_numpy(images)).numpy()


def check(data: bytes) -> None:
    """Compare the import with onnxruntime, for two images and for one."""
    for images in (IMAGES, IMAGES[:1]):
        expected, found = run_onnxruntime(data, images), run_imported(data, images)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


W = numbers(8, 4, 3, 3)
POSITIVE = np.abs(numbers(4)) + 0.1

UNARY = [
    "Abs",
    "Ceil",
    "Cos",
    "Erf",
    "Exp",
    "Floor",
    "HardSwish",
    "Identity",
    "Neg",
    "Reciprocal",
    "Relu",
    "Round",
    "Sigmoid",
    "Sign",
    "Sin",
    "Softplus",
    "Softsign",
    "Tanh",
    "Elu",
    "Celu",
    "Selu",
    "LeakyRelu",
    "HardSigmoid",
    "ThresholdedRelu",
    "Mish",
    "Flatten",
    "Dropout",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "LpNormalization",
    "Softmax",
    "LogSoftmax",
]

CASES: list[Case] = [
    *(case(kind, opset=18) for kind in UNARY),
    *(case(kind, "x", numbers(4, 1, 1)) for kind in ("Add", "Sub", "Mul", "Div", "Min", "Max", "Sum", "Mean")),
    *(case(kind, numbers(4, 1, 1), "x") for kind in ("Add", "Sub", "Mul", "Div", "Min", "Max")),
    *(case(kind, numbers(1)) for kind in ("Add", "Sub", "Mul", "Div", "Min", "Max")),
    *(case(kind, np.float32(0.5)) for kind in ("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal")),
    case("Mod", numbers(4, 1, 1), fmod=1),
    case("Min", numbers(4, 1, 1), numbers(1)),
    case("Pow", np.float32(2)),
    case("Pow", np.abs(numbers(4, 1, 1)), "x"),
    case("Elu", alpha=0.5),
    case("Celu", alpha=2.0),
    case("Selu", alpha=1.5, gamma=1.1),
    case("LeakyRelu", alpha=0.2),
    case("HardSigmoid", alpha=1 / 6, beta=0.5),
    case("ThresholdedRelu", alpha=0.3),
    case("PRelu", numbers(4, 1, 1)),
    case("PRelu", numbers(1)),
    case("Gelu", opset=20),
    case("Gelu", opset=20, approximate="tanh"),
    case("Clip", np.float32(-1), np.float32(0.5)),
    case("Clip", None, np.float32(0.5)),
    case("Clip", np.float32(0)),
    case("Clip", opset=9, min=-0.5, max=1.0),
    case("Where", np.eye(6, dtype=bool), "x", np.float32(3)),
    case("Cast", to=TensorProto.INT64),
    case("Cast", to=TensorProto.DOUBLE),
    case("Cast", to=TensorProto.BOOL),
    case("CastLike", integers(1), opset=18),
    # Shapes
    case("Reshape", integers(0, -1)),
    case("Reshape", integers(-1, 36)),
    case("Reshape", integers(0, 2, 2, 36)),
    case("Reshape", integers(-1, 4, 36), opset=17, allowzero=1),
    case("Flatten", axis=2),
    case("Flatten", axis=-1),
    case("Unsqueeze", opset=9, axes=[1, -1]),
    case("Unsqueeze", integers(0, 3)),
    case("Expand", integers(3, 1, 1, 1, 6)),
    case("Tile", integers(1, 2, 1, 3)),
    case("Transpose", perm=[0, 2, 3, 1]),
    case("Transpose"),
    case("Concat", "x", "x", axis=1),
    case("Concat", "x", "x", "x", axis=-1),
    case("Slice", integers(1), integers(5), integers(2)),
    case("Slice", integers(-3, 0), integers(2**31, -1), integers(3, 1)),
    case("Slice", integers(0), integers(6), integers(-1), integers(2)),
    case("Slice", integers(-1), integers(-(2**31)), integers(3), integers(-1)),
    case("Slice", integers(4), integers(0), integers(3), integers(-2)),
    case("Slice", opset=9, starts=[1], ends=[3], axes=[1]),
    case("Slice", opset=9, starts=[0, 1], ends=[2**31, 3]),
    case("Gather", integers(0, 2, -1), axis=1),
    case("Gather", np.array(1, np.int64), axis=2),
    case("Gather", integers([0, 1], [2, 3]), axis=1),
    case("DepthToSpace", blocksize=2),
    case("DepthToSpace", blocksize=2, mode="CRD"),
    case("SpaceToDepth", blocksize=3),
    case("Pad", integers(0, 0, 1, 2, 0, 0, 3, 0)),
    case("Pad", integers(0, 1, 0, 2, 0, 0, 0, 0), np.float32(1.5)),
    case("Pad", integers(0, 0, 1, 2, 0, 0, 3, 1), mode="reflect"),
    case("Pad", integers(0, 0, 1, 2, 0, 0, 3, 1), mode="edge"),
    case("Pad", integers(0, 0, -1, 0, 0, 0, 0, -2)),
    case("Pad", integers(1, 2), None, integers(3), opset=18),
    case("Pad", opset=9, pads=[0, 0, 1, 1, 0, 0, 1, 1], value=2.0),
    case("Trilu"),
    case("Trilu", np.array(1, np.int64), upper=0),
    case("CumSum", np.array(2, np.int64)),
    case("ArgMax", axis=1),
    case("ArgMin", axis=-1, keepdims=0),
    # Layers
    case("Conv", W),
    case("Conv", W, numbers(8), strides=[2, 1], pads=[1, 0, 1, 0], dilations=[1, 2]),
    case("Conv", numbers(8, 1, 3, 3), group=4, pads=[1, 2, 0, 1]),
    case("Conv", W, auto_pad="SAME_UPPER", strides=[2, 2]),
    case("Conv", numbers(8, 4, 2, 2), auto_pad="SAME_LOWER"),
    case("Conv", W, auto_pad="VALID"),
    case("ConvTranspose", numbers(4, 5, 3, 3)),
    case(
        "ConvTranspose",
        numbers(4, 2, 3, 3),
        numbers(4),
        group=2,
        strides=[2, 2],
        output_padding=[1, 1],
        pads=[1, 1, 1, 1],
    ),
    case("ConvTranspose", numbers(4, 5, 3, 3), strides=[2, 2], pads=[0, 1, 1, 2]),
    case("ConvTranspose", numbers(4, 5, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER"),
    case("ConvTranspose", numbers(4, 5, 4, 3), strides=[3, 2], output_shape=[16, 12]),
    case("ConvTranspose", numbers(4, 5, 3, 3), dilations=[2, 2]),
    case("MatMul", numbers(6, 3)),
    case("MatMul", numbers(4, 6, 3)),
    case("MatMul", numbers(3, 6), "x"),
    case("MatMul", "x", "x"),
    case("Einsum", "x", "x", equation="bchw,bcvw->bchv"),
    case("BatchNormalization", numbers(4), numbers(4), numbers(4), POSITIVE, epsilon=1e-3),
    case("InstanceNormalization", numbers(4), numbers(4), epsilon=1e-3),
    case("LayerNormalization", numbers(6), numbers(6)),
    case("LayerNormalization", numbers(6, 6), axis=2, epsilon=1e-3),
    case("LayerNormalization", numbers(1), numbers(6, 6), axis=-2),
    case("GroupNormalization", numbers(2), numbers(2), opset=18, num_groups=2),
    case("GroupNormalization", numbers(4), numbers(4), opset=21, num_groups=2, epsilon=1e-3),
    case("LpNormalization", axis=1, p=1),
    case("LRN", size=3, alpha=0.1, beta=0.5, bias=2.0),
    case("LRN", size=5),
    case("Softmax", axis=1),
    case("Softmax", opset=9),
    case("Softmax", opset=11, axis=3),
    case("LogSoftmax", opset=11, axis=2),
    *(case(kind, kernel_shape=[2, 2]) for kind in ("MaxPool", "AveragePool")),
    *(case(kind, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 0]) for kind in ("MaxPool", "AveragePool")),
    *(case(kind, kernel_shape=[3, 3], strides=[2, 2], pads=[0, 1, 2, 1]) for kind in ("MaxPool", "AveragePool")),
    *(case(kind, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER") for kind in ("MaxPool", "AveragePool")),
    *(case(kind, kernel_shape=[2, 3], auto_pad="SAME_LOWER") for kind in ("MaxPool", "AveragePool")),
    *(case(kind, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1) for kind in ("MaxPool", "AveragePool")),
    case("MaxPool", kernel_shape=[2, 2], dilations=[2, 1]),
    case("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    case("AveragePool", kernel_shape=[3, 3], pads=[0, 1, 1, 2], count_include_pad=1),
    case("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1, count_include_pad=1),
    case("RMSNormalization", numbers(6), opset=23, epsilon=1e-3),
    case("Attention", "x", "x", "x", opset=23),
    case("Attention", "x", "x", "x", numbers(6, 6), opset=23, scale=0.3),
    case("Attention", "x", "x", "x", opset=23, is_causal=1),
    case("Swish", opset=24),
    case("Swish", opset=24, alpha=1.5),
    # Reductions
    *(
        case(f"Reduce{kind}", axes=[2, -1])
        for kind in ("Mean", "Max", "Min", "L1", "L2", "LogSumExp", "SumSquare", "Prod")
    ),
    case("ReduceMean", integers(1), opset=18, keepdims=0),
    case("ReduceSum", integers(2, 3)),
    case("ReduceSum", noop_with_empty_axes=1),
    case("ReduceMax", integers(-1), opset=18),
    case("ReduceL2", integers(3), opset=18, keepdims=0),
    # Resizing
    *(
        case("Resize", None, scales, mode=mode, coordinate_transformation_mode=coordinates)
        for mode in ("nearest", "linear", "cubic")
        for coordinates in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
        for scales in (np.array([1, 1, 2, 3], np.float32), np.array([1, 1, 0.5, 1.5], np.float32))
    ),
    *(
        case("Resize", None, np.array([1, 1, 1.7, 1.3], np.float32), nearest_mode=rounding)
        for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    ),
    case("Resize", None, np.array([1, 1, 1.3, 1.3], np.float32), mode="linear"),
    case("Resize", None, None, np.array([7, 9], np.int64), opset=18, axes=[2, 3], mode="linear"),
    case("Resize", np.array([1, 1, 2, 2], np.float32), opset=10),
    case("Resize", np.array([1, 1, 2, 2], np.float32), opset=10, mode="linear"),
    case("Upsample", np.array([1, 1, 2, 2], np.float32), opset=9),
    case("Upsample", np.array([1, 1, 3, 2], np.float32), opset=9, mode="linear"),
]


def describe(case: Case) -> str:
    kind, inputs, attributes, opset = case
    shapes = ["x".join(map(str, np.shape(item))) if isinstance(item, np.ndarray) else str(item) for item in inputs]
    options = [f"{name}={value}" for name, value in attributes.items()]
    return f"{kind}-{opset}({', '.join(shapes + options)})"


#: Operators with several outputs, with the number of them.
SEVERAL: list[tuple[Case, int]] = [
    (case("Split", axis=1), 2),
    (case("Split", integers(1, 3), axis=1), 2),
    (case("Split", opset=9, axis=-1, split=[1, 2, 3]), 3),
    (case("Split", opset=18, axis=2, num_outputs=3), 3),
    (case("TopK", integers(2)), 2),
    (case("TopK", integers(3), axis=1, largest=0), 2),
]


node = helper.make_node

#: Operators that need others around them, as nodes and constants.
GROUPS: dict[str, tuple[list[onnx.NodeProto], dict[str, Any]]] = {
    **{
        kind: (
            [node("Greater", ["x", "zero"], ["flags"]), node(kind, ["flags", "mask"], ["y0"])],
            {"zero": np.float32(0), "mask": np.eye(6, dtype=bool)},
        )
        for kind in ("And", "Or", "Xor")
    },
    "Not": ([node("Cast", ["x"], ["flags"], to=TensorProto.BOOL), node("Not", ["flags"], ["y0"])], {}),
    "Sqrt": ([node("Abs", ["x"], ["a"]), node("Sqrt", ["a"], ["y0"])], {}),
    "Log": ([node("Abs", ["x"], ["a"]), node("Log", ["a"], ["y0"])], {}),
    "Squeeze": (
        [node("ReduceMean", ["x"], ["m"], axes=[2, 3]), node("Squeeze", ["m", "axes"], ["y0"])],
        {"axes": integers(-1)},
    ),
    "Shape": (
        [
            node("Shape", ["x"], ["sizes"], start=1, end=3),
            node("Cast", ["sizes"], ["floats2"], to=TensorProto.FLOAT),
            node("ReduceSum", ["floats2"], ["sum"]),
            node("Mul", ["x", "sum"], ["y0"]),
        ],
        {},
    ),
    "Size": (
        [
            node("Size", ["c"], ["size"]),
            node("Cast", ["size"], ["floats2"], to=TensorProto.FLOAT),
            node("Div", ["x", "floats2"], ["y0"]),
        ],
        {"c": numbers(3, 5)},
    ),
    "Constant": (
        [
            node("Constant", [], ["one"], value_float=1.5),
            node("Constant", [], ["several"], value_floats=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
            node("Mul", ["x", "one"], ["scaled"]),
            node("Add", ["scaled", "several"], ["y0"]),
        ],
        {},
    ),
    "ConstantOfShape": (
        [
            node(
                "ConstantOfShape", ["sizes"], ["filled"], value=helper.make_tensor("v", TensorProto.FLOAT, [1], [2.5])
            ),
            node("ConstantOfShape", ["sizes"], ["zeros"]),
            node("Concat", ["filled", "zeros"], ["joined"], axis=0),
            node("Mul", ["x", "joined"], ["y0"]),
        ],
        {"sizes": integers(2, 6, 1)},
    ),
    "Range": (
        [node("Range", ["start", "limit", "step"], ["steps"]), node("Mul", ["x", "steps"], ["y0"])],
        {"start": np.float32(0), "limit": np.float32(3), "step": np.float32(0.5)},
    ),
    "NonZero": (
        [
            node("NonZero", ["c"], ["found"]),
            node("Reshape", ["found", "flat"], ["indices"]),
            node("Gather", ["x", "indices"], ["y0"], axis=3),
        ],
        {"c": np.array([0, 1, 0, 2, 3, 0], np.float32), "flat": integers(-1)},
    ),
    "GatherElements": (
        [node("GatherElements", ["c", "indices"], ["picked"], axis=1), node("Add", ["x", "picked"], ["y0"])],
        {"c": numbers(6, 8), "indices": RANDOM.integers(-8, 8, (6, 6))},
    ),
    "GatherND": (
        [node("GatherND", ["c", "indices"], ["picked"]), node("Add", ["x", "picked"], ["y0"])],
        {"c": numbers(5, 4, 6), "indices": RANDOM.integers(0, 4, (6, 2))},
    ),
    "ScatterND": (
        [node("ScatterND", ["c", "indices", "updates"], ["changed"]), node("Add", ["x", "changed"], ["y0"])],
        {"c": numbers(6, 6), "indices": integers([1, 2], [3, 4], [0, 0]), "updates": numbers(3)},
    ),
    "QuantizeLinear": (
        [
            node("QuantizeLinear", ["c", "scale", "zero"], ["q"], axis=0),
            node("DequantizeLinear", ["q", "scale", "zero"], ["w"], axis=0),
            node("Conv", ["x", "w"], ["y0"]),
        ],
        {"c": numbers(3, 4, 2, 2), "scale": POSITIVE[:3] / 50, "zero": np.array([3, 0, -9], np.int8)},
    ),
    "BatchNormalization": (
        [
            node("BatchNormalization", ["c", "s", "b", "m", "v"], ["w", "m2", "v2"], training_mode=1),
            node("Conv", ["x", "w"], ["y0"]),
        ],
        {"c": numbers(3, 4, 2, 2)} | dict.fromkeys("sbmv", POSITIVE),
    ),
    "DequantizeLinear": (
        [node("DequantizeLinear", ["q", "scale"], ["w"]), node("Conv", ["x", "w"], ["y0"])],
        {"q": RANDOM.integers(0, 255, (3, 4, 2, 2), np.uint8), "scale": np.float32(0.02)},
    ),
    **{
        f"Gemm {name}": ([node("Flatten", ["x"], ["f"]), node("Gemm", ["f", "w", *bias], ["y0"], **options)], constants)
        for name, bias, options, constants in (
            ("plain", [], {}, {"w": numbers(144, 3)}),
            ("transposed", ["b"], {"transB": 1}, {"w": numbers(3, 144), "b": numbers(3)}),
            ("scaled", ["b"], {"alpha": 0.5, "beta": 2.0}, {"w": numbers(144, 3), "b": numbers(1, 3)}),
            ("with a number", ["b"], {}, {"w": numbers(144, 3), "b": np.float32(2)}),
        )
    },
}


@pytest.mark.parametrize("case", CASES, ids=describe)
def test_an_operator_computes_what_onnxruntime_does(case: Case) -> None:
    check(write_case(case))


@pytest.mark.parametrize("name", GROUPS)
def test_an_operator_among_others_computes_what_onnxruntime_does(name: str) -> None:
    check(write(*GROUPS[name], opset=17))


@pytest.mark.parametrize(("case", "count"), SEVERAL)
def test_each_of_several_outputs_is_what_onnxruntime_computes(case: Case, count: int) -> None:
    for place in range(count):
        names = tuple("y0" if other == place else f"other{other}" for other in range(count))
        check(write_case(case, names))


def test_every_operator_is_tested() -> None:
    tested = {case[0] for case in CASES} | {case[0] for case, _ in SEVERAL} | {name.split()[0] for name in GROUPS}
    assert set(OPERATORS) == tested
