"""Reading an upload ends with *Stop* and with the page, on the real server, and then no processor time goes by."""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import urlsplit

import psutil

from tests.picture_files import many_scans
from tests.test_privacy import Session, open_session

#: Takes a decoder minutes.
SLOW = many_scans(8000, 20_000)


def wait_until(true: Callable[[], bool]) -> None:
    for _ in range(1200):
        if true():
            return
        time.sleep(0.1)
    raise AssertionError("It did not come.")


def readers(address: str) -> list[psutil.Process]:
    """The processes of a server that read files; without the zygotes, which wait."""
    port = f"--server.port={urlsplit(address).port}"
    (server,) = (one for one in psutil.Process().children(recursive=True) if port in one.cmdline())
    zygotes = [one for one in server.children() if "explainers.zygote" in one.cmdline()]
    return [child for zygote in zygotes for child in zygote.children()]


def begin(session: Session) -> None:
    """Upload the slow picture, and wait for the button that stops it."""
    session.wish.rerun_script.query_string = "model=digits"
    session.run()
    upload_until(session, "scan.jpg", SLOW, lambda messages: 'label: "Stop"' in session.told)
    wait_until(lambda: len(readers(session.address)) == 1)


def upload_until(session: Session, name: str, data: bytes, complete: Callable[[list[object]], bool]) -> None:
    run = session.run
    session.run = lambda *_: run(complete)  # type: ignore[method-assign]
    try:
        session.upload(name, data)
    finally:
        session.run = run  # type: ignore[method-assign]


def rest(reader: psutil.Process) -> None:
    """See that a process has ended."""
    wait_until(lambda: not reader.is_running())


def test_stop_ends_what_reads_an_upload_and_says_so(app_address: str):
    with open_session(app_address) as session:
        begin(session)
        (reader,) = readers(app_address)
        session.press("stop-" + stop_key(session), lambda messages: "was stopped" in session.told)
        rest(reader)
        assert readers(app_address) == []


def stop_key(session: Session) -> str:
    """What the button is called, behind its beginning."""
    buttons = [message.delta.new_element.button.id for message in session.messages]
    return next(button for button in buttons if "-stop-" in button).rpartition("-stop-")[2]


def test_closing_the_page_ends_what_reads_an_upload(app_address: str):
    with open_session(app_address) as session:
        begin(session)
        (reader,) = readers(app_address)
    rest(reader)
    assert readers(app_address) == []
