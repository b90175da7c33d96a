"""Concepts: their relevance, where it is and comes from, and what if they changed."""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from explainers.asking import ask, forget
from explainers.cache import Cache
from explainers.concepts.heatmaps import DrawConcepts
from explainers.concepts.layers import list_layers
from explainers.concepts.parents import TraceConcepts
from explainers.concepts.relevance import ConceptRelevance, RankConcepts
from explainers.concepts.what_if import ChangeConcepts
from explainers.errors import SelectionError
from explainers.graph.export import export
from explainers.graph.model import Model
from explainers.graph.stored import pack, unpack
from explainers.images import Picture
from explainers.info import Layer
from explainers.preprocessing import Preprocessing
from explainers.regions import shares_of
from explainers.relevance.composites import choose_composite, composite
from explainers.relevance.concepts import intervention
from explainers.relevance.concepts.decision import Decision, trace_parents
from explainers.relevance.concepts.layers import find_concepts
from explainers.relevance.concepts.tapes import TAPES, Tapes
from explainers.relevance.concepts.units import Concepts, Directions
from explainers.relevance.propagation import relevance
from explainers.relevance.tape import Tape, record
from explainers.results import restore, store
from explainers.subjects import Case
from explainers.targets import Target

SIDE = 32
TARGET = Target(1)
PREPROCESSING = Preprocessing((SIDE, SIDE), SIDE, (0.5,) * 3, (0.5,) * 3)
EVERYTHING = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
LEFT_HALF = shares_of(((0, 0), (15, 0), (15, 31), (0, 31)), (SIDE, SIDE))


