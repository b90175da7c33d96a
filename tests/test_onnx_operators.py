"""Each ONNX operator alone: a file of one node, imported and run, against onnxruntime, over its attributes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from explainers.graph.onnx.registry import MICROSOFT, OPERATORS
from tests.onnx_files import rebuilt

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
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(graph, opset_imports=opsets)
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
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    return onnxruntime.InferenceSession(data, options).run(None, {"images": images})[0]


def run_imported(data: bytes, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return rebuilt(data)(torch.from_numpy(images)).numpy()


def check(data: bytes, tolerance: float = 1e-5) -> None:
    """Compare the import with onnxruntime, for two images and for one."""
    for images in (IMAGES, IMAGES[:1]):
        expected, found = run_onnxruntime(data, images), run_imported(data, images)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=tolerance)


W = numbers(8, 4, 3, 3)
POSITIVE = np.abs(numbers(4)) + 0.1

UNARY = [
    "Abs",
    "Asinh",
    "Atan",
    "Ceil",
    "Cos",
    "Cosh",
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
    "Sinh",
    "Softplus",
    "Softsign",
    "Tan",
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
    "GlobalLpPool",
    "Hardmax",
    "IsInf",
    "IsNaN",
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
    case("PRelu", numbers(6)),
    case("Shrink", bias=0.1, lambd=0.4),
    case("MeanVarianceNormalization", axes=[1, 2, 3]),
    case("IsInf", detect_negative=0),
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
    case("CumSum", np.array(-1, np.int64), exclusive=1, reverse=1),
    case("Compress", np.array([1, 0, 1, 1], bool), axis=1),
    case("Det"),
    case("Hardmax", axis=1),
    case("ArgMax", axis=1, select_last_index=1),
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
    case("LpPool", kernel_shape=[2, 3], strides=[2, 1], pads=[1, 0, 0, 1]),
    case("LpPool", kernel_shape=[2, 2], p=3),
    case("AveragePool", kernel_shape=[2, 2], dilations=[2, 1], pads=[1, 0, 0, 1], opset=19),
    case("AveragePool", kernel_shape=[2, 2], dilations=[2, 1], pads=[1, 0, 0, 1], count_include_pad=1, opset=19),
    case("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    case("AveragePool", kernel_shape=[3, 3], pads=[0, 1, 1, 2], count_include_pad=1),
    case("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1, count_include_pad=1),
    case("RMSNormalization", numbers(6), opset=23, epsilon=1e-3),
    case("Attention", "x", "x", "x", opset=23),
    case("Attention", "x", "x", "x", numbers(6, 6), opset=23, scale=0.3),
    case("Attention", "x", "x", "x", opset=23, is_causal=1),
    case("Attention", "x", "x", "x", numbers(6, 6), opset=23, is_causal=1, softcap=0.7),
    case("SimplifiedLayerNormalization", numbers(6)),
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
    *(
        case("Resize", None, np.array([1, 1, 0.6, 1.7], np.float32), mode=mode, opset=18, **{option: 1})
        for mode in ("linear", "cubic")
        for option in ("antialias", "exclude_outside")
        if (mode, option) != ("linear", "exclude_outside")
    ),
    case("Resize", None, None, integers(9, 4), opset=18, axes=[2, 3], keep_aspect_ratio_policy="not_larger"),
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
#: The opset of groups, where it is not 17.
OPSETS = {"BitwiseAnd": 18, "BitwiseOr": 18, "BitwiseXor": 18, "BitwiseNot": 18, "Scatter": 10}
BITS = {"a": np.array([3, 5, 6, 9, 12, 7], np.int32), "b": np.array([1, 2, 3, 4, 5, 6], np.int32)}

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
    "ReduceLogSum": ([node("Abs", ["x"], ["a"]), node("ReduceLogSum", ["a"], ["y0"], axes=[1])], {}),
    **{kind: ([node("Tanh", ["x"], ["t"]), node(kind, ["t"], ["y0"])], {}) for kind in ("Acos", "Asin", "Atanh")},
    "Acosh": (
        [node("Exp", ["x"], ["e"]), node("Add", ["e", "one"], ["p"]), node("Acosh", ["p"], ["y0"])],
        {"one": np.float32(1)},
    ),
    **{
        kind: (
            [
                node(kind, ["a", "b"], ["c"], **options),
                node("Cast", ["c"], ["f"], to=1),
                node("Mul", ["x", "f"], ["y0"]),
            ],
            BITS,
        )
        for kind, options in (("BitwiseAnd", {}), ("BitwiseOr", {}), ("BitwiseXor", {}))
    },
    "BitShift": (
        [
            node("BitShift", ["a", "b"], ["c"], direction="RIGHT"),
            node("Cast", ["c"], ["f"], to=1),
            node("Mul", ["x", "f"], ["y0"]),
        ],
        {name: value.astype(np.uint8) for name, value in BITS.items()},
    ),
    "BitwiseNot": (
        [node("BitwiseNot", ["a"], ["c"]), node("Cast", ["c"], ["f"], to=1), node("Mul", ["x", "f"], ["y0"])],
        BITS,
    ),
    "EyeLike": (
        [node("EyeLike", ["c"], ["i"], k=1, dtype=1), node("MatMul", ["x", "i"], ["y0"])],
        {"c": numbers(6, 5)},
    ),
    "OneHot": (
        [
            node("ArgMax", ["x"], ["best"], axis=1, keepdims=0),
            node("OneHot", ["best", "depth", "values"], ["y0"], axis=1),
        ],
        {"depth": np.array(5), "values": np.array([0.5, 2], np.float32)},
    ),
    "ReverseSequence": (
        [
            node("Transpose", ["x"], ["t"], perm=[2, 1, 0, 3]),
            node("ReverseSequence", ["t", "n"], ["r"]),
            node("Transpose", ["r"], ["y0"], perm=[2, 1, 0, 3]),
        ],
        {"n": integers(3, 1, 6, 2)},
    ),
    **{
        f"{kind} {reduction}": (
            [
                node(kind, ["c", "i", "u"], ["s"], axis=1, **({"reduction": reduction} if reduction else {})),
                node("Mul", ["x", "s"], ["y0"]),
            ],
            {"c": numbers(6, 6), "i": integers([0, -1], [2, 3]), "u": numbers(2, 2)},
        )
        for kind, reduction in (("ScatterElements", ""), ("ScatterElements", "add"), ("ScatterElements", "mul"))
    },
    "Scatter": (
        [node("Scatter", ["c", "i", "u"], ["s"]), node("Mul", ["x", "s"], ["y0"])],
        {"c": numbers(6, 6), "i": integers([0, 1], [2, 3]), "u": numbers(2, 2)},
    ),
    "GridSample": (
        [node("GridSample", ["c", "g"], ["s"], padding_mode="border"), node("Mul", ["x", "s"], ["y0"])],
        {"c": numbers(1, 4, 5, 5), "g": numbers(1, 6, 6, 2)},
    ),
    **{
        f"{kind} {direction}": (
            [
                node("Reshape", ["x", "rows"], ["r"]),
                node("Transpose", ["r"], ["t"], perm=[1, 0, 2]),
                node(kind, ["t", "w", "u", "b"], ["o"], hidden_size=5, direction=direction, **options),
                node("Transpose", ["o"], ["y0"], perm=[2, 0, 1, 3]),
            ],
            {
                "rows": integers(0, -1, 6),
                "w": numbers(count, gates * 5, 6),
                "u": numbers(count, gates * 5, 5),
                "b": numbers(count, gates * 10),
            },
        )
        for kind, gates, options in (
            ("LSTM", 4, {}),
            ("GRU", 3, {}),
            ("GRU", 3, {"linear_before_reset": 1}),
            ("RNN", 1, {}),
        )
        for direction, count in (("forward", 1), ("reverse", 1), ("bidirectional", 2))
    },
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


def own(kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    """A node of onnxruntime's own domain."""
    return node(kind, inputs, outputs, domain=MICROSOFT, **attributes)


