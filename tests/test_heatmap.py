"""From scores to colours and words."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from components.drawn_region import CORNERS, format_region, outline_ninth, parse_region, read_selection
from components.figures import Seen, draw_heatmap
from components.heatmap import (
    DIVERGING,
    NINTHS,
    SEQUENTIAL,
    View,
    blend,
    colour_table,
    describe,
    encode_png,
    limits,
    locate,
    share_inside,
    spread,
)
from explainers.attribution.method import Attribution, pack
from explainers.regions import pixels_of, region_mask, shares_of
from tests.conftest import ROOT

GREY = np.full((8, 8, 3), 128, np.uint8)


def test_pandas_is_there_whole_before_a_chart_is_drawn() -> None:
    code = "import sys, components.figures; print(hasattr(sys.modules.get('pandas'), 'Series'))"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) == "True\n"


def spot(value: float = 1.0) -> np.ndarray:
    values = np.zeros((8, 8), np.float32)
    values[1, 6] = value
    return values


def test_limits_of_signed_scores_are_symmetric():
    values = np.array([[-3, 1], [0, 2]], np.float32)
    assert limits(values, True, View(percentile=100)) == (-3, 3)


def test_limits_of_amounts_start_at_zero():
    assert limits(spot(2), False, View(percentile=100)) == (0, 2)


def test_positive_only_leaves_out_what_speaks_against():
    values = np.array([[-3, 1], [0, 2]], np.float32)
    assert limits(values, True, View(percentile=100, positive_only=True)) == (0, 2)


def test_a_lower_percentile_gives_weaker_scores_the_strongest_colour():
    values = np.arange(100, dtype=np.float32).reshape(10, 10)
    assert limits(values, False, View(percentile=90))[1] < limits(values, False, View(percentile=100))[1]


def test_scores_that_are_all_zero_have_limits_that_differ():
    low, high = limits(np.zeros((4, 4), np.float32), True, View())
    assert low < high


@pytest.mark.parametrize("name", DIVERGING)
def test_the_middle_of_a_diverging_map_is_the_lightest(name: str):
    brightness = colour_table(True, View(diverging=name))[:, :3].astype(int).sum(1)
    assert 120 <= brightness.argmax() <= 136


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_the_brightness_of_a_sequential_map_rises(name: str):
    weights = np.array([0.2126, 0.7152, 0.0722])
    brightness = colour_table(False, View(sequential=name))[:, :3] @ weights
    assert (np.diff(brightness[::16]) > 0).all()


def test_a_heatmap_without_opacity_is_the_picture():
    assert (blend(GREY, spot(), True, View(opacity=0)) == GREY).all()


def test_a_faded_heatmap_changes_the_picture_only_where_scores_are():
    changed = (blend(GREY, spot(), True, View(opacity=1)) != GREY).any(axis=-1)
    assert changed[1, 6]
    assert changed.sum() == 1


def test_a_picture_survives_the_way_through_png():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    enlarged = np.asarray(Image.open(io.BytesIO(encode_png(pixels, 2))))
    assert (enlarged[::2, ::2] == pixels).all()


def test_the_share_inside_a_box_is_the_share_of_scores_there():
    values = np.ones((10, 10), np.float32)
    mask = region_mask(((0, 0), (4, 0), (4, 9), (0, 9)), (10, 10))
    assert share_inside(values, mask) == (0.5, None)


def test_what_speaks_against_has_a_share_of_its_own():
    values = np.ones((10, 10), np.float32)
    values[:, 5:] = -1
    mask = region_mask(((0, 0), (4, 0), (4, 9), (0, 9)), (10, 10))
    assert share_inside(values, mask) == (1, 0)


def test_words_say_where_the_scores_for_and_against_lie():
    values = spot(3) + np.flip(spot(-1))
    values[6, 6] = 1
    assert describe(values) == (
        "75% of what speaks for the class lies in the upper right, most of it in 2% of the picture; "
        "against it: lower left."
    )


def test_words_say_so_where_nothing_speaks_for_or_against():
    assert describe(-spot()) == "Nothing speaks for the class; against it: upper right."
    assert describe(np.zeros((8, 8), np.float32)) == "Nothing speaks for the class."
    assert describe(spot()).endswith("most of it in 2% of the picture.")


def test_words_say_how_far_the_scores_are_spread():
    assert spread(np.ones((10, 10))) == 0.5
    assert spread(np.eye(10)) == 0.05
    values = np.zeros((100, 100), np.float32)
    values[50, 50] = 1
    assert "lies in the middle, most of it in less than 1% of the picture" in describe(values)


@pytest.mark.parametrize("place", range(9))
def test_every_ninth_of_a_picture_has_its_name(place: int):
    values = np.kron(np.eye(9)[place].reshape(3, 3), np.ones((5, 7)))
    assert locate(values) == (NINTHS[place], 1)


def test_the_ninths_that_can_be_chosen_make_up_the_picture():
    regions = [region_mask(outline_ninth(name, 10, 17), (10, 17)) for name in NINTHS]
    assert (np.sum(regions, axis=0) == 1).all()
    assert regions[NINTHS.index("upper right")][0, 16]


def test_a_region_survives_the_way_through_a_link():
    region = ((1.0, 2.0), (3.0, 4.0), (5.0, 0.0))
    assert parse_region(format_region(region)) == region


def test_a_region_is_the_same_on_a_map_of_another_size():
    corners = ((0.0, 0.0), (223.0, 0.0), (223.0, 111.5))
    assert pixels_of(shares_of(corners, (224, 224)), (29, 29)) == ((0, 0), (28, 0), (28, 14))


@pytest.mark.parametrize("text", ["", "1,2", "1,2,3,4,5", "1,2,3,4,5,x", "1,2,3,4"])
def test_a_link_without_a_proper_region_has_none(text: str):
    assert parse_region(text) == ()


def selection(kind: str, x: list[float], y: list[float]) -> dict[str, object]:
    return {"selection": {"box": [], "lasso": [], kind: [{"x": x, "y": y}]}}


def test_a_box_gives_its_four_corners():
    corners = ((10.0, 20.0), (50.0, 20.0), (50.0, 60.0), (10.0, 60.0))
    assert read_selection(selection("box", [10.2, 49.8], [20, 60])) == corners


def test_a_long_lasso_is_thinned_out_so_that_it_fits_a_link():
    angles = np.linspace(0, 6.28, 500)
    lasso = read_selection(selection("lasso", list(50 + 40 * np.cos(angles)), list(50 + 40 * np.sin(angles))))
    assert CORNERS / 2 < len(lasso) <= CORNERS
    assert region_mask(lasso, (100, 100)).mean() == pytest.approx(0.5, abs=0.03)  # a circle's area, as of all pixels


def test_no_selection_is_no_region():
    assert read_selection({"selection": {"box": [], "lasso": []}}) == ()


def attribution(values: np.ndarray) -> Attribution:
    return Attribution(values, output=2.0, expected=1.5, signed=True, provenance={"method": "x"})


def test_the_figure_shows_the_score_under_the_cursor():
    figure = draw_heatmap(Seen("grey", GREY), attribution(spot(3)), View(percentile=100))
    heatmap = figure.data[0]
    assert "%{z" in heatmap.hovertemplate
    assert (heatmap.zmin, heatmap.zmax) == (-3, 3)
    assert np.asarray(heatmap.z)[1, 6] == 3


def test_sum_and_gap_follow_from_the_scores():
    result = attribution(spot(1))
    assert (result.total, result.gap) == (1.0, -0.5)


def test_the_packed_array_says_how_it_came_to_be():
    with np.load(io.BytesIO(pack(GREY, attribution(spot()))), allow_pickle=False) as file:
        assert json.loads(str(file["provenance"])) == {"method": "x", "output": 2.0, "expected": 1.5}
        assert (file["values"] == spot()).all()
        assert (file["picture"] == GREY).all()
