"""Programs of ``torch.export``: whatever is safe is opened, and gives what eager torch gives."""

from __future__ import annotations

import io
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import checkpoint

from explainers.errors import ModelError, UnsafeFileError
from explainers.graph import calls
from explainers.graph.loader import load, propose
from explainers.graph.model import Model
from explainers.graph.stored import pack, unpack
from explainers.relevance.operators import RULES
from tests.model_files import archived, members_of, with_wrapped, zipped

IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Network(nn.Module):
    """A convolution, any function of its maps, and a linear layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution, self.linear = nn.Conv2d(3, 8, 3, padding=1), nn.LazyLinear(4)
        self.function = function
        self(IMAGES)

    def forward(self, images: Tensor) -> Any:
        return self.linear(self.function(self.convolution(images)).flatten(2).mean(2))


def opened(module: nn.Module, **given: Any) -> Model:
    return load(archived(module, torch.zeros(2, 3, 16, 16)), "net.pt2", **given)


def agree(module: nn.Module, model: Model, tolerance: float = 1e-6) -> None:
    with torch.no_grad():
        torch.testing.assert_close(model(IMAGES), module(IMAGES), rtol=tolerance, atol=tolerance)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mT": lambda maps: maps.mT,
    "concat": lambda maps: torch.concat([maps[:, :4], maps[:, 4:]], 1),
    "clip": lambda maps: maps.clip(0, 1),
    "logsigmoid": functional.logsigmoid,
    "max pooling with its indices": lambda maps: functional.max_unpool2d(
        *functional.max_pool2d(maps, 2, return_indices=True), 2
    ),
    "trilinear": lambda maps: functional.interpolate(maps[:, :, None], (2, 8, 8), mode="trilinear"),
    "median": lambda maps: maps.median(-1)[0],
    "sort": lambda maps: maps.flatten(2).sort(-1)[0],
    "lerp": lambda maps: torch.lerp(maps, maps.square(), 0.3),
    "Fourier": lambda maps: torch.fft.irfft2(torch.fft.rfft2(maps) * 0.5, s=(16, 16)),
    "sampling on a grid": lambda maps: functional.grid_sample(
        maps,
        functional.affine_grid(maps[:, :2, 0, :3], maps.shape, align_corners=False),
        align_corners=False,
    ),
    "a mask of infinities": lambda maps: maps.masked_fill(maps > 0, -torch.inf).clamp(min=-9.0).nan_to_num(torch.nan),
    "bits": lambda maps: torch.where((maps > 0) & (maps < 1) | (maps < -1), maps, 0.0),
    "an einsum": lambda maps: torch.einsum("b...hw,bch->bch", maps, maps[..., 0]),
    "windows": lambda maps: maps.unfold(2, 4, 4).unfold(3, 4, 4),
    "rounding down": lambda maps: torch.div(maps, 0.5, rounding_mode="floor"),
    "a write over a value": lambda maps: maps.clone().clamp_(min=-1).mul_(maps),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_safe_operator_is_opened_and_kept(name: str) -> None:
    module = Network(FUNCTIONS[name]).eval()
    model = opened(module)
    agree(module, model)
    agree(module, unpack(pack(model)))


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
def test_a_recurrent_layer_is_opened(kind: type[nn.RNNBase]) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.recurrent = kind(48, 5, batch_first=True, bidirectional=True)

        def forward(self, images: Tensor) -> Tensor:
            return self.recurrent(images.transpose(1, 2).flatten(2))[0][:, -1]

    module = Recurrent().eval()
    agree(module, opened(module))


def test_a_convolution_that_looks_where_it_likes_is_opened() -> None:
    vision = pytest.importorskip("torchvision.ops")

    class Deformable(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.offset, self.convolution = nn.Conv2d(3, 18, 3, padding=1), vision.DeformConv2d(3, 4, 3, padding=1)

        def forward(self, images: Tensor) -> Tensor:
            return self.convolution(images, self.offset(images)).mean((2, 3))

    module = Deformable().eval()
    agree(module, unpack(pack(opened(module))), 1e-5)


#: Operators whose relevance is known, but which read memory, trust numbers, or have results of unknown sizes.
UNSAFE = re.compile(
    r"aten\.(as_strided|fractional_max_pool|_fft_|masked_select|repeat_interleave\.Tensor|range|\w+\.data|_?native_batch_norm|linalg_eig).*"
)


def test_whatever_has_a_relevance_rule_may_stand_in_a_file() -> None:
    dispatched = [called for called in RULES if calls.look_up(str(called)) and not called._schema.is_mutable]
    refused = [str(called) for called in dispatched if calls.find(str(called)) is None]
    assert [name for name in refused if not UNSAFE.fullmatch(name)] == []


#: Operators that read or write memory, files, generators or the state of torch, or are of another kind of tensor.
REFUSED = """
aten.save.default aten.from_file.default aten.empty.memory_format aten.empty_like.default aten.new_empty.default
aten.resize_.default aten.set_.source_Tensor aten.as_strided.default aten.rand_like.default aten.bernoulli_.float
aten.normal_.default aten.randperm.default aten._print.default aten.item.default aten.bincount.default
aten.nonzero.default aten.add.out aten.add_.nothing aten.add aten.record_stream.default aten.set_data.default
aten.requires_grad_.default aten.to_sparse.default aten.quantize_per_tensor.default aten.mkldnn_convolution.default
aten.max_pool2d_with_indices_backward.default aten.retain_grad.default aten.__interpolate.scale_list
aten._weight_norm.default aten.linalg_eigvals.default aten.lstm.data aten.range.step
aten.native_batch_norm.default aten.__getitem__.t
operator.methodcaller operator.attrgetter operator.__class__ prim.device.default builtins.eval
"""


@pytest.mark.parametrize("name", REFUSED.split())
def test_what_is_more_than_a_function_of_its_arguments_is_not_called(name: str) -> None:
    assert calls.find(name) is None


class Wrapped(nn.Module):
    """A network of which a part runs under a setting, and inside of that another."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.kind = nn.Conv2d(3, 8, 3), nn.Linear(8, 4), kind

    def forward(self, images: Tensor) -> Tensor:
        if self.kind == "no_grad":
            with torch.no_grad():
                maps = self.first(images)
                powers = maps.relu()
            return self.last((maps + powers).mean((2, 3)))
        if self.kind == "nested":
            with torch.autocast("cpu", enabled=False):
                maps = self.first(images)
                with torch.no_grad():
                    weights = maps.sigmoid()
                maps = maps * weights
            return self.last(maps.relu().mean((2, 3)))
        if self.kind == "checkpoint":
            maps = checkpoint.checkpoint(lambda given: self.first(given).relu(), images, use_reentrant=False)
            return self.last(maps.mean((2, 3)))
        with torch.no_grad():
            maps = self.first(images)
        with torch.no_grad():
            return self.last(maps.relu().mean((2, 3)))


