"""ONNX files of networks: what they wrap around a network, what is proposed, and what is refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import timm
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.export import Dim
from torch.utils._python_dispatch import TorchDispatchMode

from explainers.errors import ModelError
from explainers.graph.loader import load, propose
from explainers.graph.onnx.file import parse
from explainers.graph.onnx.importer import import_graph
from explainers.preprocessing import Preprocessing
from explainers.proposal import Output
from tests.networks import SHALLOW
from tests.onnx_files import REFUSALS, WEIGHTS, head, node, numbers, run, write, write_new, write_old

# What files wrap around a network


def test_layers_have_the_names_that_the_author_gave() -> None:
    module = timm.create_model("resnet18", layers=(1, 1, 1, 1), num_classes=10).eval()
    images = torch.randn(2, 3, 64, 64)
    program = torch.export.export(module, (images,), dynamic_shapes=({0: Dim("batch", min=1)},))
    for data in (write_old(module, images, 17), *write_new(program, (18,))):
        info = load(data, "mine.onnx").info
        names = {layer.name: layer for layer in info.layers}
        assert {"layer4", "layer4.0", "layer4.0.act2", "layer3.0.downsample", "fc"} <= set(names)
        assert names["layer4"].shape == names["layer4.0.act2"].shape == (512, 2, 2)
        assert info.output_shape == (10,)


@pytest.mark.parametrize("name", ["vit", "swin", "convnext"])
def test_a_file_for_a_fixed_number_of_images_takes_any(name: str) -> None:
    module, images = SHALLOW[name].open()
    files = [write_old(module, images[:count], 17, batch=None) for count in (1, 2)]
    files += write_new(torch.export.export(module, (images[:1],)), (18,))
    expected = np.concatenate([run(files[0], image[None].numpy())[0] for image in images])
    for data in files:
        assert np.abs(load(data, "mine.onnx")(images).numpy() - expected).max() < 1e-4 * np.abs(expected).max()


def test_what_fixes_the_number_of_images_is_told_by_its_node() -> None:
    flat = node("Reshape", ["image", "sizes"], ["scores"], name="/merge")
    with pytest.raises(ModelError, match=r"'/merge' \(Reshape\) .*fixes the number of images"):
        propose(write(flat, sizes=np.array([2, 96])), "mine.onnx")


def test_a_normalisation_in_front_becomes_the_preprocessing() -> None:
    mean, std = np.array([123.675, 116.28, 103.53], np.float32), np.array([58.395, 57.12, 57.375], np.float32)
    scale = [node("Sub", ["image", "mean"], ["centred"]), node("Div", ["centred", "std"], ["normal"])]
    for factor in (1, np.float32(255)):
        sides = {"mean": (mean / factor).reshape(3, 1, 1), "std": (std / factor).reshape(1, 3, 1, 1)}
        data = write(*scale, *head("normal"), **sides, **WEIGHTS)
        model = load(data, "mine.onnx")
        assert model.info.preprocessing.mean == pytest.approx((0.485, 0.456, 0.406))
        assert model.info.preprocessing.std == pytest.approx((0.229, 0.224, 0.225))
        assert any("normalisation" in note for note in model.info.notes)
        pixels = np.random.default_rng(0).uniform(size=(2, 3, 8, 8)).astype(np.float32)
        normal = (pixels - (mean / 255).reshape(3, 1, 1)) / (std / 255).reshape(3, 1, 1)
        (expected,) = run(data, pixels * (255 / factor))
        np.testing.assert_allclose(model(torch.from_numpy(normal)).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_bytes_with_colours_last_are_taken_as_pictures_are() -> None:
    """As TensorFlow writes: bytes, colours last, scaled to -1..1, then transposed for the convolution."""
    wrapped = [
        node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        node("Mul", ["floats", "factor"], ["scaled"]),
        node("Add", ["scaled", "offset"], ["normal"]),
        node("Transpose", ["normal"], ["planes"], perm=[0, 3, 1, 2]),
    ]
    sides = {"factor": np.array(1 / 127.5, np.float32), "offset": np.array([-1.0], np.float32)}
    data = write(*wrapped, *head("planes"), shape=("batch", 8, 8, 3), kind=TensorProto.UINT8, **sides, **WEIGHTS)
    model = load(data, "mine.onnx")
    preprocessing = model.info.preprocessing
    assert (preprocessing.size, preprocessing.mean, preprocessing.std) == ((8, 8), (0.5,) * 3, (0.5,) * 3)
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    (expected,) = run(data, picture[None])
    found = model(torch.from_numpy(preprocessing.normalise(picture))[None])
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)
    assert not {"aten.permute.default", "aten.mul.Tensor"} & set(model.info.operators)


def test_bytes_without_a_normalisation_are_scaled_to_255() -> None:
    cast = node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT)
    data = write(cast, *head("floats"), kind=TensorProto.UINT8, **WEIGHTS)
    preprocessing = propose(data, "mine.onnx").preprocessing
    assert preprocessing.mean == (0, 0, 0)
    assert preprocessing.std == pytest.approx((1 / 255,) * 3)


@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax", "Sigmoid"])
def test_a_file_that_ends_in_a_softmax_is_explained_before_it(kind: str) -> None:
    model = load(write(*head(target="logits"), node(kind, ["logits"], ["scores"]), **WEIGHTS), "mine.onnx")
    plain = load(write(*head(), **WEIGHTS), "mine.onnx")
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(model(images), plain(images))
    assert any(f"ends in a {kind.lower()[:3]}" in note for note in model.info.notes)


SEVERAL = write(
    *head(),
    node("Sigmoid", ["flat"], ["shares"]),
    outputs=("features", "shares", "scores"),
    shape=("n", 3, 8, 8),
    **WEIGHTS,
)


def test_of_several_outputs_the_scores_are_proposed_and_each_can_be_chosen() -> None:
    data = set_ranks(SEVERAL, {"features": 4})
    images = numbers(2, 3, 8, 8)
    expected = dict(zip(("features", "shares", "scores"), run(data, images), strict=True))
    first = import_graph(parse(data))
    assert first.outputs == (Output("shares", (5,)), Output("scores", (4,)), Output("features", (5, 6, 6)))
    for name in ("features", "scores"):
        made = import_graph(parse(data), output=name)
        assert made.outputs[0].name == name
        assert f"'{name}' is explained, not" in " ".join(made.notes)
        found = made.traced.graph(torch.from_numpy(images)).detach().numpy()
        np.testing.assert_allclose(found, expected[name], rtol=1e-4, atol=1e-5)
    assert propose(data, "mine.onnx").outputs == first.outputs


def test_a_file_of_one_output_leaves_no_choice() -> None:
    assert propose(write(*head(), **WEIGHTS), "mine.onnx").outputs == ()


def test_an_output_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(ModelError, match=r"no output 'logits' that can be explained; it has 'shares', 'scores'"):
        import_graph(parse(set_ranks(SEVERAL, {"features": 4})), output="logits")


def test_what_other_outputs_need_may_be_anything() -> None:
    more = node("Bernoulli", ["active"], ["chance"])
    data = set_ranks(write(*head(), more, outputs=("chance", "scores"), **WEIGHTS), {"chance": 4})
    proposal = propose(data, "mine.onnx")
    assert proposal.classes == 4
    assert proposal.outputs == ()
    assert any("'scores' is explained, not chance" in note for note in proposal.notes)


def test_an_output_that_looks_like_scores_but_cannot_be_read_is_told() -> None:
    more = node("Bernoulli", ["flat"], ["chance"], name="/chance")
    proposal = propose(write(*head(), more, outputs=("chance", "scores"), **WEIGHTS), "mine.onnx")
    assert proposal.classes == 4
    assert any("'chance' cannot be: The ONNX node" in note for note in proposal.notes)


def set_ranks(data: bytes, ranks: dict[str, int]) -> bytes:
    """Declare so many dimensions for these outputs."""
    model = onnx.load_model_from_string(data)
    for output in model.graph.output:
        for _ in range(2, ranks.get(output.name, 2)):
            output.type.tensor_type.shape.dim.add()
    return model.SerializeToString()


@pytest.mark.parametrize(
    "labels", [{"classlabels_strings": ["a", "b", "c", "d"]}, {"classlabels_int64s": [3, 4, 5, 6]}]
)
def test_beside_a_sequence_of_maps_the_tensor_is_taken(labels: dict[str, list[Any]]) -> None:
    """As scikit-learn's converter writes: a label, shares by name, and here the scores behind both."""
    more = [
        node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
        node("ZipMap", ["scores"], ["named"], domain="ai.onnx.ml", **labels),
    ]
    model = onnx.load_model_from_string(write(*head(), *more, **WEIGHTS))
    model.opset_import.add(domain="ai.onnx.ml", version=3)
    key = TensorProto.STRING if "classlabels_strings" in labels else TensorProto.INT64
    mapped = helper.make_sequence_type_proto(
        helper.make_map_type_proto(key, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    )
    model.graph.output.insert(0, helper.make_value_info("named", mapped))
    model.graph.output.insert(0, helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]))
    data, images = model.SerializeToString(), numbers(2, 3, 8, 8)
    np.testing.assert_allclose(
        load(data, "mine.onnx")(torch.from_numpy(images)).numpy(), run(data, images)[2], rtol=1e-4, atol=1e-5
    )
    assert propose(data, "mine.onnx").outputs == ()


