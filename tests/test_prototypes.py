"""Prototypes on vectors whose strategies, outliers and wrong labels are planted."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import kstest, multivariate_normal
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture

from explainers.errors import ComputationError, SelectionError
from explainers.prototypes.decisions import Thresholds, check_batch, judge, summarise
from explainers.prototypes.maps import METHODS, draw_map
from explainers.prototypes.mixture import Mixture, fit
from explainers.prototypes.parts import contribute, decide, find_counterexample, measure_accuracy
from explainers.prototypes.strategies import Strategies, describe, fit_strategies
from explainers.prototypes.suspects import find_suspects, trace_precision
from explainers.prototypes.vectors import Vectors, embed, normalise

CONCEPTS = 64


def decisions(strategy: int, count: int, seed: int = 0) -> np.ndarray:
    """Relevances of decisions that use four concepts of their own more than the other sixty."""
    rng = np.random.default_rng([strategy, seed])
    relevance = rng.normal(0, 0.1, (count, CONCEPTS))
    relevance[:, 4 * strategy : 4 * strategy + 4] += rng.normal(1, 0.1, (count, 4))
    return np.asarray(relevance * rng.uniform(1, 20, (count, 1)), np.float32)


def planted(*counts: int) -> tuple[np.ndarray, np.ndarray]:
    """A class of several strategies, and which each decision follows."""
    relevance = np.concatenate([decisions(strategy, count) for strategy, count in enumerate(counts)])
    return relevance, np.repeat(np.arange(len(counts)), counts)


def strategies_of(relevance: np.ndarray, count: int | None = None, seed: int = 0) -> tuple[Vectors, Strategies]:
    vectors = embed(relevance, np.zeros(len(relevance), int), seed=seed)
    return vectors, fit_strategies(vectors, relevance, 0, count, seed)


@pytest.fixture(scope="module")
def two_classes() -> tuple[Vectors, dict[int, Strategies], np.ndarray]:
    """Class 0 decides in two ways, class 1 in one; of class 1's labels ten are wrong."""
    relevance = np.concatenate([decisions(0, 200), decisions(1, 100), decisions(2, 190), decisions(0, 10, seed=1)])
    classes = np.repeat([0, 1], [300, 200])
    vectors = embed(relevance, classes, learnt=np.arange(500) < 490)
    return vectors, {klass: fit_strategies(vectors, relevance, klass) for klass in (0, 1)}, relevance


def test_vectors_have_absolute_values_that_sum_to_one():
    vectors = normalise(np.array([[1.0, -3.0], [0.0, 0.0], [2e-30, 0.0]]))
    np.testing.assert_allclose(vectors, [[0.25, -0.75], [0, 0], [1, 0]])


def test_planted_strategies_are_found_with_purity_one():
    relevance, truth = planted(300, 150)
    _, strategies = strategies_of(relevance)
    np.testing.assert_array_equal(strategies.responsibilities.argmax(axis=1), truth)
    np.testing.assert_allclose(strategies.shares, [2 / 3, 1 / 3], atol=1e-6)


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_bic_chooses_the_planted_number_of_strategies(number: int):
    _, strategies = strategies_of(planted(*[80] * number)[0])
    assert len(strategies.shares) == number
    assert strategies.bic.argmin() == number - 1


def test_the_number_of_prototypes_can_be_given():
    assert len(strategies_of(planted(100, 100)[0], count=4)[1].shares) == 4


def test_few_samples_of_many_concepts_are_enough():
    rng = np.random.default_rng(0)
    relevance = np.pad(planted(20, 20)[0], ((0, 0), (0, 2000))) + rng.normal(0, 0.01, (40, 2000 + CONCEPTS))
    _, strategies = strategies_of(relevance)
    assert sorted(np.bincount(strategies.responsibilities.argmax(axis=1))) == [20, 20]
    assert np.isfinite(strategies.held_out).all()