@pytest.mark.parametrize("kind", ["no_grad", "nested", "checkpoint", "twice"])
def test_a_part_under_a_setting_is_a_part_like_any_other(kind: str) -> None:
    module = Wrapped(kind).eval()
    model = opened(module)
    agree(module, model)
    assert [layer.name for layer in model.info.layers] == ["first", "last"]


def test_a_part_that_runs_in_half_precision_is_computed_in_single() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

        def forward(self, images: Tensor) -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                maps = self.first(images).relu()
            return self.last(maps.float().mean((2, 3)))

    module = Half().eval()
    model = opened(module)
    single = module.last(module.first(IMAGES).relu().mean((2, 3)))
    torch.testing.assert_close(model(IMAGES), single, rtol=1e-6, atol=1e-6)
    assert "half or double precision" in model.info.notes[-1]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 1e-3), (torch.bfloat16, 1e-2), (torch.float64, 1e-6)])
def test_a_program_of_another_precision_is_computed_in_single(dtype: torch.dtype, tolerance: float) -> None:
    module = Network(torch.relu).eval()
    data = archived(Network(torch.relu).eval().to(dtype), torch.zeros(2, 3, 16, 16, dtype=dtype))
    agree(module, load(data, "half.pt2"), tolerance)


def test_a_program_exported_in_training_mode_infers() -> None:
    layers = (
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.InstanceNorm2d(4, track_running_stats=True), nn.Dropout(),
        nn.RReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip
    module = nn.Sequential(*layers).eval()
    for layer in layers:
        layer.training = True  # the export script forgot eval()
    model = opened(module)
    agree(module.eval(), model)


def test_a_weight_norm_is_written_out_as_it_trusts_its_sizes() -> None:
    layers = (
        nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.utils.parametrizations.weight_norm(nn.Linear(4, 2), dim=1),
    )  # fmt: skip
    module = nn.Sequential(*layers).eval()
    model = opened(module)
    agree(module, model)
    assert "aten._weight_norm.default" not in model.info.operators


def test_a_program_in_core_operators_is_opened() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    module.eval()[1].running_mean += 1
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(module, (torch.zeros(2, 3, 16, 16),), dynamic_shapes=shapes)
    buffer = io.BytesIO()
    torch.export.save(program.run_decompositions(), buffer)
    agree(module, load(buffer.getvalue(), "core.pt2"))


def test_a_number_for_a_type_is_refused_as_torch_trusts_it() -> None:
    class Typed(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.double().float().mean((2, 3))

    members = members_of(archived(Typed(), torch.zeros(2, 3, 8, 8)))
    program = members["models/model.json"].decode().replace('{"as_scalar_type": 8}', '{"as_int": -1}')
    with pytest.raises(UnsafeFileError, match=r"calls aten.to.dtype with a number for a type"):
        propose(zipped(members | {"models/model.json": program.encode()}), "net.pt2")


# Several outputs


class Several(nn.Module):
    """Gives maps, scores, an index and nothing, in a structure."""

    def __init__(self, structure: Callable[..., Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.structure = nn.Conv2d(3, 8, 3), nn.Linear(8, 4), structure

    def parts(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.first(images)
        return maps, self.last(maps.relu().mean((2, 3)))

    def forward(self, images: Tensor) -> Any:
        return self.structure(*self.parts(images))


@dataclass
class Findings:
    loss: Tensor | None
    logits: Tensor
    features: tuple[Tensor, ...]


torch.export.register_dataclass(Findings, serialized_type_name="tests.Findings")

STRUCTURES: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "tuple": (lambda maps, scores: (maps, scores), ("output 2", "output 1")),
    "dictionary": (
        lambda maps, scores: {"logits": scores, "hidden_states": None, "index": scores.argmax(1), "maps": [maps, maps]},
        ("logits", "maps.1", "maps.2"),
    ),
    "ordered dictionary": (lambda maps, scores: OrderedDict(out=maps, aux=maps.relu()), ("out", "aux")),
    "dataclass": (lambda maps, scores: Findings(None, scores, (maps,)), ("logits", "features.1")),
    "dictionary of one": (lambda maps, scores: {"out": scores, "loss": scores.mean()}, ()),
    "list of one": (lambda maps, scores: [scores], ()),
    "constants beside": (lambda maps, scores: (scores, 3, "text", maps.shape[0], None), ()),
}


@pytest.mark.parametrize("kind", STRUCTURES)
def test_the_outputs_of_a_program_are_listed_by_their_names(kind: str) -> None:
    structure, names = STRUCTURES[kind]
    proposal = propose(archived(Several(structure).eval(), torch.zeros(2, 3, 16, 16)), "net.pt2")
    assert tuple(output.name for output in proposal.outputs) == names
    assert proposal.classes == (8 if kind == "ordered dictionary" else 4)
    assert ("is explained, not" in proposal.notes[-1]) == bool(names)


def test_one_of_several_outputs_is_opened_with_what_it_needs() -> None:
    module = Several(STRUCTURES["dictionary"][0]).eval()
    data = archived(module, torch.zeros(2, 3, 16, 16))
    chosen = propose(data, "net.pt2", output="maps.1")
    assert (chosen.outputs[0].name, chosen.outputs[0].shape) == ("maps.1", (8, 14, 14))
    assert chosen.classes == 8
    model = load(data, "net.pt2", output="maps.1")
    torch.testing.assert_close(model(IMAGES), module.parts(IMAGES)[0].detach())
    assert "aten.linear.default" not in model.info.operators
    torch.testing.assert_close(load(data, "net.pt2")(IMAGES), module.parts(IMAGES)[1].detach())


def test_an_unknown_output_is_refused_with_those_there_are() -> None:
    data = archived(Several(STRUCTURES["dictionary"][0]).eval(), torch.zeros(2, 3, 16, 16))
    with pytest.raises(ModelError, match=r"no output 'index'. Choose one of logits, maps.1, maps.2."):
        propose(data, "net.pt2", output="index")


def test_an_unsafe_call_that_no_output_needs_is_left_out() -> None:
    class Counting(nn.Module):
        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            return images.mean((2, 3)), torch.rand_like(images)

    assert "aten.rand_like.default" not in opened(Counting(), output="output 1").info.operators
    with pytest.raises(ModelError, match="draws random numbers"):
        opened(Counting(), output="output 2")


def test_an_option_beside_the_images_is_as_it_was_exported() -> None:
    class Optional(nn.Module):
        def forward(self, images: Tensor, double: bool, mask: Tensor | None) -> Tensor:
            return images.mean((2, 3)) * (2 if double else 1)

    buffer, batch = io.BytesIO(), torch.export.Dim("batch")
    arguments, shapes = (torch.zeros(2, 3, 8, 8), True, None), ({0: batch}, None, None)
    torch.export.save(torch.export.export(Optional(), arguments, dynamic_shapes=shapes), buffer)
    torch.testing.assert_close(
        load(buffer.getvalue(), "a.pt2")(IMAGES[:, :, :8, :8]), 2 * IMAGES[:, :, :8, :8].mean((2, 3))
    )


def test_nothing_unsafe_is_opened_inside_of_no_grad() -> None:
    assert load(zipped(with_wrapped()), "net.pt2").info.output_shape == (5,)
    with pytest.raises(UnsafeFileError, match=r"aten.from_file"):
        load(zipped(with_wrapped("torch.ops.aten.from_file.default")), "net.pt2")