class Residual(nn.Module):
    """Two stages, the second with a skip connection; ``factors`` multiply the channels of one layer."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1, bias=bias), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(6, 8, 3, 2, 1, bias=bias), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, bias=bias), nn.ReLU())
        self.head = nn.Linear(8, 5, bias=bias)
        self.register_buffer("factors", torch.ones(2, 8, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        deep = self.deep(self.stem(images)) * self.factors[0]
        return self.head((deep + self.body(deep) * self.factors[1]).mean((2, 3)))


@cache
def network(bias: bool = True) -> Residual:
    torch.manual_seed(3)
    return Residual(bias).eval()


@cache
def residual(bias: bool = True) -> Model:
    return export(network(bias), "residual", PREPROCESSING)


@cache
def transformer() -> Model:
    torch.manual_seed(4)
    network = timm.models.VisionTransformer(SIDE, 8, num_classes=5, embed_dim=24, depth=3, num_heads=3)
    return export(network.eval(), "transformer", PREPROCESSING)


def image(seed: int = 0) -> Tensor:
    return torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def picture(seed: int = 0, private: bool = False) -> Picture:
    return Picture("noise", np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8), private=private)


def decide(model: Model, target: Target = TARGET, rules: str = "") -> Decision:
    chosen = composite(rules or choose_composite(model)[0], model.info.preprocessing)
    return Decision(record(model, image()), (target,), chosen)


LAYERS = {
    "channels first": Layer("maps", "maps", "Conv2d", (5, 4, 4), "channels first", (4, 4)),
    "channels last": Layer("maps", "maps", "Linear", (4, 4, 5), "channels last", (4, 4)),
    "tokens": Layer("tokens", "tokens", "Block", (17, 5), "tokens", (4, 4)),
    "heads": Layer("heads", "heads", "heads", (5, 17, 3), "heads", (4, 4)),
    "none": Layer("dense", "dense", "Linear", (5,), "none", (1, 1)),
}
each_layout = pytest.mark.parametrize("layout", LAYERS)


def activity(layout: str) -> tuple[Concepts, Tensor, Tensor]:
    """Concepts of a layer with five, values of two images, and relevances of three seeds."""
    layer, generator = LAYERS[layout], torch.Generator().manual_seed(1)
    values = torch.randn(2, *layer.shape, generator=generator)
    return Concepts(layer), values, torch.randn(3, 2, *layer.shape, generator=generator)


# Units


@each_layout
def test_relevances_of_all_concepts_are_the_layers(layout: str):
    concepts, values, flow = activity(layout)
    assert concepts.measure(values, flow).shape == (3, 2, 5)
    assert torch.allclose(concepts.measure(values, flow).sum(-1), flow.flatten(2).sum(-1), atol=1e-5)


@each_layout
def test_a_seed_keeps_one_concept_and_nothing_else(layout: str):
    concepts, values, flow = activity(layout)
    seeds = concepts.keep(values, flow[:1], [4, 0])
    whole = concepts.measure(values, flow[:1])[0]
    assert torch.equal(concepts.measure(values, seeds)[0, :, 4], whole[:, 4])
    assert concepts.measure(values, seeds)[0, :, :4].abs().sum() == 0
    assert torch.equal(concepts.keep(values, flow[:1], range(5)).sum(0), flow[0])


@each_layout
def test_a_silenced_concept_is_zero_and_a_boosted_one_doubled(layout: str):
    concepts, values, _ = activity(layout)
    before, after = concepts.strength(values), concepts.strength(concepts.change(values, {1: 0, 3: 2}))
    assert torch.equal(after, before * torch.tensor([1.0, 0, 1, 2, 1]))


@each_layout
def test_directions_along_the_channels_are_the_channels(layout: str):
    concepts, values, flow = activity(layout)
    directions = Directions(concepts.layer, torch.eye(5))
    assert torch.allclose(directions.measure(values, flow), concepts.measure(values, flow), rtol=1e-5, atol=1e-5)
    assert torch.allclose(directions.keep(values, flow[:1], [2, 4]), concepts.keep(values, flow[:1], [2, 4]))
    assert torch.allclose(directions.change(values, {2: 0.5}), concepts.change(values, {2: 0.5}))
    assert torch.allclose(directions.maximum(values), concepts.maximum(values))
    assert torch.allclose(directions.mean(values), concepts.mean(values))


def test_a_direction_along_a_silent_channel_has_the_channels_relevance():
    concepts, values, flow = activity("tokens")
    values[..., 2] = 0
    found = Directions(concepts.layer, torch.eye(5)[2:3]).measure(values, flow)[..., 0]
    assert torch.allclose(found, concepts.measure(values, flow)[..., 2], rtol=1e-5)


@each_layout
def test_directions_that_span_all_channels_have_all_the_relevance(layout: str):
    concepts, values, flow = activity(layout)
    matrix = torch.randn(5, 5, generator=torch.Generator().manual_seed(2))
    directions = Directions(concepts.layer, matrix)
    measured = directions.measure(values, flow)
    assert torch.allclose(measured.sum(-1), flow.flatten(2).sum(-1), rtol=1e-3, atol=1e-3)
    kept = directions.keep(values, flow[:1], range(5))
    assert torch.allclose(kept.sum(0), flow[0], rtol=1e-3, atol=1e-3)
    assert torch.allclose(kept.flatten(2).sum(-1).T, measured[0], rtol=1e-3, atol=1e-3)


def test_a_silenced_direction_leaves_what_is_orthogonal_to_it():
    concepts, values, _ = activity("tokens")
    along, across = torch.tensor([3.0, 4, 0, 0, 0]), torch.tensor([4.0, -3, 1, 2, 0])
    changed = Directions(concepts.layer, along[None]).change(values, {0: 0.0})
    assert torch.allclose(changed @ along, torch.zeros(()), atol=1e-5)
    assert torch.allclose(changed @ across, values @ across, atol=1e-5)


@pytest.mark.parametrize("layout", ["channels first", "channels last", "tokens", "heads"])
def test_a_region_weighs_the_places_of_the_image_alone(layout: str):
    concepts = Concepts(LAYERS[layout])
    values = torch.ones(2, *concepts.layer.shape)
    tokens = 3 if layout == "heads" else 1
    everywhere = values * concepts.inside(EVERYTHING, (SIDE, SIDE))
    assert concepts.strength(everywhere).sum(1)[0, 0] == 16 * tokens
    left = values * concepts.inside(LEFT_HALF, (SIDE, SIDE))
    assert concepts.strength(left).sum(1)[0, 0] == 8 * tokens
    assert torch.equal(values * concepts.inside((), (SIDE, SIDE)), values)


def test_a_region_counts_in_a_place_as_far_as_it_covers_it():
    quarter_of_a_place = shares_of(((0, 0), (3, 0), (3, 3), (0, 3)), (SIDE, SIDE))
    weights = Concepts(LAYERS["channels first"]).inside(quarter_of_a_place, (SIDE, SIDE))
    assert weights[0, 0, 0] == 0.25
    assert weights.sum() == 0.25


def test_what_is_not_there_is_told():
    with pytest.raises(SelectionError, match="Concept 5 was asked for"):
        activity("tokens")[0].check([5])
    with pytest.raises(SelectionError, match="no places"):
        Concepts(LAYERS["none"]).inside(EVERYTHING, (SIDE, SIDE))
    with pytest.raises(SelectionError, match="no 'blocks/heads'"):
        find_concepts(transformer(), "blocks/heads")


# Layers


def test_layers_are_named_once_and_the_default_is_a_late_map():
    names = [layer.name for layer in list_layers(residual()).layers]
    assert names == ["stem.1", "deep.1", "body.1"]
    assert list_layers(residual()).default == "body.1"
    assert list_layers(residual()).below["body.1"] == ("stem.1",)


def test_a_transformer_has_hidden_units_token_dimensions_and_heads():
    layers = {layer.name: layer for layer in list_layers(transformer()).layers}
    assert layers["blocks.1.mlp.act"].channels == 96
    assert layers["blocks.1"].channels == 24
    assert layers["blocks.1.attn/heads"].channels == 3
    assert list_layers(transformer()).default == "blocks.1.mlp.act"
    assert list_layers(transformer()).below["blocks.2.attn/heads"] == ("blocks.1.attn/heads", "blocks.0.attn/heads")


def test_a_model_handed_over_as_bytes_has_the_same_layers():
    assert list_layers(unpack(pack(transformer()))).layers == list_layers(transformer()).layers


# One decision

each_layer = pytest.mark.parametrize(
    ("make", "layer"),
    [
        (residual, "stem.1"),
        (residual, "body.1"),
        (transformer, "blocks.1.mlp.act"),
        (transformer, "blocks.1"),
        (transformer, "blocks.1.attn/heads"),
    ],
)


@each_layer
def test_conditional_heatmaps_add_up_to_what_flows_through_the_layer(make, layer):
    decision, concepts = decide(make()), find_concepts(make(), layer)
    heatmaps = decision.heatmaps(concepts, range(concepts.count))[:, 0]
    at_layer = decision.relevance(concepts.layer.node)
    whole = relevance(decision.tape, at_layer, rules=decision.rules, start=concepts.layer.node)[0, 0].sum(0)
    assert torch.allclose(heatmaps.sum(0), whole, atol=1e-5 * whole.abs().max().item() * concepts.count)
    if layer in ("stem.1", "blocks.1"):  # nothing goes round these
        assert torch.allclose(whole, decision.relevance()[0, 0].sum(0), atol=1e-5)


def test_without_biases_a_heatmap_has_the_relevance_of_its_concept():
    decision, concepts = decide(residual(bias=False), rules="epsilon-plus"), find_concepts(residual(False), "body.1")
    heatmaps = decision.heatmaps(concepts, range(concepts.count))[:, 0]
    assert torch.allclose(heatmaps.sum((1, 2)), decision.measure(concepts)[0], rtol=1e-3, atol=1e-5)


def test_heads_share_the_relevance_of_their_attention():
    decision, concepts = decide(transformer()), find_concepts(transformer(), "blocks.1.attn/heads")
    whole = decision.relevance(concepts.layer.node).sum()
    assert torch.allclose(decision.measure(concepts).sum(), whole, rtol=1e-4)
    assert decision.measure(concepts).abs().min() > 0


def test_concepts_for_one_class_rather_than_another_are_the_difference():
    concepts = find_concepts(residual(), "body.1")
    one, other, contrast = (
        decide(residual(), target).measure(concepts) for target in (Target(1), Target(2), Target(1, 2))
    )
    assert torch.allclose(contrast, one - other, atol=1e-5)


def test_relevance_in_a_region_is_that_of_its_places():
    decision, concepts = decide(residual()), find_concepts(residual(), "body.1")
    by_hand = decision.relevance(concepts.layer.node)[0, :, :, :, :4].sum((2, 3))
    assert torch.allclose(decision.measure(concepts, LEFT_HALF), by_hand)
    assert torch.equal(decision.measure(concepts, EVERYTHING), decision.measure(concepts))
    heatmap = decision.heatmaps(concepts, [int(by_hand.abs().argmax())], LEFT_HALF)[0, 0]
    assert heatmap[:, 24:].abs().sum() == 0  # beyond the reach of the left half's places
    assert heatmap.abs().sum() > 0


# Parents


def test_parents_have_the_relevance_that_comes_from_them():
    model = residual(bias=False)
    decision = decide(model, rules="epsilon-plus")
    body, deep, stem = (find_concepts(model, name) for name in ("body.1", "deep.1", "stem.1"))
    first, second, third = trace_parents(decision, body, [2, 5], [deep, stem], count=8)
    assert torch.allclose(first.relevance, decision.measure(body)[0, [2, 5]])
    assert torch.allclose(second.weights.sum(1), first.relevance, rtol=1e-3, atol=1e-6)
    assert torch.allclose(third.weights.sum(1), second.relevance, rtol=1e-3, atol=1e-6)
    for level in (second, third):
        assert torch.allclose(level.weights.sum(0), level.relevance, atol=1e-6)


def test_the_strongest_parents_are_kept_for_every_concept():
    decision, body, deep = decide(residual()), find_concepts(residual(), "body.1"), find_concepts(residual(), "deep.1")
    everything = trace_parents(decision, body, [2, 5], [deep], count=8)[1].weights
    wanted = {int(parent) for row in everything.abs() for parent in row.topk(2).indices}
    assert set(trace_parents(decision, body, [2, 5], [deep], count=2)[1].concepts.tolist()) == wanted


# What if


@each_layer
def test_a_factor_of_one_changes_nothing(make, layer):
    before, concepts = decide(make()), find_concepts(make(), layer)
    after = intervention.intervene(before, concepts, {0: 1.0})
    assert torch.allclose(after.tape.output, before.tape.output, atol=1e-6)
    whole = before.relevance()[0].sum(1)
    heatmap = intervention.heatmap(before, after, concepts)
    assert torch.allclose(heatmap, whole, atol=1e-4 * whole.abs().max().item())


@pytest.mark.parametrize(("layer", "place"), [("deep.1", 0), ("body.1", 1)])
@pytest.mark.parametrize("factors", [{1: 0.0}, {0: 0.5, 6: 2.0}, dict.fromkeys(range(8), 0.0)])
def test_changed_concepts_act_like_a_network_that_scales_them(layer: str, place: int, factors: dict[int, float]):
    before, concepts = decide(residual()), find_concepts(residual(), layer)
    after = intervention.intervene(before, concepts, factors)
    scaling = network(True).__class__()
    scaling.load_state_dict(network(True).state_dict())
    scaling.factors[place, list(factors), 0, 0] = torch.tensor(list(factors.values()))
    model = export(scaling.eval(), "scaling", PREPROCESSING)
    with torch.no_grad():
        assert torch.allclose(after.tape.output, scaling(image()), atol=1e-6)
    expected = decide(model).relevance()[0].sum(1)
    found = intervention.heatmap(before, after, concepts)
    assert torch.allclose(found, expected, atol=1e-4 * expected.abs().max().item())


def test_silencing_a_hidden_unit_is_zeroing_it_in_the_forward_pass():
    torch.manual_seed(4)
    module = timm.models.VisionTransformer(SIDE, 8, num_classes=5, embed_dim=24, depth=3, num_heads=3).eval()
    before, concepts = decide(transformer()), find_concepts(transformer(), "blocks.1.mlp.act")
    unit = int(concepts.maximum(before.values(concepts)).argmax())

    def silence(part: nn.Module, inputs: object, output: Tensor) -> Tensor:
        return output * (torch.arange(output.shape[-1]) != unit)

    module.blocks[1].mlp.act.register_forward_hook(silence)
    found = intervention.intervene(before, concepts, {unit: 0}).tape.output
    with torch.no_grad():
        assert torch.allclose(found, module(image()), atol=1e-6)
    assert not torch.allclose(found, before.tape.output, atol=1e-5)


# Through the cache


@pytest.fixture
def model() -> Model:
    """A model without any tape left by other tests."""
    forget(residual().info.digest)
    return residual()


def case(model: Model, seed: int = 0) -> Case:
    return Case(model, picture(seed), TARGET)


def passes(cache: Cache) -> tuple[int, int]:
    return cache.counters.forward, cache.counters.backward


def test_a_first_view_costs_one_forward_pass_and_a_further_concept_one_backward_pass(model: Model):
    cache = Cache()
    ask(RankConcepts(layer="body.1"), case(model), cache=cache).result()
    assert passes(cache) == (1, 1)
    ask(DrawConcepts(layer="body.1", concepts=range(7)), case(model), cache=cache).result()
    assert passes(cache) == (1, 2)
    ask(DrawConcepts(layer="body.1", concepts=[7]), case(model), cache=cache).result()
    assert passes(cache) == (1, 3)
    ask(DrawConcepts(layer="body.1", concepts=[6, 5, 4, 3, 2, 1, 0]), case(model), cache=cache).result()
    ask(RankConcepts(layer="body.1"), case(model), cache=cache).result()
    assert passes(cache) == (1, 3)
    ask(RankConcepts(layer="body.1", region=LEFT_HALF), case(model), cache=cache).result()
    assert passes(cache) == (1, 3)  # the relevance is there already


def test_parents_cost_a_backward_pass_a_layer_and_a_change_one_forward_pass(model: Model):
    cache = Cache()
    ask(TraceConcepts(layer="body.1", concepts=(2, 5), below=("deep.1", "stem.1")), case(model), cache=cache).result()
    assert passes(cache) == (1, 3)
    ask(ChangeConcepts(layer="stem.1", factors={0: 0}), case(model), cache=cache).result()
    before = passes(cache)
    ask(ChangeConcepts(layer="stem.1", factors={1: 0}), case(model), cache=cache).result()
    assert passes(cache) == (before[0] + 1, before[1] + 2)


def test_the_graph_of_parents_names_nodes_and_edges(model: Model):
    question = TraceConcepts(layer="body.1", concepts=(5, 2), below=("deep.1", "stem.1"), count=2)
    found = ask(question, case(model), cache=Cache()).result()
    assert found.layers == ("body.1", "deep.1", "stem.1")
    assert found.concepts[found.levels == 0].tolist() == [2, 5]
    assert (found.levels[found.lowers] - found.levels[found.uppers] == 1).all()
    assert len(found.uppers) == 2 * (found.levels < 2).sum()
    assert set(range(2, len(found.levels))) == set(found.lowers)


def test_results_survive_the_disk(model: Model, tmp_path: Path):
    questions = (
        RankConcepts(layer="body.1"),
        DrawConcepts(layer="body.1", concepts=(1, 2)),
        TraceConcepts(layer="body.1", concepts=(1,), below=("stem.1",)),
        ChangeConcepts(layer="body.1", factors={1: 2}),
    )
    for question in questions:
        result = ask(question, case(model), cache=Cache()).result()
        back = restore(store(result))
        assert type(back) is type(result)
        assert all(np.array_equal(values, back.arrays[name]) for name, values in result.arrays.items())
        assert back.provenance["layer"] == "body.1"


def test_shares_keep_their_sign_and_say_how_many_concepts_matter():
    relevance = np.array([1, -6, 0, 3], np.float32)
    found = ConceptRelevance(relevance, relevance, relevance, 1.0)
    assert found.shares.tolist() == pytest.approx([0.1, -0.6, 0, 0.3])
    assert found.top(2) == [1, 3]
    assert [found.needed(share) for share in (0.5, 0.6, 0.8, 0.9, 1.0)] == [1, 1, 2, 2, 3]


def test_a_change_tells_both_predictions(model: Model):
    question = ChangeConcepts(layer="body.1", factors=dict.fromkeys(range(8), 0.0))
    found = ask(question, case(model), cache=Cache()).result()
    assert found.outputs.tolist() == [found.before.logits[1], found.after.logits[1]]
    assert found.before.probabilities.sum() == pytest.approx(1)
    assert found.outputs[0] != found.outputs[1]


@pytest.mark.parametrize("layer", ["nowhere", "body.1/heads"])
def test_an_unknown_layer_is_told_when_it_is_asked_for(model: Model, layer: str):
    with pytest.raises(SelectionError, match="has no"):
        ask(RankConcepts(layer=layer), case(model), cache=Cache()).result()


def test_an_unknown_concept_is_told_when_it_is_asked_for(model: Model):
    for question in (DrawConcepts(layer="body.1", concepts=(8,)), ChangeConcepts(layer="body.1", factors={8: 1})):
        with pytest.raises(SelectionError, match="Concept 8 was asked for"):
            ask(question, case(model), cache=Cache()).result()


def test_nothing_of_an_upload_reaches_the_disk_or_outlives_forgetting(model: Model, tmp_path: Path):
    cache, own = Cache(tmp_path), picture(1, private=True)
    about = Case(model, own, TARGET)
    ask(RankConcepts(layer="body.1"), about, cache=cache).result()
    ask(ChangeConcepts(layer="body.1", factors={1: 0}), about, cache=cache).result()
    assert not list(tmp_path.rglob("*.npz"))
    assert TAPES.bytes > 0
    forget(own.digest)
    ask(DrawConcepts(layer="body.1", concepts=(1,)), about, cache=cache).result()
    assert cache.counters.computed["ConceptHeatmaps"] == 1
    assert cache.counters.forward == 3  # recorded again, once


# Tapes


def test_tapes_stay_within_their_limit_and_the_least_recent_go_first():
    size = record(residual(), image()).bytes
    tapes, recorded = Tapes(limit=2 * size + size // 2), list[str]()

    def ask(name: str) -> Tape:
        def make(budget: int) -> Tape:
            recorded.append(name)
            return record(residual(), image(), budget)

        return tapes.get((name,), make)

    for name in "abacab":  # c takes the place of b, then b that of c
        ask(name)
        assert tapes.bytes <= tapes.limit
    assert recorded == ["a", "b", "c", "b"]


def test_a_tape_that_many_ask_for_is_recorded_once():
    tapes, recorded, found = Tapes(), list[int](), list[Tape]()
    barrier = threading.Barrier(8)

    def make(budget: int) -> Tape:
        recorded.append(budget)
        return record(residual(), image(), budget)

    def ask() -> None:
        barrier.wait()
        found.append(tapes.get(("same",), make))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert recorded == [tapes.limit]
    assert all(tape is found[0] for tape in found)


def test_questions_from_many_threads_get_the_same_answers(model: Model):
    alone = [
        ask(DrawConcepts(layer="body.1", concepts=(1, 3)), case(model, seed), cache=Cache()).result().values
        for seed in range(3)
    ]
    forget(model.info.digest)
    cache = Cache(workers=4)
    jobs = [
        ask(DrawConcepts(layer="body.1", concepts=(concept,)), case(model, seed), cache=cache)
        for seed in range(3)
        for concept in (1, 3)
    ]
    together = [job.result().values[0] for job in jobs]
    assert np.allclose(np.concatenate(alone), together, atol=1e-6)
    assert cache.counters.forward == 3
