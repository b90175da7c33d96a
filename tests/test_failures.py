"""Where a model fails: predictions of many pictures, figures, slices; beside scikit-learn, SciPy and formulas."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import binomtest, false_discovery_control, fisher_exact, mannwhitneyu
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score

import sample_models
from explainers.__main__ import main
from explainers.asking import ask
from explainers.cache import Cache
from explainers.cases.dataset import Dataset, collect
from explainers.cases.figures import calibrate, confuse, summarise, why_nothing, worst_errors
from explainers.cases.filters import Filter
from explainers.cases.intervals import Z, boyd, newcombe
from explainers.cases.outcomes import Outcomes, find_outcomes
from explainers.cases.predictions import CHUNK, PredictAll, Predictions, ask_about, find_predictions
from explainers.cases.slices import find_slices, rows_of, to_filter, write_slices
from explainers.cases.table import tabulate, write_cases
from explainers.errors import CancelledError
from explainers.graph.model import Model
from explainers.images import Picture, Sample, find
from explainers.info import ModelInfo
from explainers.jobs import Progress
from explainers.outputs import BINARY, FINDINGS, NUMBERS
from explainers.predictions import predict
from explainers.preprocessing import Preprocessing
from sample_models import digits
from sample_models.lesions import ARTIFACTS


@cache
def load(name: str) -> Model:
    return sample_models.load(name)


class Named(Sample):
    """A picture of which only name and label matter."""

    def read(self, reading: object = None) -> Picture:
        raise NotImplementedError


def describe(kind: str, names: tuple[str, ...], **more: object) -> ModelInfo:
    """What is known of a model that gives such outputs."""
    return ModelInfo("m", "test", Preprocessing(), names, (), (len(names),), 0, "d", "w", kind=kind, **more)


def say(probabilities: np.ndarray, logits: np.ndarray | None = None) -> Predictions:
    """Predictions with these probabilities, of classes with logits that go with them."""
    with np.errstate(divide="ignore"):
        logits = np.log(probabilities) if logits is None else logits
    count = len(logits)
    digests = tuple(map(str, range(count)))
    return Predictions(digests, logits.astype(np.float32), probabilities.astype(np.float32), np.ones(count, bool))


def outcomes_of(info: ModelInfo, labels: list[str | None], predictions: Predictions) -> Outcomes:
    return find_outcomes(info, collect([Named(str(row), label=label) for row, label in enumerate(labels)]), predictions)


@pytest.fixture(scope="module")
def three() -> tuple[ModelInfo, Outcomes]:
    """Four hundred cases of three classes, some right, with many equal probabilities."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 400)
    scores = rng.random((400, 3)).round(1) + 0.05 + 0.6 * np.eye(3)[truth] * (rng.random(400) < 0.7)[:, None]
    info = describe("classes", ("a", "b", "c"))
    return info, outcomes_of(info, ["abc"[place] for place in truth], say(scores / scores.sum(1, keepdims=True)))


# Predictions


