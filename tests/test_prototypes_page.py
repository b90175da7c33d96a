"""The page of prototypes: strategies of an index through the cache, the command, and the real app in a real browser."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

import sample_models
from components.prototypes.family import default_layer
from explainers.__main__ import main
from explainers.asking import ask
from explainers.cache import Cache
from explainers.concepts.layers import list_layers
from explainers.concepts.relevance import RankConcepts
from explainers.errors import SelectionError
from explainers.graph.prototypical import find_head
from explainers.index import Index, open_index
from explainers.index.building import start
from explainers.index.subjects import CaseInIndex, IndexLayer
from explainers.predictions import predict, prefetch
from explainers.prototypes.decisions import JudgeDecision, judge
from explainers.prototypes.maps import DrawMap
from explainers.prototypes.parts import decide
from explainers.prototypes.similarities import CompareParts
from explainers.prototypes.strategies import FindStrategies
from explainers.prototypes.suspects import FindSuspects
from explainers.prototypes.vectors import EmbedDecisions, comparable_classes
from explainers.subjects import Case, Input
from explainers.targets import Target
from sample_models import digits
from tests.conftest import expect_verdict, open_page, press_until
from tests.journeys import settle


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """The digits network in 400 digits."""
    model, store = sample_models.load("digits"), tmp_path_factory.mktemp("digits")
    start(model, digits.samples(0, 400), store, [list_layers(model).default]).result()
    return open_index(store)


def layer_of(index: Index) -> IndexLayer:
    return IndexLayer(index, next(iter(index.recipe.layers)))


def test_strategies_and_maps_of_an_index_are_computed_once_and_without_a_pass(index: Index):
    cache, layer = Cache(), layer_of(index)
    for _ in range(2):
        classes = comparable_classes(ask(EmbedDecisions(), layer, cache=cache).result(), (7,))
        for klass in classes:
            ask(FindStrategies(klass), layer, cache=cache).result()
        ask(DrawMap(classes), layer, cache=cache).result()
        ask(FindSuspects(classes), layer, cache=cache).result()
    assert classes[0] == 7
    assert sorted(classes) == list(range(10))
    assert cache.counters.computed == {"Vectors": 1, "Strategies": 10, "Map": 1, "Suspects": 1}
    assert (cache.counters.forward, cache.counters.backward) == (0, 0)


def test_what_is_found_in_an_index_that_is_not_the_servers_stays_in_memory(index: Index, tmp_path: Path):
    cache, layer = Cache(tmp_path), layer_of(index)
    ask(FindStrategies(0), layer, cache=cache).result()
    ask(DrawMap((0,)), layer, cache=cache).result()
    assert list(tmp_path.glob("*/*.npz")) == []


def test_strategies_in_an_index_of_the_server_survive_a_restart(
    index: Index, tmp_path: Path, bounds: Callable[..., None]
):
    bounds(cache=index.store.parent)
    caches, layer = (Cache(tmp_path), Cache(tmp_path)), layer_of(index)
    before, after = (ask(FindStrategies(0), layer, cache=cache).result() for cache in caches)
    assert (caches[1].counters.disk_hits, caches[1].counters.computed) == (1, {})
    np.testing.assert_array_equal(after.percentiles, before.percentiles)
    np.testing.assert_array_equal(after.mixtures[-1].factor, before.mixtures[-1].factor)
    assert after.nbytes == before.nbytes


def test_a_picture_of_the_index_has_the_vector_that_the_page_computes_for_it(index: Index):
    model, layer = sample_models.load("digits"), layer_of(index).layer
    known = index.decisions(layer)
    case = Case(model, index.samples[3].read(), Target(int(known.classes[3])))
    found = ask(RankConcepts(layer=layer), case, cache=Cache()).result()
    np.testing.assert_allclose(found.relevance, known.relevance[3], rtol=1e-3, atol=1e-4)


def test_a_verdict_asks_for_all_that_it_needs_and_is_that_of_the_slow_way(index: Index):
    model, layer, cache = sample_models.load("digits"), layer_of(index), Cache()
    picture, klass = digits.samples(450, 1)[0].read(), 4
    case = CaseInIndex(model, picture, Target(klass), index, layer.layer)
    verdict = ask(JudgeDecision(compared=(3, 4)), case, cache=cache).result()
    assert cache.counters.computed == {"ConceptRelevance": 1, "Vectors": 1, "Strategies": 2, "Decision": 1}
    vectors = ask(EmbedDecisions(), layer, cache=Cache()).result()
    strategies = {other: ask(FindStrategies(other), layer, cache=Cache()).result() for other in (3, 4)}
    relevance = ask(RankConcepts(layer=layer.layer), case, cache=Cache()).result().relevance
    slow = judge(vectors, strategies, klass, relevance)
    assert (verdict.verdict, verdict.percentile) == (slow.verdict, slow.percentile)
    np.testing.assert_array_equal(verdict.deviation, slow.deviation)


def test_the_verdict_on_the_next_case_is_there_before_the_click(index: Index):
    model, layer, cache = sample_models.load("digits"), layer_of(index), Cache()
    this, following = (sample.read() for sample in digits.samples(450, 2))
    about, question = CaseInIndex(model, this, Target(0), index, layer.layer), JudgeDecision(compared=(3, 4, 5))
    prefetch(Input(model, following), [question], wanted="4", place=about.beside, cache=cache)
    while "Decision" not in cache.counters.computed:
        time.sleep(0.01)
    ahead = cache.counters.misses
    ask(question, CaseInIndex(model, following, Target(4), index, layer.layer), cache=cache).result()
    assert cache.counters.misses == ahead


def test_a_network_without_prototypes_says_so():
    with pytest.raises(SelectionError, match="does not decide by similarity to prototypes"):
        ask(CompareParts(), Input(sample_models.load("digits"), digits.samples(0, 1)[0].read()), cache=Cache()).result()


def test_points_of_all_prototypes_add_up_to_what_the_network_says():
    model = sample_models.load("lesions-prototypes")
    picture = sample_models.models()["lesions-prototypes"].pictures[0].read()
    found = ask(CompareParts(), Input(model, picture), cache=Cache()).result()
    logits = decide(found.similarities[None], found.weights)[0]
    np.testing.assert_allclose(logits, predict(model, picture, cache=Cache()).logits, rtol=1e-4)
    assert find_head(model)[1].shape == found.weights.shape


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hundred digits as files in folders that name them."""
    folder = tmp_path_factory.mktemp("files")
    for sample in digits.samples(0, 200):
        (folder / str(sample.label)).mkdir(exist_ok=True)
        Image.fromarray(sample.read().pixels).save(folder / str(sample.label) / f"{sample.name}.png")
    return folder


