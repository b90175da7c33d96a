"""Models that come with Lightbox, each with pictures and what to look for in them. Importing this is free of torch."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from explainers.errors import SelectionError
from explainers.images import Samples
from sample_models import gallery

if TYPE_CHECKING:
    from explainers.graph.model import Model


@dataclass(frozen=True)
class SampleModel:
    """A model that comes with Lightbox.

    ``sentence`` says what it is; ``spoiler`` says what can be found with it, for those who ask. ``module`` is the file
    in this package whose ``load()`` makes the model.
    """

    name: str
    title: str
    sentence: str
    module: str
    pictures: Samples
    spoiler: str = ""

    def load(self) -> Model:
        """Load the model; this imports torch."""
        return cast("Model", importlib.import_module(f"sample_models.{self.module}").load())


MODELS = (
    SampleModel(
        name="efficientnet-lite0",
        title="EfficientNet-Lite0 (ImageNet)",
        sentence="A small network that tells 1000 kinds of things apart in everyday photographs.",
        module="efficientnet_lite0",
        pictures=gallery.PICTURES,
        spoiler=(
            "It never learnt the word dahlia and calls the flower a daisy; it takes the astronaut's suit for a helmet, "
            "the back of the motorcycle for a lawn mower, and the cat for a cheetah when only its eyes are in sight."
        ),
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