def test_samples_are_assigned_as_by_scikit_learn_on_the_same_vectors():
    rng = np.random.default_rng(0)
    relevance = np.concatenate([rng.normal(centre, 1, (150, 6)) for centre in rng.normal(0, 4, (3, 6))])
    vectors, ours = strategies_of(relevance, count=3)
    theirs = GaussianMixture(3, covariance_type="tied", reg_covar=vectors.spaces[0].floor, random_state=0)
    theirs.fit(normalise(relevance)[vectors.order])
    order = np.argsort(-theirs.weights_)
    expected = theirs.predict_proba(normalise(relevance))[:, order]
    np.testing.assert_array_equal(ours.responsibilities.argmax(axis=1), expected.argmax(axis=1))


def test_likelihoods_are_those_of_scikit_learn():
    points = np.random.default_rng(0).normal(0, [1, 2, 3], (300, 3))
    theirs = GaussianMixture(2, covariance_type="tied", random_state=0, reg_covar=0.01).fit(points)
    np.testing.assert_allclose(fit(points, 2, 0.01, 0).score(points), theirs.score_samples(points))


def test_outliers_rank_as_the_formula_of_the_paper_does_by_hand():
    # 0.75 N(-1, 1) + 0.25 N(2, 1): at 0.5 it is exp(-1.5^2 / 2) / sqrt(2 pi) = 0.32465 * 0.39894 = 0.12952
    mixture = Mixture(np.array([0.75, 0.25]), np.array([[-1.0], [2.0]]), np.array([[1.0]]))
    scores = mixture.score(np.array([[2.0], [-1.0], [0.5], [3.0], [-4.0]]))
    np.testing.assert_allclose(np.exp(scores), [0.10306, 0.30032, 0.12952, 0.06059, 0.00332], atol=1e-5)
    assert list(np.argsort(-scores)) == [1, 2, 0, 3, 4]


def test_a_likelihood_is_that_of_the_whole_vector_if_the_noise_is_alike_in_all_other_directions():
    rng = np.random.default_rng(0)
    scales = np.r_[np.full(24, 3.0), np.full(36, 1.0)] * 1e-3
    known, new = (rng.normal(0, 1, (count, 60)) * scales + 1 / 60 for count in (3000, 50))
    vectors = embed(np.concatenate([known, new]), np.repeat([0, 1], [3000, 50]))
    strategies = fit_strategies(vectors, np.concatenate([known, new]), 0, count=1)
    score = strategies.mixtures[0].score(vectors.points.coordinates[0, 3000:]) + vectors.points.rest[0, 3000:]
    exact = multivariate_normal(np.full(60, 1 / 60), np.diag(scales**2)).logpdf(normalise(new))
    assert np.corrcoef(score, exact)[0, 1] > 0.95
    assert abs(np.mean(score - exact)) < 0.1 * abs(np.mean(exact))


def test_planted_outliers_are_the_least_typical_samples():
    relevance = np.concatenate([planted(200, 100)[0], decisions(7, 2), decisions(9, 2)])
    _, strategies = strategies_of(relevance, count=2)
    assert set(np.argsort(strategies.held_out)[:4]) == {300, 301, 302, 303}
    assert (strategies.percentiles[300:] < 2).all()


def test_percentiles_of_new_samples_like_the_known_ones_are_uniform():
    vectors, strategies = strategies_of(planted(400, 200)[0])
    new = np.concatenate([decisions(0, 400, seed=1), decisions(1, 200, seed=1)])
    table = check_batch(vectors, {0: strategies}, new, np.zeros(600, int))
    assert kstest(table["percentile"] / 100, "uniform").pvalue > 0.01
    assert 0.02 < (table["verdict"] != "ordinary").mean() < 0.09


