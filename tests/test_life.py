"""The server's own account of itself, and its end: health, metrics, lines of events, a signal to stop."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from components.server import health, metrics
from explainers import events, under_way
from explainers.cache import Cache, _open_cache
from explainers.errors import CancelledError, ComputationError, SettingError
from explainers.jobs import Progress
from explainers.notes import _open_notes
from explainers.predictions import Prediction
from explainers.under_way import computing
from tests.conftest import find_errors, start_app
from tests.test_cache import prediction
from tests.test_privacy import open_session


@pytest.fixture
def before_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that has not been told to stop, and is not when the test is over."""
    monkeypatch.setattr(under_way, "_ending", threading.Event())


@pytest.fixture
def own_folder(tmp_path: Path, bounds: Callable[..., None]) -> Iterator[Path]:
    """A cache folder of the test's own."""
    bounds(cache=tmp_path / "cache")
    forget()
    yield tmp_path / "cache"
    forget()


def forget() -> None:
    """Forget what was opened and found in a folder of before."""
    _open_cache.cache_clear()
    _open_notes.cache_clear()
    health._found = (-health.FRESH, {})


@pytest.fixture
def lines(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[dict[str, object]]]:
    """The events whose lines were written since the last look."""
    monkeypatch.setattr(events._log, "handlers", events._log.handlers)
    return lambda: [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]


def test_a_server_that_can_work_says_so(own_folder: Path, before_the_end: None) -> None:
    assert set(health.check().values()) == {"ok"}


def test_what_is_wrong_is_said_without_names_or_places(own_folder: Path, before_the_end: None) -> None:
    health.check()
    health._found = (-health.FRESH, {})
    own_folder.rename(own_folder.with_name("moved"))
    own_folder.write_text("a file where the folder was")
    found = health.check()
    assert found["cache folder"] == "File exists"
    assert str(own_folder) not in str(found)


def test_notes_that_cannot_be_read_are_told(own_folder: Path, before_the_end: None) -> None:
    health.check()
    health._found = (-health.FRESH, {})
    health.shared_notes().close()
    assert health.check()["notes"] == "cannot be used"


def test_who_asks_for_health_often_asks_the_disk_seldom(own_folder: Path, before_the_end: None) -> None:
    assert health.check() is health.check()


def test_a_server_that_ends_is_not_well(own_folder: Path, before_the_end: None) -> None:
    under_way.begin_to_end()
    assert health.check()["running"] == "stopping"


def test_metrics_are_written_as_prometheus_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = [
        ("lightbox_a_total", "Counted.", {"kind": 'a "b"\\\n'}, 3),
        ("lightbox_a_total", "Counted.", {"kind": "c"}, 4),
        ("lightbox_b", "Held.", {}, 12_345_678_901),
    ]
    monkeypatch.setattr(metrics, "find", lambda: iter(figures))
    assert metrics.write().splitlines() == [
        "# HELP lightbox_a_total Counted.",
        "# TYPE lightbox_a_total counter",
        'lightbox_a_total{kind="a \\"b\\"\\\\\\n"} 3',
        'lightbox_a_total{kind="c"} 4',
        "# HELP lightbox_b Held.",
        "# TYPE lightbox_b gauge",
        "lightbox_b 12345678901",
    ]


def test_an_event_is_a_line_of_json_and_is_counted(
    lines: Callable[[], list[dict[str, object]]], bounds: Callable[..., None]
) -> None:
    before = events.counts().get(("test", "kind"), 0)
    events.write_lines()
    events.tell("test", "kind", seconds=1.23456)
    events.tell("quiet", level=logging.DEBUG)
    (line,) = lines()
    assert line.pop("time")
    assert line == {"level": "info", "event": "test", "kind": "kind", "seconds": 1.235}
    assert events.counts()["test", "kind"] == before + 1
    bounds(log="off")
    events.write_lines()
    events.tell("test")
    assert lines() == []
    bounds(log="loud")
    with pytest.raises(SettingError, match="debug, info, warning, off are possible"):
        events.write_lines()


def test_how_a_computation_ended_is_told_once_by_kind_and_not_in_words(
    lines: Callable[[], list[dict[str, object]]], before_the_end: None
) -> None:
    events.write_lines()
    for error in (ComputationError("Doe-Jane.png is broken"), CancelledError("stopped"), ValueError("Doe-Jane.png")):
        with pytest.raises(type(error)), computing("gradcam", Progress()), computing("logits", Progress()):
            raise error
    told = lines()
    assert [(line["event"], line["kind"]) for line in told] == [
        ("computation failed", "ComputationError"),
        ("computation stopped", "gradcam"),
        ("computation failed", "ValueError"),
    ]
    assert "Doe-Jane" not in str(told)
    assert under_way.count() == 0


def test_at_the_end_what_ends_in_time_has_its_result_and_what_does_not_is_stopped_and_nothing_begins(
    before_the_end: None,
) -> None:
    cache, begun, gate = Cache(workers=2), threading.Barrier(3), threading.Event()

    def short(progress: Progress) -> Prediction:
        with computing("short", progress):
            begun.wait(30)
            gate.wait(30)
            return prediction()

    def endless(progress: Progress) -> Prediction:
        with computing("endless", progress):
            begun.wait(30)
            while True:
                progress.check()

    jobs = cache.submit("short", short), cache.submit("endless", endless)
    begun.wait(30)
    under_way.begin_to_end()
    with pytest.raises(CancelledError, match="about to stop"), computing("late", Progress()):
        pass
    gate.set()
    assert under_way.end(0.2) == 0
    assert jobs[0].result(30) is not None
    with pytest.raises(CancelledError):
        jobs[1].result(30)


SLOW = "methods=RISE&image=astronaut&rise.masks=2000"


def held_by(process: int) -> set[Path]:
    """The private folders and the processes that a process holds, as far as this system tells."""
    folders = set[Path]()
    for file in Path(f"/proc/{process}/fd").iterdir():
        with suppress(FileNotFoundError):  # which is closed by now
            place = Path(os.readlink(file))
            folders |= {place.parent} if place.name == "held" else set()
    lists = Path(f"/proc/{process}/task").glob("*/children")
    return folders | {Path("/proc") / number for file in lists for number in file.read_text().split()}


def is_left(place: Path) -> bool:
    """Tell whether a folder is still there, or a process that has not ended."""
    with suppress(FileNotFoundError):
        return "State:\tZ" not in (place / "status").read_text() if place.parent == Path("/proc") else place.exists()
    return False


def test_a_signal_ends_the_server_with_what_it_computes_and_all_that_it_has_started(tmp_path: Path) -> None:
    environment = os.environ | {"LIGHTBOX_CACHE": str(tmp_path / "cache"), "LIGHTBOX_STOP_SECONDS": "1"}
    address, server = start_app(tmp_path / "log", environment)
    with open_session(address) as one:
        one.wish.rerun_script.query_string = SLOW
        one.run(lambda messages: any("%" in message.delta.new_element.progress.text for message in messages[-1:]))
        held = held_by(server.pid)
        server.send_signal(signal.SIGTERM)
        while "Stopped before the end" not in one.told:  # the page says so before its line is closed
            one.messages.append(ForwardMsg.FromString(one.socket.recv(timeout=60)))
    assert server.wait(60) == 0
    log = (tmp_path / "log").read_text()
    assert not find_errors(log)
    told = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert [line["event"] for line in told if "stop" in line["event"]] == [
        "server is told to stop",
        "computation stopped",
        "server stops",
    ]
    assert not [place for place in held if is_left(place)]
