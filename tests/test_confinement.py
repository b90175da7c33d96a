"""A process that opens uploads can do nothing but that: each wall is tried by a real one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from explainers.confinement import CALLS, CAPABILITIES, FILES, environment

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have other walls")


def start(folder: Path, *secrets: Path) -> list:
    """Let a confined process try what it must not, and what it must."""
    command = [sys.executable, "-m", "tests.captives", str(folder), *map(str, secrets)]
    given = environment(folder, os.environ | {"TOKEN": "secret"})
    return json.loads(subprocess.run(command, cwd=ROOT, env=given, capture_output=True, check=True, timeout=60).stdout)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files that nobody confined may read: of a home folder, a cache, notes, temporary and shared memory."""
    home = tmp_path_factory.mktemp("home")
    files = [home / ".ssh" / "id_rsa", home / "cache" / "result.npz", home / "notes.sqlite"]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.write_text("secret")
    return files


@pytest.fixture(scope="module")
def captive(tmp_path_factory: pytest.TempPathFactory, secrets: list[Path]) -> list:
    return start(tmp_path_factory.mktemp("own"), *secrets)


def test_all_walls_stand_where_the_system_has_them(captive):
    walls, _, _ = captive
    assert set(walls) >= {CAPABILITIES, CALLS}
    if Path("/sys/kernel/security/landlock").exists() or FILES in walls:
        assert FILES in walls


def test_nothing_outside_can_be_read_written_run_or_reached(captive, secrets):
    walls, tried, _ = captive
    if FILES not in walls:
        pytest.skip("this kernel cannot wall off files")
    assert {name for name, error in tried.items() if not error} == set()
    assert all(secret.read_text() == "secret" for secret in secrets)


def test_what_reading_a_file_needs_still_works(captive):
    _, _, done = captive
    assert set(done.values()) == {""}


def test_a_confined_process_knows_no_variable_that_may_be_secret(tmp_path):
    given = {"TOKEN": "s", "AWS_SECRET_ACCESS_KEY": "s", "HOME": "/root", "OMP_NUM_THREADS": "1", "LANG": "C"}
    kept = environment(tmp_path, given)
    assert "s" not in kept.values()
    assert (kept["HOME"], kept["TMPDIR"], kept["OMP_NUM_THREADS"]) == (str(tmp_path), str(tmp_path), "1")