# Functions that a file brings


OWN = "my.functions"


def with_functions(*functions: onnx.FunctionProto, **weights: np.ndarray) -> bytes:
    """Write a file that calls its own function Block on the image, a kernel and a bias, before its head."""
    nodes = [node("Block", ["image", "kernel", "shift"], ["active"], domain=OWN, name="block"), *head()[2:]]
    model = onnx.load_model_from_string(write(*nodes, **weights))
    model.opset_import.append(helper.make_opsetid(OWN, 1))
    model.functions.extend(functions)
    return model.SerializeToString()


def define(name: str, nodes: list[onnx.NodeProto], **options: Any) -> onnx.FunctionProto:
    opsets = [helper.make_opsetid("", 16), helper.make_opsetid(OWN, 1)]
    return helper.make_function(OWN, name, ["x", "k", "b"], ["y"], nodes, opsets, **options)


def refer(made: onnx.NodeProto, **names: str) -> onnx.NodeProto:
    """Let attributes be those of these names that the caller of the function gives."""
    for own, name in names.items():
        made.attribute.add(name=own, ref_attr_name=name, type=onnx.AttributeProto.FLOAT)
    return made


def test_a_function_of_the_file_is_its_nodes_in_the_layer_of_its_call() -> None:
    inner = refer(node("LeakyRelu", ["c"], ["y"], name="act"), alpha="slope")
    leaky = define("Leaky", [node("Conv", ["x", "k", "b"], ["c"], name="conv"), inner], attributes=["slope"])
    call = node("Leaky", ["x", "k", "b"], ["y"], domain=OWN, name="inner", slope=0.3)
    data, images = with_functions(define("Block", [call]), leaky, **WEIGHTS), numbers(2, 3, 8, 8)
    model = load(data, "mine.onnx")
    np.testing.assert_allclose(model(torch.from_numpy(images)).numpy(), run(data, images)[0], rtol=1e-4, atol=1e-5)
    names = [layer.name for layer in model.info.layers]
    assert {"block", "block.inner", "block.inner.conv", "block.inner.act"} <= set(names)