def test_the_command_judges_an_image_and_writes_what_the_library_says(folder: Path, tmp_path: Path):
    store, image, out = tmp_path / "store", folder / "3" / "digit-0003.png", tmp_path / "out.json"
    assert main(["index", "--model", "digits", "--data", str(folder), "--out", str(store)]) == 0
    command = ["prototypes", "--model", "digits", "--store", str(store), "--image", str(image), "--json", str(out)]
    assert main([*command, "--class", "3", "--unusual", "10"]) == 0
    told = json.loads(out.read_text())
    index = open_index(store)
    layer, cache = layer_of(index), Cache()
    vectors = ask(EmbedDecisions(), layer, cache=cache).result()
    strategies = {3: ask(FindStrategies(3), layer, cache=cache).result()}
    row = index.table["name"].tolist().index("3/digit-0003.png")
    decision = judge(vectors, strategies, 3, index.decisions(layer.layer).relevance[row], row)
    assert told["class"] == "3"
    assert told["thresholds"] == {"unusual": 10, "unlike": 0.5}
    assert told["percentile"] == pytest.approx(decision.percentile, abs=0.01)
    assert [one["concept"] for one in told["deviations"]] == decision.deviating_concepts()


def test_the_command_refuses_an_index_of_another_model(index: Index, capsys: pytest.CaptureFixture[str]):
    image = str(Path(__file__).parent.parent / "screenshot.png")
    command = ["prototypes", "--model", "lesions-biased", "--store", str(index.store), "--image", image]
    assert main(command) == 1
    assert "belongs to another model (digits)" in capsys.readouterr().err


