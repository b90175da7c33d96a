"""From a question and what it is about to results: counted, cached, kept private where they must be."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from explainers.asking import ask
from explainers.attribution.method import Attribution, make_method
from explainers.cache import Cache
from explainers.errors import CancelledError, ComputationError, SelectionError
from explainers.graph.export import export
from explainers.graph.model import Model
from explainers.images import Picture
from explainers.jobs import Progress
from explainers.parameters import parameter
from explainers.predictions import predict, prefetch
from explainers.preprocessing import Preprocessing
from explainers.questions import Question
from explainers.results import Result
from explainers.subjects import Case, Input
from explainers.targets import Target
from tests.conftest import ROOT


def small_model(outputs: int = 3, private: bool = False) -> Model:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, outputs))
    model = export(network, "small", Preprocessing((16, 16), 16, (0.5,) * 3, (0.5,) * 3))
    return Model(replace(model.info, private=private), model.program)


def noise(seed: int = 0, private: bool = False) -> Picture:
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8)
    return Picture("noise", pixels, private=private)


def explain(
    model: Model, picture: Picture, method: str, target: Target, parameters: Any = None, *, cache: Cache
) -> Attribution:
    return ask(make_method(method, parameters or {}), Case(model, picture, target), cache=cache).result()


def test_a_view_costs_its_passes_once():
    cache, model = Cache(), small_model()
    for _ in range(3):
        explain(model, noise(), "gradient", Target(0), cache=cache)
    counted = cache.counters
    assert (counted.forward, counted.backward) == (2, 1)  # the prediction, and the gradient's own two
    assert counted.computed == {"Prediction": 1, "Attribution": 1}


def test_another_target_or_parameter_is_another_result():
    cache, model = Cache(), small_model()
    for target in (Target(0), Target(1), Target(0, 1)):
        explain(model, noise(), "gradient", target, cache=cache)
    explain(model, noise(), "occlusion", Target(0), {"window": 8, "stride": 4}, cache=cache)
    explain(model, noise(), "occlusion", Target(0), {"window": 4, "stride": 4}, cache=cache)
    assert cache.counters.computed["Attribution"] == 5


def test_the_same_picture_under_another_name_is_the_same_result():
    cache, model = Cache(), small_model()
    explain(model, noise(), "gradient", Target(0), cache=cache)
    explain(model, replace(noise(), name="other"), "gradient", Target(0), cache=cache)
    assert cache.counters.computed["Attribution"] == 1


def test_what_is_computed_ahead_is_a_hit_when_it_is_asked_for():
    cache, model = Cache(workers=1), small_model()
    prefetch(Input(model, noise(1)), [make_method("gradient", {})], cache=cache)
    predict(model, noise(2), cache=cache)  # urgent: goes first, and by its end nothing else is known to be done
    target = Target(predict(model, noise(1), cache=cache).top(1)[0])
    explain(model, noise(1), "gradient", target, cache=cache)
    assert cache.counters.computed == {"Prediction": 2, "Attribution": 1}


@pytest.mark.parametrize(("picture", "model"), [(True, False), (False, True), (True, True)])
def test_nothing_of_an_upload_reaches_the_disk(picture: bool, model: bool, tmp_path: Path):
    cache = Cache(tmp_path)
    explain(small_model(private=model), noise(private=picture), "gradient", Target(0), cache=cache)
    assert not list(tmp_path.rglob("*.npz"))


def test_a_result_on_server_side_data_survives_a_restart(tmp_path: Path):
    first = explain(small_model(), noise(), "gradient", Target(0), cache=Cache(tmp_path))
    fresh = Cache(tmp_path)
    again = explain(small_model(), noise(), "gradient", Target(0), cache=fresh)
    assert np.array_equal(first.values, again.values)
    assert (fresh.counters.forward, fresh.counters.disk_hits) == (0, 1)


def test_a_model_with_one_output_gives_a_probability():
    model = small_model(outputs=1)
    prediction = predict(model, noise(), cache=Cache())
    assert prediction.probabilities[0] == pytest.approx(1 / (1 + np.exp(-prediction.logits[0])))


def test_outputs_that_are_no_numbers_are_told_in_a_sentence():
    model = small_model()
    program = model.program
    with torch.no_grad():
        next(parameter for parameter in program.parameters()).fill_(float("nan"))
    with pytest.raises(ComputationError, match=r"not finite numbers\. Check the model's weights"):
        predict(Model(replace(model.info, digest="broken"), program), noise(), cache=Cache())


def test_a_method_that_cannot_explain_the_model_says_why_before_it_computes():
    cache = Cache()
    network = nn.Sequential(nn.Flatten(), nn.Linear(768, 2))
    model = export(network, "flat", Preprocessing((16, 16), 16, (0.5,) * 3, (0.5,) * 3))
    with pytest.raises(SelectionError, match="Grad-CAM"):
        ask(make_method("gradcam", {}), Case(model, noise(), Target(0)), cache=cache)


def test_the_provenance_names_all_that_the_result_depends_on():
    model = small_model()
    told = explain(model, noise(), "occlusion", Target(0, 2), {"window": 8, "stride": 4}, cache=Cache()).provenance
    assert told["model_digest"] == model.info.digest
    assert told["picture_digest"] == noise().digest
    assert told["parameters"]["window"] == 8
    assert told["target"] == {"index": 0, "versus": 2, "region": (), "usual": 0.0}
    assert told["passes"]["images"] > 1
    assert {"lightbox", "torch", "numpy"} < set(told["versions"])


def test_digests_are_the_same_in_every_process():
    code = "import sample_models; i = sample_models.load('efficientnet-lite0').info; print(i.digest, i.weights_digest)"
    told = {subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) for _ in range(2)}
    assert len(told) == 1
    assert len(told.pop().split()[0]) == 64


def segmenting_model() -> Model:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1))
    return export(network, "segmenting", Preprocessing((16, 16), 16, (0.5,) * 3, (0.5,) * 3))


def test_a_map_of_scores_is_predicted_by_the_area_of_each_class():
    prediction = predict(segmenting_model(), noise(), cache=Cache())
    assert prediction.probabilities.sum() == pytest.approx(1)
    assert prediction.top(1)[0] == prediction.probabilities.argmax()


def test_a_region_of_a_map_is_explained_by_what_can_reach_it():
    left = ((0.0, 0.0), (0.4, 0.0), (0.4, 1.0), (0.0, 1.0))
    result = explain(segmenting_model(), noise(), "gradient", Target(0, region=left), cache=Cache())
    assert np.abs(result.values[:, :7]).min() > 0
    assert np.abs(result.values[:, 9:]).max() == 0


# Questions that need others


@dataclass(frozen=True)
class Number(Result):
    """What the questions below are answered with."""

    value: float


@dataclass(frozen=True)
class Small(Question[Input, Number]):
    """A question that others need; it waits until it may go on."""

    subject = Input
    title = "Small"
    citation = "none"
    begun: ClassVar[threading.Event]
    open: ClassVar[threading.Event]

    number: int = parameter(1, "Number", "What it says.", low=0, high=9)

    def answer(self, about: Input, progress: Progress) -> Number:
        type(self).begun.set()
        while not type(self).open.wait(0.01):
            progress(0, 1)
        if self.number == 9:
            raise ComputationError("There is no answer to 9. Ask for less.")
        return Number(float(self.number))


@dataclass(frozen=True)
class Sum(Question[Input, Number]):
    """A question that needs the one above."""

    subject = Input
    title = "Sum"
    citation = "none"

    number: int = parameter(1, "Number", "What is added to itself.", low=0, high=9)

    def answer(self, about: Input, progress: Progress) -> Number:
        return Number(2 * ask(Small(self.number), about).result().value)


# Questions with a name are in everybody's list; these are not.
Small.name, Sum.name = "small", "sum"


@pytest.fixture
def held() -> Iterator[None]:
    """Holds the question that others need back until the test lets it go on, and lets it end with the test."""
    Small.begun, Small.open = threading.Event(), threading.Event()
    yield
    Small.open.set()


def about() -> Input:
    return Input(small_model(), noise())


@pytest.mark.usefixtures("held")
def test_an_answer_gets_what_it_needs_although_there_is_one_worker_only():
    cache, asked = Cache(workers=1), about()
    Small.open.set()
    assert ask(Sum(3), asked, cache=cache).result().value == 6
    assert cache.counters.computed == {"Number": 2}
    assert ask(Small(3), asked, cache=cache).result().value == 3
    assert cache.counters.hits == 1


@pytest.mark.usefixtures("held")
def test_an_answer_waits_for_what_another_thread_is_computing_already():
    cache, asked = Cache(workers=2), about()
    first = ask(Small(3), asked, cache=cache)
    Small.begun.wait()
    second = ask(Sum(3), asked, cache=cache)
    Small.open.set()
    assert (first.result().value, second.result().value) == (3, 6)
    assert cache.counters.computed == {"Number": 2}


@pytest.mark.usefixtures("held")
def test_an_answer_computes_itself_what_it_needs_and_still_waits_for_a_worker():
    cache, asked = Cache(workers=1), about()
    second, first = ask(Sum(3), asked, cache=cache), ask(Small(3), asked, cache=cache)
    Small.open.set()
    assert (first.result().value, second.result().value) == (3, 6)
    assert cache.counters.computed == {"Number": 2}


@pytest.mark.usefixtures("held")
def test_who_stops_an_answer_stops_what_it_needs():
    cache = Cache(workers=1)
    job = ask(Sum(3), about(), cache=cache)
    Small.begun.wait()
    job.cancel()
    with pytest.raises(CancelledError):
        job.result()
    assert cache.counters.cancelled == 2


@pytest.mark.usefixtures("held")
def test_what_somebody_else_waits_for_too_goes_on_when_an_answer_that_needs_it_is_stopped():
    cache, asked = Cache(workers=2), about()
    job = ask(Sum(3), asked, cache=cache)
    Small.begun.wait()
    other = ask(Small(3), asked, cache=cache)
    job.cancel()
    Small.open.set()
    assert other.result().value == 3


@pytest.mark.usefixtures("held")
def test_an_error_in_what_an_answer_needs_is_the_answers_own():
    Small.open.set()
    with pytest.raises(ComputationError, match="no answer to 9"):
        ask(Sum(9), about(), cache=Cache(workers=1)).result()


@pytest.mark.usefixtures("held")
def test_who_is_told_of_an_answer_may_ask_on_without_making_others_wait():
    cache, asked, told = Cache(workers=1), about(), list[float]()
    job = ask(Sum(3), asked, cache=cache)
    Small.begun.wait()
    ended = threading.Event()

    def go_on(found: Number) -> None:
        ask(Small(5), asked, cache=cache).then(lambda last: (told.append(last.value), ended.set()))

    ask(Small(3), asked, cache=cache).then(go_on)
    Small.open.set()
    assert job.result().value == 6
    ended.wait()
    assert told == [5]


def test_values_of_another_type_are_read_as_a_command_lines():
    assert Sum("4") == Sum(4)  # type: ignore[arg-type]
    with pytest.raises(SelectionError, match="'number' is 'four'; give a whole number"):
        Sum("four")  # type: ignore[arg-type]
