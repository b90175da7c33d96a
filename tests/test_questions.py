"""What holds for every question, whatever it is and whatever it is asked about."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import sample_models
from explainers.__main__ import main
from explainers.asking import ask, identify
from explainers.cache import Cache
from explainers.concepts.feature_maps import MapFeatures
from explainers.concepts.layers import list_layers
from explainers.errors import SelectionError
from explainers.graph.export import export
from explainers.graph.model import Model
from explainers.index import Index, open_index
from explainers.index.building import start
from explainers.preprocessing import Preprocessing
from explainers.questions import questions
from explainers.results import Result, restore, store
from explainers.subjects import Input, Network, Subject
from explainers.targets import Target
from sample_models import digits
from sample_models.gallery import PICTURES

every_question = pytest.mark.parametrize("name", questions())

#: The sample models that alone can be asked some questions.
MODELS = {"part-similarities": "lesions-prototypes", "sample-similarities": "lesions-prototypes"}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """What the digits network did in 300 digits."""
    model, store = sample_models.load("digits"), tmp_path_factory.mktemp("digits")
    start(model, digits.samples(0, 300), store, [list_layers(model).default]).result()
    return open_index(store)


@cache
def load(name: str) -> Model:
    return sample_models.load(name)


def about(name: str, index: Index, private: bool = False) -> Subject:
    """Something that a question can be asked about: a public model, and pictures of its own."""
    model = load(MODELS.get(name, "digits"))
    picture = sample_models.models()[model.info.name].pictures[1].read()
    world = {
        "model": Model(replace(model.info, private=private), model.program),
        "picture": replace(picture, private=private),
        "target": Target(1),
        "index": index,
        "layer": next(iter(index.recipe.layers)),
        "samples": sample_models.models()[model.info.name].pictures[:2],
    }
    kind = questions()[name].subject
    return kind(**{field.name: world[field.name] for field in fields(kind)})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def answered(index: Index) -> Callable[[str], Result]:
    """Each question's answer by its defaults, computed once for all tests."""
    shared = Cache()
    return lambda name: ask(questions()[name](), about(name, index), cache=shared).result()


@every_question
def test_a_question_describes_itself(name: str):
    kind = questions()[name]
    assert kind.name == name == name.lower()
    assert " " not in name
    assert kind.summary.endswith(".")
    assert all((kind.title, kind.citation, kind.__doc__))
    assert issubclass(kind.subject, Subject)


@every_question
def test_every_parameter_has_words_and_sane_bounds(name: str):
    for item in questions()[name].parameters():
        assert item.title, item.name
        assert item.help.endswith("."), item.name
        if item.kind in ("integer", "number"):
            assert item.low <= item.default <= item.high, item.name
            assert 0 < item.step <= item.high - item.low, item.name
        if item.kind == "choice":
            assert len(item.choices) > 1, item.name


@every_question
def test_defaults_pass_their_own_check_also_as_a_command_line_writes_them(name: str):
    kind = questions()[name]
    defaults = {item.name: item.default for item in kind.parameters()}
    assert kind.make(defaults) == kind() == kind.make({})
    assert kind.make({key: str(value).strip("()") for key, value in defaults.items()}) == kind()


@every_question
def test_an_unknown_parameter_is_refused_with_those_there_are(name: str):
    with pytest.raises(SelectionError, match="has no parameter 'colour'"):
        questions()[name].make({"colour": "1"})


@every_question
def test_numbers_out_of_bounds_are_refused_in_a_sentence(name: str):
    for item in questions()[name].parameters():
        if item.kind in ("integer", "number"):
            with pytest.raises(SelectionError, match=f"'{item.name}' is .*; give a"):
                questions()[name].make({item.name: item.high + 1})


@every_question
def test_an_answer_says_what_was_asked_about_what_and_what_it_cost(name: str, answered: Callable[[str], Result]):
    told = answered(name).provenance
    assert told["question"] == name
    assert set(told["parameters"]) == {item.name for item in questions()[name].parameters()}
    assert told["citation"] == questions()[name].citation
    assert told["model"] == MODELS.get(name, "digits")
    assert set(told["passes"]) == {"forward", "backward", "images"}
    assert {"lightbox", "torch", "numpy"} < set(told["versions"])


@every_question
def test_an_answer_is_kept_without_a_name_and_given_with_the_names_of_who_asks(name: str, index: Index, tmp_path: Path):
    counted, one = Cache(tmp_path), about(name, index)
    mine, theirs = rename(one, "mine"), rename(one, "theirs")
    first, second = (ask(questions()[name](), each, cache=counted).result() for each in (mine, theirs))
    assert (first.provenance["model"], second.provenance["model"]) == (mine.names["model"], theirs.names["model"])
    if mine.identity == theirs.identity:
        assert counted.counters.computed[type(first).__name__] == 1
    for file in tmp_path.rglob("*.npz"):
        assert "model" not in restore(file.read_bytes()).provenance
        assert not any(word in tell(restore(file.read_bytes())) for word in ("mine", "theirs"))


