"""An index that others made finds pictures of known kinds in places that are shown, and calls nothing that it names."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from explainers.errors import ImageError
from explainers.images import File, find
from explainers.images.folder import shown
from explainers.index.samples import StoredSamples, read_sample, write_sample
from sample_models import digits, gallery, lesions
from tests.picture_files import photo


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder of one picture that is not shown yet, beside one that never is."""
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(photo("PNG"))
    yield tmp_path
    shown.discard((tmp_path / "ours").resolve())


def described(path: Path) -> str:
    return write_sample(File("a", path))


def test_every_kind_of_sample_is_found_again():
    for sample in (*gallery.PICTURES[:2], *lesions.samples("moved-test", 2, 96), *digits.samples(0, 2)):
        assert read_sample(write_sample(sample), {}) == sample


def test_files_are_found_only_in_folders_that_are_shown(folder, bounds):
    ours, theirs = (described(folder / name / "1.png") for name in ("ours", "theirs"))
    with pytest.raises(ImageError, match="not here"):
        read_sample(ours, {})
    find(folder / "ours")
    assert read_sample(ours, {}).read().name == "a"
    (folder / "ours" / "link.png").symlink_to(folder / "theirs" / "1.png")
    outside = (described(folder / "ours" / name) for name in ("../theirs/1.png", "link.png"))
    for text in (theirs, *outside, described(Path("/etc/passwd"))):
        with pytest.raises(ImageError, match="not here"):
            read_sample(text, {})
    bounds(data=folder / "theirs")
    assert read_sample(theirs, {}).read().name == "a"


def test_whoever_reads_with_their_own_rights_finds_files_anywhere(folder):
    assert read_sample(described(folder / "theirs" / "1.png"), {}, anywhere=True).read().name == "a"


def test_an_index_is_followed_by_a_server_only_into_folders_that_it_shows(folder):
    theirs = described(folder / "theirs" / "1.png")
    assert StoredSamples([theirs], {}, anywhere=True)[0].read().name == "a"
    with pytest.raises(ImageError, match="not here"):
        StoredSamples([theirs], {})[0]


DIGIT = {"name": "a", "label": None, "caption": "", "row": 1}

STRANGE = [
    "", "[]", "7", "{}", '"x"', '{"kind": 3, "fields": {}}', "[" * 100_000,
    *(
        json.dumps({"kind": kind, "fields": fields})
        for kind, fields in [
            ("sample_models.lesions.training:train", {}),
            ("explainers.index.store:Writer", {"store": "x", "recipe": None}),
            ("explainers.images.folder:Sample", {"name": "a"}),
            ("sample_models.lesions.splits:Case", {"seed": 1, "malignant": True, "artifacts": [], "label": "x"}),
            ("sample_models.digits:Digit", DIGIT | {"row": "1"}),
            ("sample_models.digits:Digit", DIGIT | {"row": True}),
            ("sample_models.digits:Digit", DIGIT | {"row": 2**70}),
            ("sample_models.digits:Digit", DIGIT | {"more": 1}),
            ("sample_models.digits:Digit", DIGIT | {"name": ["a"]}),
            ("sample_models.digits:Digit", DIGIT | {"name": "\ud800"}),
            ("sample_models.digits:Digit", {"name": "a"}),
            ("explainers.images.folder:File", {"name": "a", "path": {"path": "a\0b"}}),
            ("explainers.images.folder:File", {"name": "a", "path": {"path": "a"}, "box": [1, 2]}),
            ("explainers.index.samples:Upload", {"name": "a", "picture": {"path": "/etc/passwd"}}),
            ("explainers.index.samples:Upload", {"name": "a", "picture": {"pixels": []}}),
        ]
    ),
]  # fmt: skip


@pytest.mark.parametrize("text", STRANGE)
def test_what_is_no_sample_is_refused_in_a_sentence(text):
    with pytest.raises(ImageError, match=r"Build the index again|Upload it again"):
        read_sample(text, {})


def test_nothing_is_imported_because_an_index_names_it(tmp_path, monkeypatch):
    package = tmp_path / "sample_models"
    (tmp_path / "explainers_planted.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("explainers_planted", "explainers.__main__", "sample_models.__main__"):
        with pytest.raises(ImageError, match="unknown kind"):
            read_sample(json.dumps({"kind": f"{module}:main", "fields": {}}), {})
    assert not (tmp_path / "ran").exists()
    assert not package.exists()


@pytest.mark.parametrize("sample", [digits.Digit("a", row=5000), digits.Digit("a", row=-1)])
def test_a_row_that_there_is_not_is_told(sample):
    with pytest.raises(ImageError, match="no digit"):
        read_sample(write_sample(sample), {}).read()
