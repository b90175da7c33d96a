"""What a worker hands over may be forged by whoever took it over: it is checked, and calls only what is listed."""

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from explainers.errors import ModelError
from explainers.graph import calls
from explainers.graph.export import export
from explainers.graph.model import Model
from explainers.graph.received import receive
from explainers.graph.stored import pack, unpack
from explainers.preprocessing import Preprocessing

Change = Callable[[dict[str, Any]], None]


class Small(nn.Module):
    """A network with sizes, constants, lists and texts among its arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3, padding="same"), nn.Linear(4, 2)

    def forward(self, images):
        maps = nn.functional.gelu(self.first(images), approximate="tanh")
        left, right = maps.chunk(2, 1)
        joined = torch.cat([left, right + torch.full((1,), 0.5)], 1).reshape(images.shape[0], 4, -1)
        return self.last(joined.mean(-1))


@pytest.fixture(scope="module")
def packed() -> bytes:
    return pack(export(Small().eval(), "small", Preprocessing((8, 8), 8)))


def parts(data: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """The header, the description in it, and the tensors."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    return header, json.loads(header["__metadata__"]["model"]), data[8 + length :]


def forged(data: bytes, change: Change) -> bytes:
    """The bytes of a model of which the description is changed."""
    header, description, tensors = parts(data)
    change(description)
    header["__metadata__"]["model"] = json.dumps(description)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + tensors


def nodes(description: dict[str, Any], operation: str) -> list[dict[str, Any]]:
    return [node for node in description["nodes"] if node["op"] == operation]


def call(target: str, *arguments: Any, **keywords: Any) -> Change:
    """Have the first call of a graph be another one."""

    def change(description: dict[str, Any]) -> None:
        image = {"node": nodes(description, "placeholder")[0]["name"]}
        given = [image if argument is IMAGE else argument for argument in arguments]
        nodes(description, "call_function")[0].update(target=target, args=given, kwargs=keywords)

    return change


def put(where: str, **values: Any) -> Change:
    """Put values in the first node of an operation."""
    return lambda description: nodes(description, where)[0].update(values)


def tell(**values: Any) -> Change:
    return lambda description: description["info"].update(values)


def tell_layer(**values: Any) -> Change:
    return lambda description: description["info"]["layers"][0].update(values)


def square_sizes(description: dict[str, Any]) -> None:
    """Square a size again and again: it would have as many digits as the memory holds."""
    image = nodes(description, "placeholder")[0]
    plain = {"kwargs": {}, "layers": [], "stack": [], "batch": [0, 1], "value": None, "op": "call_function"}
    chain = [{"name": "s0", "target": "aten.sym_size.int", "args": [{"node": image["name"]}, 2], **plain}]
    for place in range(60):
        twice = [{"node": f"s{place}"}] * 2
        chain.append({"name": f"s{place + 1}", "target": "operator.mul", "args": twice, **plain})
    description["nodes"][-1:-1] = chain


IMAGE = object()