ROWS = node("Reshape", ["x", "rows"], ["t"])
CONVOLUTION = {"w": W, "b": numbers(8)}
TOKENS = {
    "rows": integers(0, -1, 6),
    "gain": numbers(6),
    "shift": numbers(6),
    "bias": numbers(6),
    "mask": numbers(1, 2, 24, 24),
}

#: Operators that onnxruntime's optimiser writes.
FUSED: dict[str, tuple[list[onnx.NodeProto], dict[str, Any]]] = {
    **{
        f"FusedConv {kind}": ([own("FusedConv", ["x", "w", "b"], ["y0"], activation=kind, **options)], CONVOLUTION)
        for kind, options in (
            ("Relu", {"pads": [1, 1, 1, 1]}),
            ("LeakyRelu", {"activation_params": [0.2]}),
            ("Clip", {"activation_params": [-0.5, 0.5]}),
            ("HardSigmoid", {"activation_params": [0.2, 0.5]}),
        )
    },
    "FusedConv of a sum": (
        [node("Conv", ["x", "w"], ["z"]), own("FusedConv", ["x", "w", "b", "z"], ["y0"], activation="Relu")],
        CONVOLUTION,
    ),
    "FusedMatMul": ([own("FusedMatMul", ["x", "w"], ["y0"], transB=1, alpha=0.5)], {"w": numbers(3, 6)}),
    "TransposeMatMul": ([own("TransposeMatMul", ["x", "x"], ["y0"], transA=1)], {}),
    **{
        f"FusedGemm {kind}": (
            [
                node("Flatten", ["x"], ["f"]),
                own("FusedGemm", ["f", "w", "b"], ["y0"], activation=kind, transB=1, **options),
            ],
            {"w": numbers(3, 144), "b": numbers(3)},
        )
        for kind, options in (("Relu", {}), ("LeakyRelu", {"activation_alpha": 0.3}))
    },
    **{kind: ([own(kind, ["x"], ["y0"])], {}) for kind in ("Gelu", "QuickGelu", "FastGelu")},
    **{f"{kind} of a sum": ([own(kind, ["x", "b"], ["y0"])], {"b": numbers(6)}) for kind in ("BiasGelu", "FastGelu")},
    **{
        f"SkipLayerNormalization {len(outputs)}": (
            [ROWS, own("SkipLayerNormalization", ["t", "t", "gain", "shift", "bias"], outputs)],
            TOKENS,
        )
        for outputs in (["y0"], ["normal", "", "", "y0"])
    },
    "SkipSimplifiedLayerNormalization": (
        [ROWS, own("SkipSimplifiedLayerNormalization", ["t", "t", "gain"], ["y0"])],
        TOKENS,
    ),
    **{
        f"Attention {', '.join(options)}": (
            [ROWS, own("Attention", ["t", "w", "b", *more], ["y0"], num_heads=2, **options)],
            TOKENS | {"w": numbers(6, width), "b": numbers(width)},
        )
        for more, options, width in (
            ([], {}, 18),
            ([], {"unidirectional": 1}, 18),
            (["", "", "mask"], {"scale": 0.3}, 18),
            ([], {"qkv_hidden_sizes": [8, 8, 4]}, 20),
        )
    },
    **{
        f"MultiHeadAttention {len(more)}": (
            [ROWS, own("MultiHeadAttention", ["t", "t", "t", *more], ["y0"], num_heads=2)],
            TOKENS | {"b": numbers(18)},
        )
        for more in ([], ["b"], ["", "", "mask"])
    },
}