def test_predictions_of_many_pictures_are_those_of_each_alone():
    model, samples, cache = load("digits"), digits.samples(1400, 150), Cache()
    found = ask(PredictAll(), ask_about(model, samples), cache=cache).result()
    for row in (0, 17, 149):
        one = predict(model, samples[row].read(), cache=Cache())
        np.testing.assert_allclose(found.logits[row], one.logits, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(found[row].probabilities, one.probabilities, atol=1e-4)
        assert found.digests[row] == samples[row].read().digest
    assert cache.counters.backward == 0
    assert cache.counters.images == 150


def test_labels_and_captions_change_no_prediction_and_cost_no_pass():
    model, samples, cache = load("digits"), digits.samples(1400, 10), Cache()
    others = [replace(sample, label="7", caption="seen") for sample in samples]
    first, second = (ask(PredictAll(), ask_about(model, one), cache=cache).result() for one in (samples, others))
    assert first.logits is second.logits


def test_what_was_done_before_a_stop_is_not_done_again():
    model, samples, cache = load("digits"), digits.samples(0, CHUNK + 60), Cache()
    about, progress = ask_about(model, samples), Progress()

    def stop_late(done: int, total: int) -> None:
        if done >= CHUNK:
            progress.cancel()
        progress(done, total)

    stop_late.check = progress.check  # type: ignore[attr-defined]
    stop_late.need = progress.need  # type: ignore[attr-defined]
    job = cache.submit("stopped", lambda _: PredictAll().answer(about, stop_late))  # type: ignore[arg-type]
    with pytest.raises(CancelledError):
        job.result()
    before = cache.counters.images
    assert before == CHUNK
    assert find_predictions(about, cache) is None
    assert len(ask(PredictAll(), about, cache=cache).result()) == CHUNK + 60
    assert cache.counters.images == CHUNK + 60


def test_a_picture_that_cannot_be_read_is_named_and_the_others_are_predicted(tmp_path: Path):
    for name in ("a.png", "c.png"):
        Image.new("L", (32, 32), 90).save(tmp_path / name)
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    about = ask_about(load("digits"), find(tmp_path))
    found = ask(PredictAll(), about, cache=Cache()).result()
    assert found.read.tolist() == [True, False, True]
    assert found.digests[1] == ""
    assert "b.png" in found.unreadable[0]
    table = tabulate(about.info, collect(find(tmp_path)), found, {})
    assert table["decision"].map(len).tolist() == [1, 0, 1]
    assert np.isnan(table["confidence"][1])


def test_predictions_of_uploads_stay_in_memory_and_are_forgotten_with_any_of_them(tmp_path: Path):
    cache, pixels = Cache(tmp_path), np.zeros((32, 32, 3), np.uint8)
    pictures = [Picture(f"{grey}.png", pixels + grey) for grey in (0, 100)]
    about = ask_about(load("digits"), pictures)
    ask(PredictAll(), about, cache=cache).result()
    assert not list(tmp_path.rglob("*.npz"))
    assert set(about.uploads) == {picture.digest for picture in pictures}
    cache.forget(pictures[1].digest)
    assert cache.counters.entries == 0


def test_predictions_of_the_servers_pictures_survive_a_restart(tmp_path: Path):
    about = ask_about(load("digits"), digits.samples(0, 20))
    before = ask(PredictAll(), about, cache=Cache(tmp_path)).result()
    after = find_predictions(about, Cache(tmp_path))
    assert after is not None
    assert after.digests == before.digests
    np.testing.assert_array_equal(after.logits, before.logits)


def test_nobody_to_predict_is_no_error():
    assert len(ask(PredictAll(), ask_about(load("digits"), []), cache=Cache()).result()) == 0


# The table


def test_the_table_says_what_is_true_what_was_said_and_whether_that_is_right():
    info = describe("classes", ("cat", "dog"))
    entries = [Named("a", label="Cat"), Named("b", label="dog"), Named("c", label="fox"), Named("d")]
    dataset = Dataset(entries, pd.DataFrame({"age": [1.0, 2.0, 3.0, np.nan]}))
    told = say(np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.5, 0.5]]))
    table = tabulate(info, dataset, told, {"1": ("blurred", "late")})
    assert table["truth"].tolist() == [("cat",), ("dog",), (), ()]
    assert table["decision"].tolist() == [("cat",), ("cat",), ("dog",), ("cat",)]
    assert table["right"].tolist() == ["yes", "no", "", ""]
    np.testing.assert_allclose(table["confidence"], [0.9, 0.8, 0.7, 0.5], atol=1e-6)
    assert table["tags"].tolist() == [(), ("blurred", "late"), (), ()]
    assert table["data.age"][1] == 2
    assert tabulate(info, dataset, None, {})["right"].tolist() == [""] * 4