def test_percentiles_of_the_known_samples_are_uniform_in_each_fold():
    _, strategies = strategies_of(planted(90)[0])
    for fold in (1, 2, 3):
        np.testing.assert_allclose(
            np.sort(strategies.percentiles[strategies.folds == fold]), (np.arange(30) + 0.5) / 0.3
        )


def test_the_same_seed_gives_the_same_strategies():
    relevance = planted(80, 60)[0]
    np.testing.assert_array_equal(strategies_of(relevance)[1].held_out, strategies_of(relevance)[1].held_out)


def test_strategies_do_not_depend_on_the_order_of_samples():
    relevance = planted(80, 60)[0]
    order = np.random.default_rng(0).permutation(140)
    straight, shuffled = strategies_of(relevance)[1], strategies_of(relevance[order])[1]
    np.testing.assert_allclose(shuffled.held_out, straight.held_out[order])
    np.testing.assert_allclose(shuffled.means, straight.means, atol=1e-12)


def test_strategies_do_not_depend_on_how_strong_relevance_is():
    relevance = planted(80, 60)[0].astype(np.float64)
    scaled = relevance * 2.0 ** np.random.default_rng(0).integers(-8, 8, (140, 1))
    np.testing.assert_array_equal(
        strategies_of(scaled)[1].responsibilities.argmax(axis=1),
        strategies_of(relevance)[1].responsibilities.argmax(axis=1),
    )


def test_prototypes_are_described_by_their_own_samples_and_concepts():
    relevance, truth = planted(200, 100)
    vectors, strategies = strategies_of(relevance)
    first, second = describe(strategies, vectors, count=6)
    assert (truth[first.rows] == 0).all()
    assert (truth[second.rows] == 1).all()
    assert len(first.rows) == 6
    assert sorted(second.characteristic_concepts(4)) == [4, 5, 6, 7]
    assert sorted(second.distinctive_concepts(8)) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert (second.contrast[4:8] > 0).all()
    assert (second.contrast[:4] < 0).all()
    np.testing.assert_allclose(first.mean, normalise(relevance[:200]).mean(axis=0), atol=1e-6)


def test_the_samples_of_a_prototype_come_nearest_first():
    relevance, _ = planted(100)
    vectors, strategies = strategies_of(relevance, count=1)
    distances = ((normalise(relevance) - normalise(relevance).mean(axis=0)) ** 2).sum(axis=1)
    np.testing.assert_array_equal(describe(strategies, vectors, count=5)[0].rows, np.argsort(distances)[:5])


def test_a_decision_like_its_class_is_ordinary(two_classes):
    vectors, strategies, _ = two_classes
    decision = judge(vectors, strategies, 0, decisions(1, 1, seed=5)[0])
    assert decision.verdict == "ordinary"
    assert decision.nearest == 1
    assert decision.responsibilities[1] > 0.999
    assert decision.likenesses[0].klass == 0


def test_a_decision_by_another_class_s_strategy_is_told_so(two_classes):
    vectors, strategies, _ = two_classes
    decision = judge(vectors, strategies, 0, decisions(2, 1, seed=5)[0])
    assert decision.verdict == "unlike anything seen for this class"
    assert decision.likenesses[0].klass == 1


def test_over_used_concepts_deviate_upwards_and_under_used_ones_downwards(two_classes):
    vectors, strategies, _ = two_classes
    relevance = decisions(0, 1, seed=5)[0]
    relevance[30], relevance[2] = 3 * relevance[1], 0.0
    decision = judge(vectors, strategies, 0, relevance)
    over, under = decision.deviating_concepts(2)
    assert (over, under) == (30, 2)
    assert decision.deviation[0, 30] > 0 > decision.deviation[0, 2]
    np.testing.assert_allclose(decision.deviation[0], normalise(relevance[None])[0] - strategies[0].means[0])


def test_a_known_sample_is_judged_by_the_mixture_that_never_saw_it(two_classes):
    vectors, strategies, relevance = two_classes
    decision = judge(vectors, strategies, 1, relevance[495], row=495)
    assert decision.percentile == strategies[1].percentiles[195] < 10


