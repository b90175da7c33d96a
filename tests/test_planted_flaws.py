"""The flaws planted in the shipped lesion models are found: by strategies, by typicality, by rejecting prototypes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import sample_models
from explainers.asking import ask
from explainers.cache import Cache
from explainers.graph.prototypical import find_head
from explainers.images import Picture, Sample
from explainers.index import Index, Upload, open_index
from explainers.index.building import start
from explainers.index.reading import Decisions
from explainers.index.subjects import ManyInputs
from explainers.prototypes.decisions import check_batch
from explainers.prototypes.parts import decide, measure_accuracy
from explainers.prototypes.similarities import CompareSamples
from explainers.prototypes.strategies import Strategies, fit_strategies
from explainers.prototypes.suspects import find_suspects, trace_precision
from explainers.prototypes.vectors import Vectors, embed
from sample_models import SIZE, digits, gallery, lesions
from sample_models.cards import read_card

LAYER = "features.stage1"
BENIGN, MALIGNANT = 0, 1

Family = tuple[Vectors, dict[int, Strategies]]


def observe(samples: list[Sample], store: Path) -> Index:
    """Index pictures by what the biased network does in a layer."""
    start(sample_models.load("lesions-biased"), samples, store, [LAYER]).result()
    return open_index(store, [sample for sample in samples if isinstance(sample, Upload)])


def cases(split: str, count: int) -> list[lesions.Case]:
    return list(lesions.split(split, count))


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return observe(list(lesions.samples("biased-train", 1000, SIZE)), tmp_path_factory.mktemp("learnt"))


@pytest.fixture(scope="module")
def tested(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Cases as they were learnt from, and cases with the band-aid moved to the malignant ones."""
    samples = [*lesions.samples("biased-test", 200, SIZE), *lesions.samples("moved-test", 200, SIZE)]
    return observe(samples, tmp_path_factory.mktemp("tested"))


@pytest.fixture(scope="module")
def family(learnt: Index) -> Family:
    known = learnt.decisions(LAYER)
    vectors = embed(known.relevance, known.classes, known.learnt)
    return vectors, {klass: fit_strategies(vectors, known.relevance, klass) for klass in (BENIGN, MALIGNANT)}


def unusual(family: Family, found: Decisions, rows: np.ndarray) -> float:
    """The share of some cases that is called unusual or worse for the class of their label."""
    table = check_batch(*family, found.relevance[rows], found.classes[rows])
    return float((table["verdict"] != "ordinary").mean())


def test_benign_cases_with_a_band_aid_have_strategies_of_their_own(family: Family):
    benign = family[1][BENIGN]
    band_aid = np.array(["band-aid" in case.artifacts for case in cases("biased-train", 1000)])[benign.rows]
    owners = benign.responsibilities.argmax(axis=1)
    purities = np.array([band_aid[owners == number].mean() for number in range(len(benign.shares))])
    own = np.isin(owners, np.flatnonzero(purities >= 0.9))
    assert band_aid[own].mean() >= 0.9
    assert own[band_aid].mean() >= 0.8
    assert own[~band_aid].mean() <= 0.5


def test_a_malignant_lesion_with_a_band_aid_is_unusual_and_ordinary_cases_are_not(family: Family, tested: Index):
    found, rows = tested.decisions(LAYER), range(len(tested))
    drawn = [tested.samples[row].case for row in rows]
    malignant, band_aid = (
        np.array(flags) for flags in zip(*((one.malignant, "band-aid" in one.artifacts) for one in drawn), strict=True)
    )
    learnt_from = np.array([name.startswith("biased") for name in tested.table["name"]])
    assert unusual(family, found, np.flatnonzero(malignant & band_aid)) >= 0.8
    assert unusual(family, found, np.flatnonzero(learnt_from & (malignant != band_aid))) <= 0.1


def test_wrong_labels_are_many_times_as_frequent_among_the_least_typical(family: Family):
    wrong = np.isin(np.arange(1000), lesions.wrong_labels("biased-train", 1000))
    curve = trace_precision(wrong[find_suspects(*family).rows])
    assert curve["precision"][50] >= 5 * wrong.mean()
    assert curve["recall"][50] >= 0.4


def test_what_is_no_lesion_is_told_from_lesions(family: Family, tested: Index, tmp_path: Path):
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8) for _ in range(60)]
    uploads = [Upload(f"noise-{number}", picture=Picture(f"{number}", pixels)) for number, pixels in enumerate(noise)]
    strange = observe([*digits.samples(0, 60), *gallery.references()[::6][:60], *uploads], tmp_path)
    scores = [
        check_batch(*family, index.relevance(LAYER)[rows], index.table["predicted"].to_numpy()[rows])["surprise"]
        for index, rows in ((tested, slice(200)), (strange, slice(None)))
    ]
    assert roc_auc_score(np.repeat([0, 1], [len(one) for one in scores]), np.concatenate(scores)) >= 0.95


def band_aid_share(sample: str, box: tuple[int, int, int, int]) -> float:
    """How much of a patch of a training picture is band-aid."""
    masks = lesions.samples("biased-train", size=SIZE).named(sample).lesion().masks
    left, top, right, bottom = box
    return float(masks["band-aid"][top:bottom, left:right].mean()) if "band-aid" in masks else 0.0


def test_rejecting_the_prototypes_of_the_band_aid_mends_the_decisions_that_it_misled():
    model, cache = sample_models.load("lesions-prototypes"), Cache()
    known, moved = (
        ask(CompareSamples(), ManyInputs(model, lesions.samples(split, 300, SIZE)), cache=cache).result()
        for split in ("biased-train", "moved-test")
    )
    sources = read_card("lesions-prototypes").prototypes
    rejected = [source.prototype for source in sources if band_aid_share(source.sample, source.box) > 0.2]
    weights = find_head(model)[1].numpy()
    before = measure_accuracy(decide(moved.values, weights), moved.labels)
    after = measure_accuracy(decide(moved.values, weights, rejected, known.typical), moved.labels)
    assert after - before >= 0.1
    assert cache.counters.backward == 0