STEP, ZERO = np.float32(0.03), np.uint8(128)
WHOLE = {
    "step": STEP,
    "zero": ZERO,
    "new_step": np.float32(0.05),
    "new_zero": np.uint8(120),
    "share": np.float32(1 / 255),
    "none": np.uint8(0),
    "w": RANDOM.integers(-20, 20, (5, 4, 3, 3), np.int8),
    "steps": np.full(5, 0.02, np.float32),
    "zeros": np.zeros(5, np.int8),
    "b": RANDOM.integers(-500, 500, 5, np.int32),
    "m": RANDOM.integers(-100, 100, (6, 3), np.int8),
    "m_step": np.float32([0.02, 0.01, 0.03]),
    "m_zero": np.array([3, 0, -1], np.int8),
    "one_step": np.float32(0.02),
    "one_zero": np.int8(2),
    "f": numbers(3),
}


def quantised(made: onnx.NodeProto, step: str = "new_step", zero: str = "new_zero") -> list[onnx.NodeProto]:
    """A node on quantised numbers "q", with a result "r" that is quantised too."""
    first = node("QuantizeLinear", ["x", "step", "zero"], ["q"])
    return [first, made, node("DequantizeLinear", ["r", step, zero], ["y0"])]


X, NEW, SHARE = ["q", "step", "zero"], ["new_step", "new_zero"], ["share", "none"]
DYNAMIC = node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])
SCALED = [
    node("Cast", ["i"], ["real"], to=TensorProto.FLOAT),
    node("Mul", ["s", "one_step"], ["both"]),
    node("Mul", ["real", "both"], ["y0"]),
]