LINK = "prototypes?model=digits"


def view(page: Page, name: str) -> None:
    page.get_by_test_id("stButtonGroup").get_by_text(name, exact=True).click()


@pytest.mark.usefixtures("indexed")
def test_the_verdict_stands_on_the_page_beside_typical_cases_and_deviating_concepts(open_app: Callable[..., Page]):
    page = open_app(LINK)
    expect_verdict(page)
    expect(page.get_by_text(re.compile("cases are less typical than this one|is less typical"))).to_be_visible()
    expect(page.locator("figure.first")).to_be_visible()
    expect(page.locator("[class*=st-key-deviation-] figure").nth(1)).to_be_visible()
    page.get_by_role("button", name="Thresholds").click()
    page.get_by_label("Unusual below").fill("100")
    page.keyboard.press("Enter")
    expect(page.locator(".lightbox-verdict .word")).to_have_text(re.compile("Unusual|Unlike"))
    expect(page).to_have_url(re.compile("unusual=100"))


@pytest.mark.usefixtures("indexed")
def test_every_view_has_a_link(open_app: Callable[..., Page]):
    page = open_app(LINK)
    page.get_by_role("link", name="How does it decide?").click()
    expect(page.get_by_role("heading", name=re.compile("^The model decides for"))).to_be_visible()
    view(page, "Map")
    expect(page).to_have_url(re.compile("strategies.*view=Map"))
    page.reload()
    expect(page.locator(".js-plotly-plot .scatterlayer .point").first).to_be_visible()


@pytest.mark.usefixtures("indexed")
def test_links_from_before_there_was_a_page_for_all_cases_lead_there(open_app: Callable[..., Page]):
    page = open_app(f"{LINK}&view=Strategies")
    expect(page.locator("[class*=st-key-strategy-] figure").first).to_be_visible()
    expect(page).to_have_url(re.compile("strategies.*model=digits"))


@pytest.mark.usefixtures("indexed")
def test_a_dot_of_the_map_opens_its_picture_which_can_be_tagged_and_exported(open_app: Callable[..., Page]):
    page = open_app(f"{LINK}&view=Map")
    dot = page.locator(".js-plotly-plot .scatterlayer .point").first
    expect(dot).to_be_visible()
    tag = page.get_by_label("Tag", exact=True)

    def press() -> None:
        dot.hover(force=True)
        dot.click(force=True)

    press_until(press, tag)  # Plotly hears clicks only after it has drawn
    tag.fill("look again")
    page.get_by_label("Your name").fill("Ada")
    page.get_by_role("button", name="Tag this picture").click()
    expect(page.get_by_text("look again 1")).to_be_visible()
    page.reload()
    expect(page.get_by_text("look again 1")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export tags").click()
    header, row = Path(download.value.path()).read_text().splitlines()
    assert header == "name,digest,label,tag,author,date"
    assert row.startswith("digit-")
    assert ",look again,Ada," in row


@pytest.mark.usefixtures("indexed")
def test_map_and_tables_cost_no_pass_through_the_network(open_app: Callable[..., Page]):
    page = open_app(LINK)
    expect_verdict(page)
    expect(page.locator("[class*=st-key-deviation-] figure").nth(1)).to_be_visible()
    activity = open_app("activity")

    def passes() -> list[str]:
        activity.reload()
        expect(activity.get_by_text("Backward passes")).to_be_visible()
        return [
            activity.get_by_test_id("stMetric").filter(has_text=name).get_by_test_id("stMetricValue").inner_text()
            for name in ("Forward passes", "Backward passes")
        ]

    settle(page)  # with the reference samples on the first view
    before = passes()
    page.get_by_role("link", name="How does it decide?").click()
    view(page, "Map")
    expect(page.locator(".js-plotly-plot .scatterlayer .point").first).to_be_visible()
    view(page, "Outliers and suspects")
    expect(page.get_by_test_id("stDataFrame")).to_be_visible()
    assert passes() == before


@pytest.mark.usefixtures("indexed")
def test_the_pictures_in_the_strip_are_checked_and_one_opens(open_app: Callable[..., Page]):
    page = open_app(f"{LINK}&view=Outliers and suspects&table=Check these pictures")
    page.get_by_role("button", name="Check 40 pictures").click()
    expect(page.get_by_test_id("stDataFrame")).to_be_visible()
    box = page.get_by_test_id("stDataFrame").bounding_box()
    assert box
    opening = page.get_by_role("button", name="Open digit")

    def press() -> None:
        page.mouse.move(box["x"] + 15, box["y"] + 60, steps=3)
        page.mouse.down()
        page.mouse.up()

    press_until(press, opening)  # the table hears clicks only after it has drawn
    opening.click()
    expect_verdict(page)


@pytest.mark.usefixtures("indexed")
def test_the_verdict_shows_no_sooner_than_the_buttons_whose_keys_are_pressed_then(open_app: Callable[..., Page]):
    page, held = open_app(LINK), []
    expect_verdict(page)
    page.route("**/Button.*.js", lambda route: held.append(route))
    page.reload()
    expect_verdict(page)
    expect(page.locator("figure.first")).to_be_visible()
    expect(page.locator(".lightbox-verdict")).to_be_hidden()
    for route in held:
        route.continue_()
    expect(page.locator(".lightbox-verdict .word")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_text("Seen so far: 2 cases")).to_be_visible()


@pytest.mark.usefixtures("indexed")
def test_a_press_that_tags_is_not_lost_if_the_next_case_is_asked_for_at_once(open_app: Callable[..., Page]):
    page = open_app(LINK)
    expect(page.locator(".lightbox-verdict .word")).to_be_visible()
    page.keyboard.press("t")
    expect(page.get_by_label("Tag", exact=True)).to_be_focused()
    page.keyboard.type("to and fro")
    page.keyboard.press("Tab")
    page.keyboard.type("Ada")
    page.keyboard.press("Enter")
    expect(page.get_by_text("1 tagged")).to_be_visible()
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("ArrowRight")
    expect(page.get_by_text("Seen so far: 2 cases")).to_be_visible()
    settle(page)  # the verdict of the case before may stand there until then, and a press would answer to that
    page.keyboard.press("t")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_text("Seen so far: 3 cases")).to_be_visible()
    expect(page.get_by_text("2 tagged").first).to_be_visible()  # the count before may stand there a moment longer