def test_strategies_that_were_found_are_a_column_as_those_of_a_table_are():
    info = describe("classes", ("cat", "dog"))
    dataset, told = collect([Named("a", label="cat"), Named("b", label="dog")]), say(np.eye(2))
    table = tabulate(info, dataset, told, {}, strategies={"1": "dog 2", "other": "cat 1"})
    assert table["data.strategy"].tolist() == ["", "dog 2"]
    own = Dataset(dataset.entries, pd.DataFrame({"strategy": ["x", "y"]}))
    table = tabulate(info, own, told, {}, strategies={"0": "cat 1"})
    assert (table["data.strategy"].tolist(), table["data.strategy (found)"].tolist()) == (["x", "y"], ["cat 1", ""])
    assert "data.strategy" not in tabulate(info, dataset, told, {}, strategies={"other": "cat 1"})


def test_several_findings_are_right_together_and_each_alone():
    info = describe(FINDINGS, ("mass", "fluid"))
    told = say(np.array([[0.9, 0.2], [0.9, 0.8], [0.1, 0.2]]))
    dataset = collect([Named("a", label="mass"), Named("b", label="mass"), Named("c", label="No Finding")])
    table = tabulate(info, dataset, told, {})
    assert table["decision"].tolist()[0] == ("mass", "no fluid")
    assert table["truth"].tolist()[2] == ("no mass", "no fluid")
    assert table["right"].tolist() == ["yes", "no", "yes"]
    np.testing.assert_allclose(table["confidence"], [0.8, 0.8, 0.8], atol=1e-6)


def test_decisions_of_all_pictures_are_those_of_each_alone(three: tuple[ModelInfo, Outcomes]):
    rng = np.random.default_rng(3)
    kinds = (describe("classes", ("a", "b", "c")), describe(FINDINGS, ("a", "b", "c")))
    for info in (*kinds, describe(NUMBERS, ("a", "b", "c"), usual=(0.5, 0.5, 0.5))):
        told = say(rng.random((50, 3)).round(1), rng.random((50, 3)).round(1))
        told = replace(told, probabilities=told.probabilities[:, :0]) if info.kind == NUMBERS else told
        said = outcomes_of(info, [None] * 50, told).said
        assert said.tolist() == [list(told[row].decisions(info)) for row in range(50)]


# Figures


def test_figures_are_those_of_scikit_learn(three: tuple[ModelInfo, Outcomes]):
    _, outcomes = three
    truth, said, shares = outcomes.truth[:, 0], outcomes.said[:, 0], outcomes.shares
    found = {figure.title: figure for figure in summarise(outcomes)}
    assert found["Accuracy"].value == pytest.approx((truth == said).mean())
    assert found["Balanced accuracy"].value == pytest.approx(balanced_accuracy_score(truth, said))
    ranks = [mannwhitneyu(shares[truth == k, k], shares[truth != k, k]).statistic for k in range(3)]
    areas = [rank / ((truth == k).sum() * (truth != k).sum()) for k, rank in enumerate(ranks)]
    assert found["AUROC"].value == pytest.approx(np.mean(areas))
    assert found["Average precision"].value == pytest.approx(average_precision_score(np.eye(3)[truth], shares))
    assert all(one.low < one.value < one.high and one.count == 400 for one in found.values())  # type: ignore[operator]


def test_the_interval_of_a_share_is_wilsons(three: tuple[ModelInfo, Outcomes]):
    first = summarise(three[1])[0]
    exact = binomtest(round(400 * (first.value or 0)), 400).proportion_ci(method="wilson")
    assert (first.low, first.high) == pytest.approx((exact.low, exact.high))


def test_the_ends_of_an_interval_of_an_area_are_where_its_formula_says():
    area, positives, negatives = 0.9, 40, 70
    found = newcombe(area, positives, negatives)
    for end in found[1:]:
        ratio, sum_ratio = end / (2 - end), 2 * end**2 / (1 + end)
        mean = (positives + negatives) / 2
        variance = end * (1 - end) + (mean - 1) * (ratio - end**2 + sum_ratio - end**2)
        assert abs(area - end) == pytest.approx(Z * np.sqrt(variance / (positives * negatives)))
    assert newcombe(1.0, 20, 20)[2] == 1 - newcombe(0.0, 20, 20)[1] == 1
    assert newcombe(1.0, 20, 20)[1] == pytest.approx(1 - newcombe(0.0, 20, 20)[2]) == pytest.approx(0.9, abs=0.01)
    assert boyd(1.0, 20)[1] < 1 == boyd(1.0, 20)[2]


