"""Which output is explained."""

import numpy as np
import pytest

from explainers.errors import SelectionError
from explainers.info import ModelInfo
from explainers.predictions import Prediction
from explainers.preprocessing import Preprocessing
from explainers.targets import Target, choose_target, find_class, name_target

INFO = ModelInfo("pets", "test", Preprocessing(), ("cat", "Dog", "hamster"), (), (3,), 0, "", "")
PREDICTION = Prediction(np.array([1, 3, 2], np.float32), np.array([0.1, 0.7, 0.2], np.float32))


def test_predicted_is_the_class_with_the_largest_output():
    assert choose_target(INFO, PREDICTION) == Target(1)


@pytest.mark.parametrize("wanted", ["2", "hamster", " Hamster "])
def test_a_class_is_found_by_index_or_name(wanted: str):
    assert find_class(INFO, wanted) == 2


def test_an_unknown_class_is_refused_with_the_nearest_names():
    with pytest.raises(SelectionError, match="no class 'hamstr'; did you mean hamster"):
        find_class(INFO, "hamstr")


def test_an_index_beyond_the_last_class_is_refused_with_the_range():
    with pytest.raises(SelectionError, match="classes 0 to 2"):
        find_class(INFO, "17")


def test_the_next_best_class_is_the_rival():
    assert choose_target(INFO, PREDICTION, versus="predicted") == Target(1, 2)
    assert choose_target(INFO, PREDICTION, "cat", "predicted") == Target(0, 1)


def test_a_class_is_not_contrasted_with_itself():
    with pytest.raises(SelectionError, match="cannot be contrasted with itself"):
        choose_target(INFO, PREDICTION, "cat", "cat")


def test_a_contrast_explains_the_lead():
    assert PREDICTION.score(Target(1)) == 3
    assert PREDICTION.score(Target(1, 0)) == 2
    assert name_target(INFO, Target(1, 0)) == "Dog rather than cat"
