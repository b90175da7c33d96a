"""Building an index: Lightbox and zennit-crp's FeatureVisualization on the same picture files, in batches of 16.

Both explain the predicted class and return the highest relevances of every concept of the last layer.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from benchmarks.networks import SIDE, build_model
from benchmarks.peers import Run, crp, zennit_rules
from explainers.images import Samples, find
from explainers.index import open_index
from explainers.index.building import BATCH, builds, start
from explainers.jobs import Passes, passes
from explainers.preprocessing import Preprocessing
from sample_models import lesions

#: How many pictures are read, and how many of each concept are compared.
PICTURES, BEST = 48, 8


def lightbox(network: str, layers: tuple[str, ...]) -> Run:
    """Lightbox."""
    model, folder = build_model(network), tempfile.TemporaryDirectory()
    samples = draw(Path(folder.name) / "pictures")

    def run() -> Tensor:
        store = Path(folder.name) / "index"
        shutil.rmtree(store, ignore_errors=True)
        counts, before = passes.get(Passes()), builds().counters
        start(model, samples, store, layers, composite="epsilon-plus-flat").result()
        for name in vars(counts):  # a build runs in a thread of its own and counts there
            setattr(counts, name, getattr(builds().counters, name) - getattr(before, name))
        return torch.tensor(open_index(store).relevance(layers[-1])).topk(BEST, 0).values

    return run


def zennit_crp(network: str, layers: tuple[str, ...]) -> Run:
    """The same of zennit-crp."""
    from crp.concepts import ChannelConcept
    from crp.helper import load_maximization
    from crp.visualization import FeatureVisualization

    attribution, folder = crp(network), tempfile.TemporaryDirectory()
    data = Labelled(draw(Path(folder.name) / "pictures"))
    with torch.no_grad():
        data.classes = [int(attribution.model(image[None]).argmax()) for image, _ in data]
    concepts = {layer: ChannelConcept() for layer in layers}

    def run() -> Tensor:
        store = Path(folder.name) / "index"
        shutil.rmtree(store, ignore_errors=True)
        found = FeatureVisualization(attribution, data, concepts, abs_norm=False, path=str(store))
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            found.run(zennit_rules(network), 0, len(data), BATCH)
        return torch.as_tensor(load_maximization(found.RelMax.PATH, layers[-1])[1][:BEST])

    return run


class Labelled:
    """The pictures as the dataset that zennit-crp reads, each with the class that the network says."""

    def __init__(self, samples: Samples) -> None:
        self.samples, self.preprocessing, self.classes = samples, Preprocessing(size=(SIDE, SIDE)), [0] * len(samples)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        pixels = self.samples[row].read().pixels
        return torch.from_numpy(self.preprocessing.normalise(self.preprocessing.crop(pixels))), self.classes[row]


def draw(folder: Path) -> Samples:
    """Write drawn lesions as picture files."""
    folder.mkdir()
    for sample in lesions.samples("clean-test", PICTURES):
        Image.fromarray(sample.read().pixels).save(folder / f"{sample.name}.png")
    return find(folder)
