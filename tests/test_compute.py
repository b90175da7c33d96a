"""From a model and a picture to results: counted, cached, kept private where they must be."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from explainers.cache import Cache
from explainers.compute import explain, predict, prefetch, submit_attribution
from explainers.errors import ComputationError, SelectionError
from explainers.graph.export import export
from explainers.graph.model import Model
from explainers.images import Picture
from explainers.preprocessing import Preprocessing
from explainers.results import Target
from tests.conftest import ROOT


def small_model(outputs: int = 3, private: bool = False) -> Model:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, outputs))
    model = export(network, "small", Preprocessing((16, 16), 16, (0.5,) * 3, (0.5,) * 3))
    return Model(replace(model.info, private=private), model.program)


def noise(seed: int = 0, private: bool = False) -> Picture:
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8)
    return Picture("noise", pixels, private=private)


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
    prefetch(model, noise(1), "predicted", "", (), {"gradient": {}}, cache=cache)
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
    assert (fresh.counters.forward, fresh.counters.disk_hits) == (0, 2)


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
        submit_attribution(model, noise(), "gradcam", Target(0), cache=cache)


def test_the_provenance_names_all_that_the_result_depends_on():
    model = small_model()
    told = explain(model, noise(), "occlusion", Target(0, 2), {"window": 8, "stride": 4}, cache=Cache()).provenance
    assert told["model_digest"] == model.info.digest
    assert told["picture_digest"] == noise().digest
    assert told["parameters"]["window"] == 8
    assert told["target"] == {"index": 0, "versus": 2, "region": ()}
    assert told["passes"]["images"] > 1
    assert set(told["versions"]) == {"lightbox", "torch", "numpy"}


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