FORGED: dict[str, Change] = {
    "a file": call("aten.from_file.default", "/etc/passwd"),
    "a file written": call("aten.save.default", IMAGE, "/tmp/x"),
    "memory as it is": call("aten.empty.memory_format", [4]),
    "any strides": call("aten.as_strided.default", IMAGE, [9], [9]),
    "a change in place": call("aten.add_.Tensor", IMAGE, 1),
    "an argument to write to": call("aten.add.out", IMAGE, 1, out={"node": "x"}),
    "random numbers": call("aten.rand_like.default", IMAGE),
    "random numbers of training": call("aten.dropout.default", IMAGE, 0.5, True),
    "random numbers of attention": call("aten.scaled_dot_product_attention.default", IMAGE, IMAGE, IMAGE, None, 0.5),
    "another's operator": call("torchvision.nms.default", IMAGE, IMAGE, 0.5),
    "Python's functions": call("builtins.eval", "1"),
    "Python's operators": call("operator.attrgetter", "__class__"),
    "a list repeated": call("operator.mul", [1], 2**40),
    "a path into torch": call("aten.__class__.default", IMAGE),
    "an argument of no schema": call("aten.relu.default", IMAGE, more=1),
    "too many arguments": call("aten.relu.default", IMAGE, 1, 2),
    "a number for a type": call("aten.full.default", [1], 0.5, dtype=1),
    "a type of torch's insides": call("aten.relu.default", {"constant": "ops"}),
    "a type that is quantised": call("aten.full.default", [1], 0.5, dtype={"constant": "quint8"}),
    "a sparse layout": call("aten.full.default", [1], 0.5, layout={"constant": "sparse_coo"}),
    "a method": put("call_function", op="call_method", target="numpy"),
    "a module": put("call_function", op="call_module", target="first"),
    "a tensor that is not there": put("get_attr", target="forward"),
    "two inputs": lambda description: description["nodes"].insert(0, description["nodes"][0] | {"op": "placeholder"}),
    "a node before it is there": put("call_function", args=[{"node": "output"}]),
    "two nodes of a name": lambda description: description["nodes"].insert(0, description["nodes"][0]),
    "no output": lambda description: description["nodes"].pop(),
    "a size of endless digits": square_sizes,
    "lists in lists": put("call_function", args=[[[[[[]]]]]]),
    "a value of endless size": put("call_function", value={"shape": [2**40, 2**40], "type": {"constant": "int8"}}),
    "a value of a negative size": put("call_function", value={"shape": [-1], "type": {"constant": "int8"}}),
    "a batch axis that is none": put("call_function", batch=[-1, 0]),
    "a layer that is no text": put("call_function", layers=[[1, 2]]),
    "a model without a name": tell(name=None),
    "a model with a name for a list": tell(name=["small"]),
    "private for a text": tell(private="no"),
    "a kind that is none": tell(kind="boxes"),
    "no class names": tell(class_names=[]),
    "a size of outputs below zero": tell(output_shape=[-2]),
    "parameters below zero": tell(parameters=-1),
    "a digest that is none": tell(digest="../../x"),
    "a field that there is not": tell(more=1),
    "no standard deviation": lambda description: description["info"]["preprocessing"].update(std=[0, 0, 0]),
    "an interpolation that is none": lambda one: one["info"]["preprocessing"].update(interpolation="eval"),
    "pictures of endless size": lambda one: one["info"]["preprocessing"].update(size=[30_000, 30_000]),
    "numbers that are none": lambda one: one["info"]["preprocessing"].update(mean=[float("nan")] * 3),
    "a layer of no node": tell_layer(node="nowhere"),
    "a layer of endless size": tell_layer(shape=[2**62, 8, 8]),
    "a layer with another grid": tell_layer(grid=[9, 9]),
    "a layer with another layout": tell_layer(layout="tokens"),
}  # fmt: skip


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED.keys())
def test_what_is_not_listed_is_no_model(packed: bytes, change: Change) -> None:
    with pytest.raises(ModelError, match="do not hold a model"):
        unpack(forged(packed, change))


@pytest.mark.parametrize(
    "change",
    [
        call("aten.full.default", [2**20, 2**20, 2**10], 0.5),
        call("aten.repeat.default", IMAGE, [2**12, 1, 2**12, 2**12]),
        tell_layer(shape=[3, 8, 8]),
        put("placeholder", value={"shape": [2, 3, 9, 9], "type": {"constant": "float32"}}),
        put("placeholder", value={"shape": [2**30, 3, 8, 8], "type": {"constant": "float32"}}),
        tell(output_shape=[3], class_names=["a", "b", "c"]),
    ],
    ids=["a constant of terabytes", "a value of terabytes", "a layer", "images", "a batch", "the output"],
)
def test_a_worker_is_not_believed_what_sizes_values_have(packed: bytes, change: Change) -> None:
    with pytest.raises(ModelError):
        receive(forged(packed, change))


def test_shapes_of_values_are_those_that_calls_give(packed: bytes) -> None:
    wrong = put("call_function", value={"shape": [2, 77], "type": {"constant": "int8"}})
    honest, found = unpack(packed), receive(forged(packed, wrong))
    for ours, theirs in zip(honest.program.graph.nodes, found.program.graph.nodes, strict=True):
        assert str(ours.meta["val"]) == str(theirs.meta["val"])
    assert pack(receive(packed)) == packed


