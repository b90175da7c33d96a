"""A stop is heard within a pass, and what breaks down within one is told in a sentence."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from explainers.asking import ask
from explainers.attribution.batch import Batch
from explainers.attribution.method import make_method
from explainers.cache import Cache
from explainers.errors import CancelledError, ComputationError
from explainers.graph.export import export
from explainers.graph.model import Model
from explainers.images import Picture
from explainers.jobs import Progress, at_hand
from explainers.parameters import parameter
from explainers.predictions import Predict
from explainers.preprocessing import Preprocessing
from explainers.prototypes.vectors import embed
from explainers.questions import Question
from explainers.relevance.propagation import propagate
from explainers.relevance.seeds import seed_targets
from explainers.relevance.tape import record
from explainers.results import Result
from explainers.subjects import Case, Input
from explainers.targets import Target

SMALL = Preprocessing((16, 16), 16, (0.5,) * 3, (0.5,) * 3)
PICTURE = Picture("noise", np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8))

#: Calls of ATen operators that may come after a stop: those of the operator at hand, written out, and of its rule.
AFTER = 30


@cache
def deep() -> Model:
    torch.manual_seed(0)
    blocks = [layer for _ in range(80) for layer in (nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())]
    network = nn.Sequential(nn.Conv2d(3, 4, 3), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    return export(network.eval(), "deep", SMALL)


def batch(progress: Progress) -> Batch:
    return Batch(deep(), torch.randn(2, 3, 16, 16), [Target(0)] * 2, progress)


def forward(progress: Progress) -> None:
    deep()(torch.randn(2, 3, 16, 16))


def backward(progress: Progress) -> None:
    batch(progress).gradient()


def tape(progress: Progress) -> None:
    record(deep(), torch.randn(2, 3, 16, 16))


def relevance(progress: Progress) -> None:
    found = record(deep(), torch.randn(2, 3, 16, 16))
    propagate(found, seed_targets(found.output, [Target(0)] * 2), account=True)


class Calls(TorchDispatchMode):
    """Counts the calls of operators, and asks for a stop at one of them."""

    def __init__(self, progress: Progress, stop: int = -1) -> None:
        super().__init__()
        self.progress, self.stop, self.count = progress, stop, 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        self.count += 1
        if self.count == self.stop:
            self.progress.cancel()
        return function(*arguments, **(keywords or {}))


@contextmanager
def working(progress: Progress) -> Iterator[None]:
    token = at_hand.set(progress)
    try:
        yield
    finally:
        at_hand.reset(token)


def count(work: Callable[[Progress], None], stop: int = -1) -> int:
    """Count an operator's calls in a computation that is stopped at one of them."""
    progress = Progress()
    with working(progress), Calls(progress, stop) as calls:
        if stop < 0:
            work(progress)
        else:
            with pytest.raises(CancelledError):
                work(progress)
    return calls.count


@pytest.mark.parametrize("share", [0.1, 0.6])
@pytest.mark.parametrize("work", [forward, backward, tape, relevance])
def test_a_stop_is_heard_within_a_pass(work: Callable[[Progress], None], share: float, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("explainers.graph.model.LISTENING", 0.0)  # all of this model is over sooner
    deep().footprint  # noqa: B018 (measured once, not within what is counted)
    total = count(work)
    stop = int(total * share)
    after = count(work, stop) - stop
    assert total - stop > 2 * AFTER
    assert after <= AFTER


def test_the_gradient_is_the_same_whether_a_stop_is_listened_for_or_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("explainers.graph.model.LISTENING", 0.0)
    torch.manual_seed(0)
    one = batch(Progress())
    alone = one.gradient()
    with working(Progress()):
        assert torch.equal(one.gradient(), alone)


def test_a_stop_is_heard_between_the_fits_of_strategies():
    progress = Progress()
    progress.cancel()
    numbers = np.random.default_rng(0).normal(size=(200, 20))
    with working(progress), pytest.raises(CancelledError):
        embed(numbers, np.zeros(200, int))


@dataclass(frozen=True)
class Number(Result):
    value: float


def refuse_memory() -> None:
    np.empty(10**15)


def refuse_tensor() -> None:
    torch.empty(10**15)


def recurse() -> None:
    recurse()


FAULTS: dict[str, Callable[[], Any]] = {
    "memory": lambda: (_ for _ in ()).throw(MemoryError()),
    "array": refuse_memory,
    "tensor": refuse_tensor,
    "index": lambda: [][0],
    "shape": lambda: torch.ones(2, 3) @ torch.ones(2, 3),
    "dtype": lambda: torch.ones(2).int().softmax(0),
    "value": lambda: np.ones(3).reshape(2, 2),
    "recursion": recurse,
    "key": lambda: {}["secret"],
}


@dataclass(frozen=True)
class Break(Question[Input, Number]):
    """A question that breaks down."""

    name = "break"
    title = "Breaking"
    summary = "Breaks down."
    citation = "none"
    subject = Input

    fault: str = parameter("", "Fault", "Which fault.")

    def answer(self, about: Input, progress: Progress) -> Number:
        FAULTS[self.fault]()
        return Number(0.0)


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_breaks_down_is_a_sentence_for_the_person_and_a_traceback_in_the_log(
    fault: str, caplog: pytest.LogCaptureFixture
):
    job = ask(Break(fault), Input(deep(), PICTURE), cache=Cache())
    with caplog.at_level(logging.ERROR), pytest.raises(ComputationError, match=r"^Breaking: .*\.") as told:
        job.result(60)
    assert "secret" not in str(told.value)
    assert ("memory did not suffice" in str(told.value)) == (fault in ("memory", "array", "tensor"))
    assert "Traceback" in caplog.text


def misfit() -> Model:
    """A model whose operators do not fit the pictures that it says it takes."""
    model = export(nn.Sequential(nn.Flatten(), nn.Linear(768, 2)), "misfit", SMALL)
    return Model(
        replace(model.info, digest="misfit", preprocessing=replace(SMALL, size=(20, 20), resize=20)), model.program
    )


@pytest.mark.parametrize("question", [Predict(), make_method("gradient", {}), make_method("lrp", {})])
def test_an_operator_that_cannot_be_computed_is_named(question: Any):
    with pytest.raises(ComputationError, match=r"operator aten\.\w+\.default cannot be computed on this picture"):
        ask(question, Case(misfit(), PICTURE, Target(0)), cache=Cache()).result(60)