def test_intervals_of_areas_hold_the_truth_about_as_often_as_they_say():
    rng, truth = np.random.default_rng(0), 0.7602  # of normal scores that lie one standard deviation apart
    held = 0
    for _ in range(300):
        scores = rng.normal(size=60) + np.repeat([1, 0], 30)
        _, low, high = newcombe(roc_auc_score(np.repeat([1, 0], 30), scores), 30, 30)
        held += low <= truth <= high
    assert held / 300 == pytest.approx(0.95, abs=0.035)


def test_a_finding_has_sensitivity_and_specificity():
    rng = np.random.default_rng(1)
    info = describe(FINDINGS, ("mass", "fluid"))
    there = rng.random((200, 2)) < 0.4
    shares = np.clip(rng.random((200, 2)) + 0.3 * there, 0, 1)
    labels = ["|".join(np.array(["mass", "fluid"])[row]) or "none" for row in there]
    outcomes = outcomes_of(info, labels, say(shares))
    found = {figure.title: figure.value for figure in summarise(outcomes.about(1))}
    said = shares[:, 1].astype(np.float32) >= 0.5
    assert found["Sensitivity"] == pytest.approx(said[there[:, 1]].mean())
    assert found["Specificity"] == pytest.approx((~said)[~there[:, 1]].mean())
    assert found["AUROC"] == pytest.approx(roc_auc_score(there[:, 1], shares[:, 1].astype(np.float32)))
    assert confuse(outcomes.about(1)).counts.sum() == 200
    whole = {figure.title: figure.value for figure in summarise(outcomes)}
    assert whole["All findings right"] == pytest.approx((there == (shares >= 0.5)).all(axis=1).mean())


def test_yes_or_no_is_judged_by_the_second_answer():
    rng = np.random.default_rng(2)
    yes = rng.random(100) < 0.5
    shares = np.clip(0.5 * rng.random(100) + 0.4 * yes, 0, 1)
    outcomes = outcomes_of(
        describe(BINARY, ("no", "yes")), ["yes" if one else "no" for one in yes], say(np.c_[1 - shares, shares])
    )
    found = {figure.title: figure.value for figure in summarise(outcomes)}
    assert found["Average precision"] == pytest.approx(average_precision_score(yes, shares.astype(np.float32)))


def test_numbers_are_off_by_something():
    rng = np.random.default_rng(4)
    true, said = rng.normal(50, 10, 80), np.empty(0)
    said = true + rng.normal(2, 3, 80)
    outcomes = outcomes_of(
        describe(NUMBERS, ("age",), unit="years"),
        [f"{value!r}" for value in true.tolist()],
        say(np.empty((80, 0)), said[:, None]),
    )
    found = {figure.title: figure for figure in summarise(outcomes)}
    assert found["Mean absolute error"].value == pytest.approx(np.abs(said - true).mean(), rel=1e-5)
    assert found["Bias"].value == pytest.approx((said - true).mean(), rel=1e-4)
    assert found["Correlation"].value == pytest.approx(np.corrcoef(said, true)[0, 1], rel=1e-5)
    assert worst_errors(outcomes, 1)[0] == np.abs(said - true).argmax()


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ([None] * 30, "None of the 30 pictures can be judged"),
        (["a"] * 5 + [None] * 25, "5 of 30 pictures"),
    ],
)
def test_too_few_labels_are_told_in_words(labels: list[str | None], told: str):
    outcomes = outcomes_of(describe("classes", ("a", "b")), labels, say(np.full((30, 2), 0.5)))
    assert told in why_nothing(outcomes)
    assert summarise(outcomes) == ()


def test_pictures_of_one_class_have_no_area_and_it_is_said_why():
    outcomes = outcomes_of(describe("classes", ("a", "b")), ["a"] * 30, say(np.full((30, 2), 0.5)))
    assert [figure.value for figure in summarise(outcomes)] == [1.0, None, None, None]
    assert "one class" in summarise(outcomes)[1].note