@pytest.mark.usefixtures("indexed")
def test_back_leads_to_the_case_before(open_app: Callable[..., Page]):
    page = open_app(LINK)
    expect(page.locator(".lightbox-verdict .word")).to_be_visible()
    for number in (2, 3):
        page.keyboard.press("ArrowRight")
        expect(page.get_by_text(f"Seen so far: {number} cases")).to_be_visible()
    page.go_back()
    expect(page.get_by_text(re.compile("^2 of"))).to_be_visible()
    page.go_back()
    expect(page.get_by_text(re.compile("^1 of"))).to_be_visible()
    page.go_forward()
    expect(page.get_by_text(re.compile("^2 of"))).to_be_visible()
    expect(page).to_have_url(re.compile("image=digit"))


@pytest.mark.usefixtures("indexed")
def test_a_verdict_is_the_same_whichever_layer_was_looked_into_elsewhere(open_app: Callable[..., Page]):
    model = sample_models.load("digits")
    own, other = default_layer(model), list_layers(model).layers[0].name
    page = open_app(f"concepts?model=digits&layer={other}")
    expect(page.locator("[class*=st-key-card-]").first).to_be_visible()
    open_page(page, "Is it ordinary?")
    expect_verdict(page)
    assert own != other
    expect(page).to_have_url(re.compile(f"strategy_layer={re.escape(own)}"))


def test_a_rejected_prototype_is_in_the_link_and_can_be_taken_back(open_app: Callable[..., Page]):
    page = open_app("prototypes?model=lesions-prototypes")
    card = page.locator("[class*=st-key-part-]").first
    expect(card.locator("figure")).to_have_count(4)
    card.get_by_text("Reject", exact=True).click()
    expect(page.get_by_text(re.compile("^Rejected: "))).to_be_visible()
    expect(page).to_have_url(re.compile(r"reject=\d+"))
    page.get_by_role("button", name="Take all back").click()
    expect(page.get_by_text(re.compile("^Rejected: "))).to_have_count(0)
