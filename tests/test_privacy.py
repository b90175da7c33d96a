"""What a session uploads is its own, and gone when the session has ended or was idle, on the real server."""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.request import HTTPCookieProcessor, Request, build_opener, urlopen

import numpy as np
import pytest
from PIL import Image
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import ClientConnection, connect

from explainers.folders import MEMORY, PREFIX, PrivateFolder, own_place, remove_leftovers
from tests.conftest import running_app
from tests.picture_files import save
from tests.test_sharing import figures, has_heatmap, visit
from tests.victims import Victim

NAME = "Doe-Jane-4711"
IDLE = 10
WATCHED = "tests/watched.py"


class Session:
    """One browser session that speaks the app's own protocol, as a browser does, and can upload."""

    def __init__(self, address: str, socket: ClientConnection) -> None:
        self.address, self.socket, self.messages = address, socket, list[ForwardMsg]()
        self.wish = BackMsg()
        self.wish.rerun_script.query_string = ""

    def run(self, complete: Callable[[list[ForwardMsg]], bool] = has_heatmap) -> None:
        """Run the page until what was sent is complete."""
        self.messages.clear()
        self.socket.send(self.wish.SerializeToString())
        while not complete(self.messages):
            self.messages.append(ForwardMsg.FromString(self.socket.recv(timeout=120)))
            if timer := self.messages[-1].auto_rerun.fragment_id:
                again = BackMsg()
                again.rerun_script.CopyFrom(self.wish.rerun_script)
                again.rerun_script.fragment_id, again.rerun_script.is_auto_rerun = timer, True
                self.socket.send(again.SerializeToString())

    def press(self, key: str, complete: Callable[[list[ForwardMsg]], bool]) -> None:
        """Press a button of the page."""
        buttons = [message.delta.new_element.button.id for message in self.messages]
        pressed = self.wish.rerun_script.widget_states.widgets.add()
        pressed.id, pressed.trigger_value = next(button for button in buttons if button.endswith(key)), True
        self.run(complete)
        self.wish.rerun_script.widget_states.widgets.pop()

    def upload(self, name: str, data: bytes) -> None:
        """Upload a picture as the file uploader of the sidebar does."""
        uploaders = [message.delta.new_element.file_uploader.id for message in self.messages]
        session = next(m.new_session.initialize.session_id for m in self.messages if m.HasField("new_session"))
        ask = BackMsg()
        ask.file_urls_request.session_id, ask.file_urls_request.request_id = session, "1"
        ask.file_urls_request.file_names.append(name)
        self.socket.send(ask.SerializeToString())
        message = ForwardMsg()
        while not message.HasField("file_urls_response"):
            message = ForwardMsg.FromString(self.socket.recv(timeout=60))
        (urls,) = message.file_urls_response.file_urls
        put(self.address, urls.upload_url, name, data)
        state = self.wish.rerun_script.widget_states.widgets.add()
        state.id = next(filter(None, uploaders))
        info = state.file_uploader_state_value.uploaded_file_info.add()
        info.name, info.size, info.file_id = name, len(data), urls.file_id
        info.file_urls.CopyFrom(urls)
        self.run(lambda messages: has_heatmap(messages) and name in self.told)

    @property
    def told(self) -> str:
        """All that the server sent since the last run began."""
        return "\n".join(str(message) for message in self.messages)


@contextmanager
def open_session(address: str, **headers: str) -> Iterator[Session]:
    place = f"{address.replace('http', 'ws')}/_stcore/stream"
    with connect(
        place,
        subprotocols=["streamlit"],
        max_size=None,
        origin=address,
        additional_headers=headers,
        ping_interval=None,  # a busy machine must not end the session
    ) as socket:
        yield Session(address, socket)


def put(address: str, place: str, name: str, data: bytes) -> None:
    """Send a file as a browser does, with the server's token against forged requests."""
    opener = build_opener(cookies := HTTPCookieProcessor())
    opener.open(f"{address}/_stcore/health")
    (token,) = (cookie.value for cookie in cookies.cookiejar if cookie.name == "_streamlit_xsrf")
    body = f'--edge\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
    headers = {"Content-Type": "multipart/form-data; boundary=edge", "X-Xsrftoken": str(token)}
    request = Request(address + place, body + data + b"\r\n--edge--\r\n", headers, method="PUT")
    assert opener.open(request).status == 204


def look(address: str) -> dict[str, Any]:
    """What uploads are alive in the server's memory."""
    with urlopen(f"{address}/watched") as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def kept(address: str) -> int:
    """The number of results in memory, from the page of activity."""
    shown = figures(visit(address, lambda messages: len(figures(messages)) == 9, "activity"))
    return int(shown["Results in memory"])