def test_a_map_is_not_compared_with_labels_of_pictures():
    info = replace(describe("classes", ("a", "b")), output_shape=(2, 8, 8))
    outcomes = outcomes_of(info, ["a"] * 30, say(np.full((30, 2), 0.5)))
    assert "map" in why_nothing(outcomes)
    assert not outcomes.known.any()


def test_the_calibration_error_is_that_of_its_formula(three: tuple[ModelInfo, Outcomes]):
    _, outcomes = three
    sure, right = outcomes.shares.max(axis=1), outcomes.right
    error = 0.0
    for low in np.arange(0, 1, 0.1):
        inside = (sure >= low) & (sure < low + 0.1)
        if inside.any():
            error += inside.mean() * abs(sure[inside].mean() - right[inside].mean())
    found = calibrate(outcomes)
    assert found is not None
    assert found.expected_error == pytest.approx(error)
    assert found.count.sum() == 400


def test_errors_come_by_confidence(three: tuple[ModelInfo, Outcomes]):
    _, outcomes = three
    rows = worst_errors(outcomes)
    assert not outcomes.right[rows].any()
    assert len(rows) == (~outcomes.right).sum()
    assert (np.diff(outcomes.confidence[rows]) <= 0).all()


# Slices


@pytest.fixture(scope="module")
def sliced(three: tuple[ModelInfo, Outcomes]) -> tuple[Outcomes, pd.DataFrame]:
    """Cases with metadata of every sort, some of it empty."""
    info, outcomes = three
    rng = np.random.default_rng(5)
    age = rng.integers(20, 90, 400).astype(float)
    age[:7] = np.nan
    metadata = pd.DataFrame(
        {
            "sex": rng.choice(["f", "m", ""], 400),
            "age": age,
            "grade": rng.integers(1, 4, 400),
            "site": np.where(outcomes.right, rng.choice(["x", "y"], 400), rng.choice(["x", "z"], 400)),
            "person": [f"P{row}" for row in range(400)],
        }
    )
    labels = ["abc"[place] for place in outcomes.truth[:, 0]]
    entries = [Named(str(row), label=label) for row, label in enumerate(labels)]
    tags = {str(row): ("blurred",) for row in range(0, 400, 3)}
    told = say(outcomes.shares)
    return outcomes, tabulate(info, Dataset(entries, metadata), told, tags, outcomes)


def test_slices_have_the_counts_accuracies_and_tests_of_a_slow_count(sliced: tuple[Outcomes, pd.DataFrame]):
    outcomes, table = sliced
    found = find_slices(outcomes, table)
    right = outcomes.right
    assert len(found) > 10
    for place, conditions in enumerate(found.conditions):
        inside, row = np.zeros(400, bool), found.table.iloc[place]
        inside[rows_of(table, outcomes, conditions)] = True
        assert row["count"] == inside.sum()
        assert row["value"] == pytest.approx(right[inside].mean())
        assert row["rest"] == pytest.approx(right[~inside].mean())
        counts = [
            [(right & inside).sum(), (~right & inside).sum()],
            [(right & ~inside).sum(), (~right & ~inside).sum()],
        ]
        assert row["p"] == pytest.approx(fisher_exact(counts, "less").pvalue)
    assert (found.table["q"] >= found.table["p"]).all()
    assert found.small == {"data.person": 400}


def test_a_planted_slice_stands_first_and_is_said_to_fail(sliced: tuple[Outcomes, pd.DataFrame]):
    found = find_slices(*sliced)
    assert found.table["slice"][0] == "site is z"
    assert 0 in found.failing
    assert found.table["value"][0] == 0


def test_labels_that_are_digits_are_classes_and_no_numbers():
    info = describe("classes", tuple("0123456789"))
    labels = [str(row % 10) for row in range(200)]
    outcomes = outcomes_of(info, labels, say(np.full((200, 10), 0.1)))
    entries = [Named(str(row), label=label) for row, label in enumerate(labels)]
    table = tabulate(info, collect(entries), say(np.full((200, 10), 0.1)), {}, outcomes)
    assert set(find_slices(outcomes, table).table["slice"]) == {f"label is {digit}" for digit in range(10)}