def test_a_functions_attribute_has_its_default_where_the_caller_gives_none() -> None:
    inner = refer(node("LeakyRelu", ["c"], ["y"]), alpha="slope")
    slope = [helper.make_attribute("slope", 0.4)]
    block = define("Block", [node("Conv", ["x", "k", "b"], ["c"]), inner], attribute_protos=slope)
    data, images = with_functions(block, **WEIGHTS), numbers(2, 3, 8, 8)
    found = load(data, "mine.onnx")(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(found, run(data, images)[0], rtol=1e-4, atol=1e-5)


def test_functions_that_call_themselves_are_refused() -> None:
    block = define("Block", [node("Block", ["x", "k", "b"], ["y"], domain=OWN)])
    with pytest.raises(ModelError, match="over 24 deep in each other, or call themselves"):
        propose(with_functions(block, **WEIGHTS), "mine.onnx")


def test_functions_that_grow_without_bounds_are_refused_soon() -> None:
    """A file of some hundred bytes that would be a million nodes: each function calls the next one twice."""
    levels = [
        define(
            f"Level{place}" if place else "Block",
            [
                node(f"Level{place + 1}", ["x", "k", "b"], ["m"], domain=OWN),
                node(f"Level{place + 1}", ["m", "k", "b"], ["y"], domain=OWN),
            ],
        )
        for place in range(20)
    ]
    data = with_functions(*levels, define("Level20", [node("Identity", ["x"], ["y"])]), **WEIGHTS)
    with pytest.raises(ModelError, match="over 50,000 nodes with its functions and loops written out"):
        propose(data, "mine.onnx")


def test_a_loop_without_end_is_refused() -> None:
    inputs = [
        helper.make_tensor_value_info(name, kind, [])
        for name, kind in (("trip", TensorProto.INT64), ("going", TensorProto.BOOL), ("state", TensorProto.FLOAT))
    ]
    outputs = [helper.make_tensor_value_info("going", TensorProto.BOOL, []), inputs[2]]
    body = helper.make_graph([], "forever", inputs, outputs)
    loop = node("Loop", ["", "yes", "image"], ["scores"], name="/forever", body=body)
    with pytest.raises(ModelError, match=r"'/forever' \(Loop\) has over 10,000 passes"):
        propose(write(loop, yes=np.array(True)), "mine.onnx")


def test_nodes_may_be_in_any_order() -> None:
    """Converters to half precision add their casts behind all other nodes, and onnxruntime sorts them."""
    images = torch.randn(2, 3, 8, 8)
    shuffled = write(*reversed(head()), **WEIGHTS)
    assert torch.equal(load(shuffled, "mine.onnx")(images), load(write(*head(), **WEIGHTS), "mine.onnx")(images))


def test_four_colours_may_come_last() -> None:
    planes = node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2])
    weights = WEIGHTS | {"kernel": numbers(5, 4, 3, 3)}
    data = write(planes, *head("planes"), shape=("batch", 24, 20, 4), **weights)
    model, images = load(data, "mine.onnx"), numbers(2, 24, 20, 4)
    found = model(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    assert (model.info.preprocessing.channels, model.info.preprocessing.size) == (4, (24, 20))
    np.testing.assert_allclose(found, run(data, images)[0], rtol=1e-4, atol=1e-5)


def test_bytes_that_are_taken_as_quantised_numbers_are_scaled() -> None:
    first = node("DequantizeLinear", ["image", "step", "zero"], ["real"])
    sides = {"step": np.array(0.02, np.float32), "zero": np.array(100, np.uint8)}
    data = write(first, *head("real"), kind=TensorProto.UINT8, **sides, **WEIGHTS)
    model = load(data, "mine.onnx")
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    found = model(torch.from_numpy(model.info.preprocessing.normalise(picture))[None]).numpy()
    (expected,) = run(data, picture.transpose(2, 0, 1)[None])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_weights_may_be_listed_as_inputs_too() -> None:
    """As all files did before version 4 of the format."""
    model = onnx.load_model_from_string(write(*head(), **WEIGHTS))
    model.ir_version = 3
    model.graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape) for name, value in WEIGHTS.items()
    )
    images = torch.randn(2, 3, 8, 8)
    found = load(model.SerializeToString(), "mine.onnx")(images)
    assert torch.equal(found, load(write(*head(), **WEIGHTS), "mine.onnx")(images))