def test_thresholds_change_the_verdict():
    assert Thresholds().verdict(4.9) == "unusual"
    assert Thresholds(unusual=4).verdict(4.9) == "ordinary"
    with pytest.raises(SelectionError, match="unlike <= unusual"):
        Thresholds(unusual=1, unlike=2)


def test_wrong_labels_come_first_among_the_suspects(two_classes):
    vectors, strategies, _ = two_classes
    table = find_suspects(vectors, strategies).table
    assert set(table.index[:10]) == set(range(490, 500))
    assert (table["other"][:10] == 0).all()
    curve = trace_precision(table.index.to_numpy() >= 490)
    assert curve.loc[10].tolist() == [1.0, 1.0]
    assert curve.loc[20].tolist() == [0.5, 1.0]


def test_strange_batches_are_out_of_distribution(two_classes):
    vectors, strategies, _ = two_classes
    batch = np.concatenate([decisions(1, 50, seed=3), np.random.default_rng(0).normal(0, 1, (50, CONCEPTS))])
    table = check_batch(vectors, strategies, batch, np.zeros(100, int))
    assert roc_auc_score(table.index >= 50, table["surprise"]) > 0.99
    assert (table["surprise"].diff().dropna() <= 0).all()


def test_a_decision_is_summarised_as_json(two_classes):
    vectors, strategies, _ = two_classes
    decision = judge(vectors, strategies, 0, decisions(0, 1, seed=2)[0])
    summary = json.loads(json.dumps(summarise(decision, strategies[0], ("benign", "malignant")), allow_nan=False))
    assert summary["class"] == "benign"
    assert summary["verdict"] == "ordinary"
    assert [prototype["share"] for prototype in summary["prototypes"]] == pytest.approx([2 / 3, 1 / 3], abs=1e-5)
    assert summary["looks_like"][0]["class"] == "benign"


@pytest.mark.parametrize("method", METHODS)
def test_a_map_keeps_strategies_apart(method: str):
    relevance, truth = planted(40, 40)
    drawn = draw_map(strategies_of(relevance)[0], np.arange(80), method)
    again = draw_map(strategies_of(relevance)[0], np.arange(80), method)
    np.testing.assert_array_equal(drawn.places, again.places)
    first, second = (drawn.places[truth[drawn.rows] == strategy] for strategy in (0, 1))
    spread = max(first.std(axis=0).max(), second.std(axis=0).max())
    assert np.linalg.norm(first.mean(axis=0) - second.mean(axis=0)) > 3 * spread


@pytest.mark.parametrize("method", METHODS)
def test_a_map_of_identical_samples_is_finite(method: str):
    relevance = np.concatenate([np.tile(decisions(0, 1), (20, 1)), decisions(1, 20)])
    drawn = draw_map(embed(relevance, np.repeat([0, 1], 20)), np.arange(20), method)
    assert np.isfinite(drawn.places).all()


def test_a_map_of_many_samples_draws_some_and_says_so():
    vectors = strategies_of(planted(3500)[0], count=1)[0]
    drawn = draw_map(vectors, np.arange(3100))
    assert len(drawn.rows) == 3000
    assert drawn.rows.max() < 3100
    assert "3000 of 3100" in drawn.note


def test_an_unknown_map_is_refused():
    with pytest.raises(SelectionError, match="t-SNE"):
        draw_map(strategies_of(planted(20)[0])[0], np.arange(20), "UMAP")


def test_too_few_samples_are_refused_in_a_sentence():
    relevance = planted(30)[0]
    vectors = embed(relevance, np.r_[np.zeros(29, int), 1])
    with pytest.raises(SelectionError, match="Class 1 has 1 samples to learn from; prototypes need at least 15"):
        fit_strategies(vectors, relevance, 1)
    with pytest.raises(SelectionError, match="1 samples to learn from; prototypes need at least 15"):
        embed(relevance[:1], np.zeros(1, int))


