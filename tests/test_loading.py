"""Model files: what is read, what is proposed, what is refused and in which words; hostile files run nothing."""

from __future__ import annotations

import io
import json
import random
import warnings
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from skimage import data as photographs
from torch import Tensor, nn

from explainers.errors import ModelError, UnsafeFileError
from explainers.graph.class_names import read_class_names
from explainers.graph.export import export
from explainers.graph.loader import load, propose
from explainers.graph.networks import read_checkpoint
from explainers.graph.zoo import build
from explainers.preprocessing import Preprocessing
from sample_models import efficientnet_lite0
from tests.model_files import (
    LURKING,
    PICKLES,
    RUNNING,
    Touch,
    archived,
    code,
    edited,
    edited_program,
    members_of,
    resnet,
    saved,
    tiny,
    tiny_archive,
    with_member,
    zipped,
)

SMALL = Preprocessing((64, 64), 64)
TINY = Preprocessing((16, 16), 16)


def images(size: int, count: int = 3) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def renamed(prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in resnet().state_dict().items()}


# What is read


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plain.safetensors", lambda: safetensors.torch.save(resnet().state_dict())),
        ("plain.pt", lambda: saved(resnet().state_dict())),
        ("program.pt2", lambda: archived(resnet(), torch.zeros(2, 3, 64, 64))),
    ],
)
def test_the_same_weights_give_the_same_outputs_and_digest_from_every_format(
    name: str, content: Callable[[], bytes]
) -> None:
    model = load(content(), name, preprocessing=SMALL)
    torch.testing.assert_close(model(images(64)), resnet()(images(64)), rtol=1e-4, atol=1e-5)
    assert model.info.weights_digest == export(resnet(), "resnet", SMALL).info.weights_digest
    assert model.info.name == name.split(".")[0]


@pytest.mark.parametrize(
    "content",
    [
        lambda: saved(resnet().state_dict(), _use_new_zipfile_serialization=False),
        lambda: saved({"state_dict": renamed("module."), "epoch": 3, "best": 0.7}),
        lambda: saved({"model": renamed("_orig_mod."), "optimizer": {"lr": 0.1}}),
        lambda: saved({"checkpoint": 1, "state_dict": {"model": renamed("model.")}}),
        lambda: saved(
            {"model_ema": {"n_averaged": torch.tensor(3), **renamed("module.")}, "model": {"a": torch.zeros(1)}}
        ),
    ],
    ids=["old", "parallel", "compiled", "nested", "averaged"],
)
def test_wrappers_of_training_scripts_are_taken_away(content: Callable[[], bytes]) -> None:
    weights = read_checkpoint(content())
    assert weights.tensors.keys() == resnet().state_dict().keys()
    assert all(torch.equal(tensor, resnet().state_dict()[name]) for name, tensor in weights.tensors.items())


@pytest.mark.parametrize("name", ["resnet18", pytest.param("resnet50", marks=pytest.mark.exhaustive)])
def test_a_resnet_predicts_the_same_with_one_digest_as_checkpoint_and_archive_in_timm_and_torchvision(
    name: str,
) -> None:
    torch.manual_seed(0)
    module = build(f"torchvision/{name}", 1000).eval()
    checkpoint = load(saved(module.state_dict()), f"{name}.pth", architecture=f"timm/{name}")
    archive = load(archived(module, torch.zeros(2, 3, 224, 224)), f"{name}.pt2")
    expected = module(images(224, 1))
    for model in (checkpoint, archive):
        assert (model(images(224, 1)) - expected).abs().max() < 1e-4 * expected.abs().max()
        assert model.info.class_names[1] == "goldfish"
    assert checkpoint.info.weights_digest == archive.info.weights_digest


def test_the_shipped_efficientnet_sees_an_espresso() -> None:
    model = efficientnet_lite0.load()
    preprocessing = model.info.preprocessing
    coffee = torch.from_numpy(preprocessing.normalise(preprocessing.crop(photographs.coffee())))[None]
    probabilities = model(coffee).softmax(1)[0]
    best = int(probabilities.argmax())
    assert (model.info.name, model.info.class_names[best]) == ("efficientnet-lite0", "espresso")
    assert probabilities[best] > 0.9
    assert any("taken in order" in note for note in model.info.notes)


