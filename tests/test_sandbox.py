"""Uploaded models are opened in a process of their own, with bounds."""

import os
import signal

import pytest
import safetensors.torch
import timm
import torch
from torch import nn

from explainers.errors import CancelledError, ModelError, SettingError, UnsafeFileError
from explainers.graph import loader, sandbox
from explainers.graph.export import export
from explainers.graph.stored import keep, pack, unpack
from explainers.preprocessing import Preprocessing
from explainers.proposal import Output
from explainers.relevance.propagation import propagate
from explainers.relevance.tape import record
from explainers.settings import make, settings
from tests.model_files import archived


@pytest.fixture(scope="module")
def checkpoint() -> bytes:
    torchvision = pytest.importorskip("torchvision")
    return safetensors.torch.save(torchvision.models.squeezenet1_1(num_classes=3).state_dict())


@pytest.fixture(scope="module", autouse=True)
def no_worker_stays():
    yield
    while sandbox._spares:
        sandbox._spares.pop().end()


def test_a_worker_proposes_what_the_loader_does(checkpoint):
    assert sandbox.propose(checkpoint, "net.safetensors") == loader.propose(checkpoint, "net.safetensors")


def test_a_worker_proposes_the_output_that_was_asked_for():
    class Two(nn.Module):
        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"scores": images.mean((2, 3)), "maps": images * 2}

    data = archived(Two(), torch.zeros(2, 3, 8, 8))
    proposed = sandbox.propose(data, "net.pt2", output="maps")
    assert proposed.outputs == (Output("maps", (3, 8, 8)), Output("scores", (3,)))
    assert proposed == loader.propose(data, "net.pt2", output="maps")


def test_a_worker_hands_over_the_model_that_the_loader_makes(checkpoint):
    ours = sandbox.load(checkpoint, "net.safetensors", preprocessing=Preprocessing((64, 64), 64))
    theirs = loader.load(checkpoint, "net.safetensors", preprocessing=Preprocessing((64, 64), 64))
    images = torch.randn(2, 3, 64, 64)
    assert ours.info == theirs.info
    assert torch.equal(ours(images), theirs(images))


def test_an_error_in_a_worker_is_the_loaders_own():
    with pytest.raises(UnsafeFileError, match="could run code"):
        sandbox.propose(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.", "weights.pt")


def test_a_file_that_needs_more_memory_than_allowed_is_refused_in_a_sentence(checkpoint, bounds):
    bounds(upload_memory=1)
    with pytest.raises(ModelError, match=r"memory|allocate"):
        sandbox.load(checkpoint, "net.safetensors")


def test_a_file_that_takes_too_long_is_stopped_in_a_sentence(checkpoint, bounds):
    bounds(upload_seconds=1)
    with pytest.raises(ModelError, match="longer than 1 seconds"):
        sandbox.load(checkpoint, "net.safetensors")


def test_a_worker_that_is_killed_is_told_in_a_sentence_and_the_next_file_opens(
    checkpoint, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sandbox, "BEAT", 0.0)  # heard before any worker can be done
    sandbox.prepare()
    victim = sandbox._spares[-1].process

    def kill() -> None:
        os.kill(victim.pid, signal.SIGSEGV)

    with pytest.raises(ModelError, match="ended by signal 11"):
        sandbox.propose(checkpoint, "net.safetensors", None, kill)
    assert sandbox.propose(checkpoint, "net.safetensors").classes == 3


def test_whoever_waits_can_stop_it(checkpoint, monkeypatch: pytest.MonkeyPatch):
    def stop() -> None:
        raise CancelledError("Enough.")

    monkeypatch.setattr(sandbox, "BEAT", 0.0)
    sandbox.prepare()
    worker = sandbox._spares[-1]
    with pytest.raises(CancelledError):
        sandbox.propose(checkpoint, "net.safetensors", None, stop)
    assert worker.process.poll() is not None


def test_a_stored_model_keeps_graph_layers_and_shared_weights():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

        def forward(self, images):
            once = self.norm(self.first(images)).relu()
            return self.first(once).flatten(2).chunk(2, -1)[0].mean(-1)

    model = export(Tied(), "tied", Preprocessing((8, 8), 8))
    again = unpack(pack(model))
    images = torch.randn(3, 3, 8, 8)
    assert again.info == model.info
    assert torch.equal(again(images), model(images))
    assert pack(again) == pack(model)


def test_relevance_of_a_stored_model_is_that_of_the_model():
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, num_classes=4)
    model = export(vit, "vit", Preprocessing((32, 32), 32))
    again, images = unpack(pack(model)), torch.randn(2, 3, 32, 32)
    found, expected = (propagate(record(one, images), torch.ones(1, 2, 4), account=True) for one in (again, model))
    assert expected.relevance[""].abs().sum() > 0
    assert torch.equal(found.relevance[""], expected.relevance[""])
    assert all(torch.equal(found.ended[kind], amounts) for kind, amounts in expected.ended.items())


def test_damaged_bytes_of_a_model_are_refused():
    data = pack(
        export(nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(72, 2)), "m", Preprocessing((8, 8), 8))
    )
    for broken in (b"", data[:100], data[:-10], data.replace(b"aten.conv2d", b"aten.conv9d")):
        with pytest.raises(ModelError, match="do not hold a model"):
            unpack(broken)


def test_a_kept_model_is_made_once_and_again_when_it_or_what_it_is_made_from_changed(tmp_path, bounds):
    bounds(cache=tmp_path)
    made = []

    def make():
        made.append(export(nn.Sequential(nn.Conv2d(3, 2, 8), nn.Flatten()), "m", Preprocessing((8, 8), 8)))
        return made[-1]

    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(keep("m", "first", make)(images), keep("m", "first", make)(images))
    assert len(made) == 1
    keep("m", "second", make)
    (file,) = (tmp_path / "models").iterdir()
    file.write_bytes(b"damaged")
    keep("m", "second", make)
    assert len(made) == 3


def test_settings_are_read_from_file_and_environment_which_goes_first(tmp_path, bounds):
    (tmp_path / "lightbox.toml").write_text('memory = 5\nupload_seconds = 7\ncache = "/somewhere"\n')
    bounds(settings=tmp_path / "lightbox.toml", memory=6)
    assert (settings().memory, settings().upload_seconds, str(settings().cache)) == (6, 7, "/somewhere")


@pytest.mark.parametrize(
    ("given", "words"), [({"memry": 1}, "no setting 'memry'"), ({"memory": "much"}, "a whole number was expected")]
)
def test_a_wrong_setting_is_named(given, words):
    with pytest.raises(SettingError, match=words):
        make(given)
