"""Files on their way to the real server: counted, bounded, never on disk, and gone with their session in any case."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from urllib.request import HTTPCookieProcessor, build_opener

import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from tests.conftest import running_app
from tests.test_privacy import WATCHED, Session, finished, look, open_session, wait_until

MIB = 2**20


class Sender:
    """One browser session on the smallest model, and requests beside it as its browser would send them."""

    def __init__(self, session: Session) -> None:
        self.session, self.address = session, session.address
        session.wish.rerun_script.query_string = "model=digits"
        session.run(lambda messages: finished(messages[-1:]))
        self.name = next(m.new_session.initialize.session_id for m in session.messages if m.HasField("new_session"))
        opener = build_opener(cookies := HTTPCookieProcessor())
        opener.open(f"{self.address}/_stcore/health")
        self.token = next(str(cookie.value) for cookie in cookies.cookiejar if cookie.name == "_streamlit_xsrf")

    def wait_for(self, sentence: str) -> None:
        """Wait until the page says something, and its run has ended."""
        self.session.messages.clear()
        while sentence not in self.session.told or not finished(self.session.messages[-1:]):
            self.session.messages.append(ForwardMsg.FromString(self.session.socket.recv(timeout=60)))

    def ask_place(self) -> str:
        """Ask where a file is to be sent."""
        ask, message = BackMsg(), ForwardMsg()
        ask.file_urls_request.session_id, ask.file_urls_request.request_id = self.name, "1"
        ask.file_urls_request.file_names.append("file")
        self.session.socket.send(ask.SerializeToString())
        while not message.HasField("file_urls_response"):
            message = ForwardMsg.FromString(self.session.socket.recv(timeout=60))
        return str(message.file_urls_response.file_urls[0].upload_url)

    def begin(self, length: int | None, place: str | None = None) -> HTTPConnection:
        """Begin to send a file, of a length that need not be true, or in chunks without one."""
        connection = HTTPConnection(self.address.removeprefix("http://"), timeout=60)
        connection.putrequest("PUT", place or self.ask_place())
        for header, value in {
            "Content-Type": "multipart/form-data; boundary=edge",
            "X-Xsrftoken": self.token,
            "Cookie": f"_streamlit_xsrf={self.token}",
            **({"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": str(length)}),
        }.items():
            connection.putheader(header, value)
        connection.endheaders()
        return connection


def wrap(data: bytes) -> bytes:
    """Write the body of a request that sends a file."""
    return (
        b'--edge\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n\r\n' + data + b"\r\n--edge--\r\n"
    )


def hear(connection: HTTPConnection) -> tuple[int, str]:
    """The status and text of the answer, with which the connection ends."""
    answer = connection.getresponse()
    found = answer.status, answer.read().decode()
    connection.close()
    return found


def send(sender: Sender, data: bytes, place: str | None = None) -> tuple[int, str]:
    """Send a file; returns the answer's status and text."""
    body = wrap(data)
    connection = sender.begin(len(body), place)
    with suppress(BrokenPipeError, ConnectionResetError):  # refused before all of it is sent
        connection.send(body)
    return hear(connection)


