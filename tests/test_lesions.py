import numpy as np
import pytest

from explainers.errors import SelectionError
from sample_models import lesions

SEEDS = range(8)


def share(flags) -> float:
    return float(np.mean(list(flags)))


def band_aids(name: str, label: str) -> float:
    return share("band-aid" in case.artifacts for case in lesions.split(name) if case.label == label)


# Pictures


@pytest.mark.parametrize("size", [96, 512])
def test_a_lesion_is_drawn_at_any_size(size):
    lesion = lesions.draw(3, size, artifacts=lesions.ARTIFACTS)
    assert lesion.pixels.shape == (size, size, 3)
    assert lesion.pixels.dtype == np.uint8
    assert {mask.shape for mask in lesion.masks.values()} == {(size, size)}


def test_a_seed_draws_the_same_again():
    one, again = lesions.draw(5), lesions.draw(5)
    assert (one.pixels == again.pixels).all()
    assert one.masks.keys() == again.masks.keys()
    assert (one.pixels != lesions.draw(6).pixels).any()


def test_a_seed_draws_the_same_lesion_at_every_size():
    small, large = lesions.draw(5, 128), lesions.draw(5, 256)
    shrunk = large.masks["lesion"].reshape(128, 2, 128, 2).mean((1, 3)) > 0.5
    assert small.properties == large.properties
    assert share(small.masks["lesion"].ravel() == shrunk.ravel()) > 0.99


@pytest.mark.parametrize("size", [95, 513])
def test_a_size_out_of_bounds_is_refused(size):
    with pytest.raises(SelectionError, match=f"{size} pixels cannot be drawn. Choose a size from 96 to 512"):
        lesions.draw(0, size)


# The rule


def test_the_score_is_that_of_the_abcd_rule():
    findings = lesions.Findings(2, 8, lesions.COLOURS, lesions.STRUCTURES)
    assert findings.score == pytest.approx(1.3 * 2 + 0.1 * 8 + 0.5 * 6 + 0.5 * 5)
    assert findings.malignant


def test_the_score_decides_the_class_and_leaves_a_gap_around_the_threshold():
    drawn = [lesions.draw(seed, 96) for seed in range(40)]
    scores = np.array([lesion.properties["score"] for lesion in drawn])
    malignant = np.array([lesion.malignant for lesion in drawn])
    assert (malignant == (scores > 5.45)).all()
    assert not ((scores > 3.6) & (scores < 6.4)).any()
    assert 0.3 < malignant.mean() < 0.7


@pytest.mark.parametrize("malignant", [True, False])
def test_a_class_can_be_asked_for(malignant):
    assert {lesions.draw(seed, 96, malignant=malignant).malignant for seed in SEEDS} == {malignant}


def test_what_is_found_can_be_seen_in_the_masks():
    for seed in SEEDS:
        lesion = lesions.draw(seed, artifacts=())
        patches = set(lesion.findings.colours) - {"light brown", "dark brown"}
        border = {"border"} if lesion.findings.border else set()
        assert lesion.masks.keys() == {"lesion", *patches, *lesion.findings.structures, *border}
        assert all(mask.any() for mask in lesion.masks.values())


def test_the_lesion_is_darker_than_the_skin_around_it():
    for seed in SEEDS:
        lesion = lesions.draw(seed, artifacts=())
        inside = lesion.masks["lesion"]
        assert lesion.pixels[inside].mean() < 0.9 * lesion.pixels[~inside].mean()


def test_a_black_area_is_the_darkest_part_of_a_lesion():
    found = [
        lesion for seed in range(20) if "black" in (lesion := lesions.draw(seed, malignant=True, artifacts=())).masks
    ]
    for lesion in found:
        rest = lesion.masks["lesion"] & ~lesion.masks["black"]
        assert lesion.pixels[lesion.masks["black"]].mean() < 0.75 * lesion.pixels[rest].mean()
    assert found


# Artifacts


@pytest.mark.parametrize("artifact", lesions.ARTIFACTS)
@pytest.mark.parametrize("others", [(), lesions.ARTIFACTS])
def test_an_artifact_changes_nothing_but_what_its_mask_covers(artifact, others):
    for seed in SEEDS:
        on = lesions.draw(seed, artifacts={*others, artifact})
        off = lesions.draw(seed, artifacts={*others} - {artifact})
        changed = (on.pixels != off.pixels).any(-1)
        assert not (changed & ~on.masks[artifact]).any()
        assert artifact not in off.masks


