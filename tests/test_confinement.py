"""A process that opens uploads can do nothing but that: each wall is tried by a real one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from explainers.confinement import (
    ALLOW,
    CALLS,
    CAPABILITIES,
    FILES,
    MACHINES,
    REFUSED,
    RETURN,
    WRITING,
    environment,
    write_filter,
)

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


OLD_KERNEL = """
import os, sys
from pathlib import Path
from explainers import confinement
confinement.fence_files = lambda writable, readable: False
walls = confinement.confine()
assert confinement.CALLS in walls and confinement.FILES not in walls
place = Path(sys.argv[1])
for write in (
    lambda: (place / "new").write_text("a"),
    lambda: os.open(place / "old", os.O_RDWR),
    lambda: (place / "old").unlink(),
    lambda: (place / "old").rename(place / "new"),
    lambda: (place / "folder").mkdir(),
    lambda: (place / "link").symlink_to("old"),
):
    try:
        write()
    except PermissionError:
        continue
    sys.exit("it wrote")
assert (place / "old").read_text() == "words"
"""


def test_a_kernel_that_cannot_wall_off_files_lets_nothing_be_written_where_there_is_no_folder_for_it(tmp_path):
    (tmp_path / "old").write_text("words")
    subprocess.run([sys.executable, "-c", OLD_KERNEL, str(tmp_path)], cwd=ROOT, check=True, timeout=60)
    assert [file.name for file in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("writing", [True, False])
def test_the_filter_of_every_machine_jumps_only_within_itself_and_ends_by_allowing(machine, writing):
    steps = list(write_filter(*MACHINES[machine], writing))
    returns = [place for place, (code, *_) in enumerate(steps) if code == RETURN]
    assert steps[-1] == (RETURN, 0, 0, ALLOW)
    for place, (code, if_true, if_not, _) in enumerate(steps):
        if code != RETURN:
            assert place + 1 + max(if_true, if_not) <= returns[-1]


@pytest.mark.parametrize("place", [0, 1])
def test_every_refused_call_has_a_number_of_its_own(place):
    numbers = [pair[place] for pair in (*REFUSED.values(), *WRITING.values()) if pair[place] is not None]
    assert len(numbers) == len(set(numbers))