def places(item: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in plain data."""
    yield path
    for key, one in item.items() if isinstance(item, dict) else enumerate(item) if isinstance(item, list) else ():
        yield from places(one, (*path, key))


def change_at(data: Any, path: tuple[Any, ...], value: Any, *, key: bool = False) -> Any:
    """A copy of plain data with another value, or another key, at a place."""
    changed = copy.deepcopy(data)
    inner = changed
    for step in path[:-1]:
        inner = inner[step]
    if key:
        inner[value] = inner.pop(path[-1])
    else:
        inner[path[-1]] = value
    return changed


def repack(data: bytes, description: Any) -> bytes:
    """The bytes of a model with another description."""

    def change(old: dict[str, Any]) -> None:
        old.clear()
        old.update(description)

    return forged(data, change)


def calls_of(model: Model) -> list[Any]:
    return [node.target for node in model.program.graph.nodes if node.op == "call_function"]


def test_no_text_of_a_model_is_run_as_python(packed: bytes, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    code = f"open({str(ran)!r}, 'w')"
    texts = [f"x={code}", f"x):\n    pass\n{code}\ndef forward(self"]
    _, description, _ = parts(packed)
    description["nodes"][-2]["kwargs"] = {"bias": None}
    strings = [place for place in places(description) if place]
    for place in strings:
        found = description
        for step in place:
            found = found[step]
        for text in texts:
            for changed in [change_at(description, place, text)] * isinstance(found, str) + (
                [change_at(description, place, text, key=True)] if place[-2:-1] == ("kwargs",) else []
            ):
                try:
                    unpack(repack(packed, changed))
                except ModelError:
                    continue
                finally:
                    assert not ran.exists(), place


VALUES: list[Any] = [
    None, True, -1, 0, 3, 2**40, 2**70, 0.5, float("nan"), float("inf"), "", "x", "output", "forward", "__class__", [],
    {}, [[]], {"node": "output"}, {"constant": "ops"}, {"constant": "float32"}, "aten.add_.Tensor",
    "aten.empty.memory_format",    "operator.mul", "aten.relu.default", "call_method", "get_attr", [1, 2], "\ud800",
]  # fmt: skip


def mutations(description: Any, count: int, seed: int) -> Iterator[Any]:
    """Descriptions in which up to three values are others, or are not there."""
    chance = random.Random(seed)
    for _ in range(count):
        changed = description
        for _ in range(chance.randint(1, 3)):
            path = chance.choice([place for place in places(changed) if place])
            changed = change_at(changed, path, chance.choice(VALUES))
        yield changed


def check_mutations(packed: bytes, count: int, seed: int) -> tuple[int, int]:
    """Try changed models; returns how many were read and how many refused."""
    read = refused = 0
    for changed in mutations(parts(packed)[1], count, seed):
        try:
            model = unpack(repack(packed, changed))
        except ModelError:
            refused += 1
            continue
        read += 1
        assert all(calls.find(calls_name(target)) is target for target in calls_of(model))
        assert all(calls.is_functional(target) for target in calls_of(model))
    return read, refused


def calls_name(target: Any) -> str:
    return f"operator.{target.__name__}" if getattr(target, "__module__", "") == "_operator" else str(target)


def test_a_changed_model_is_refused_or_calls_what_is_listed(packed: bytes) -> None:
    read, refused = check_mutations(packed, 250, 0)
    assert read
    assert refused


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(1, 21))
def test_any_changed_model_is_refused_or_calls_what_is_listed(packed: bytes, seed: int) -> None:
    check_mutations(packed, 1000, seed)


def test_a_graph_that_changes_values_is_not_packed() -> None:
    model = export(Small().eval(), "small", Preprocessing((8, 8), 8))
    node = next(node for node in model.program.graph.nodes if node.target == torch.ops.aten.gelu.default)
    node.target, node.kwargs = torch.ops.aten.relu_.default, {}
    with pytest.raises(ModelError, match="not safe to call"):
        pack(model)


def test_a_graph_that_draws_random_numbers_is_not_packed() -> None:
    model = export(Small().eval(), "small", Preprocessing((8, 8), 8))
    node = next(node for node in model.program.graph.nodes if node.target == torch.ops.aten.gelu.default)
    node.target, node.args, node.kwargs = torch.ops.aten.rrelu.default, (node.args[0], 0.1, 0.3, False), {}
    assert calls_of(unpack(pack(model)))
    node.args = (*node.args[:3], True)
    with pytest.raises(ModelError, match="draws random numbers"):
        pack(model)