def rename(subject: Any, word: str) -> Any:
    """The same subject under another name of its model, and of its picture where it has one."""
    if isinstance(subject, Network):
        subject = replace(subject, model=replace(subject.model, info=replace(subject.info, name=word)))
    if isinstance(subject, Input):
        subject = replace(subject, picture=replace(subject.picture, name=word))
    return subject


def tell(found: Result) -> str:
    """All text of a result and of its parts."""
    return str(vars(found)) + "".join(map(tell, found.parts.values()))


@every_question
def test_an_answer_cannot_be_changed(name: str, answered: Callable[[str], Result]):
    assert not any(array.flags.writeable for array in answered(name).arrays.values())


@every_question
def test_asked_again_it_is_not_computed_again(name: str, index: Index):
    counted = Cache()
    first, second = (ask(questions()[name](), about(name, index), cache=counted).result() for _ in range(2))
    assert first.provenance == second.provenance
    assert all(first.arrays[array] is second.arrays[array] for array in first.arrays)
    assert counted.counters.computed[type(first).__name__] == 1


@every_question
def test_another_parameter_is_another_result(name: str, index: Index):
    kind, keys = questions()[name], set[str]()
    others = [{}, *({item.name: OTHERS[item.kind](item)} for item in kind.parameters())]
    for given in others:
        keys.add(identify(kind.make(given), about(name, index)))
    assert len(keys) == len(others)


#: Another value than the default for every kind of parameter.
OTHERS: dict[str, Callable[[Any], Any]] = {
    "integer": lambda item: item.high if item.default != item.high else item.low,
    "number": lambda item: item.high if item.default != item.high else item.low,
    "flag": lambda item: not item.default,
    "choice": lambda item: item.choices[item.default == item.choices[0]],
    "text": lambda item: "conv1=epsilon",
    "layer": lambda item: "conv1.1",
    "concept layer": lambda item: "conv1.1",
    "layers": lambda item: "conv1.1,conv2.1",
    "class": lambda item: item.default + 1,
    "classes": lambda item: "1,2",
    "concepts": lambda item: [2],
    "factors": lambda item: {2: 0.5},
    "region": lambda item: "0,0,0.5,0,0.5,1",
}


@every_question
def test_nothing_of_an_upload_reaches_the_disk_and_all_of_it_can_be_forgotten(name: str, index: Index, tmp_path: Path):
    counted, mine = Cache(tmp_path), about(name, index, private=True)
    ask(questions()[name](), mine, cache=counted).result()
    assert not list(tmp_path.rglob("*.npz"))
    for content in mine.uploads:
        counted.forget(content)
    assert counted.counters.entries == 0


@every_question
def test_a_lasting_answer_is_the_same_from_the_disk(name: str, answered: Callable[[str], Result]):
    if not questions()[name].durable:
        pytest.skip("It does not reach the disk.")
    found = answered(name)
    back = restore(store(found))
    assert type(back) is type(found)
    assert {key: value.tolist() for key, value in back.arrays.items()} == {
        key: value.tolist() for key, value in found.arrays.items()
    }
    assert json.dumps(back.provenance) == json.dumps(found.provenance)
    assert back.nbytes == found.nbytes


@pytest.mark.usefixtures("own_cache")
@every_question
def test_the_command_line_asks_it(name: str, index: Index, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    model, picture = MODELS.get(name, "digits"), str(PICTURES.named("coffee").path)
    data = tmp_path / "pictures"
    data.mkdir()
    (data / "picture.png").write_bytes(Path(picture).read_bytes())
    said = {
        "model": ["--model", model],
        "picture": ["--image", picture],
        "target": ["--target", "1"],
        "index": ["--store", str(index.store)],
        "layer": [],
        "samples": ["--data", str(data)],
    }
    parts = [one for field in fields(questions()[name].subject) for one in said[field.name]]  # type: ignore[arg-type]
    array = tmp_path / "answer.npz"
    assert main(["ask", name, *parts, "--array", str(array)]) == 0
    assert json.loads(capsys.readouterr().out)["provenance"]["question"] == name
    if questions()[name].durable:
        assert isinstance(restore(array.read_bytes()), Result)


def test_the_list_names_every_question_with_its_source(capsys: pytest.CaptureFixture[str]):
    assert main(["questions"]) == 0
    listed = capsys.readouterr().out
    assert all(kind.name in listed and kind.citation in listed for kind in questions().values())


@pytest.mark.usefixtures("own_cache")
def test_classes_may_be_called_by_their_names_on_the_command_line(
    index: Index, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    assert main(["ask", "decision-map", "--store", str(index.store), "--classes", "3,7"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert set(index.table["label_name"].iloc[rows]) <= {"3", "7"}


def test_feature_maps_are_what_the_networks_own_layers_give():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2))
    model = export(network, "small", Preprocessing((32, 32), 32))
    about = Input(model, sample_models.models()["digits"].pictures[1].read())
    with torch.no_grad():
        values = network[:2](about.tensor())[0]
    named = ask(MapFeatures("1", (3, 5)), about, cache=Cache()).result()
    torch.testing.assert_close(torch.from_numpy(named.values.copy()), values[[3, 5]])
    strongest = ask(MapFeatures("1", count=1), about, cache=Cache()).result()
    assert strongest.channels.tolist() == [int(values.mean((1, 2)).argmax())]