#: Operators on quantised numbers, with how far their rounding may move a result.
QUANTISED: dict[str, tuple[list[onnx.NodeProto], dict[str, Any], float]] = {
    name: (nodes, WHOLE, tolerance)
    for name, nodes, tolerance in (
        ("QLinearConv", quantised(node("QLinearConv", [*X, "w", "steps", "zeros", *NEW, "b"], ["r"])), 0.15),
        ("QLinearMatMul", quantised(node("QLinearMatMul", [*X, "m", "m_step", "m_zero", *NEW], ["r"])), 0.15),
        ("QLinearAdd", quantised(own("QLinearAdd", [*X, *X, *NEW], ["r"])), 0.06),
        ("QLinearMul", quantised(own("QLinearMul", [*X, *X, *NEW], ["r"])), 0.1),
        ("QLinearConcat", quantised(own("QLinearConcat", [*NEW, *X, *X], ["r"], axis=1)), 0.05),
        ("QLinearSigmoid", quantised(own("QLinearSigmoid", [*X, *SHARE], ["r"]), *SHARE), 0.01),
        ("QLinearLeakyRelu", quantised(own("QLinearLeakyRelu", [*X, *NEW], ["r"], alpha=0.1)), 0.05),
        ("QLinearSoftmax", quantised(own("QLinearSoftmax", [*X, *SHARE], ["r"], axis=-1, opset=13), *SHARE), 0.02),
        ("QLinearAveragePool", quantised(own("QLinearAveragePool", [*X, *NEW], ["r"], kernel_shape=[2, 2])), 0.05),
        ("QLinearGlobalAveragePool", quantised(own("QLinearGlobalAveragePool", [*X, *NEW], ["r"])), 0.05),
        ("a border", quantised(node("Pad", ["q", "sides", "one"], ["r"]), "step", "zero"), 0.03),
        ("ConvInteger", [DYNAMIC, node("ConvInteger", ["q", "w", "z"], ["i"]), *SCALED], 0.15),
        ("MatMulInteger", [DYNAMIC, node("MatMulInteger", ["q", "m", "z", "m_zero"], ["i"]), *SCALED], 0.15),
        (
            "MatMulInteger of fixed steps",
            [quantised(DYNAMIC)[0], node("MatMulInteger", ["q", "m", "zero"], ["y0"])],
            400.0,
        ),
        (
            "MatMulIntegerToFloat",
            [DYNAMIC, own("MatMulIntegerToFloat", ["q", "m", "s", "m_step", "z", "m_zero", "f"], ["y0"])],
            0.15,
        ),
        ("DynamicQuantizeMatMul", [own("DynamicQuantizeMatMul", ["x", "m", "m_step", "m_zero", "f"], ["y0"])], 0.15),
        (
            "QGemm",
            [
                quantised(DYNAMIC)[0],
                node("Flatten", ["q"], ["flat"]),
                own("QGemm", ["flat", "step", "zero", "g", "m_step", "m_zero", "c"], ["y0"], transB=1),
            ],
            1.5,
        ),
        (
            "QuantizeLinear",
            [
                own("QuantizeLinear", ["x", "step", "zero"], ["q"]),
                own("DequantizeLinear", ["q", "step", "zero"], ["y0"]),
            ],
            0.016,
        ),
    )
}
WHOLE |= {
    "sides": integers(0, 0, 1, 1, 0, 0, 1, 1),
    "one": np.uint8(30),
    "g": RANDOM.integers(-100, 100, (3, 144), np.int8),
    "c": RANDOM.integers(-500, 500, 3, np.int32),
}


def branch(nodes: list[onnx.NodeProto], inputs: list[str], outputs: list[str]) -> onnx.GraphProto:
    """The body of a loop, or a branch."""
    types = {"trip": TensorProto.INT64, "going": TensorProto.BOOL, "again": TensorProto.BOOL}
    sides = [
        [
            helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), [] if name in types else None)
            for name in names
        ]
        for names in (inputs, outputs)
    ]
    return helper.make_graph(nodes, "body", *sides)


BODY = branch(
    [
        node("Tanh", ["state"], ["changed"]),
        node("Add", ["changed", "x"], ["next"]),
        node("Identity", ["going"], ["again"]),
        node("ReduceMean", ["next"], ["mean"], axes=[2, 3]),
    ],
    ["trip", "going", "state"],
    ["again", "next", "mean"],
)
STEPS = branch(
    [node("Add", ["state", "row"], ["next"]), node("Tanh", ["next"], ["made"])], ["state", "row"], ["next", "made"]
)
BRANCHES = {
    f"{name}_branch": branch([node(kind, ["x"], ["made"])], [], ["made"])
    for name, kind in (("then", "Exp"), ("else", "Neg"))
}
PIECES = node("SplitToSequence", ["x", "two"], ["pieces"], axis=1)
JOINED = node("ConcatFromSequence", ["changed"], ["y0"], axis=1)
NUMBERS = {
    "two": np.array(2),
    "one": np.array(1),
    "three": np.array(3),
    "yes": np.array(True),
    "four": integers(4),
    "axes": integers(2),
}

