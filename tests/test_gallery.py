import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import sample_models
from explainers.errors import SelectionError

PICTURES = sample_models.models()["efficientnet-lite0"].pictures


def test_importing_the_sample_models_imports_neither_torch_nor_the_packages_of_the_photographs():
    code = "import sys, sample_models; print([name for name in ('torch', 'sklearn', 'skimage') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_coffee_is_first_and_names_are_unique():
    names = [sample.name for sample in PICTURES]
    assert names[0] == "coffee"
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("sample", PICTURES, ids=lambda sample: sample.name)
def test_every_picture_is_large_enough_and_small_enough_is_public_and_has_a_caption(sample):
    picture = sample.read()
    assert not picture.private
    assert min(picture.pixels.shape[:2]) >= 100
    assert picture.pixels.size < 1.5e6
    assert sample.caption


def test_a_part_of_a_photograph_is_cut_out_of_it():
    whole, part = PICTURES.named("coffee"), PICTURES.named("coffee-cup")
    cut = np.asarray(Image.open(whole.path).crop(part.box))
    assert (part.read().pixels == cut).all()


def test_an_unknown_sample_model_is_named_with_those_there_are():
    with pytest.raises(SelectionError, match=r"no sample model 'resnet'. Choose one of efficientnet-lite0"):
        sample_models.load("resnet")


@pytest.fixture(scope="module")
def model():
    return sample_models.load("efficientnet-lite0")


@pytest.mark.parametrize(
    ("name", "expected", "least"),
    [
        ("coffee", "espresso", 0.9),
        ("coffee-cup", "espresso", 0.7),
        ("chelsea", "tiger cat", 0.3),
        ("chelsea-eyes", "cheetah", 0.2),
        ("camera", "tripod", 0.8),
        ("china", "palace", 0.2),
        ("china-lake", "lakeside", 0.2),
        ("flower", "daisy", 0.2),
        ("rocket", "missile", 0.2),
        ("motorcycle", "moped", 0.3),
        ("motorcycle-back", "lawn mower", 0.3),
        ("astronaut", "football helmet", 0.1),
    ],
)
def test_the_model_says_what_captions_and_spoiler_tell(model, name, expected, least):
    preprocessing = model.info.preprocessing
    inputs = torch.from_numpy(preprocessing.normalise(preprocessing.crop(PICTURES.named(name).read().pixels)))
    with torch.no_grad():
        probabilities = model.run(inputs[None])[0].softmax(-1)[0]
    probability, index = probabilities.max(0)
    assert expected in model.info.class_names[index]
    assert probability > least
