"""The page of concepts: what it draws, and the real app in a real browser."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

import sample_models
from components.concepts.bars import AGAINST, FOR, Bar, draw_bars
from components.concepts.graph import Edge, draw_graph
from components.concepts.origin import make_edges, make_levels
from components.concepts.overview import write_table
from components.concepts.what_if import tabulate
from components.references.index import reference_set, say_seconds
from components.references.samples import bound, draw_reference, smooth
from components.scene import Scene
from components.tiles import caption_of
from explainers.asking import ask
from explainers.cache import Cache
from explainers.concepts.heatmaps import DrawConcepts
from explainers.concepts.layers import list_layers
from explainers.concepts.parents import ConceptGraph
from explainers.concepts.relevance import ConceptRelevance, RankConcepts
from explainers.concepts.what_if import WhatIf
from explainers.images import Picture
from explainers.info import Layer, ModelInfo
from explainers.notes import ConceptName
from explainers.predictions import predict, prefetch
from explainers.preprocessing import Preprocessing
from explainers.subjects import Case, Input
from explainers.targets import Target, choose_target


def blob(centre: tuple[int, int], size: int = 224, width: float = 12) -> np.ndarray:
    rows, columns = np.mgrid[0:size, 0:size]
    return np.exp(-((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2) / (2 * width**2)).astype(np.float32)


def test_a_reference_sample_is_cut_to_where_the_concept_is_and_dim_around_it():
    white = np.full((224, 224, 3), 200, np.uint8)
    drawn = draw_reference(white, blob((60, 150)), 96)
    assert drawn.shape == (96, 96, 3)
    assert drawn[48, 48, 0] == 200
    assert drawn[0, 0, 0] == 60
    bright = (drawn[..., 0] > 130).mean()
    assert 0.4 < bright < 0.65  # a disc where the strength is above 0.2, in the square where it is above 0.1


def test_a_point_is_blurred_to_the_gaussian_that_the_papers_use():
    point = np.zeros((224, 224), np.float32)
    point[100, 100] = 1
    assert np.allclose(smooth(point)[100, 91:110], np.exp(-(np.arange(-9, 10) ** 2) / (2 * 3.2**2)), atol=1e-6)
    assert smooth(point)[100, 110] == 0


def test_a_sample_without_positive_scores_is_shown_whole_and_dim():
    white = np.full((64, 48, 3), 200, np.uint8)
    drawn = draw_reference(white, np.full((64, 48), -1, np.float32), 32)
    assert (drawn == 60).all()


@pytest.mark.parametrize("centre", [(0, 0), (223, 100), (111, 223)])
def test_the_cut_is_a_square_inside_the_picture_that_holds_the_mask(centre: tuple[int, int]):
    mask = blob(centre) > 0.1
    top, bottom, left, right = bound(mask)
    assert bottom - top == right - left
    assert top >= 0 <= left
    assert bottom <= 224 >= right
    assert mask[top:bottom, left:right].sum() == mask.sum()


def test_bars_are_red_for_and_blue_against_with_room_for_their_labels():
    figure = draw_bars([Bar("rim", 0.4, "+40.0%", "rim"), Bar("table", -0.1, "-10.0%", "table")])
    (bars,) = figure.data
    assert bars.marker.color == (FOR, AGAINST)
    assert bars.x == (0.4, -0.1)
    low, high = figure.layout.xaxis.range
    assert low < -0.1
    assert high > 0.4


def test_bars_of_nothing_are_drawn_all_the_same():
    assert len(draw_bars([Bar("rim", 0.0, "+0.0%", "rim")]).data) == 1


def make_scene() -> Scene:
    layer = Layer("conv", "conv", "Conv2d", (3, 4, 4), "channels first", (4, 4))
    lower = Layer("stem", "stem", "Conv2d", (2, 8, 8), "channels first", (8, 8))
    info = ModelInfo("m", "test", Preprocessing((8, 8), 8), ("cat", "<dog>"), (lower, layer), (2,), 0, "d", "w")
    name = ConceptName("d", "conv", 2, "ear", "Ada", "2026-01-31T12:00:00.000000Z")
    picture = Picture("pet", np.zeros((8, 8, 3), np.uint8))
    return Scene(SimpleNamespace(info=info), picture, Target(0), "conv", {("conv", 2): name})


def test_the_graph_puts_parents_below_and_makes_edges_shares_of_the_topmost_relevance():
    found = ConceptGraph(
        layers=("conv", "stem"),
        levels=np.array([0, 1, 1]),
        concepts=np.array([2, 0, 1]),
        relevance=np.array([2.0, 1.0, -0.5], np.float32),
        uppers=np.array([0, 0]),
        lowers=np.array([1, 2]),
        weights=np.array([1.0, -0.5], np.float32),
    )
    nodes = [("conv", 2), ("stem", 0), ("stem", 1)]
    levels = make_levels(make_scene(), found, nodes, dict.fromkeys(nodes, ""))
    assert [[node.title for node in level] for level in levels] == [["ear (2)"], ["Concept 0", "Concept 1"]]
    assert make_edges(found) == [Edge(0, 0, 0, 0.5), Edge(0, 0, 1, -0.25)]
    weak, strong, dots = draw_graph(levels, make_edges(found)).data
    assert strong.line.width == 2 * weak.line.width
    assert (strong.line.color, weak.line.color) == (FOR, AGAINST)
    assert dots.y == (0.0, -1.0, -1.0)


def test_what_if_sets_the_best_classes_of_before_and_after_side_by_side():
    logits = np.zeros((2, 2), np.float32)
    found = WhatIf(
        logits, np.array([[0.9, 0.1], [0.3, 0.7]], np.float32), np.zeros((2, 8, 8), np.float32), np.zeros(2, np.float32)
    )
    table = tabulate(make_scene().info, found)
    assert "90.0%" in table
    assert "-60.0" in table
    assert "&lt;dog&gt;" in table
    assert "<dog>" not in table


def test_points_are_the_difference_of_the_percentages_that_stand_beside_them():
    shares = np.array([[0.3526, 0.6474], [0.3494, 0.6506]], np.float32)
    found = WhatIf(np.zeros((2, 2), np.float32), shares, np.zeros((2, 8, 8), np.float32), np.zeros(2, np.float32))
    table = tabulate(make_scene().info, found)
    assert ["35.3%" in table, "34.9%" in table, "-0.4" in table] == [True] * 3


@pytest.mark.parametrize(
    ("label", "below"), [("cup", "cat\nlabel cup"), ("cat", "cat"), ("moka pot", "cat"), (None, "cat")]
)
def test_a_sample_says_its_label_where_that_is_another_class_than_the_models(label: str | None, below: str):
    assert caption_of("cat", label, ("cat", "cup")) == below


def test_the_table_lists_every_concept_with_its_name_most_relevant_first():
    relevance, mean = np.array([0.5, 0, -1.5], np.float32), np.zeros(3, np.float32)
    lines = write_table(make_scene(), ConceptRelevance(relevance, mean, mean, 1.0)).decode().splitlines()
    assert lines[0] == "layer,concept,name,relevance,share,max_activation,mean_activation"
    assert lines[1] == "conv,2,ear,-1.5,-0.75,0,0"
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "about 5 s"), (31, "about 30 s"), (70, "about 1 minute"), (130, "about 2 minutes")]
)
def test_a_time_is_said_as_a_person_would(seconds: float, said: str):
    assert say_seconds(seconds) == said


def test_reference_pictures_of_a_sample_model_are_what_it_learnt_from_and_of_uploads_they_themselves():
    digits = sample_models.models()["digits"]
    assert reference_set(digits.pictures) == ("digits", digits.references)
    picture = Picture("mine", np.zeros((8, 8, 3), np.uint8), label="cat")
    name, (upload,) = reference_set([picture])
    assert name == picture.digest
    assert upload.read().digest == picture.digest
    assert upload.label == "cat"


def test_the_next_decision_is_taken_apart_before_the_click():
    cache, model = Cache(), sample_models.load("digits")
    picture, layer = sample_models.models()["digits"].pictures[1].read(), list_layers(model).default
    prefetch(Input(model, picture), [RankConcepts(layer=layer), DrawConcepts(layer=layer, count=4)], cache=cache)
    while "ConceptHeatmaps" not in cache.counters.computed:
        time.sleep(0.05)
    ahead = replace(cache.counters)
    case = Case(model, picture, choose_target(model.info, predict(model, picture, cache=cache)))
    ask(RankConcepts(layer=layer), case, cache=cache).result()
    ask(DrawConcepts(layer=layer, count=4), case, cache=cache).result()
    assert cache.counters.misses == ahead.misses == 3
    assert (cache.counters.forward, cache.counters.backward) == (ahead.forward, ahead.backward)


LINK = "concepts?model=digits"


def expect_concepts(page: Page, count: int = 8) -> None:
    """Wait until the decision is taken apart."""
    expect(page.get_by_text("concepts carry 80 %")).to_be_visible()
    expect(page.locator(".js-plotly-plot .bars path")).to_have_count(count)
    expect(page.locator("[class*=st-key-card-]")).to_have_count(count)


def first_card(page: Page) -> Locator:
    return page.locator("[class*=st-key-card-]").first


def test_a_decision_is_taken_apart_without_a_click_and_the_link_keeps_the_choices(open_app: Callable[..., Page]):
    page = open_app(f"{LINK}&count=4&by=activation")
    expect_concepts(page, 4)
    expect(first_card(page).get_by_text("Reference samples appear here once the index is built.")).to_be_visible()
    expect(page).to_have_url(re.compile("count=4"))
    page.keyboard.press("ArrowRight")
    expect(page.get_by_text("2 of 40")).to_be_visible()
    expect_concepts(page, 4)


def test_a_name_is_signed_and_shows_after_a_reload_and_to_others(open_app: Callable[..., Page]):
    page = open_app(LINK)
    expect_concepts(page)
    first_card(page).get_by_role("button", name="Name").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("textbox", name="Name", exact=True).fill("lower bar")
    dialog.get_by_role("button", name="Keep").click()
    expect(dialog.get_by_text("A note needs an author.")).to_be_visible()
    dialog.get_by_role("textbox", name="Your name").fill("Ada")
    dialog.get_by_role("button", name="Keep").click()
    expect(first_card(page).get_by_text("lower bar")).to_be_visible()
    page.reload()
    expect_concepts(page)
    expect(first_card(page).get_by_text(re.compile("named by Ada, 20"))).to_be_visible()
    other = open_app(LINK)
    expect(first_card(other).get_by_text("lower bar")).to_be_visible()


def test_silencing_shows_before_and_after_and_the_link_shows_the_same_to_others(open_app: Callable[..., Page]):
    page = open_app(LINK)
    expect_concepts(page)
    first_card(page).get_by_text("Silence").click()
    changes = page.locator(".lightbox-change")
    expect(changes).to_contain_text("after")
    expect(page).to_have_url(re.compile("factors="))
    other = open_app(page.url.split("/")[-1])
    expect(other.locator(".lightbox-change")).to_have_text(changes.inner_text(), use_inner_text=True)
    page.get_by_role("button", name="As it was").click()
    expect(changes).to_have_count(0)


def test_a_region_asks_for_the_concepts_in_it(open_app: Callable[..., Page]):
    page = open_app(f"{LINK}&region=0,0,4,0,4,4,0,4")
    expect(page.get_by_text(re.compile("in the region"))).to_be_visible()
    page.get_by_role("button", name="Clear region").click()
    expect(page.get_by_text(re.compile("in the region"))).to_have_count(0)
    page.go_back()
    expect(page.get_by_text(re.compile("in the region"))).to_be_visible()


def test_the_origin_of_a_concept_is_drawn_and_has_a_link(open_app: Callable[..., Page]):
    page = open_app(LINK)
    expect_concepts(page)
    first_card(page).get_by_role("button", name="Origin").click()
    expect(page.get_by_role("heading", name="Where does")).to_be_visible()
    expect(page.locator(".js-plotly-plot .scatterlayer .point").first).to_be_visible()
    expect(page).to_have_url(re.compile("origin="))
    page.get_by_role("button", name="Back to the decision").click()
    expect_concepts(page)


def test_the_index_builds_and_reference_samples_appear_here_and_in_the_view_of_a_concept(open_app: Callable[..., Page]):
    page = open_app(LINK)
    expect_concepts(page)
    page.get_by_role("button", name="Build the index").click()
    expect(first_card(page).locator("figure")).to_have_count(9)
    expect(page.get_by_text("Building the index")).to_have_count(0)
    first_card(page).get_by_role("button", name="Open").click()
    expect(page.get_by_text("Which decisions it serves")).to_be_visible()
    expect(page.get_by_text("Most similar concepts")).to_be_visible()
    expect(page).to_have_url(re.compile(r"concept=\d+"))
    other = open_app(page.url.split("/")[-1])
    expect(other.get_by_text("Which decisions it serves")).to_be_visible()
    expect(other.locator("figure").nth(7)).to_be_visible()
