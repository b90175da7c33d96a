"""Passes take no more memory than the server allows: they are cut, wait for each other, or say that they cannot be."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from explainers.attribution.batch import Batch
from explainers.attribution.method import make_method
from explainers.errors import CancelledError, ComputationError
from explainers.graph.export import export
from explainers.graph.model import SECONDS, Model
from explainers.images import Picture
from explainers.index.loading import Loaded
from explainers.index.observing import make_recipe, observe
from explainers.index.samples import Upload
from explainers.jobs import Passes, Progress, at_hand, passes
from explainers.memory import IMAGES_PER_PASS, PASS_MEMORY, PassMemory
from explainers.preprocessing import Preprocessing
from explainers.relevance.composites import composite
from explainers.relevance.concepts.decision import Decision, trace_parents
from explainers.relevance.concepts.layers import concept_layers, find_concepts
from explainers.relevance.concepts.tapes import Tapes
from explainers.relevance.tape import record
from explainers.settings import settings
from explainers.targets import Target

SIDE = 32
SMALL = Preprocessing((SIDE, SIDE), SIDE, (0.5,) * 3, (0.5,) * 3)


@cache
def network() -> Model:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(4))
    return export(nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, 3)).eval(), "network", SMALL)


@pytest.fixture
def allow(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets how many bytes all passes together may take."""

    def allow(size: int) -> None:
        monkeypatch.setattr("explainers.memory.settings", lambda: replace(settings(), pass_memory=size))
        PASS_MEMORY.most = 0

    return allow


@contextmanager
def counting() -> Iterator[Passes]:
    counts = Passes()
    token = passes.set(counts)
    try:
        yield counts
    finally:
        passes.reset(token)


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def test_the_estimate_is_what_a_real_pass_keeps():
    tape = record(network(), images(4))
    assert 0.95 * tape.bytes <= 4 * network().footprint.total <= 1.05 * tape.bytes


def test_the_estimate_believes_nothing_that_the_file_says():
    model = Model(network().info, deepcopy(network().program))
    for node in model.program.graph.nodes:
        node.meta = {**node.meta, "val": None}
    assert model.footprint == network().footprint


def test_a_forward_pass_is_cut_to_its_share_and_gives_the_same(allow: Any):
    whole = network()(images(8))
    allow(2 * 3 * network().footprint.forward)
    with counting() as counts:
        parts = network()(images(8))
    assert (counts.forward, counts.images) == (3, 8)
    assert PASS_MEMORY.most <= PASS_MEMORY.share
    assert torch.allclose(whole, parts, atol=1e-5)


@pytest.mark.parametrize(("name", "given"), [("smoothgrad", {"samples": 8}), ("integrated-gradients", {"steps": 8})])
def test_a_method_is_cut_to_its_share_and_gives_the_same(name: str, given: dict[str, int], allow: Any):
    batch, method = Batch(network(), images(2), [Target(0)] * 2, Progress()), make_method(name, given)
    with counting() as before:
        whole = method.attribute(batch).values
    allow(2 * 3 * network().footprint.total)
    with counting() as after:
        cut = method.attribute(batch).values
    assert (before.backward, after.backward) == (1, 6)
    assert PASS_MEMORY.most <= PASS_MEMORY.share
    assert torch.allclose(whole, cut, atol=1e-5)


def test_an_index_is_built_in_parts_that_fit_and_is_the_same(allow: Any):
    pixels = images(7)
    samples = [Upload(str(number), picture=Picture(str(number), np.zeros((4, 4, 3), np.uint8))) for number in range(7)]
    loaded = Loaded(samples, [str(number) for number in range(7)], pixels.numpy(), ())
    recipe = make_recipe(network(), [network().info.layers[1].name], "epsilon", 1e-6, 0.25)
    with counting() as before:
        whole = observe(network(), recipe, loaded)
    allow(2 * 3 * network().footprint.tape)
    with counting() as after:
        cut = observe(network(), recipe, loaded)
    assert (before.forward, after.forward) == (1, 3)
    assert PASS_MEMORY.most <= PASS_MEMORY.share
    assert cut.table.drop(columns=["output", "probability"]).equals(whole.table.drop(columns=["output", "probability"]))
    for key, values in whole.values.items():
        assert np.allclose(values, cut.values[key], atol=1e-5)


