"""The shipped networks are as good, and as wrong, as their cards say."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

import pytest
import torch

import sample_models
from explainers.graph.model import Model
from sample_models import lesions
from sample_models.cards import WEIGHTS, read_card
from sample_models.data import Data, labels, normalise
from sample_models.evaluation import TESTS, decide, measure_accuracy, share_on_band_aid
from sample_models.networks.prototype_parts import PrototypeNetwork
from sample_models.report import Report, write
from sample_models.trained import ARCHITECTURES, LESIONS, fill
from sample_models.training.loop import batches
from sample_models.training.prototypes import box_of
from sample_models.training.recipes import RECIPES

COUNT = 200


@cache
def model(name: str) -> Model:
    return sample_models.load(name)


@cache
def accuracy(name: str) -> dict[str, float]:
    return dict(measure_accuracy(model(name), COUNT))


every_network = pytest.mark.parametrize("name", ARCHITECTURES)


@every_network
def test_a_network_is_right_as_often_as_its_card_says(name: str) -> None:
    assert accuracy(name) == pytest.approx(read_card(name).accuracy, abs=0.08)


@every_network
def test_a_card_says_how_the_network_was_made(name: str) -> None:
    card = read_card(name)
    assert card.name == name
    assert card.command == f"python -m sample_models train {name}"
    assert card.parameters == model(name).info.parameters
    assert (card.data, card.flaw) == (RECIPES[name].data, RECIPES[name].flaw)


@pytest.mark.parametrize("name", ["lesions-biased", "lesions-transformer", "lesions-prototypes"])
def test_a_biased_network_is_wrong_when_the_band_aid_is_moved(name: str) -> None:
    assert accuracy(name)["biased-test"] > 0.93
    assert accuracy(name)["biased-test"] - accuracy(name)["moved-test"] > 0.25


def test_the_clean_network_does_not_mind_when_the_band_aid_is_moved() -> None:
    found = accuracy("lesions-clean")
    assert found["clean-test"] > 0.92
    assert abs(found["clean-test"] - found["moved-test"]) < 0.04


def test_the_cards_keep_the_promises_of_the_sample_models() -> None:
    cards = {name: read_card(name).accuracy for name in ARCHITECTURES}
    biased, clean, parts = (cards[f"lesions-{name}"] for name in ("biased", "clean", "prototypes"))
    assert biased["biased-test"] >= 0.97
    assert biased["biased-test"] - biased["moved-test"] >= 0.25
    assert clean["clean-test"] >= biased["biased-test"] - 0.03
    assert clean["clean-test"] - clean["moved-test"] < 0.03
    assert parts["biased-test"] >= biased["biased-test"] - 0.03
    assert set(TESTS) == set(biased)


def test_relevance_for_benign_is_on_the_band_aid_in_the_biased_network_alone() -> None:
    assert share_on_band_aid(model("lesions-biased"), "lrp", 20) >= 0.4
    assert share_on_band_aid(model("lesions-clean"), "lrp", 20) < 0.1


def test_every_prototype_is_a_patch_that_was_learnt_from() -> None:
    network, card = fill("lesions-prototypes"), read_card("lesions-prototypes")
    assert isinstance(network, PrototypeNetwork)
    samples = lesions.samples("biased-train", size=LESIONS.size[0])
    for source in card.prototypes:
        sample = samples.named(source.sample)
        assert sample.label == source.klass
        inputs = torch.from_numpy(LESIONS.normalise(sample.read().pixels))[None]
        with torch.no_grad():
            distances = network.prototypes.distances(network.embed(inputs))
        assert distances[0, source.prototype][source.place] < 1e-4
        assert source.box == box_of(*source.place)


def test_prototypes_belong_to_both_classes_alike_and_no_two_to_the_same_picture() -> None:
    sources = read_card("lesions-prototypes").prototypes
    assert [source.klass for source in sources] == ["benign"] * 10 + ["malignant"] * 10
    assert len({source.sample for source in sources}) == 20


def test_the_segmentation_finds_the_lesion_where_it_is() -> None:
    sample = lesions.samples("clean-test", 1, LESIONS.size[0])[0]
    data = Data(torch.from_numpy(sample.read().pixels.transpose(2, 0, 1).copy())[None], torch.zeros(1))
    found, true = decide(model("lesions-segmentation"), data)[0] == 1, torch.from_numpy(sample.lesion().masks["lesion"])
    assert (found & true).sum() / (found | true).sum() > 0.7


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "lesions-segmentation"])
def test_pictures_and_references_are_labelled_with_the_models_classes(name: str) -> None:
    sample = sample_models.models()[name]
    assert 12 <= len(sample.pictures) <= 60
    assert len(sample.references) == 1000
    for listed in (sample.pictures, sample.references):
        assert {entry.label for entry in listed} == set(model(name).info.class_names)
        assert len({entry.name for entry in listed}) == len(listed)


def test_no_picture_to_look_into_was_learnt_from() -> None:
    for sample in list(sample_models.models().values())[1:]:
        assert {entry.name for entry in sample.pictures}.isdisjoint(entry.name for entry in sample.references)


def test_a_lesion_to_look_into_comes_with_its_masks() -> None:
    sample = sample_models.models()["lesions-biased"].pictures[0]
    assert isinstance(sample, lesions.LesionSample)
    assert sample.lesion().masks["lesion"].shape == sample.read().pixels.shape[:2]


def test_the_references_of_photographs_are_squares_at_several_scales_within_them() -> None:
    references = sample_models.models()["efficientnet-lite0"].references
    assert 300 <= len(references) <= 1000
    widths = {entry.read().pixels.shape[:2] for entry in references if entry.name.startswith("astronaut")}
    assert widths == {(512, 512), (256, 256), (170, 170), (128, 128)}


def test_batches_go_once_through_the_data_and_maps_turn_with_their_pictures() -> None:
    images = torch.arange(64 * 16, dtype=torch.int32).reshape(64, 1, 4, 4)
    seen = list(batches(Data(images, images[:, 0]), turns=True))
    assert torch.equal(torch.cat([part for part, _ in seen]).flatten().sort().values, images.flatten())
    assert all(torch.equal(part[:, 0], truth) for part, truth in seen)


def test_a_batch_is_normalised_as_a_single_picture_is() -> None:
    images = labels("clean-test", COUNT).images[:1]
    alone = torch.from_numpy(LESIONS.normalise(images[0].permute(1, 2, 0).numpy()))
    torch.testing.assert_close(normalise(images, LESIONS)[0], alone)


def test_the_report_says_what_was_lost_and_how_far_prototypes_are_behind() -> None:
    figures = {name: read_card(name).accuracy for name in ARCHITECTURES}
    lines = write(Report(figures, {"lesions-biased": {"lrp": 0.5}})).splitlines()
    fall = 100 * (figures["lesions-biased"]["biased-test"] - figures["lesions-biased"]["moved-test"])
    assert f"{fall:5.1f} points lost" in next(line for line in lines if line.startswith("  lesions-biased"))
    assert "lrp  50.0 %" in lines[-1]


def test_an_unknown_recipe_is_told_in_a_sentence() -> None:
    command = [sys.executable, "-m", "sample_models", "train", "tea-leaves"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (told.returncode, told.stderr[:36]) == (1, "There is no recipe for 'tea-leaves'.")


def test_the_sample_models_stay_small() -> None:
    assert sum(file.stat().st_size for file in WEIGHTS.parent.rglob("*") if file.is_file()) < 40e6
