"""ONNX files for tests: a little network to wrap things around, and files that are refused."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import onnx
import onnxruntime
import onnxscript
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, fx, nn

from explainers.errors import ModelError, UnsafeFileError, UnsupportedOperatorError
from explainers.graph.onnx.file import parse
from explainers.graph.onnx.importer import rebuild


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def write(
    *nodes: onnx.NodeProto,
    shape: tuple[str | int, ...] = ("batch", 3, 8, 8),
    kind: int = TensorProto.FLOAT,
    outputs: tuple[str, ...] = ("scores",),
    opset: int = 17,
    metadata: dict[str, str] | None = None,
    **constants: np.ndarray,
) -> bytes:
    """Write a file of these nodes, from "image" to "scores"."""
    graph = helper.make_graph(
        list(nodes),
        "network",
        [helper.make_tensor_value_info("image", kind, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", None]) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    return model.SerializeToString()


def write_old(module: nn.Module, images: Tensor, opset: int | None = None, batch: str | None = "batch") -> bytes:
    """Write a network by torch's older exporter; without ``batch`` for as many images as are given."""
    file = io.BytesIO()
    axes = {"images": {0: batch}} if batch else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch is about to retire this exporter, and says so
        torch.onnx.export(
            module, (images,), file, dynamo=False, opset_version=opset, dynamic_axes=axes, input_names=["images"]
        )
    return file.getvalue()


def write_new(program: torch.export.ExportedProgram, opsets: tuple[int, ...]) -> Iterator[bytes]:
    """Write an exported program by torch's newer exporter, once for each opset."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # onnxscript's deprecations
        written = torch.onnx.export(program, dynamo=True, opset_version=opsets[0], verbose=False)
        for opset in opsets:
            onnxscript.version_converter.convert_version(written.model, opset)
            yield written.model_proto.SerializeToString()


def rebuilt(data: bytes) -> fx.GraphModule:
    """Import a file's network as it is, with all that it ends in."""
    _, builder, _ = rebuild(parse(data), None, None)
    return fx.GraphModule(builder.constants, builder.graph)