def test_half_precision_weights_are_computed_in_single_precision() -> None:
    half = {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in resnet().state_dict().items()
    }
    model = load(saved(half), "half.pt", preprocessing=SMALL)
    assert model(images(64)).dtype == torch.float32
    torch.testing.assert_close(model(images(64)), resnet()(images(64)), rtol=0.05, atol=0.01)


def test_a_head_in_a_sequence_is_taken_by_position() -> None:
    weights = resnet().state_dict()
    weights["fc.1.weight"], weights["fc.1.bias"] = weights.pop("fc.weight"), weights.pop("fc.bias")
    model = load(saved(weights), "dropout.pt", preprocessing=SMALL)
    torch.testing.assert_close(model(images(64)), resnet()(images(64)), rtol=1e-4, atol=1e-5)
    assert any("taken in order" in note for note in model.info.notes)


def test_safetensors_are_never_taken_by_position_as_they_keep_no_order() -> None:
    weights = {name.replace("layer1", "stage1"): tensor for name, tensor in resnet().state_dict().items()}
    assert load(saved(weights), "a.pt", preprocessing=SMALL)
    with pytest.raises(ModelError, match=r"missing \(layer1.0.conv1.weight .*unexpected \(stage1"):
        load(safetensors.torch.save(weights), "a.safetensors", architecture="timm/resnet10t")


def test_a_segmentation_model_gives_its_map_and_leaves_the_auxiliary_head_out() -> None:
    import torchvision

    torch.manual_seed(0)
    module = torchvision.models.segmentation.deeplabv3_mobilenet_v3_large(
        weights=None, weights_backbone=None, aux_loss=True
    ).eval()
    model = load(saved(module.state_dict()), "deeplab.pt", preprocessing=SMALL)
    assert model.info.output_shape == (21, 64, 64)
    assert model.info.class_names[8] == "cat"
    torch.testing.assert_close(model(images(64)), module(images(64))["out"], rtol=1e-4, atol=1e-4)
    assert any("aux_classifier" in note for note in model.info.notes)


def test_a_program_exported_in_training_mode_is_evaluated() -> None:
    module = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.Dropout(), nn.Flatten()).train()
    model = load(archived(module, torch.zeros(2, 3, 8, 8)), "training.pt2")
    torch.testing.assert_close(model(images(8)), module.eval()(images(8)), rtol=1e-4, atol=1e-5)


def test_a_program_exported_on_a_graphics_card_runs_on_the_processor() -> None:
    members = members_of(tiny_archive())
    for name in ("models/model.json", "data/weights/model_weights_config.json"):
        members[name] = members[name].replace(b'{"type": "cpu", "index": null}', b'{"type": "cuda", "index": 0}')
    model = load(zipped(members), "cuda.pt2")
    torch.testing.assert_close(model(images(16)), tiny()(images(16)), rtol=1e-4, atol=1e-5)


# What is proposed


def test_a_checkpoint_proposes_architecture_classes_and_preprocessing() -> None:
    weights = build("torchvision/resnet18", 7).state_dict()
    proposal = propose(saved({f"module.{name}": tensor for name, tensor in weights.items()}), "resnet18_best.pth")
    assert proposal.architecture == "torchvision/resnet18"
    assert "timm/resnet18" in [guess.architecture for guess in proposal.guesses]
    assert len(proposal.choices) > 1400
    assert (proposal.classes, proposal.channels, proposal.class_names) == (7, 3, ())
    assert proposal.preprocessing == Preprocessing((224, 224), 256, interpolation="bilinear")
    assert "The names in the file were prefixed by 'module.', which was taken away." in proposal.notes


def test_a_chosen_architecture_is_the_one_that_is_proposed_and_loaded() -> None:
    data = saved(resnet().state_dict())
    assert propose(data, "resnet.pt").architecture != "torchvision/resnet34"
    assert propose(data, "resnet.pt", "torchvision/resnet34").architecture == "torchvision/resnet34"


def test_greyscale_weights_propose_one_channel() -> None:
    weights = build("timm/mobilenetv3_small_050", 4, channels=1).state_dict()
    proposal = propose(safetensors.torch.save(weights), "xray.safetensors")
    assert (proposal.architecture, proposal.classes, proposal.channels) == ("timm/mobilenetv3_small_050", 4, 1)
    assert proposal.preprocessing.channels == 1
    assert load(safetensors.torch.save(weights), "xray.safetensors").info.output_shape == (4,)