#: Control flow and sequences.
FLOWS: dict[str, tuple[list[onnx.NodeProto], dict[str, Any]]] = {
    name: (nodes, NUMBERS)
    for name, nodes in (
        (
            "If by a shape",
            [
                node("Shape", ["x"], ["sizes"], start=1, end=2),
                node("Equal", ["sizes", "four"], ["same"]),
                node("If", ["same"], ["y0"], **BRANCHES),
            ],
        ),
        ("Loop", [node("Loop", ["three", "yes", "x"], ["y0", "means"], body=BODY)]),
        (
            "Loop with an output of each pass",
            [
                node("Loop", ["three", "", "x"], ["last", "means"], body=BODY),
                node("Transpose", ["means"], ["y0"], perm=[1, 0, 2, 3, 4]),
            ],
        ),
        *(
            (
                f"Scan {options}",
                [
                    node("ReduceSum", ["x", "axes"], ["zero"], keepdims=0),
                    node(
                        "Scan",
                        ["zero", "x"],
                        ["y0" if out == 0 else "s", "y0" if out else "m"],
                        body=STEPS,
                        num_scan_inputs=1,
                        scan_input_axes=[2],
                        scan_output_axes=[2],
                        **options,
                    ),
                ],
            )
            for out in (0, 1)
            for options in ({}, {"scan_input_directions": [1], "scan_output_directions": [1]})
        ),
        (
            "a sequence",
            [
                PIECES,
                node("SequenceAt", ["pieces", "one"], ["second"]),
                node("SequenceInsert", ["pieces", "second"], ["longer"]),
                node("SequenceErase", ["longer", "one"], ["changed"]),
                JOINED,
            ],
        ),
        (
            "a sequence made",
            [
                node("SequenceEmpty", [], ["none"]),
                node("SequenceInsert", ["none", "x"], ["first"]),
                node("SequenceConstruct", ["x", "x"], ["changed0"]),
                node("SequenceLength", ["changed0"], ["count"]),
                node("Cast", ["count"], ["number"], to=TensorProto.FLOAT),
                node("Mul", ["x", "number"], ["twice"]),
                node("SequenceInsert", ["first", "twice"], ["changed"]),
                JOINED,
            ],
        ),
        (
            "SequenceMap",
            [
                PIECES,
                node(
                    "SequenceMap",
                    ["pieces"],
                    ["changed"],
                    body=branch([node("Tanh", ["item"], ["made"])], ["item"], ["made"]),
                ),
                JOINED,
            ],
        ),
        (
            "Optional",
            [
                node("Optional", ["x"], ["maybe"]),
                node("OptionalHasElement", ["maybe"], ["there"]),
                node("OptionalGetElement", ["maybe"], ["value"]),
                node("If", ["there"], ["more"], **BRANCHES),
                node("Add", ["value", "more"], ["y0"]),
            ],
        ),
    )
}


@pytest.mark.parametrize("case", CASES, ids=describe)
def test_an_operator_computes_what_onnxruntime_does(case: Case) -> None:
    check(write_case(case))


@pytest.mark.parametrize("name", GROUPS)
def test_an_operator_among_others_computes_what_onnxruntime_does(name: str) -> None:
    check(write(*GROUPS[name], opset=OPSETS.get(name, 17)))


@pytest.mark.parametrize(("case", "count"), SEVERAL)
def test_each_of_several_outputs_is_what_onnxruntime_computes(case: Case, count: int) -> None:
    for place in range(count):
        names = tuple("y0" if other == place else f"other{other}" for other in range(count))
        check(write_case(case, names))


@pytest.mark.parametrize("name", FUSED)
def test_a_fused_operator_computes_what_onnxruntime_does(name: str) -> None:
    check(write(*FUSED[name], opset=17))


@pytest.mark.parametrize("name", FLOWS)
def test_control_flow_that_is_known_before_an_image_is_is_written_out(name: str) -> None:
    check(write(*FLOWS[name], opset=17))


@pytest.mark.parametrize("name", QUANTISED)
def test_a_quantised_operator_is_within_its_steps_of_what_onnxruntime_computes(name: str) -> None:
    nodes, constants, tolerance = QUANTISED[name]
    check(write(nodes, constants, opset=17), tolerance)


def test_every_operator_is_tested() -> None:
    groups = [*GROUPS.values(), *FUSED.values(), *FLOWS.values(), *((nodes, {}) for nodes, *_ in QUANTISED.values())]
    tested = {f"{item.domain}.{item.op_type}".lstrip(".") for nodes, _ in groups for item in nodes}
    tested |= {case[0] for case in CASES} | {case[0] for case, _ in SEVERAL}
    assert set(OPERATORS) - tested == set()
