"""What a model's outputs mean: taken from what it ends in, said by the person, and followed by every figure."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from components.heatmap import encode_png
from explainers.asking import ask
from explainers.attribution.lrp import Lrp
from explainers.concepts.relevance import RankConcepts
from explainers.errors import ModelError, SelectionError
from explainers.graph.export import Reading, export
from explainers.graph.loader import load, propose
from explainers.graph.model import Model
from explainers.images import Picture, Sample
from explainers.images.folder import File
from explainers.index import Index, building, open_index
from explainers.index.subjects import CaseInIndex
from explainers.predictions import predict
from explainers.preprocessing import Preprocessing
from explainers.prototypes.decisions import JudgeDecision
from explainers.subjects import Case, to_tensor
from explainers.targets import USUAL, Target, choose_target, find_class, name_target, refer_to

SIZE = (16, 16)
PLAIN = Preprocessing(SIZE, 0, (0.5,) * 3, (0.25,) * 3)


class Network(nn.Module):
    """A convolution and a dense layer with a function of the image in front and one of the scores behind."""

    def __init__(
        self,
        classes: int = 4,
        behind: Callable[[Tensor], Tensor] = lambda scores: scores,
        front: Callable[[Tensor], Tensor] = lambda image: image,
        mapped: bool = False,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.front, self.behind, self.mapped = front, behind, mapped
        self.convolution = nn.Conv2d(3, 6, 3, padding=1)
        self.head: nn.Module = nn.Conv2d(6, classes, 1) if mapped else nn.Linear(6, classes)
        for tensor in self.parameters():
            tensor.data.normal_(generator=generator)

    def scores(self, image: Tensor) -> Tensor:
        """What the network gives before the function behind."""
        found = self.convolution(self.front(image)).relu()
        made: Tensor = self.head(found if self.mapped else found.mean((2, 3)))
        return made

    def forward(self, image: Tensor) -> Tensor:
        """Both."""
        return self.behind(self.scores(image))


def archive(module: nn.Module) -> bytes:
    """Export a network as a ``.pt2`` file."""
    file = io.BytesIO()
    shapes = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(module.eval(), (torch.zeros(2, 3, *SIZE),), dynamic_shapes=shapes), file)
    return file.getvalue()


@pytest.fixture
def picture() -> Picture:
    """Noise."""
    return Picture("noise", np.random.default_rng(1).integers(0, 256, (*SIZE, 3), dtype=np.uint8))


def logits_of(model: Model, picture: Picture) -> np.ndarray:
    """What a model says of a picture."""
    return predict(model, picture).logits


def exponential_share(scores: Tensor) -> Tensor:
    """A softmax by hand."""
    powers = (scores - scores.amax(1, keepdim=True)).exp()
    return powers / powers.sum(1, keepdim=True)


SQUASHED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "softmax": (lambda scores: scores.softmax(1), "classes"),
    "log-softmax": (lambda scores: scores.log_softmax(1), "classes"),
    "softmax by hand": (exponential_share, "classes"),
    "exponential of a log-softmax": (lambda scores: scores.log_softmax(-1).exp(), "classes"),
    "bounded softmax": (lambda scores: scores.softmax(1).clamp(1e-7, 1 - 1e-7), "classes"),
    "softmax behind a reshape": (lambda scores: scores.reshape(-1, 2, 2).flatten(1).softmax(1), "classes"),
    "softmax before a reshape": (lambda scores: scores.softmax(1).view(-1, 4, 1).squeeze(-1), "classes"),
    "softmax of channels last": (lambda scores: scores[:, :, None].transpose(1, 2).softmax(-1)[:, 0], "classes"),
    "sigmoid": (lambda scores: scores.sigmoid(), "findings"),
    "sigmoid in place": (lambda scores: (scores + 0).sigmoid_(), "findings"),
    "sigmoid by hand": (lambda scores: 1 / (1 + (-scores).exp()), "findings"),
    "sigmoid by tanh": (lambda scores: (torch.tanh(scores / 2) + 1) / 2, "findings"),
    "log-sigmoid": (lambda scores: functional.logsigmoid(scores), "findings"),
    "sigmoid behind a transpose": (lambda scores: scores[..., None].transpose(1, 2).sigmoid().flatten(1), "findings"),
}


@pytest.mark.parametrize("name", SQUASHED)
def test_a_file_that_ends_in_shares_shows_and_explains_the_scores_before_them(name: str, picture: Picture) -> None:
    behind, kind = SQUASHED[name]
    network = Network(behind=behind)
    model = load(archive(network), "network.pt2", preprocessing=PLAIN)
    with torch.no_grad():
        scores = network.scores(to_tensor(model.info, picture))
        shares = (scores.softmax(1) if kind == "classes" else scores.sigmoid())[0]
    prediction = predict(model, picture)
    assert model.info.kind == kind
    assert prediction.logits == pytest.approx(scores[0].numpy(), abs=1e-4)
    assert prediction.probabilities == pytest.approx(shares.numpy(), abs=1e-5)


@pytest.mark.parametrize(
    "behind",
    [
        lambda scores: scores.softmax(1) * 2,
        lambda scores: scores.relu(),
        lambda scores: (scores / 3).tanh(),
        lambda scores: scores.reshape(-1, 2, 2).softmax(2).flatten(1),
    ],
    ids=["twice a softmax", "ReLU", "tanh", "softmax of pairs"],
)
def test_what_is_no_softmax_or_sigmoid_of_the_scores_stays(
    behind: Callable[[Tensor], Tensor], picture: Picture
) -> None:
    network = Network(behind=behind)
    model = load(archive(network), "network.pt2", preprocessing=PLAIN)
    with torch.no_grad():
        assert logits_of(model, picture) == pytest.approx(network(to_tensor(model.info, picture))[0].numpy(), abs=1e-5)


@pytest.mark.parametrize(
    ("behind", "mapped", "shape"),
    [
        (lambda scores: scores[:, :1].squeeze(1), False, (2,)),
        (lambda scores: scores[:, None], False, (4,)),
        (lambda scores: scores[..., None, None], False, (4,)),
        (lambda scores: scores.permute(0, 2, 3, 1), True, (4, 16, 16)),
        (lambda scores: scores.permute(0, 2, 3, 1).softmax(-1), True, (4, 16, 16)),
        (lambda scores: scores[:, 0], True, (2, 16, 16)),
        (lambda scores: scores[:, :1].sigmoid(), True, (2, 16, 16)),
    ],
    ids=[
        "one number",
        "an axis more",
        "two axes more",
        "map with classes last",
        "softmax of that",
        "map",
        "sigmoid map",
    ],
)
def test_scores_of_any_order_of_axes_are_read_as_class_and_places(
    behind: Callable[[Tensor], Tensor], mapped: bool, shape: tuple[int, ...], picture: Picture
) -> None:
    network = Network(behind=behind, mapped=mapped)
    model = load(archive(network), "network.pt2", preprocessing=PLAIN)
    with torch.no_grad():
        scores = network.scores(to_tensor(model.info, picture))
        right = scores[:, :1] if shape[0] == 2 else scores
        found = model(to_tensor(model.info, picture))
    assert model.info.output_shape == shape
    assert torch.allclose(found[:, -right.shape[1] :], right, atol=1e-4)


def test_the_second_share_of_a_softmax_of_two_is_a_yes_or_no(picture: Picture) -> None:
    network = Network(2, behind=lambda scores: scores.softmax(1)[:, 1])
    model = load(archive(network), "network.pt2", preprocessing=PLAIN)
    with torch.no_grad():
        shares = network.scores(to_tensor(model.info, picture)).softmax(1)[0]
    assert model.info.kind == "yes-or-no"
    assert predict(model, picture).probabilities == pytest.approx(shares.numpy(), abs=1e-5)


MEAN, STD = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
CAFFE = torch.tensor([103.939, 116.779, 123.68]).view(1, 3, 1, 1)


@pytest.mark.parametrize(
    ("front", "mean", "std"),
    [
        (lambda image: (image - MEAN) / STD, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        (lambda image: (image / 255 - MEAN) / STD, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        (lambda image: image * (1 / STD) - MEAN / STD, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        (lambda image: image * 2 - 1, (0.5,) * 3, (0.5,) * 3),
        (lambda image: image / 127.5 - 1, (0.5,) * 3, (0.5,) * 3),
        (lambda image: image.flip(1) - CAFFE, (123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255,) * 3),
        (lambda image: image[:, [2, 1, 0]] - CAFFE, (123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255,) * 3),
        (
            lambda image: torch.stack([(image[:, place] - 0.4) / 0.2 for place in range(3)], 1),
            (0.4,) * 3,
            (0.2,) * 3,
        ),
    ],
    ids=["0 to 1", "0 to 255", "factor and summand", "-1 to 1", "-1 to 1 of bytes", "Caffe", "Caffe by index", "apart"],
)
def test_a_normalisation_inside_the_file_is_done_once(
    front: Callable[[Tensor], Tensor], mean: tuple[float, ...], std: tuple[float, ...], picture: Picture
) -> None:
    network = Network(front=front)
    model = load(archive(network), "network.pt2")
    assert model.info.preprocessing.mean == pytest.approx(mean, abs=1e-5)
    assert model.info.preprocessing.std == pytest.approx(std, abs=1e-5)
    pixels = torch.tensor(picture.pixels).permute(2, 0, 1)[None].float()
    takes_bytes = float(front(torch.ones(1, 3, 1, 1)).max() - front(torch.zeros(1, 3, 1, 1)).max()) < 1.01
    with torch.no_grad():
        right = network.scores(pixels if takes_bytes else pixels / 255)[0].numpy()
    assert logits_of(model, picture) == pytest.approx(right, rel=1e-3, abs=1e-3)


def test_nothing_is_put_on_top_of_a_normalisation_that_is_not_the_first_thing(picture: Picture) -> None:
    network = Network(front=lambda image: (image.clamp(0, 1) - MEAN) / STD)
    model = load(archive(network), "network.pt2")
    pixels = torch.tensor(picture.pixels).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        assert logits_of(model, picture) == pytest.approx(network.scores(pixels)[0].numpy(), abs=1e-4)


def test_of_a_file_that_says_nothing_the_whole_picture_is_used(picture: Picture) -> None:
    proposal = propose(archive(Network()), "network.pt2")
    wide = np.zeros((20, 80, 3), np.uint8)
    wide[:, :8] = 255
    assert proposal.preprocessing.seen(80, 20) == (1.0, 1.0)
    assert proposal.preprocessing.crop(wide)[:, 0].max() == 255


class TestYesOrNo:
    """One score with two names."""

    def model(self, names: tuple[str, ...] = ("benign", "malignant")) -> tuple[Network, Model]:
        network = Network(1)
        return network, load(archive(network), "network.pt2", preprocessing=PLAIN, class_names=names)

    def test_both_answers_are_shown_with_shares_that_make_one(self, picture: Picture) -> None:
        network, model = self.model()
        with torch.no_grad():
            share = float(network(to_tensor(model.info, picture)).sigmoid())
        assert model.info.class_names == ("benign", "malignant")
        assert predict(model, picture).probabilities == pytest.approx([1 - share, share], abs=1e-6)

    def test_what_speaks_for_no_speaks_against_yes(self, picture: Picture) -> None:
        _, model = self.model()
        prediction = predict(model, picture)
        no, yes = (
            ask(Lrp(), Case(model, picture, choose_target(model.info, prediction, name))).result()
            for name in ("benign", "malignant")
        )
        assert no.values == pytest.approx(-yes.values, abs=1e-6)
        assert no.output == pytest.approx(-yes.output)

    def test_a_contrast_is_the_score_itself(self, picture: Picture) -> None:
        _, model = self.model()
        prediction = predict(model, picture)
        assert choose_target(model.info, prediction, "malignant", "benign") == choose_target(
            model.info, prediction, "malignant"
        )

    def test_one_name_names_both_sides(self) -> None:
        assert self.model(("melanoma",))[1].info.class_names == ("not melanoma", "melanoma")

    def test_of_a_map_the_share_of_the_picture_is_where_yes_is_likelier(self, picture: Picture) -> None:
        network = Network(1, mapped=True)
        model = load(archive(network), "network.pt2", preprocessing=PLAIN)
        with torch.no_grad():
            share = float((network(to_tensor(model.info, picture)) > 0).float().mean())
        assert 0 < share < 1
        assert predict(model, picture).probabilities[1] == pytest.approx(share)


class TestNumbers:
    """Measurements."""

    def model(self, **given: object) -> tuple[Network, Model]:
        network = Network(2)
        return network, load(archive(network), "n.pt2", preprocessing=PLAIN, kind="numbers", **given)  # type: ignore[arg-type]

    def test_they_have_values_and_no_probabilities(self, picture: Picture) -> None:
        network, model = self.model(unit="years")
        prediction = predict(model, picture)
        with torch.no_grad():
            assert prediction.logits == pytest.approx(network(to_tensor(model.info, picture))[0].numpy(), abs=1e-5)
        assert not len(prediction.probabilities)
        assert prediction.top() == [0, 1]
        assert model.info.score_unit == "years"

    def test_what_is_above_the_usual_value_can_be_explained(self, picture: Picture) -> None:
        _, model = self.model(usual=(2.5, -1.0))
        prediction = predict(model, picture)
        target = choose_target(model.info, prediction, "0", USUAL)
        found = ask(Lrp(), Case(model, picture, target)).result()
        assert found.output == pytest.approx(prediction.logits[0] - 2.5, abs=1e-5)
        assert found.provenance["details"]["relevance at the output"] == pytest.approx(found.output, abs=1e-5)
        assert name_target(model.info, target) == "number 0 above 2.5"

    def test_usual_values_are_given_for_every_number_or_for_none(self) -> None:
        with pytest.raises(ModelError, match="1 usual values for 2 outputs"):
            self.model(usual=(1.0,))


class TestFindingsInAnIndex:
    """Several decisions on a picture."""

    @pytest.fixture
    def built(self, tmp_path: Path) -> tuple[Model, Index, list[Sample]]:
        """An index of 40 pictures, labelled as tables of findings are."""
        model = export(Network(3), "n", PLAIN, ("mass", "nodule", "fluid"), reading=Reading(kind="findings"))
        generator, samples = np.random.default_rng(0), []
        for place in range(40):
            noise = generator.integers(0, 256, (*SIZE, 3)) * generator.uniform(0, 1, 3)
            (tmp_path / f"{place}.png").write_bytes(encode_png(noise.astype(np.uint8)))
            label = ("mass|fluid", "No finding", None, "something else")[place % 4]
            samples.append(File(f"{place}.png", tmp_path / f"{place}.png", label=label))
        building.start(model, samples, tmp_path / "index", ["convolution"]).result()
        return model, open_index(tmp_path / "index"), samples

    def test_every_finding_has_its_row_and_its_own_relevance(self, built: tuple[Model, Index, list[Sample]]) -> None:
        model, index, samples = built
        assert (index.pictures, len(index)) == (40, 120)
        relevance = index.relevance("convolution")
        picture = samples[5].read()
        prediction = predict(model, picture)
        for output, chance in enumerate(prediction.probabilities):
            row = index.find_row(picture.digest, model.info.decisions_about(output))
            assert row is not None
            expected = ask(RankConcepts(layer="convolution"), Case(model, picture, Target(output))).result()
            assert relevance[row] == pytest.approx(expected.relevance, abs=1e-4)
            assert index.table["predicted"][row] == (output if chance >= 0.5 else output + 3)
            assert index.table["probability"][row] == pytest.approx(max(chance, 1 - chance), abs=1e-5)

    def test_labels_tell_of_each_finding_whether_it_is_there(self, built: tuple[Model, Index, list[Sample]]) -> None:
        _, index, _ = built
        known = {name: rows["label"].to_numpy().reshape(-1, 3) for name, rows in index.table.groupby("label_name")}
        assert (known["mass|fluid"] == [0, 4, 2]).all()
        assert (known["No finding"] == [3, 4, 5]).all()
        assert (known[""] == -1).all()
        assert (known["something else"] == -1).all()

    def test_a_case_is_judged_among_those_in_which_the_finding_is_decided_alike(
        self, built: tuple[Model, Index, list[Sample]]
    ) -> None:
        model, index, samples = built
        classes, counts = np.unique(index.decisions("convolution").classes, return_counts=True)
        likely = int(classes[counts.argmax()])
        output = model.info.output_of(likely)
        picture = next(
            sample.read() for sample in samples if predict(model, sample.read()).decision(model.info, output) == likely
        )
        question = JudgeDecision(compared=(likely,))
        found = ask(question, CaseInIndex(model, picture, Target(output), index, "convolution")).result()
        assert found.klass == likely


@pytest.mark.parametrize(
    ("shape", "words"),
    [((84, 100), "84 x 100 numbers"), ((4, 3, 2, 2), "4 x 3 x 2 x 2 numbers")],
    ids=["boxes", "four axes"],
)
def test_what_is_no_score_is_said_at_the_proposal_and_not_accepted(shape: tuple[int, ...], words: str) -> None:
    data = archive(Network(int(np.prod(shape)), behind=lambda scores: scores.reshape(-1, *shape)))
    proposal = propose(data, "network.pt2")
    assert proposal.kind == ""
    assert words in proposal.reason
    with pytest.raises(ModelError, match=words):
        load(data, "network.pt2")


def test_a_kind_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ModelError, match="'yes-or-no' were asked for, but the model gives 4"):
        load(archive(Network()), "network.pt2", kind="yes-or-no")


def test_two_kinds_of_the_same_network_are_two_models() -> None:
    one, other = (export(Network(), "n", PLAIN, reading=Reading(kind=kind)) for kind in ("classes", "findings"))
    assert one.info.digest != other.info.digest


class TestNames:
    """Asking for a class."""

    def info(self, *names: str):
        return export(Network(len(names)), "n", PLAIN, names).info

    def test_a_name_of_digits_goes_before_an_index(self) -> None:
        info = self.info("1", "2", "3", "4", "5")
        assert find_class(info, "3") == 2
        assert find_class(info, "#3") == 3
        assert find_class(info, "0") == 0

    def test_every_reference_leads_back_to_its_class(self) -> None:
        for names in (("1", "2", "3"), ("a", "b", "c"), ("2", "x", "0")):
            info = self.info(*names)
            assert [find_class(info, refer_to(info, index)) for index in range(3)] == [0, 1, 2]

    def test_a_name_that_two_classes_have_is_asked_back(self) -> None:
        with pytest.raises(SelectionError, match=r"2 classes named .other.\. Ask for one by its index: #0 or #2"):
            find_class(self.info("other", "cat", "other"), "other")


def test_two_networks_whose_layers_have_other_names_are_two_models() -> None:
    torch.manual_seed(0)
    parts = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Identity()
    one, other = (nn.Sequential(parts[0], *rest) for rest in ((parts[1], parts[2]), (parts[2], parts[1])))
    digests = [export(network, "n", PLAIN).info.digest for network in (one, other)]
    assert digests[0] != digests[1]