def test_an_archive_proposes_what_its_program_takes() -> None:
    proposal = propose(tiny_archive(), "tiny.pt2")
    assert (proposal.format, proposal.classes, proposal.channels) == ("pt2", 5, 3)
    assert proposal.preprocessing.size == (16, 16)
    assert proposal.choices == ()


# What is refused, and in which words


class OnlyIndices(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)).argmax(1)


class NotFinite(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)) / 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: b"", "of 0 bytes, is no model file"),
        (lambda: b"hello, world", "is no model file"),
        (lambda: tiny_archive()[:-40], "no readable checkpoint"),  # the archive in it, of sample inputs, is found
        (lambda: saved(tiny().state_dict())[:-40], "archive is damaged"),
        (lambda: (1 << 40).to_bytes(8, "little") + b"{}" + bytes(90), "is no model file"),
        (lambda: (1 << 20).to_bytes(8, "little") + b"{}" + bytes(90), "header claims 1,048,576 bytes"),
        (lambda: (2).to_bytes(8, "little") + b"{]", "safetensors file is damaged"),
        (lambda: saved({}), "no named tensors"),
        (lambda: saved([torch.zeros(3)]), "no named tensors"),
        (lambda: saved({"a": torch.zeros(1).expand(1 << 31)}), "at most 20,000 tensors and 4,294,967,296 bytes"),
        (lambda: saved(tiny().state_dict()), "No architecture of timm or torchvision has tensors like these"),
        (lambda: archived(OnlyIndices(), torch.zeros(2, 3, 8, 8)), "no tensor of floating-point scores"),
        (lambda: archived(NotFinite(), torch.zeros(2, 3, 8, 8)), "not finite"),
        (
            lambda: archived(tiny(), torch.zeros(2, 3, 16, 16), fixed=True),
            r"2 x 3 x 16 x 16; leave .*Dim\(\"batch\"\)",
        ),
        (lambda: archived(nn.Flatten(), torch.zeros(2, 16, 16)), "does not map images"),
        (lambda: archived(nn.Identity(), torch.zeros(2, 3, 8, 8)), "gives its image back"),
    ],
)
def test_what_cannot_be_a_model_is_refused_in_a_sentence(content: Callable[[], bytes], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        load(content(), "file.pt")
    assert "\n" not in str(caught.value)


def test_a_state_dict_that_does_not_fit_is_refused_with_the_misfits() -> None:
    weights = resnet().state_dict() | {"fc.bias": torch.zeros(3)}
    with pytest.raises(ModelError, match=r"of the \d+ tensors agree; fc.bias is \(3,\) instead of \(7,\)"):
        load(saved(weights), "a.pt", architecture="timm/resnet10t")


def test_the_nearest_architectures_say_how_many_tensors_fit() -> None:
    proposal = propose(saved(resnet().state_dict() | {"extra.weight": torch.zeros(3)}), "a.pt")
    best = proposal.guesses[0]
    assert (best.architecture, best.tensors - best.fitting) == ("timm/resnet10t", 1)
    assert (
        f"No architecture fits exactly; {best.fitting} of {best.tensors} tensors fit timm/resnet10t." in proposal.notes
    )


def test_an_unknown_architecture_is_answered_with_the_nearest_names() -> None:
    with pytest.raises(ModelError, match=r"Did you mean .*timm/resnet18"):
        load(saved(resnet().state_dict()), "a.pt", architecture="timm/resnet-18")


def test_class_names_must_be_as_many_as_the_outputs() -> None:
    with pytest.raises(ModelError, match="The file names 2 classes, the model has 5"):
        load(tiny_archive(), "tiny.pt2", class_names=("cat", "dog"))


def test_preprocessing_must_have_the_channels_and_size_of_the_program() -> None:
    with pytest.raises(ModelError, match="has 1 means, the model takes 3 channels"):
        load(tiny_archive(), "tiny.pt2", preprocessing=Preprocessing((16, 16), 16, (0.5,), (0.5,)))
    with pytest.raises(ModelError, match=r"takes images of \(16, 16\), not of \(32, 32\)"):
        load(tiny_archive(), "tiny.pt2", preprocessing=Preprocessing((32, 32), 32))


# Hostile files


@pytest.mark.parametrize("wrap", PICKLES.values(), ids=PICKLES)
def test_a_pickled_object_is_refused_by_its_name_and_not_run(wrap: Callable[[Touch], bytes], tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    hostile = wrap(Touch(marker))
    with pytest.raises(UnsafeFileError, match=r"pickled object \(.*torch.save\(model.state_dict\(\)"):
        load(hostile, "weights.pt")
    assert not marker.exists()


def test_torchscript_is_refused_with_the_line_that_exports() -> None:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript as a whole is deprecated
        torch.jit.save(torch.jit.trace(tiny(), images(16)), buffer)
    with pytest.raises(UnsafeFileError, match=r"TorchScript.*torch.export.save"):
        load(buffer.getvalue(), "model.pt")


@pytest.mark.parametrize("attack", [*RUNNING, *LURKING])
def test_a_hostile_archive_is_refused_and_runs_nothing(attack: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    hostile = zipped((RUNNING | LURKING)[attack](marker))
    with pytest.raises(UnsafeFileError) as caught:
        load(hostile, "model.pt2")
    assert not marker.exists()
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("attack", RUNNING)
@pytest.mark.filterwarnings("ignore")
def test_torch_itself_would_run_the_code_of_such_an_archive(attack: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    with suppress(Exception):  # the code has run by then
        torch.export.load(io.BytesIO(zipped(RUNNING[attack](marker))))
    assert marker.exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda program, marker: program.update(guards_code=[code(marker)]),
        lambda program, marker: program["graph_module"]["module_call_graph"][0]["signature"].update(
            forward_arg_names=[f"x={code(marker)}"]
        ),
        lambda program, marker: program["graph_module"]["graph"]["nodes"][0]["metadata"].update(
            source_fn_stack="a,torch.os.system", custom='{"x": 1}'
        ),
    ],
    ids=["guards", "argument names", "metadata"],
)
def test_parts_that_could_become_code_are_left_out(change: Callable[[Any, Path], None], tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    model = load(zipped(edited_program(lambda program: change(program, marker))), "model.pt2")
    torch.testing.assert_close(model(images(16)), tiny()(images(16)), rtol=1e-4, atol=1e-5)
    assert not marker.exists()


def test_an_archive_of_the_older_format_is_refused_with_the_line_that_exports() -> None:
    old = {"version": b"8.20", "serialized_exported_program.json": b"{}", "serialized_state_dict.pt": b""}
    with pytest.raises(UnsafeFileError, match=r"torch 2.7 or older.*torch.export.save"):
        load(zipped(old, root=""), "old.pt2")


def test_compressed_members_are_refused_before_they_are_inflated() -> None:
    bomb = with_member("data/weights/weight_0", bytes(50_000_000))
    for name in ("models/model.json", "data.pkl"):
        with pytest.raises(ModelError, match="compressed, overlap or share a name"):
            load(zipped(bomb | {name: b"{}"}, compression=zipfile.ZIP_DEFLATED), "bomb.pt2")


def test_a_tensor_that_claims_more_numbers_than_are_loaded_is_refused() -> None:
    def inflate(content: Any) -> None:
        meta = content["config"]["0.weight"]["tensor_meta"]
        meta["sizes"], meta["strides"] = [{"as_int": 1 << 40}], [{"as_int": 0}]

    with pytest.raises(ModelError, match="1,099,511,627,"):
        load(zipped(edited("data/weights/model_weights_config.json", inflate)), "large.pt2")


def test_a_damaged_file_gives_a_sentence_or_a_proposal_but_no_other_error() -> None:
    dice = random.Random(0)
    files = [tiny_archive(), saved(tiny().state_dict()), safetensors.torch.save(tiny().state_dict())]
    files.append(saved(tiny().state_dict(), _use_new_zipfile_serialization=False))
    for turn in range(400):
        damaged = bytearray(files[turn % len(files)])
        for _ in range(dice.randint(1, 8)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        with suppress(ModelError):
            propose(bytes(damaged), "damaged.pt")


# Class names


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("names.txt", "cat\ndog\n\n", ("cat", "dog")),
        ("names.txt", "\ufeffcat\r\ndog with spaces\r\n", ("cat", "dog with spaces")),
        ("names.csv", "cat\ndog\n", ("cat", "dog")),
        ("names.csv", "index,name\n1,dog\n0,cat\n", ("cat", "dog")),
        ("names.csv", "name,colour\ncat,grey\ndog,brown\n", ("cat", "dog")),
        ("names.csv", '1;dog\n0;"cat; tabby"\n', ("cat; tabby", "dog")),
        ("names.csv", "n01,cat\nn02,dog\n", ("cat", "dog")),
        ("names.csv", "class_id,code,label\n1,n01,cat\n2,n02,dog\n", ("cat", "dog")),
        ("names.json", '["cat", "dog"]', ("cat", "dog")),
        ("names.json", '{"1": "dog", "0": "cat"}', ("cat", "dog")),
        ("names.json", '{"0": ["n01", "cat"], "1": ["n02", "dog"]}', ("cat", "dog")),
        ("names.json", '{"dog": 1, "cat": 0}', ("cat", "dog")),
        ("config.json", '{"id2label": {"0": "cat", "1": "dog"}, "label2id": {"cat": 0}}', ("cat", "dog")),
        (
            "coco.json",
            '{"images": [], "categories": [{"id": 7, "name": "dog"}, {"id": 2, "name": "cat"}]}',
            ("cat", "dog"),
        ),
        ("categories.json", '[{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]', ("cat", "dog")),
        ("index.json", '{"class_to_idx": {"dog": 1, "cat": 0}}', ("cat", "dog")),
        ("names.txt", "{0: 'tench, Tinca tinca',\n 1: \"potter's wheel\"}", ("tench, Tinca tinca", "potter's wheel")),
        ("data.yaml", "path: x\nnames:\n  0: cat\n  1: no\n", ("cat", "no")),
        ("data.yml", "nc: 2\nnames: [cat, dog]\n", ("cat", "dog")),
        ("names.txt", "0 cat\n1 dog\n", ("cat", "dog")),
        ("names.txt", "2: dog\n1: cat, small\n", ("cat, small", "dog")),
        ("names.txt", "n01440764 tench, Tinca tinca\nn01443537 goldfish\n", ("tench, Tinca tinca", "goldfish")),
        ("names.txt", "1 grade\n2 grade\n", ("1 grade", "2 grade")),
        ("names.txt", "3 series\n5 series\n", ("3 series", "5 series")),
        ("names.txt", "1\n2\n3\n", ("1", "2", "3")),
        (
            "names.json",
            json.dumps({f"{place}": f"{place}" for place in reversed(range(12))}),
            tuple(map(str, range(12))),
        ),
    ],
)
def test_class_names_are_read_in_the_order_of_the_outputs(name: str, text: str, expected: tuple[str, ...]) -> None:
    assert read_class_names(text.encode(), name) == expected


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_class_names_are_read_in_the_encodings_of_windows(encoding: str) -> None:
    assert read_class_names("zèbre\r\ndog\r\n".encode(encoding), "names.txt") == ("zèbre", "dog")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("names.txt", b"", "names 0 classes"),
        ("data.yaml", b"names: [cat", "no valid YAML"),
        ("data.yaml", b"nc: 2", "without a gap"),
        ("names.txt", b"\xff\xfe\x00", "not text in UTF-8"),
        ("names.txt", b"cat\n\ndog", "Class 1 has an empty name"),
        ("names.json", b'["cat"', "no valid JSON"),
        ("names.json", b"[1, 2]", "neither a list of names nor"),
        ("names.json", b'{"0": "cat", "2": "dog"}', "without a gap"),
        ("names.json", b'{"cat": 0, "dog": 0}', "without a gap"),
        ("names.csv", b"index,name\n0,cat\n5,dog\n", "without a gap"),
        ("names.csv", b"index,code,name\n0,n01,cat\n1\n", "different lengths"),
    ],
)
def test_unusable_class_names_are_refused_in_a_sentence(name: str, content: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_class_names(content, name)


def test_names_by_index_may_be_numbers_of_any_length() -> None:
    with pytest.raises(ModelError, match="without a gap"):
        read_class_names(json.dumps({"9" * 5000: "cat"}).encode(), "names.json")


def test_networks_traced_by_several_threads_at_once_are_those_traced_alone() -> None:
    modules = [nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2)) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        models = list(threads.map(lambda module: export(module, "net", Preprocessing((8, 8), 8)), modules))
    batch = torch.rand(3, 3, 8, 8)
    for module, model in zip(modules, models, strict=True):
        assert torch.allclose(model(batch), module(batch), atol=1e-6)