def test_more_prototypes_than_samples_allow_are_refused():
    with pytest.raises(SelectionError, match="1 to 4 prototypes; 9"):
        strategies_of(planted(20)[0], count=9)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_relevances_all_alike_are_refused(value: float):
    with pytest.raises(ComputationError, match="all 30 samples are alike"):
        embed(np.full((30, 8), value), np.zeros(30, int))


def test_relevances_that_are_not_finite_are_refused():
    relevance = planted(30)[0]
    relevance[7, 3] = np.nan
    with pytest.raises(ComputationError, match="samples are not finite"):
        embed(relevance, np.zeros(30, int))


def test_a_sample_without_relevance_is_unlike_anything_seen():
    vectors, strategies = strategies_of(planted(100)[0])
    assert judge(vectors, {0: strategies}, 0, np.zeros(CONCEPTS)).verdict == "unlike anything seen for this class"


def test_a_class_of_identical_samples_beside_another_has_one_prototype():
    relevance = np.concatenate([np.tile(decisions(0, 1), (30, 1)), decisions(1, 30)])
    vectors = embed(relevance, np.repeat([0, 1], 30))
    strategies = fit_strategies(vectors, relevance, 0)
    assert len(strategies.shares) == 1
    assert judge(vectors, {0: strategies}, 0, relevance[0]).verdict == "ordinary"


def test_a_class_without_strategies_is_refused(two_classes):
    vectors, strategies, relevance = two_classes
    with pytest.raises(SelectionError, match="no strategies of class 5"):
        judge(vectors, strategies, 5, relevance[0])


def test_what_a_few_samples_do_is_no_strategy_of_its_own():
    relevance, truth = planted(180, 12)
    _, strategies = strategies_of(relevance)
    assert len(strategies.shares) == 1
    assert np.median(strategies.percentiles[truth == 1]) < 10


SIMILARITIES = np.array([[3.0, 1.0, 0.5], [0.5, 2.0, 3.0], [3.0, 1.0, 0.4]])
WEIGHTS = np.array([[1.0, 0.0, -0.5], [-0.5, 1.0, 1.0]])


def test_points_of_prototypes_sum_to_the_logits():
    points = contribute(SIMILARITIES, WEIGHTS)
    assert points[0].tolist() == [[3.0, 0.0, -0.25], [-1.5, 1.0, 0.5]]
    np.testing.assert_allclose(points.sum(axis=2), decide(SIMILARITIES, WEIGHTS))


def test_rejecting_a_prototype_changes_decision_and_accuracy():
    labels = np.array([1, 1, 1])
    assert measure_accuracy(decide(SIMILARITIES, WEIGHTS), labels) == pytest.approx(1 / 3)
    assert measure_accuracy(decide(SIMILARITIES, WEIGHTS, rejected={0}), labels) == 1.0


def test_weights_of_other_prototypes_are_refused():
    with pytest.raises(SelectionError, match="weights of 2"):
        contribute(SIMILARITIES, WEIGHTS[:, :2])
    with pytest.raises(SelectionError, match="no prototype 3"):
        decide(SIMILARITIES, WEIGHTS, rejected=[3])


def test_two_samples_with_one_explanation_and_two_classes_are_a_counterexample():
    found = find_counterexample(SIMILARITIES, np.array([0, 1, 1]), shown=2)
    assert found is not None
    assert found.samples == (0, 2)
    assert found.classes == (0, 1)
    assert found.prototypes == (0, 1)
    assert found.difference == 0.0


def test_no_counterexample_is_found_where_explanations_differ():
    assert find_counterexample(SIMILARITIES, np.array([0, 1, 0])) is None
    apart = SIMILARITIES + np.array([[0.0], [0.0], [1.0]])
    assert find_counterexample(apart, np.array([0, 1, 1]), shown=2) is None