@pytest.fixture(scope="module")
def photo() -> bytes:
    return save(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)), "PNG")


def settled(address: str) -> int:
    """The number of results in memory once nothing is computed ahead any more."""
    before, now = -1, kept(address)
    while before != now:
        time.sleep(2)
        before, now = now, kept(address)
    return now


def wait_until(happened: Callable[[], bool]) -> None:
    """Look twice a second whether something has happened; fails if it does not within minutes."""
    for _ in range(600):
        if happened():
            return
        time.sleep(0.5)
    raise AssertionError("it does not happen")


def finished(messages: list[ForwardMsg]) -> bool:
    return any(message.HasField("script_finished") for message in messages)


def folders() -> set[Path]:
    """Private folders of sessions."""
    return set(own_place().glob(f"{PREFIX}*"))


def traces(*places: Path) -> list[str]:
    """Where a name is found: in the cache, the log, or folders of sessions."""
    files = [file for place in places for file in place.rglob("*") if file.is_file()]
    return [str(file) for file in files if NAME in file.name or NAME.encode() in file.read_bytes()]


def test_an_upload_is_found_by_nobody_else_and_is_gone_when_its_session_has_ended(tmp_path: Path, photo: bytes) -> None:
    with running_app(tmp_path) as address:
        with open_session(address) as owner:
            owner.run()
            owner.upload(f"{NAME}.png", photo)
            assert not any(NAME in message.page_info_changed.query_string for message in owner.messages)
            for page in ("attribution", "concepts", "prototypes", "model", "activity"):
                assert NAME not in "\n".join(str(message) for message in visit(address, finished, page))
            assert NAME not in "\n".join(str(message) for message in visit(address, has_heatmap, source="Yours"))
            assert not traces(tmp_path, *folders())
            during = settled(address)
        wait_until(lambda: kept(address) == during - 2)  # without the upload's prediction and heatmap
        assert not traces(tmp_path, *folders())


def test_uploads_of_an_idle_session_are_removed_and_it_is_told(tmp_path: Path, photo: bytes) -> None:
    with running_app(tmp_path, WATCHED, LIGHTBOX_IDLE=str(IDLE)) as address, open_session(address) as owner:
        owner.run()
        owner.upload(f"{NAME}.png", photo)
        whole, view = owner.wish, BackMsg()
        view.CopyFrom(whole)
        view.rerun_script.fragment_id = next(filter(None, (m.delta.fragment_id for m in owner.messages)))
        for _ in range(IDLE // 2 + 3):  # somebody who only changes the view works here, too
            time.sleep(2)
            owner.wish = view
            owner.run(finished)
        owner.wish = whole
        owner.run()
        assert NAME in owner.told
        wait_until(lambda: not look(address)["pictures"])
        owner.run(lambda messages: "Your uploads were removed" in owner.told and has_heatmap(messages))
        owner.run()
        assert NAME not in owner.told


def hold_folder(pipe: Connection) -> None:
    folder = PrivateFolder()
    pipe.send(folder.name)
    time.sleep(600)


def test_an_index_of_uploads_is_private_and_in_memory_and_goes_with_its_session(tmp_path: Path, photo: bytes) -> None:
    killed = Victim(hold_folder)
    killed.live(1, 0)
    assert killed.kill()
    left = Path(killed.said[0])
    assert left in folders()
    with running_app(tmp_path) as address:
        with open_session(address) as owner:
            owner.run()
            before = folders()
            assert left not in before  # it is gone since this one has started
            owner.upload(f"{NAME}.png", photo)
            owner.wish.rerun_script.page_name = "concepts"
            owner.wish.rerun_script.query_string = "model=digits&source=Yours&from_strip=true"
            owner.run(lambda messages: "build_index" in owner.told and finished(messages))
            owner.press("build_index", finished)
            wait_until(lambda: any(list(folder.rglob("shard.json")) for folder in folders() - before))
            (folder,) = folders() - before
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            assert folder.parent == own_place()
            assert MEMORY in folder.parents
            assert not traces(tmp_path)
        wait_until(lambda: folder not in folders())


def test_what_a_killed_server_left_is_removed_at_the_next_start_and_nothing_of_a_living_one() -> None:
    killed, living = Victim(hold_folder), Victim(hold_folder)
    for one in (killed, living):
        one.live(1, 0)
    assert killed.kill()
    assert {Path(one.said[0]) for one in (killed, living)} <= folders()
    remove_leftovers()
    assert Path(killed.said[0]) not in folders()
    assert Path(living.said[0]) in folders()
    living.kill()
    remove_leftovers()
    assert Path(living.said[0]) not in folders()