def test_quarters_of_a_number_share_its_cases_and_empty_cells_are_a_slice(sliced: tuple[Outcomes, pd.DataFrame]):
    found = find_slices(*sliced)
    ages = [conditions for conditions in found.conditions if [one.column for one in conditions] == ["data.age"]]
    counts = sorted(found.table["count"][found.conditions.index(one)] for one in ages)
    assert len(counts) == 5
    assert counts[0] == 7
    assert sum(counts) == 400
    assert max(counts[1:]) - min(counts[1:]) < 25


def test_correction_is_for_all_slices_that_were_compared():
    rng = np.random.default_rng(6)
    info = describe("classes", ("a", "b"))
    labels = ["ab"[place] for place in rng.integers(0, 2, 300)]
    told = say(np.where(rng.random((300, 1)) < 0.5, [[0.8, 0.2]], [[0.2, 0.8]]))
    flagged = 0
    for seed in range(12):
        chance = np.random.default_rng(seed)
        metadata = pd.DataFrame({f"c{number}": chance.choice(["u", "v", "w"], 300) for number in range(8)})
        dataset = Dataset([Named(str(row), label=label) for row, label in enumerate(labels)], metadata)
        outcomes = find_outcomes(info, dataset, told)
        found = find_slices(outcomes, tabulate(info, dataset, told, {}, outcomes))
        columns = [{one.column for one in conditions} for conditions in found.conditions]
        flagged += any("label" not in columns[place] for place in found.failing)
    assert flagged <= 2
    assert found.tested > 250
    q = false_discovery_control(np.r_[found.table["p"], np.ones(found.tested - len(found))])[: len(found)]
    assert (found.table["q"] <= q + 1e-12).all()


def test_slices_of_numbers_are_compared_by_ranks():
    rng = np.random.default_rng(7)
    site = rng.choice(["x", "y"], 200)
    true = rng.normal(50, 10, 200)
    said = true + rng.normal(0, np.where(site == "y", 6, 2))
    info = describe(NUMBERS, ("age",), unit="years")
    dataset = Dataset(
        [Named(str(row), label=repr(value)) for row, value in enumerate(true.tolist())], pd.DataFrame({"site": site})
    )
    told = say(np.empty((200, 0)), said[:, None])
    outcomes = find_outcomes(info, dataset, told)
    found = find_slices(outcomes, tabulate(info, dataset, told, {}, outcomes))
    off = np.abs(outcomes.errors)
    assert found.table["slice"][0] == "site is y"
    assert found.table["p"][0] == pytest.approx(
        mannwhitneyu(off[site == "y"], off[site == "x"], alternative="greater", method="asymptotic").pvalue, rel=1e-6
    )
    assert 0 in found.failing


def test_a_filter_made_of_a_slice_lets_just_its_cases_through_within_another(sliced: tuple[Outcomes, pd.DataFrame]):
    outcomes, table = sliced
    conditions = find_slices(outcomes, table).conditions[0]
    chosen = to_filter(conditions, Filter().only("data.sex", "f"))
    rows = Filter.read(chosen.write()).apply(table)
    assert rows.tolist() == np.flatnonzero((table["data.sex"] == "f") & (table["data.site"] == "z")).tolist()


def test_tables_to_take_along_say_all_and_compute_nothing(sliced: tuple[Outcomes, pd.DataFrame]):
    outcomes, table = sliced
    table = table.assign(name=["=SUM(A1)", *table["name"][1:]])
    cases = list(csv.DictReader(io.StringIO(write_cases(table).decode())))
    assert len(cases) == 400
    assert cases[0]["name"] == "'=SUM(A1)"
    assert cases[0]["tags"] == "blurred"
    assert cases[0]["age"] == ""
    slices = find_slices(outcomes, table)
    written = list(csv.DictReader(io.StringIO(write_slices(slices, outcomes, table).decode())))
    assert written[0]["slice"] == "site is z"
    assert len(written) == len(slices)
    sexes = next(row for row in written if row["slice"] == "sex is f")
    women = (table["data.sex"] == "f").to_numpy()
    truth, said = outcomes.truth[women, 0], outcomes.said[women, 0]
    assert float(sexes["Balanced accuracy"]) == pytest.approx(balanced_accuracy_score(truth, said))