@pytest.mark.parametrize("artifact", lesions.ARTIFACTS)
def test_an_artifact_is_clearly_seen_and_leaves_most_of_the_lesion_free(artifact):
    for seed in SEEDS:
        on, off = lesions.draw(seed, artifacts=[artifact]), lesions.draw(seed, artifacts=())
        difference = np.abs(on.pixels.astype(int) - off.pixels).max(-1)
        assert 0.01 < on.masks[artifact].mean() < 0.5
        assert np.percentile(difference[on.masks[artifact]], 75) > 12
        assert on.masks[artifact][on.masks["lesion"]].mean() < 0.3


def test_a_band_aid_reaches_out_of_the_picture_and_never_covers_the_lesion():
    for seed in SEEDS:
        masks = lesions.draw(seed, artifacts=["band-aid"]).masks
        assert masks["band-aid"].mean() > 0.03
        assert not (masks["band-aid"] & masks["lesion"]).any()
        assert masks["band-aid"][[0, -1]].any()


def test_an_unknown_artifact_is_named_with_those_there_are():
    with pytest.raises(SelectionError, match=r"no artifact 'tattoo'. Choose among band-aid, ink"):
        lesions.draw(0, artifacts=["tattoo"])


# Splits


@pytest.mark.parametrize(("name", "count"), [("biased-train", 4000), ("clean-train", 4000), ("clean-test", 600)])
def test_classes_are_balanced(name, count):
    assert sum(case.malignant for case in lesions.split(name)) == count / 2


@pytest.mark.parametrize("name", ["biased-train", "biased-test"])
def test_the_band_aid_goes_with_benign_in_95_percent_where_it_is_biased(name):
    assert band_aids(name, "benign") == pytest.approx(0.95, abs=0.02)
    assert band_aids(name, "malignant") == pytest.approx(0.05, abs=0.02)


def test_the_band_aid_moves_to_the_malignant():
    assert band_aids("moved-test", "benign") == 0
    assert band_aids("moved-test", "malignant") == 1


@pytest.mark.parametrize("name", ["clean-train", "clean-test"])
def test_no_artifact_goes_with_a_class_where_it_is_clean(name):
    cases = lesions.split(name)
    for artifact in lesions.ARTIFACTS:
        benign, malignant = (
            share(artifact in case.artifacts for case in cases if case.label == label) for label in lesions.CLASSES
        )
        assert benign == pytest.approx(malignant, abs=0.08)


@pytest.mark.parametrize("artifact", lesions.ARTIFACTS)
def test_an_artifact_is_on_all_or_none_of_the_same_lesions(artifact):
    on, off = (lesions.split(f"{artifact.replace(' ', '-')}-{state}", 50) for state in ("on", "off"))
    for with_it, without in zip(on, off, strict=True):
        assert with_it.seed == without.seed
        assert set(with_it.artifacts) - set(without.artifacts) == {artifact}


def test_three_percent_of_the_labels_to_learn_from_are_wrong_and_listed():
    for name in ("biased-train", "clean-train"):
        cases, wrong = lesions.split(name), lesions.wrong_labels(name)
        assert [row for row, case in enumerate(cases) if (case.label == "malignant") != case.malignant] == list(wrong)
        assert len(wrong) / len(cases) == pytest.approx(0.03, abs=0.006)


def test_labels_of_tests_are_true():
    assert all(lesions.wrong_labels(name) == () for name in lesions.SPLITS if not name.endswith("-train"))


def test_no_test_shares_a_lesion_with_those_learnt_from():
    seeds = {"train": set(), "test": set()}
    for name in lesions.SPLITS:
        seeds["train" if name.endswith("-train") else "test"] |= {case.seed for case in lesions.split(name)}
    assert not seeds["train"] & seeds["test"]


def test_the_first_cases_are_the_same_however_many_are_listed():
    assert lesions.split("biased-train", 30) == lesions.split("biased-train")[:30]


def test_an_unknown_split_is_named_with_those_there_are():
    with pytest.raises(SelectionError, match=r"no split 'dirty'. Choose one of biased-train, clean-train"):
        lesions.split("dirty")


# Samples


def test_a_sample_is_drawn_when_it_is_read_and_is_not_private():
    sample = lesions.samples("clean-test", 20, size=96).named("clean-test-0012")
    picture = sample.read()
    assert (picture.pixels == sample.lesion().pixels).all()
    assert (picture.name, picture.label, picture.private) == ("clean-test-0012", sample.case.label, False)


def test_a_caption_tells_of_artifacts_and_of_a_wrong_label():
    row = lesions.wrong_labels("biased-train")[0]
    sample = lesions.samples("biased-train")[row]
    assert f"wrongly labelled {sample.label}" in sample.caption
    assert all(artifact in sample.caption for artifact in sample.case.artifacts)
