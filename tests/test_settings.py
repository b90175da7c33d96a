"""Settings: what is misspelt or impossible is refused in a sentence, on the terminal and on the page."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from explainers.errors import SettingError
from explainers.settings import OTHERS, PREFIX, make, read_environment, settings
from tests.conftest import ROOT, free_port


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        *(("LIGHTBOX_IDEL", "LIGHTBOX_IDLE"), ("LIGHTBOX_PERSON_BYTE", "LIGHTBOX_PERSON_BYTES")),
        *(("LIGTHBOX_USER_HEADER", "LIGHTBOX_USER_HEADER"), ("lightbox_data", "LIGHTBOX_DATA")),
        *(("LIGHTBOX_USERHEADER", "LIGHTBOX_USER_HEADER"), ("LIGHTBOX_SETTING", "LIGHTBOX_SETTINGS")),
        *(("LIGHTBOX_", "README"), ("LIGHTBOX_XYZZY", "README"), ("LightBox_Memory", "LIGHTBOX_MEMORY")),
        *(("LIGHT_BOX_MEMORY", "LIGHTBOX_MEMORY"), ("LIGHTBOXMEMORY", "LIGHTBOX_MEMORY")),
    ],
)
def test_a_misspelt_variable_is_named_with_the_nearest_setting(variable: str, nearest: str):
    with pytest.raises(SettingError, match=rf"There is no setting {variable}\. .*{nearest}"):
        read_environment({variable: "1"})


def test_variables_of_others_and_of_tests_are_left_alone():
    others = {"PATH": "", "HOME": "", "LIGHTNING_DATA": "", "LIGHTDM_CACHE": "", "MEMORY": "", "STREAMLIT_IDLE": ""}
    assert read_environment(others | dict.fromkeys(OTHERS, "x")) == {}
    assert read_environment({f"{PREFIX}IDLE": "60"}) == {"idle": "60"}


@pytest.mark.parametrize("number", ["", "-1", "1.5", "nan", "1e99999", "9" * 5000, "6 GiB", "０x", "idle", " "])
@pytest.mark.parametrize("name", ["idle", "memory", "workers"])
def test_an_impossible_number_is_refused(name: str, number: str):
    with pytest.raises(SettingError, match=name):
        make({name: number})


def test_nothing_is_allowed_only_where_it_makes_sense():
    assert make({"memory": 0, "disk": "0", "picture_cache": 0.0}).picture_cache == 0
    for name in ("idle", "workers", "person_bytes", "upload_seconds", "picture_pixels", "archive_ratio"):
        with pytest.raises(SettingError, match=f"'{name}' is '0'"):
            make({name: 0})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"person_bytes": 10, "server_bytes": 9}, "'person_bytes' is 10, more than 'server_bytes', 9"),
        ({"person_bytes": 2**40}, "more than 'server_bytes'"),
        ({"workers": True}, "'workers' is 'True'; a whole number"),
        ({"workers": [1]}, "a whole number"),
        ({"cache": 7}, "'cache' is '7'; a path"),
        ({"cache": ""}, "a path was expected"),
        ({"data": "a\0b"}, "a path was expected"),
        ({"hosts": ["a.example"]}, "a text was expected"),
        ({"hosts": "https://a.example/"}, "'hosts' is"),
        ({"user_header": "X Remote User"}, "no header is called"),
        ({"user_header": "X-User:"}, "no header is called"),
        ({"idel": 5}, "Did you mean idle"),
        ({"LIGHTBOX_IDLE": 5}, "Did you mean"),
        ({"x" * 5000: 5}, "README"),
        ({"server": {"idle": 5}}, "There is no setting 'server'"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(given: dict[str, object], words: str):
    with pytest.raises(SettingError, match=words) as told:
        make(given)
    assert len(str(told.value)) < 400


def test_hosts_and_headers_as_people_write_them_are_taken():
    for hosts in ("", "a.example", "a.example, b.example:8501", "10.0.0.1,[::1]:80", "*.example.org"):
        assert make({"hosts": hosts}).hosts == hosts
    assert make({"user_header": "X-Remote-User"}).user_header == "X-Remote-User"


def test_places_on_the_disk_that_cannot_serve_are_refused(tmp_path: Path):
    file = tmp_path / "file"
    file.write_text("")
    for given in ({"cache": file}, {"cache": file / "below"}, {"notes": tmp_path}, {"notes": file / "n"}):
        with pytest.raises(SettingError, match=str(file if "cache" in given else tmp_path)):
            make(given)
    for data in (file, tmp_path / "missing"):
        with pytest.raises(SettingError, match=r"'data' is .* which is no folder"):
            make({"data": data})
    assert make({"cache": tmp_path / "new" / "deep", "data": tmp_path, "notes": file}).notes == file


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-m", "explainers", "methods"],
        [sys.executable, "-m", "streamlit", "run", "app.py", "--server.headless=true", f"--server.port={free_port()}"],
    ],
    ids=["command line", "server"],
)
def test_a_process_with_a_wrong_setting_ends_with_the_sentence_and_no_traceback(command: list[str]):
    environment = os.environ | {"LIGHTBOX_IDEL": "60"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == ["error: There is no setting LIGHTBOX_IDEL. Did you mean LIGHTBOX_IDLE?"]


def test_the_page_says_the_sentence_too(bounds: Callable[..., None]):
    bounds(workers=-3)
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    settings.cache_clear()
    assert not page.exception
    (error,) = page.error
    assert "workers" in error.value
    assert not page.sidebar.children