class Recurrent(nn.Module):
    """Reads the places of a map in their order, as networks for text do."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.layer = nn.LSTM(8, 6, bidirectional=True, batch_first=True)
        self.head = nn.Linear(12, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        made, _ = self.layer(self.stem(images).flatten(2).transpose(1, 2))
        return self.head(made.mean(1))


@pytest.mark.parametrize("count", [1, 2, None])
def test_a_recurrent_layer_takes_any_number_of_images(count: int | None) -> None:
    module, images = Recurrent().eval(), torch.randn(3, 3, 16, 16)
    data = write_old(module, images[: count or 2], 17, batch=None if count else "batch")
    with torch.no_grad():
        torch.testing.assert_close(load(data, "mine.onnx")(images), module(images), rtol=1e-4, atol=1e-5)


class Loops(nn.Module):
    """Has a loop, a list and a branch, which torch writes down as such when it is scripted."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        value = torch.relu(self.stem(images))
        for _ in range(3):
            value = value + torch.tanh(value)
        value = value * 2.0 if images.shape[2] > 5 else value - 1.0
        parts: list[torch.Tensor] = []
        for place in range(value.shape[1]):
            parts.append(value[:, place].mean((1, 2)))
        return torch.stack(parts, 1)


def test_a_scripted_network_with_loops_and_lists_is_opened() -> None:
    module, images = Loops().eval(), torch.randn(3, 3, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch is about to retire scripts, and says so
        data = write_old(torch.jit.script(module), images[:2], 17)
    kinds = {item.op_type for item in onnx.load_model_from_string(data).graph.node}
    assert {"Loop", "If", "ConcatFromSequence"} <= kinds
    with torch.no_grad():
        torch.testing.assert_close(load(data, "mine.onnx")(images), module(images), rtol=1e-4, atol=1e-5)


def test_half_precision_weights_are_computed_with_in_32_bits() -> None:
    halves = {name: value.astype(np.float16) for name, value in WEIGHTS.items()}
    model = load(write(*head(), **halves), "mine.onnx")
    full = {name: value.astype(np.float32) for name, value in halves.items()}
    images = numbers(2, 3, 8, 8)
    (expected,) = run(write(*head(), **full), images)
    np.testing.assert_allclose(model(torch.from_numpy(images)).numpy(), expected, rtol=1e-4, atol=1e-5)
    assert any("3 tensors" in note for note in model.info.notes)


def test_quantised_weights_are_taken_as_the_numbers_that_they_stand_for() -> None:
    whole = np.random.default_rng(0).integers(-128, 128, (5, 3, 3, 3), np.int8)
    steps, zeros = np.abs(numbers(5)) / 50, np.array([3, 0, -2, 1, 9], np.int8)
    first = node("DequantizeLinear", ["whole", "steps", "zeros"], ["kernel"], axis=0)
    rest = {name: value for name, value in WEIGHTS.items() if name != "kernel"}
    data = write(first, *head(), whole=whole, steps=steps, zeros=zeros, **rest)
    model, images = load(data, "mine.onnx"), numbers(2, 3, 8, 8)
    (expected,) = run(data, images)
    np.testing.assert_allclose(model(torch.from_numpy(images)).numpy(), expected, rtol=1e-4, atol=1e-4)
    assert any("quantised" in note for note in model.info.notes)


def test_quantised_activations_keep_their_range() -> None:
    """Quantisers leave a ReLU out where the range of whole numbers begins at zero."""
    ends = [
        node("QuantizeLinear", ["wide", "step", "zero"], ["whole"]),
        node("DequantizeLinear", ["whole", "step", "zero"], ["scores"]),
    ]
    step, zero = np.array(0.05, np.float32), np.array(0, np.uint8)
    data = write(*head(target="wide"), *ends, step=step, zero=zero, **WEIGHTS)
    model, images = load(data, "mine.onnx"), numbers(2, 3, 8, 8)
    (expected,) = run(data, images)
    assert (expected == 0).any()
    assert (expected > 0).any()
    assert np.abs(model(torch.from_numpy(images)).numpy() - expected).max() < 0.05
    assert any("quantised" in note for note in model.info.notes)


def test_arithmetic_on_shapes_is_done_during_the_import() -> None:
    """A flatten as older exporters write it: the batch read from the shape, the rest multiplied."""
    nodes = [
        *head()[:3],
        node("Shape", ["pooled"], ["sizes"]),
        node("Gather", ["sizes", "first"], ["batch"], axis=0),
        node("Slice", ["sizes", "one", "far"], ["tail"]),
        node("ReduceProd", ["tail"], ["rest"], keepdims=0),
        node("Cast", ["rest"], ["whole"], to=TensorProto.INT64),
        node("Unsqueeze", ["batch", "axes"], ["left"]),
        node("Unsqueeze", ["whole", "axes"], ["right"]),
        node("Concat", ["left", "right"], ["shape"], axis=0),
        node("Reshape", ["pooled", "shape"], ["flat"]),
        head()[-1],
    ]
    first, zero = np.array(0), np.array([0])
    data = write(*nodes, first=first, one=np.array([1]), far=np.array([9]), axes=zero, **WEIGHTS)
    model, images = load(data, "mine.onnx"), numbers(3, 3, 8, 8)
    np.testing.assert_allclose(model(torch.from_numpy(images)).numpy(), run(data, images)[0], rtol=1e-4, atol=1e-5)
    assert set(model.info.operators) <= {
        "aten.conv2d.default",
        "aten.relu.default",
        "aten.mean.dim",
        "aten.reshape.default",
        "aten.linear.default",
    }


def test_weights_may_be_constants_or_pass_through_an_identity() -> None:
    nodes = [
        node("Constant", [], ["kernel"], value=numpy_helper.from_array(WEIGHTS["kernel"])),
        node("Identity", ["held"], ["shift"]),
        *head(),
    ]
    data = write(*nodes, held=WEIGHTS["shift"], dense=WEIGHTS["dense"])
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(load(data, "mine.onnx")(images), load(write(*head(), **WEIGHTS), "mine.onnx")(images))


@pytest.mark.parametrize("text", ['["a", "b", "c", "d"]', "{0: 'a', 1: 'b', 2: 'c', 3: 'd'}", "a, b, c, d"])
def test_class_names_in_the_metadata_are_proposed(text: str) -> None:
    proposal = propose(write(*head(), metadata={"names": text}, **WEIGHTS), "mine.onnx")
    assert proposal.class_names == ("a", "b", "c", "d")


def test_the_size_of_images_is_the_users_where_the_file_leaves_it_open() -> None:
    data = write(*head(), shape=("batch", 3, "height", "width"), **WEIGHTS)
    assert propose(data, "mine.onnx").preprocessing.size == (224, 224)
    model = load(data, "mine.onnx", preprocessing=Preprocessing((32, 40), 32))
    assert model.info.layer("stem.conv").grid == (30, 38)


def test_a_file_for_one_size_is_refused_for_another() -> None:
    with pytest.raises(ModelError, match=r"takes images of \(8, 8\)"):
        load(write(*head(), **WEIGHTS), "mine.onnx", preprocessing=Preprocessing((32, 32), 32))


def test_the_digest_is_that_of_the_content() -> None:
    data = write(*head(), **WEIGHTS)
    assert load(data, "mine.onnx").info.digest == load(data, "other.onnx").info.digest
    changed = WEIGHTS | {"shift": WEIGHTS["shift"] + 1}
    assert load(write(*head(), **changed), "mine.onnx").info.digest != load(data, "mine.onnx").info.digest


# What is refused, and in which words


MIXING: dict[str, tuple[onnx.NodeProto, ...]] = {
    "mixes the images of a batch": (
        node("Softmax", ["logits"], ["shares"], axis=0),
        node("Neg", ["shares"], ["scores"]),
    ),
    "does not keep the images of a batch apart": (node("Transpose", ["logits"], ["scores"], perm=[1, 0]),),
}


@pytest.mark.parametrize("message", MIXING)
def test_a_file_that_mixes_the_images_of_a_batch_is_refused(message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load(write(*head(target="logits"), *MIXING[message], **WEIGHTS), "mine.onnx")


@pytest.mark.parametrize(("make", "kind", "message"), REFUSALS)
def test_what_cannot_be_imported_is_refused_with_a_sentence(
    make: Callable[[], bytes], kind: type[ModelError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        propose(make(), "mine.onnx")


class Calls(TorchDispatchMode):
    """Counts the calls of operators."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        self.count += 1
        return function(*arguments, **(keywords or {}))


def test_each_further_block_in_a_file_costs_the_same_to_import() -> None:
    counts = []
    for depth in (2, 3, 4):
        module = timm.create_model("vit_tiny_patch16_224", depth=depth, img_size=64).eval()
        data = write_old(module, torch.zeros(1, 3, 64, 64), 17)
        with Calls() as calls:
            model = load(data, "mine.onnx")
        assert model.info.class_names[504] == "coffee mug"
        counts.append(calls.count)
    two, three, four = counts
    assert four - three == three - two > 0


def test_a_damaged_file_is_read_or_refused_but_fails_in_no_other_way() -> None:
    data, chance = write(*head(), **WEIGHTS), np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(data)
        for place in chance.integers(0, len(data), 3):
            damaged[place] = chance.integers(0, 256)
        try:
            load(bytes(damaged), "mine.onnx")
        except ModelError:
            refused += 1
    assert refused > 100
