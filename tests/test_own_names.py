"""Who uploads the same as somebody else, under another name, meets their own names only."""

from __future__ import annotations

import io
import json
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from explainers.asking import ask, identify
from explainers.attribution.method import make_method, pack
from explainers.cache import Cache
from explainers.cases.predictions import PredictAll, ask_about
from explainers.errors import ComputationError, ImageError
from explainers.graph.model import Model, constant
from explainers.graph.stored import pack as pack_model
from explainers.graph.stored import unpack
from explainers.images import Picture
from explainers.index import Upload
from explainers.index.subjects import ManyInputs
from explainers.predictions import Predict
from explainers.preprocessing import Preprocessing
from explainers.prototypes.similarities import CompareSamples
from explainers.questions import Question
from explainers.subjects import Case, Input
from explainers.targets import Target
from tests.test_cache import prediction
from tests.test_index import SIDE, model

NAMES = ("Ada", "Ben")


def own(name: str, **changes: object) -> Model:
    """The same model as somebody calls it."""
    return replace(model(), info=replace(model().info, name=f"{name}.pt", private=True, **changes))  # type: ignore[arg-type]


def picture(name: str) -> Picture:
    """The same picture as somebody calls it."""
    pixels = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    return Picture(f"{name}.png", pixels, private=True)


def test_a_download_tells_the_name_that_the_model_has_for_who_takes_it() -> None:
    cache = Cache()
    for name in NAMES:
        case = Case(own(name), picture(name), Target(0))
        found = ask(make_method("gradient", {}), case, cache=cache).result()
        with np.load(io.BytesIO(pack(case.info.preprocessing.view(case.picture), found))) as file:
            told = json.loads(str(file["provenance"]))
        assert told["model"] == f"{name}.pt"
        assert not any(other in json.dumps(told) for other in NAMES if other != name)
    assert cache.counters.computed == {"Attribution": 1, "Prediction": 1}


def test_who_joins_a_computation_under_way_is_given_their_own_names_too() -> None:
    cache, going = Cache(workers=1), threading.Event()
    cache.submit("busy", lambda progress: prediction(going.wait(10)))
    jobs = [ask(Predict(), Input(own(name), picture(name)), cache=cache) for name in NAMES]
    heard: list[str] = []
    for job in jobs:
        job.then(lambda found: heard.append(found.provenance["model"]))
    going.set()
    assert [job.result(10).provenance["model"] for job in jobs] == ["Ada.pt", "Ben.pt"]
    assert sorted(heard) == ["Ada.pt", "Ben.pt"]


def test_errors_that_reach_all_who_wait_name_nobodys_model_or_picture() -> None:
    broken = unpack(pack_model(model())).program
    with torch.no_grad():
        for node in broken.graph.find_nodes(op="get_attr"):
            constant(broken, node).fill_(torch.nan)
    info = replace(model().info, name="Ada.pt", digest="broken")
    with pytest.raises(ComputationError) as told:
        ask(Predict(), Input(Model(info, broken), picture("Ada")), cache=Cache()).result()
    assert "Ada" not in str(told.value)
    many = ask(PredictAll(), ask_about(Model(info, broken), [picture("Ben")]), cache=Cache()).result()
    assert "Ada" not in many.unreadable[0]
    four = own("Ada", preprocessing=Preprocessing((SIDE, SIDE), SIDE, (0.5,) * 4, (0.5,) * 4))
    with pytest.raises(ImageError, match="the picture has three colours") as refused:
        ask(Predict(), Input(four, picture("Ada")), cache=Cache()).result()
    assert "Ada" not in str(refused.value)


def test_an_answer_that_reads_labels_is_another_one_for_other_class_names() -> None:
    one = Upload("picture", picture=picture("picture"))
    keys = {
        identify(question, ManyInputs(own("Ada", class_names=names), [one]))
        for question in (CompareSamples(), PredictAll())
        for names in (("ant", "bee", "cat"), ("cat", "bee", "ant"))
    }
    assert len(keys) == 3
    assert isinstance(CompareSamples(), Question)