def run(data: bytes, images: np.ndarray) -> list[np.ndarray]:
    """Run a file by onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(data, options)
    return session.run(None, {session.get_inputs()[0].name: images})


node = helper.make_node


def head(source: str = "image", target: str = "scores") -> tuple[onnx.NodeProto, ...]:
    """A little network of a convolution, a pooling and a dense layer; its weights are ``WEIGHTS``."""
    return (
        node("Conv", [source, "kernel", "shift"], ["features"], name="/stem/conv/Conv"),
        node("Relu", ["features"], ["active"], name="/stem/act/Relu"),
        node("GlobalAveragePool", ["active"], ["pooled"], name="/pool/GlobalAveragePool"),
        node("Flatten", ["pooled"], ["flat"], name="/Flatten"),
        node("Gemm", ["flat", "dense"], [target], transB=1, name="/fc/Gemm"),
    )


WEIGHTS = {"kernel": numbers(5, 3, 3, 3), "shift": numbers(5), "dense": numbers(4, 5)}


def with_another_domain() -> bytes:
    model = onnx.load_model_from_string(write(node("Mine", ["image"], ["scores"], name="/mine", domain="my.own")))
    return model.SerializeToString()


def with_external_data() -> bytes:
    model = onnx.load_model_from_string(write(*head(), **WEIGHTS))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return model.SerializeToString()


def with_training() -> bytes:
    model = onnx.load_model_from_string(write(*head(), **WEIGHTS))
    model.training_info.add()
    return model.SerializeToString()


def with_texts() -> bytes:
    model = onnx.load_model_from_string(write(node("Gather", ["texts", "image"], ["scores"])))
    model.graph.initializer.append(helper.make_tensor("texts", TensorProto.STRING, [2], [b"a", b"b"]))
    return model.SerializeToString()


def with_two_inputs() -> bytes:
    model = onnx.load_model_from_string(write(node("Add", ["image", "other"], ["scores"])))
    model.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, [1]))
    return model.SerializeToString()


def with_a_damaged_tensor() -> bytes:
    model = onnx.load_model_from_string(write(*head(), **WEIGHTS))
    model.graph.initializer[0].dims[0] = 1 << 40
    return model.SerializeToString()


REFUSALS: list[tuple[Callable[[], bytes], type[ModelError], str]] = [
    (lambda: write(node("Loop", ["", "", "image"], ["scores"], name="/l")), ModelError, r"'/l' is no valid Loop"),
    (
        lambda: write(node("If", ["image"], ["scores"])),
        UnsupportedOperatorError,
        r"'scores' \(If\) is control flow whose path depends on the image",
    ),
    (
        lambda: write(node("Add", ["image", "b"], ["a"]), node("Neg", ["a"], ["b"]), node("Neg", ["b"], ["scores"])),
        ModelError,
        "wait for each other in a circle",
    ),
    (with_another_domain, UnsupportedOperatorError, r"Mine of my.own \(node '/mine'\)"),
    (with_external_data, UnsafeFileError, "'kernel' lies in another file"),
    (with_training, ModelError, "training graph"),
    (with_texts, ModelError, "'texts' holds texts"),
    (with_two_inputs, ModelError, "has 2 inputs"),
    (with_a_damaged_tensor, ModelError, "'kernel' is damaged"),
    (lambda: write(*head(), **WEIGHTS)[:-300], ModelError, "no readable ONNX model"),
    (lambda: write(*head(), opset=5, **WEIGHTS), ModelError, "of opset 5"),
    (lambda: write(*head(), shape=(3, 8, 8), **WEIGHTS), ModelError, "has 3 dimensions"),
    (lambda: write(*head(), kind=TensorProto.INT64, **WEIGHTS), ModelError, "of type INT64"),
    (
        lambda: write(
            node("Multinomial", ["image"], ["d"], name="/multi"),
            node("Bernoulli", ["d"], ["l"], name="/chance"),
            node("STFT", ["l"], ["m"], name="/stft"),
            node("Multinomial", ["m"], ["scores"], name="/other"),
        ),
        UnsupportedOperatorError,
        r"Multinomial \(node '/multi'\), STFT \(node '/stft'\)",
    ),
    (
        lambda: write(
            node("MaxPool", ["image"], ["top", "places"], kernel_shape=[2, 2], name="/pool"),
            node("Cast", ["places"], ["scores"], to=TensorProto.FLOAT),
        ),
        UnsupportedOperatorError,
        r"'/pool' \(MaxPool\) has the places of the maxima",
    ),
    (
        lambda: write(node("Conv", ["image", "kernel"], ["scores"], name="/c"), kernel=numbers(5, 7, 3, 3)),
        ModelError,
        r"'/c' \(Conv\) cannot be computed",
    ),
    (
        lambda: write(
            node("ConstantOfShape", ["sizes"], ["huge"], name="/huge"),
            node("Mul", ["image", "huge"], ["scores"]),
            sizes=np.array([1 << 40]),
        ),
        ModelError,
        "'/huge' .*makes 1,099,511,627,776 numbers",
    ),
    (
        lambda: write(node("ReduceMean", ["image"], ["scores"], axes=[0], name="/mix")),
        ModelError,
        r"'/mix' \(ReduceMean\) fixes the number of images, or mixes them",
    ),
    (
        lambda: write(
            node("Shape", ["image"], ["sizes"]),
            node("Cast", ["sizes"], ["floats"], to=TensorProto.FLOAT),
            node("Mul", ["image", "floats"], ["scores"], name="/scale"),
            shape=("batch", 3, 8, 4),
        ),
        ModelError,
        "'/scale' .*computes with the number of images",
    ),
]