def open_files(process: int) -> list[str]:
    """The files on a disk, by name, that a process has open."""
    found = []
    for link in Path(f"/proc/{process}/fd").iterdir():
        with suppress(OSError):
            found.append(os.readlink(link))
    return [name for name in found if name.startswith("/") and not name.startswith(("/dev", "/proc", "/sys"))]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that lets one session hold 8 MiB and all together 12."""
    bounds = {"LIGHTBOX_PERSON_BYTES": str(8 * MIB), "LIGHTBOX_SERVER_BYTES": str(12 * MIB)}
    with running_app(tmp_path_factory.mktemp("app"), WATCHED, **bounds) as address:
        yield address


def is_empty(address: str) -> bool:
    found = look(address)
    return not found["files"] and not found["held"]


def test_a_large_file_is_never_on_disk_not_even_as_it_arrives(address: str) -> None:
    with open_session(address) as session:
        sender, body = Sender(session), wrap(b"x" * 5 * MIB)
        process = look(address)["process"]
        before = set(open_files(process))
        connection = sender.begin(len(body))
        connection.send(body[: 4 * MIB])
        wait_until(lambda: look(address)["held"] >= 4 * MIB - MIB // 2)
        assert set(open_files(process)) <= before
        connection.send(body[4 * MIB :])
        assert hear(connection)[0] == 204
        assert set(open_files(process)) <= before
        assert look(address)["files"] == 1
    wait_until(lambda: is_empty(address))


def in_parts(sender: Sender, data: bytes) -> tuple[int, str]:
    """Send a file in chunks, with nothing said of its length."""
    connection = sender.begin(None)
    with suppress(BrokenPipeError, ConnectionResetError):
        connection.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body := wrap(data)), body))
    return hear(connection)


@pytest.mark.parametrize("how", [send, in_parts])
def test_what_is_too_much_is_refused_with_a_sentence_that_the_page_shows(
    address: str, how: Callable[[Sender, bytes], tuple[int, str]]
) -> None:
    wait_until(lambda: is_empty(address))
    with open_session(address) as session:
        sender = Sender(session)
        place = sender.ask_place()
        assert send(sender, b"x" * 5 * MIB, place)[0] == 204
        status, sentence = how(sender, b"x" * 5 * MIB)
        assert status == 413
        assert "more than 8 MiB of uploads" in sentence
        assert "Remove something" in sentence
        sender.wait_for("which is what one person may")
        assert look(address)["held"] < 5.1 * MIB
        assert send(sender, b"x" * 4 * MIB, place)[0] == 413  # in the place of the first, which is there until then
        sender.wait_for("which is what one person may")
        connection = HTTPConnection(address.removeprefix("http://"))
        cookies = {"X-Xsrftoken": sender.token, "Cookie": f"_streamlit_xsrf={sender.token}"}
        connection.request("DELETE", place, headers=cookies)
        assert hear(connection)[0] == 204
        assert is_empty(address)
        assert send(sender, b"x" * 5 * MIB)[0] == 204  # there is room again
    wait_until(lambda: is_empty(address))


def test_all_together_hold_no_more_than_the_server_may(address: str) -> None:
    wait_until(lambda: is_empty(address))
    with open_session(address) as one, open_session(address) as other:
        assert send(Sender(one), b"x" * 7 * MIB)[0] == 204
        status, sentence = send(Sender(other), b"x" * 7 * MIB)
        assert status == 413
        assert "others hold the rest" in sentence
    wait_until(lambda: is_empty(address))


def test_nothing_stays_of_files_that_break_off_or_come_after_the_end(address: str) -> None:
    with open_session(address) as session:
        sender, body = Sender(session), wrap(b"x" * 2 * MIB)
        cut = sender.begin(len(body))
        cut.send(body[:MIB])
        wait_until(lambda: look(address)["held"] > MIB // 2)
        assert cut.sock is not None
        cut.sock.shutdown(socket.SHUT_RDWR)
        cut.close()
        wait_until(lambda: is_empty(address))
        late = sender.begin(len(body))
        late.send(body[:MIB])
        wait_until(lambda: look(address)["held"] > MIB // 2)
    wait_until(lambda: not look(address)["sessions"])
    late.send(body[MIB:])
    hear(late)
    wait_until(lambda: is_empty(address))
    with open_session(address) as session:
        sender = Sender(session)
        place = sender.ask_place()
    wait_until(lambda: not look(address)["sessions"])
    assert send(sender, b"x", place)[0] == 400


def test_no_answer_to_a_forged_request_counts_anything(address: str) -> None:
    with open_session(address) as session:
        sender = Sender(session)
        sender.token = "2|forged"
        assert send(sender, b"x" * MIB)[0] == 403
        assert is_empty(address)