# What was planted


def judge_lesions(name: str, split: str, count: int) -> tuple[Outcomes, pd.DataFrame]:
    """A model of lesions on some of its tests, with the table of their artifacts."""
    model = load(name)
    samples = sample_models.show_lesions(split, "moved-test", count=count)
    dataset = Dataset(samples, sample_models.models()[name].describe(samples))
    told = ask(PredictAll(), ask_about(model, samples), cache=Cache()).result()
    outcomes = find_outcomes(model.info, dataset, told)
    return outcomes, tabulate(model.info, dataset, told, {}, outcomes)


def test_sample_models_bring_all_their_tests_with_what_is_known_of_them():
    model = sample_models.models()["lesions-biased"]
    table = model.describe(model.tests)
    assert len(model.tests) == len(table) == 1200
    assert table["split"].value_counts().to_dict() == {"biased-test": 600, "moved-test": 600}
    moved = table[table["split"] == "moved-test"]
    assert (moved["band-aid"] == "yes").tolist() == (moved["truth"] == "malignant").tolist()
    assert set(ARTIFACTS) < set(table.columns)
    assert len(sample_models.models()["digits"].tests) == 397
    assert len(sample_models.models()["efficientnet-lite0"].tests) == 0


def test_what_is_planted_is_among_the_slices_that_fail_and_all_that_fails_is_moved():
    found = find_slices(*judge_lesions("lesions-biased", "biased-test", 100))
    failing = found.table["slice"].iloc[found.failing].tolist()
    assert "split is moved-test and band-aid is yes" in failing
    assert all("moved-test" in words for words in failing)


@pytest.mark.exhaustive
def test_the_band_aid_on_moved_cases_stands_first_with_its_accuracy():
    outcomes, table = judge_lesions("lesions-biased", "biased-test", 600)
    found = find_slices(outcomes, table)
    assert found.table["slice"][0] == "split is moved-test and band-aid is yes"
    planted = ((table["data.split"] == "moved-test") & (table["data.band-aid"] == "yes")).to_numpy()
    assert found.table["value"][0] == pytest.approx(outcomes.right[planted].mean()) == pytest.approx(0.493, abs=0.01)
    assert (found.table["count"][0], outcomes.right[~planted].mean() > 0.8) == (300, True)
    assert all("moved-test" in found.table["slice"][place] for place in found.failing)


@pytest.mark.exhaustive
def test_no_slice_of_the_clean_model_is_said_to_fail():
    assert not len(find_slices(*judge_lesions("lesions-clean", "clean-test", 600)).failing)


@pytest.mark.exhaustive
def test_on_a_model_that_nothing_was_chosen_by_all_that_fails_is_moved():
    outcomes, table = judge_lesions("lesions-transformer", "biased-test", 600)
    found = find_slices(outcomes, table)
    failing = found.table["slice"].iloc[found.failing].tolist()
    assert "split is moved-test and band-aid is yes" in failing
    assert all("moved-test" in words for words in failing)


@pytest.mark.usefixtures("own_cache")
def test_the_command_line_says_where_it_fails_and_writes_the_cases(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "digits"
    for sample in digits.samples(1400, 40):
        (folder / str(sample.label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(sample.read().pixels).save(folder / str(sample.label) / f"{sample.name}.png")
    out = tmp_path / "cases.csv"
    assert main(["failures", "--model", "digits", "--data", str(folder), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "of 40 pictures" in told
    assert "Accuracy" in told
    assert len(list(csv.DictReader(io.StringIO(out.read_text())))) == 40
