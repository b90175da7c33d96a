"""A network of each family, opened once: its program and its ONNX files compute what it does, relevance is whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torch.export import Dim
from torchvision import models

from explainers.attribution.batch import Batch
from explainers.attribution.method import make_method
from explainers.graph.export import export, make_model, trace
from explainers.graph.loader import load
from explainers.graph.model import Model
from explainers.images import Samples, find
from explainers.index.building import start
from explainers.jobs import Progress
from explainers.preprocessing import Preprocessing
from explainers.relevance.concepts.layers import default_layer
from explainers.relevance.propagation import propagate, relevance
from explainers.relevance.seeds import seed_entries, seed_targets
from explainers.relevance.tape import record
from explainers.targets import Target
from tests.conftest import release
from tests.networks import SHALLOW, TIMM, TORCHVISION, WHOLE, Network
from tests.onnx_files import run, write_new, write_old

OLD_OPSETS, NEW_OPSETS = (14, 17), (18, 20)
FAMILIES = [*SHALLOW, *(pytest.param(name, marks=pytest.mark.exhaustive) for name in WHOLE)]


@dataclass
class Opened:
    """A network, what was exported of it, and images for it."""

    network: Network
    module: nn.Module
    images: Tensor
    program: torch.export.ExportedProgram
    model: Model

    @cached_property
    def files(self) -> dict[str, bytes]:
        """Its ONNX files by exporter and opset, none for a network that is not written."""
        if not self.network.written:
            return {}
        files = {f"old, opset {opset}": write_old(self.module, self.images[:2], opset) for opset in OLD_OPSETS}
        written = write_new(self.program, NEW_OPSETS)
        return files | dict(zip((f"new, opset {opset}" for opset in NEW_OPSETS), written, strict=True))


@pytest.fixture(scope="module", params=FAMILIES)
def opened(request: pytest.FixtureRequest) -> Iterator[Opened]:
    network = (SHALLOW | WHOLE)[request.param]
    module, images = network.open()
    program = torch.export.export(module, (images[:2],), dynamic_shapes=({0: Dim("batch", min=1)},))
    model = make_model(trace(program), request.param, Preprocessing((network.size, network.size), network.size))
    yield Opened(network, module, images, program, model)
    del module, program, model
    release()


def test_the_exported_program_computes_what_the_module_does_for_any_batch(opened: Opened) -> None:
    for batch in (opened.images, opened.images[:1]):
        expected = opened.module(batch)
        assert (opened.model(batch) - expected).abs().max() < 1e-4 * expected.abs().max()
    outputs = opened.module(opened.images)
    assert outputs.std(0).mean() > 2e-3 * outputs.abs().mean()
    operators = Counter(node.target for node in opened.model.program.graph.nodes)
    assert operators[torch.ops.aten.batch_norm.default] == opened.network.unfolded


def test_relevance_is_finite_and_accounted_for(opened: Opened) -> None:
    images = opened.images[:2]
    tape = record(opened.model, images)
    seeds = torch.zeros(1, *tape.output.shape)
    seeds[:, :, 3] = tape.output[:, 3]
    found = propagate(tape, seeds, account=True)
    values = found.relevance[""]
    assert values.shape == (1, *images.shape)
    assert values.isfinite().all()
    assert values.abs().sum() > 0
    rest = seeds.flatten(2).sum(2) - values.sum((2, 3, 4)) - sum(found.ended.values())
    scale = seeds.abs().flatten(2).sum(2) + values.abs().sum((2, 3, 4))
    assert (rest.abs() <= 1e-4 * scale).all()


def test_the_imported_program_computes_what_onnxruntime_does(opened: Opened) -> None:
    for kind, data in opened.files.items():
        imported = load(data, "mine.onnx")
        for images in (opened.images[:1], opened.images):
            (expected, *_) = run(data, images.numpy())
            assert np.ptp(expected) > 1e-3
            assert np.abs(imported(images).numpy() - expected).max() < 1e-4 * np.abs(expected).max(), kind


def test_explanations_of_the_imported_program_are_those_of_the_direct_export(opened: Opened) -> None:
    images, direct = opened.images[:2], opened.model
    outputs = direct(images)
    for kind in opened.files.keys() & {f"old, opset {OLD_OPSETS[0]}", f"new, opset {NEW_OPSETS[0]}"}:
        imported = load(opened.files[kind], "mine.onnx", preprocessing=direct.info.preprocessing)
        shared = {layer.name for layer in imported.info.layers if layer.spatial}
        layer = [layer.name for layer in direct.info.layers if layer.name in shared][-1]
        for stop in ("", layer):
            assert cosine(*(explain(model, images, stop) for model in (direct, imported))) > 0.9999, (kind, stop)
        if outputs.dim() == 2:
            targets = [Target(int(index)) for index in outputs.argmax(1)]
            for name in ("lrp", "gradcam"):
                maps = (
                    make_method(name, {}).attribute(Batch(model, images, targets, Progress()))
                    for model in (direct, imported)
                )
                assert cosine(*(scores.values for scores in maps)) > 0.9999, (kind, name)


def test_every_module_of_timm_and_torchvision_has_a_member_in_the_sweep() -> None:
    missing = [name for name in timm.list_modules() if not TIMM.keys() & set(timm.list_models(module=name))]
    ours = {models.get_model_builder(name.rpartition("/")[2]).__module__ for name in TORCHVISION}
    parts = (models, models.segmentation)
    all_theirs = {models.get_model_builder(name).__module__ for part in parts for name in models.list_models(part)}
    assert missing == []
    assert all_theirs - ours == set()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    """Eight pictures of noise of two classes."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 255, (8, 64, 64, 3), dtype=np.uint8)):
        label = folder / str(number % 2)
        label.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(label / f"{number}.png")
    return find(folder)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", [*TIMM, *TORCHVISION])
def test_a_member_of_every_family_is_explained_with_every_part(name: str, pictures: Samples, tmp_path: Path) -> None:
    network = (TIMM | TORCHVISION)[name]
    module, images = network.open()
    images = images[:2]
    model = export(module, name, Preprocessing((network.size, network.size), network.size))
    expected = module(images).detach()
    assert (model(images) - expected).abs().max() < 1e-4 * expected.abs().max()
    del module
    inputs = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model.run(inputs)[0][:, 1].sum(), inputs)
    assert gradient.isfinite().all()
    tape = record(model, images)
    seeds = seed_entries(tape.output, (1,))
    found = propagate(tape, seeds, account=True)
    values, ended = found.relevance[""], sum(found.ended.values())
    rest = seeds.flatten(2).sum(2) - values.sum((2, 3, 4)) - ended
    scale = seeds.abs().flatten(2).sum(2) + values.abs().sum((2, 3, 4))
    assert values.isfinite().all()
    assert (rest.abs() <= 1e-3 * scale).all()
    del tape, found, values
    built = start(model, pictures, tmp_path, [default_layer(model)], batch=2).result(120)
    assert built.added == len(pictures)
    del model
    release()


def explain(model: Model, images: Tensor, stop: str) -> Tensor:
    """Relevance of the best class, or of a class's map, in a layer."""
    tape = record(model, images)
    if tape.output.dim() > 2:
        return relevance(tape, seed_entries(tape.output, (1,)), stop=stop)
    return relevance(
        tape, seed_targets(tape.output, [Target(int(index)) for index in tape.output.argmax(1)]), stop=stop
    )


def cosine(one: Tensor, other: Tensor) -> float:
    return float(torch.cosine_similarity(one.flatten().double(), other.flatten().double(), dim=0))
