"""The concepts of the lesion models show the band-aid where it was planted, and nowhere else."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import sample_models
from explainers.asking import ask
from explainers.cache import Cache
from explainers.concepts.heatmaps import DrawConcepts
from explainers.concepts.relevance import RankConcepts
from explainers.concepts.what_if import ChangeConcepts
from explainers.graph.model import Model
from explainers.index import Index, open_index
from explainers.index.building import start
from explainers.predictions import predict
from explainers.subjects import Case
from explainers.targets import Target
from sample_models import SIZE, lesions
from sample_models.lesions import LesionSample

LAYER = "features.stage1"
BENIGN = Target(0)
REFERENCES = 300


@dataclass(frozen=True)
class Found:
    """A concept of one decision: how many of its eight reference samples, and how much of its heatmap, show it."""

    concept: int
    samples: int
    share: float

    @property
    def is_band_aid(self) -> bool:
        return self.samples >= 7 and self.share >= 0.6


def look(model: Model, index: Index, sample: LesionSample, count: int) -> list[Found]:
    """Look at the most relevant concepts of a lesion beside a band-aid, as a person would on the page."""
    cache, picture, band_aid = Cache(None), sample.read(), sample.lesion().masks["band-aid"]
    relevance = ask(RankConcepts(layer=LAYER), Case(model, picture, BENIGN), cache=cache).result().relevance
    top = [int(concept) for concept in np.argsort(-relevance)[:count]]
    question = DrawConcepts(layer=LAYER, concepts=tuple(top))
    maps = ask(question, Case(model, picture, BENIGN), cache=cache).result()
    found = []
    for concept in top:
        rows = index.reference_samples(LAYER, concept, by="relevance", count=8)
        positive = maps.heatmap(concept).clip(min=0)
        shown = sum("band-aid" in index.samples[int(row)].case.artifacts for row in rows)
        found.append(Found(concept, shown, float((positive * band_aid).sum() / positive.sum())))
    return found


def with_band_aid(count: int) -> Sequence[LesionSample]:
    """Benign lesions beside a band-aid that no model learnt from."""
    samples = lesions.samples("biased-test", 4 * count, SIZE)
    return [one for one in samples if one.label == "benign" and "band-aid" in one.case.artifacts][:count]


@pytest.fixture(scope="module")
def opened(tmp_path_factory) -> dict[str, tuple[Model, Index]]:
    """The biased and the clean model, each with an index of what it learnt from."""
    found = {}
    for name in ("lesions-biased", "lesions-clean"):
        model, store = sample_models.load(name), Path(tmp_path_factory.mktemp(name))
        start(model, sample_models.models()[name].references[:REFERENCES], store, [LAYER]).result()
        found[name] = (model, open_index(store))
    return found


def measure_accuracy(model: Model, split: str, silenced: Sequence[int] = ()) -> float:
    """The accuracy on a split while concepts are silenced."""
    cache, right = Cache(None), []
    for sample in lesions.samples(split, 120, SIZE):
        factors = dict.fromkeys(silenced, 0.0)
        picture = sample.read()
        said = predict(model, picture, cache=cache)
        if factors:
            said = (
                ask(ChangeConcepts(layer=LAYER, factors=factors), Case(model, picture, BENIGN), cache=cache)
                .result()
                .after
            )
        right.append(lesions.CLASSES[said.top(1)[0]] == sample.label)
    return float(np.mean(right))


def test_the_biased_models_most_relevant_concepts_show_the_band_aid(opened):
    model, index = opened["lesions-biased"]
    for sample in with_band_aid(5):
        assert any(concept.is_band_aid for concept in look(model, index, sample, 5)), sample.name


def test_no_concept_of_the_clean_model_shows_the_band_aid(opened):
    model, index = opened["lesions-clean"]
    for sample in with_band_aid(5):
        assert not any(concept.is_band_aid for concept in look(model, index, sample, 5)), sample.name


def test_silencing_the_band_aids_concepts_takes_back_half_of_the_lost_accuracy(opened):
    model, index = opened["lesions-biased"]
    guilty = {found.concept for sample in with_band_aid(5) for found in look(model, index, sample, 12)
              if found.is_band_aid}  # fmt: skip
    usual, moved = measure_accuracy(model, "biased-test"), measure_accuracy(model, "moved-test")
    assert usual - moved > 0.25
    assert measure_accuracy(model, "moved-test", sorted(guilty)) - moved >= (usual - moved) / 2
