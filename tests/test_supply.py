"""What the app is made of: complete locks, licences that let it be passed on, and an audit that says what it did."""

import json
import re
import shutil

import pytest

from explainers.images.dicom_decoders import DECODER_DEPENDENCIES, PLUGIN, choose_plugin
from supply.audit import UNREACHED, judge
from supply.install import choose
from supply.licences import BUNDLED, Licence, read_licences
from supply.lock import LOCKS, ROOT, find_faults, read_pins

LOCK = ROOT / "requirements.lock"


@pytest.fixture
def copy(tmp_path):
    """A copy of the locks and of what they were made of."""
    for file in [*ROOT.glob("requirements*"), *ROOT.glob("supply/requirements*")]:
        (tmp_path / file.relative_to(ROOT)).parent.mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / file.relative_to(ROOT))
    return tmp_path


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_is_pinned_with_hashes(name):
    assert find_faults(ROOT, name) == []


@pytest.mark.parametrize(
    "change", [("numpy==2.4.6", "numpy==2.4.5"), ("PyYAML==6.0.4\n", ""), ("torch==", "left==1\ntorch==")]
)
def test_a_lock_that_is_older_than_the_requirements_is_told(copy, change):
    file = copy / "requirements.txt"
    file.write_text(file.read_text().replace(*change))
    assert all("Run `make lock`" in fault for fault in find_faults(copy, "requirements.lock"))
    assert find_faults(copy, "requirements.lock")
    assert find_faults(copy, "requirements-test.lock")


def test_a_comment_in_the_requirements_leaves_the_lock_as_it_is(copy):
    file = copy / "requirements.txt"
    file.write_text("# Another word.\n" + file.read_text())
    assert find_faults(copy, "requirements.lock") == []


@pytest.mark.parametrize(
    "change", [("\nnumpy==2.4.6", "\nnumpy==2.4.5"), ("--hash=sha256:", ""), ("# via", "# file:///wheels")]
)
def test_a_lock_that_was_edited_is_told(copy, change):
    file = copy / "requirements.lock"
    file.write_text(file.read_text().replace(*change))
    assert find_faults(copy, "requirements.lock")


def test_both_locks_have_the_same_versions():
    run, test = ({(pin.name, pin.version) for pin in read_pins((ROOT / name).read_text())} for name in list(LOCKS)[:2])
    assert run <= test


def test_a_build_of_torch_for_the_processor_needs_nothing_of_nvidia():
    usual, own = (choose(LOCK.read_text(), own_torch=own) for own in (False, True))
    left_out = {pin.name for pin in read_pins(usual)} - {pin.name for pin in read_pins(own)}
    assert {"triton", "nvidia-cublas", "cuda-toolkit"} <= left_out
    assert all(name.startswith(("nvidia-", "cuda-", "triton")) for name in left_out)


# Licences


def test_nothing_that_the_app_runs_on_is_under_the_gpl():
    assert {one.package: one.strong for one in read_licences(LOCK) if one.strong} == {}


@pytest.mark.parametrize(
    ("stated", "beside", "strong"),
    [
        ("GPL-3.0-or-later", (), True),
        ("MIT; GNU General Public License v3 (GPLv3)", (), True),
        ("GNU Affero General Public License v3", (), True),
        ("BSD-3-Clause", (f"libx265 ({BUNDLED['libx265']})",), True),
        ("BSD-3-Clause", (f"libheif ({BUNDLED['libheif']})",), False),
        ("GNU Lesser General Public License v3 (LGPLv3)", (), False),
        ("MIT", (f"libgomp ({BUNDLED['libgomp']})",), False),
        ("GPL-2.0-only OR MIT", (), False),
        ("MPL-2.0 AND MIT", (), False),
    ],
)
def test_the_gpl_is_told_from_what_only_sounds_like_it(stated, beside, strong):
    assert bool(Licence("some", "1", stated, beside).strong) == strong


def test_the_decoder_under_the_gpl_is_not_used_even_where_it_is_left_over():
    assert {choose_plugin(syntax) for syntax in DECODER_DEPENDENCIES} == {PLUGIN}


def test_the_table_of_licences_has_the_versions_of_the_lock():
    rows = re.findall(r"^\| ([\w.-]+) \| (\d[\w.]*) \|", (ROOT / "LICENCES.md").read_text(), re.MULTILINE)
    told = {(re.sub("[-_.]+", "-", name).lower(), version) for name, version in rows}
    pinned = {(pin.name, pin.version) for pin in read_pins(LOCK.read_text())}
    assert told <= pinned, "Run `make licences`."
    required = {pin.name for pin in read_pins(LOCK.read_text()) if "via -r requirements.txt" in pin.text}
    assert required <= {name for name, _ in told}, "Run `make licences`."


# Vulnerabilities


def told(*packages):
    return json.dumps({"dependencies": list(packages), "fixes": []})


def test_a_database_that_was_not_reached_is_no_all_clear():
    assert judge("") == (UNREACHED, False)
    assert judge(told({"name": "numpy", "skip_reason": "not found"})) == (UNREACHED, False)


def test_a_known_vulnerability_is_told_with_what_was_not_checked():
    words, found = judge(
        told(
            {"name": "pillow", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]},
            {"name": "numpy", "version": "2", "vulns": []},
            {"name": "other", "skip_reason": "not found"},
        )
    )
    assert found
    assert "2 packages were looked up; 1 vulnerabilities are known." in words
    assert "pillow 1: PYSEC-1, mended in 2." in words
    assert "Not known to the database: other." in words


def test_no_known_vulnerability_is_said_too():
    words, found = judge(told({"name": "numpy", "version": "2", "vulns": []}))
    assert not found
    assert "1 packages were looked up; 0 vulnerabilities are known." in words
