"""Pickles read as plain data: what training code writes beside the weights, and what attacks would do elsewhere."""

from __future__ import annotations

import argparse
import collections
import datetime
import enum
import pathlib
import pickle
import types
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explainers.errors import ModelError
from explainers.graph.checkpoint import read_pickle
from explainers.graph.networks import read_checkpoint
from explainers.graph.pickles import Array, Name, StandIn
from tests.model_files import assembled, members_of, saved, text, zipped


class Stage(enum.Enum):
    TRAINING = 1


class AttributeDict(dict[str, Any]):
    """As Lightning keeps its hyper-parameters."""


class Tagged(Tensor):
    """As fastai's tensors are of classes of their own."""


SECRETS: list[str] = []


class Careless:
    """Its constructor and its state would be heard of if they ran."""

    def __init__(self, number: int) -> None:
        SECRETS.append("constructed")

    def __reduce__(self) -> tuple[Any, ...]:
        return Careless, (1,), {"a": 2}

    def __setstate__(self, state: Any) -> None:
        SECRETS.append("restored")


BESIDE: dict[str, Any] = {
    "argparse.Namespace": argparse.Namespace(lr=0.1, model="resnet10t"),
    "path": pathlib.PosixPath("/data"),
    "NumPy number": np.float64(0.93),
    "NumPy array of objects": np.array([None, "a"], dtype=object),
    "date": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    "namespace": types.SimpleNamespace(a=1),
    "default dict": collections.defaultdict(list, {"loss": [1.0]}),
    "set": {1, 2},
    "member of an enumeration": Stage.TRAINING,
    "hyper-parameters": AttributeDict(lr=0.1),
    "own class": Careless(1),
    "type and device": [torch.float16, torch.device("cuda:0"), torch.Size([1])],
    "state of a generator": np.random.default_rng(0),
    "function": torch.nn.functional.relu,
    "sparse tensor": torch.eye(2).to_sparse(),
}


@pytest.mark.parametrize("beside", BESIDE.values(), ids=BESIDE)
@pytest.mark.parametrize("newer", [True, False], ids=["zip", "older"])
def test_what_stands_beside_the_weights_does_not_keep_them_from_being_read(beside: Any, newer: bool) -> None:
    SECRETS.clear()
    content = {"state_dict": {"a.weight": torch.arange(6.0).view(2, 3)}, "beside": beside}
    weights = read_checkpoint(saved(content, _use_new_zipfile_serialization=newer))
    assert torch.equal(weights.tensors["a.weight"], torch.arange(6.0).view(2, 3))
    assert not SECRETS


TENSORS: dict[str, Tensor] = {
    "parameter": nn.Parameter(torch.randn(3, 4)),
    "view": torch.randn(5, 6)[1:3, ::2].t(),
    "half": torch.randn(3).half(),
    "bfloat16": torch.randn(3).bfloat16(),
    "unsigned": torch.tensor([1, 2], dtype=torch.uint16),
    "float8": torch.randn(3).to(torch.float8_e4m3fn),
    "number": torch.tensor(3),
    "empty": torch.empty(0, 2),
    "truth values": torch.tensor([True, False]),
    "subclass": torch.randn(2).as_subclass(Tagged),
}


@pytest.mark.parametrize("tensor", TENSORS.values(), ids=TENSORS)
@pytest.mark.parametrize(
    "write",
    [
        saved,
        lambda content: saved(content, _use_new_zipfile_serialization=False),
        lambda content: saved(content, pickle_protocol=4),
        lambda content: pickle.dumps(content),
    ],
    ids=["zip", "older", "protocol 4", "plain pickle"],
)
def test_tensors_are_those_that_torch_wrote(tensor: Tensor, write: Callable[[Any], bytes]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # plain pickles of tensors go by storages that torch would like to hide
        found = read_pickle(write({"a": tensor}))["a"]
    expected = tensor.detach().as_subclass(Tensor)
    assert found.dtype == expected.dtype
    assert torch.equal(found.view(-1).float() if "8" in str(found.dtype) else found, expected.to(found.dtype).float())


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("kind", ["f4", ">f4", "f8", "i8", "u1", "b1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_those_that_numpy_wrote(protocol: int, kind: str, order: Any) -> None:
    values = np.asarray(np.arange(6).reshape(2, 3), kind, order)
    found = read_pickle(pickle.dumps({"a": values}, protocol=protocol))["a"]
    assert isinstance(found, Array)
    tensor = found.tensor()
    assert tensor is not None
    assert np.array_equal(tensor.numpy(), values)


def test_the_tensors_of_a_whole_network_are_those_of_its_state_dict() -> None:
    inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    module = nn.Sequential(inner, nn.ReLU(), inner[0], nn.Linear(4, 2))
    module.register_buffer("passing", torch.zeros(2), persistent=False)
    for content in (saved(module), saved({"model": module}), saved(module, _use_new_zipfile_serialization=False)):
        weights = read_checkpoint(content)
        assert list(weights.tensors) == list(module.state_dict())
        assert all(torch.equal(weights.tensors[name], one) for name, one in module.state_dict().items())
        assert any("whole network of the class torch.nn.modules.container.Sequential" in note for note in weights.notes)


def read_steps(*steps: bytes) -> Any:
    return read_pickle(assembled(*steps))


def test_a_state_never_becomes_an_attribute() -> None:
    state = text("__class__") + text("x") + text("build") + text("y")
    found = read_steps(b"cargparse\nNamespace\n)\x81(", state, b"db.")
    assert (type(found), callable(found.build)) == (StandIn, True)
    named = read_steps(b"cargparse\nNamespace\n(", text("__setstate__"), b"cbuiltins\nobject\ndb.")
    assert named == Name("argparse.Namespace")


def test_keys_that_could_be_hashed_without_end_are_dropped() -> None:
    deep = b")" + b"\x85" * 500_000
    assert read_steps(b"}", deep, b"K\x01s", text("a"), b"K\x02s.") == {"a": 2}


def test_a_small_file_of_references_to_itself_stays_small() -> None:
    doubled = b"]" + b"".join(
        b"q" + bytes([place]) + b"](h" + bytes([place]) * 1 + b"h" + bytes([place]) + b"e" for place in range(60)
    )
    found = read_steps(doubled, b".")
    assert len(found) == 2
    with pytest.raises(ModelError, match="no named tensors"):
        read_checkpoint(assembled(b"}q\x00", text("a"), b"h\x00s."))
    loop = read_steps(b"}q\x00", text("a"), b"h\x00s.")
    assert loop["a"] is loop


@pytest.mark.parametrize(
    "steps",
    [
        (b"R.",),
        (b"K\x01)R.",),
        (b"cos.path\n\n.",),
        (b"(K\x01tQ.",),
        (b"P0\n.",),
        (b"\x97.",),
        (b"cnumpy\nndarray\n}R.",),
        (b"ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x02K\x03tR.",),
        (b"ctorch.storage\n_load_from_bytes\n(C\x03abctR.",),
    ],
)
def test_a_pickle_that_makes_no_sense_is_refused_in_a_sentence(steps: tuple[bytes, ...]) -> None:
    with pytest.raises(ModelError) as caught:
        read_steps(*steps)
    assert str(caught.value).isprintable()


def test_a_tensor_never_reaches_beyond_its_storage() -> None:
    members = members_of(saved({"a": torch.zeros(2)}))
    wide = members["data.pkl"].replace(b"K\x02\x85", b"K\xff\x85")
    assert wide != members["data.pkl"]
    with pytest.raises(ModelError, match="out of bounds"):
        read_pickle(zipped(members | {"data.pkl": wide}))