@pytest.mark.parametrize("method", ["gradient", "gradcam", "lrp", "occlusion"])
def test_one_image_that_alone_takes_too_much_is_refused_with_the_figures(method: str, allow: Any):
    allow(1024)
    batch = Batch(network(), images(1), [Target(0)], Progress())
    with pytest.raises(ComputationError, match=r"takes [\d,.]+ MiB.*may take [\d,.]+ MiB.*LIGHTBOX_PASS_MEMORY"):
        make_method(method, {}).attribute(batch)


def test_passes_wait_for_each_other_in_turn_and_hold_no_more_than_is_allowed(allow: Any):
    allow(100)
    memory, order, first, done = PassMemory(), list[str](), threading.Event(), threading.Event()

    def work(name: str, size: int) -> None:
        with memory.hold(size):
            order.append(name)
            if name == "first":
                first.set()
                done.wait(5)

    threads = [threading.Thread(target=work, args=("first", 60))]
    threads[0].start()
    assert first.wait(5)
    for name, size in (("large", 90), ("small", 10)):
        threads.append(threading.Thread(target=work, args=(name, size)))
        threads[-1].start()
        while len(memory._turns) < len(threads) - 1:
            threading.Event().wait(0.001)
    done.set()
    for thread in threads:
        thread.join(5)
    assert order == ["first", "large", "small"]
    assert memory.held == 0
    assert memory.most <= 100


def test_a_pass_that_waits_hears_a_stop_and_lets_others_go_on(allow: Any):
    allow(100)
    memory, progress = PassMemory(), Progress()
    told = list[Exception]()

    def wait() -> None:
        at_hand.set(progress)
        try:
            with memory.hold(60):
                pass
        except CancelledError as error:
            told.append(error)

    with memory.hold(60):
        thread = threading.Thread(target=wait)
        thread.start()
        progress.cancel()
        thread.join(5)
    assert len(told) == 1
    assert (memory.held, len(memory._turns)) == (0, 0)


def test_what_runs_within_a_pass_is_counted_with_it(allow: Any):
    allow(100)
    memory = PassMemory()
    with memory.hold(80), memory.hold(80):
        assert memory.held == 80


def test_a_tape_that_alone_exceeds_the_limit_is_used_and_not_kept():
    tape = record(network(), images(1))
    tapes = Tapes(limit=tape.bytes + 1)
    assert tapes.get(("small",), lambda budget: tape) is tape
    assert tapes.bytes == tape.bytes
    large = record(network(), images(2))
    assert tapes.get(("large",), lambda budget: large) is large
    assert tapes.get(("small",), lambda budget: pytest.fail("recorded again")) is tape


def test_many_concepts_are_followed_in_parts_that_fit_with_the_same_result(allow: Any):
    concepts = find_concepts(network(), concept_layers(network())[-1].name)
    below = [find_concepts(network(), concept_layers(network())[0].name)]
    decision = Decision(record(network(), images(1)), (Target(0),), composite("epsilon", SMALL))
    decision.relevance(concepts.layer.node)
    chosen = list(range(8))
    with counting() as before:
        heatmaps, levels = decision.heatmaps(concepts, chosen), trace_parents(decision, concepts, chosen, below)
    each = decision.values(concepts).nbytes + images(1).nbytes
    allow(2 * 4 * 4 * each)
    with counting() as after:
        cut, again = decision.heatmaps(concepts, chosen), trace_parents(decision, concepts, chosen, below)
    assert before.backward == 2
    assert after.backward > 2 * before.backward
    assert torch.allclose(heatmaps, cut, atol=1e-6)
    assert torch.allclose(levels[1].weights, again[1].weights, atol=1e-6)


def test_fewer_images_go_together_where_one_operator_takes_long():
    model = Model(network().info, network().program)
    assert model.images_at_once(model.footprint.forward) == IMAGES_PER_PASS
    model.derived["slowest"] = SECONDS / 3
    assert model.images_at_once(model.footprint.forward) == 3
    model.derived["slowest"] = 10 * SECONDS
    assert model.images_at_once(model.footprint.forward) == 1
