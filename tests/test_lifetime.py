"""What a session uploads is gone from the real server's memory within seconds, however it ends."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from torch import nn

from components import belongings
from explainers.folders import PrivateFolder
from tests.conftest import running_app
from tests.onnx_files import write_old
from tests.picture_files import save
from tests.test_privacy import WATCHED, Session, finished, look, open_session, put, wait_until
from tests.test_sharing import has_heatmap

Messages = list[ForwardMsg]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_app(tmp_path_factory.mktemp("app"), WATCHED) as address:
        yield address


@pytest.fixture(scope="module")
def photo() -> bytes:
    return save(Image.fromarray(np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)), "PNG")


@pytest.fixture(scope="module")
def network() -> bytes:
    """A network of 16 MB, slow enough to be stopped in the middle of what is asked of it."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 200_000)]
    return write_old(nn.Sequential(*layers, nn.Linear(200_000, 10)).eval(), torch.zeros(1, 3, 32, 32), batch=None)


class Person:
    """Somebody who uploads, presses and leaves, by the app's own protocol."""

    def __init__(self, session: Session, **link: str) -> None:
        self.session = session
        self.widgets = session.wish.rerun_script.widget_states.widgets
        self.go("", "model=digits", has_heatmap)
        self.name = next(m.new_session.initialize.session_id for m in session.messages if m.HasField("new_session"))

    def go(self, page: str, query: str, complete: Callable[[Messages], bool]) -> None:
        """Open a page."""
        self.session.wish.rerun_script.page_name, self.session.wish.rerun_script.query_string = page, query
        self.session.run(complete)

    def sees(self, words: str) -> Callable[[Messages], bool]:
        """Whether a run has ended that told something."""
        return lambda messages: finished(messages[-1:]) and words in self.session.told

    def upload(self, key: str, name: str, data: bytes, complete: Callable[[Messages], bool]) -> None:
        """Give a file to an uploader."""
        elements = [message.delta.new_element.file_uploader.id for message in self.session.messages]
        ask, message = BackMsg(), ForwardMsg()
        ask.file_urls_request.session_id, ask.file_urls_request.request_id = self.name, "1"
        ask.file_urls_request.file_names.append(name)
        self.session.socket.send(ask.SerializeToString())
        while not message.HasField("file_urls_response"):
            message = ForwardMsg.FromString(self.session.socket.recv(timeout=60))
        (urls,) = message.file_urls_response.file_urls
        put(self.session.address, urls.upload_url, name, data)
        place = next(element for element in elements if element.endswith(key))
        state = next((widget for widget in self.widgets if widget.id == place), None) or self.widgets.add()
        state.id = place
        info = state.file_uploader_state_value.uploaded_file_info.add()
        info.name, info.size, info.file_id = name, len(data), urls.file_id
        info.file_urls.CopyFrom(urls)
        self.session.run(complete)

    def remove(self, key: str, complete: Callable[[Messages], bool]) -> None:
        """Take all files out of an uploader."""
        state = next(widget for widget in self.widgets if widget.id.endswith(key))
        del state.file_uploader_state_value.uploaded_file_info[:]
        self.session.run(complete)

    def press(self, label: str, complete: Callable[[Messages], bool]) -> None:
        """Press a button."""
        buttons = [message.delta.new_element.button for message in self.session.messages]
        pressed = self.widgets.add()
        pressed.id, pressed.trigger_value = next(one.id for one in buttons if one.label == label), True
        self.session.run(complete)
        del self.widgets[-1]

    def add_picture(self, photo: bytes) -> None:
        """Upload a picture, and look at it."""
        self.upload("uploaded_images", "photo.png", photo, lambda messages: has_heatmap(messages) and self.saw("photo"))

    def saw(self, words: str) -> bool:
        return words in self.session.told

    def test_model(self, network: bytes) -> None:
        """Upload a model, and test it."""
        self.go("model", "", self.sees("model_file"))
        self.upload("model_file", "net.onnx", network, self.sees("Test this model"))
        self.press("Test this model", self.sees("Use this model"))

    def add_model(self, network: bytes) -> None:
        """Upload a model, and accept it."""
        self.test_model(network)
        self.press("Use this model", has_heatmap)
        for place in [place for place, widget in enumerate(self.widgets) if widget.id.endswith("model_file")]:
            del self.widgets[place]  # as a browser does where a page is left


def alive(address: str) -> tuple[int, int, int, int]:
    """How many pictures, models, files and bytes of uploads are in memory."""
    found = look(address)
    return found["pictures"], found["models"], found["files"], found["held"]


def wait_until_gone(address: str) -> None:
    wait_until(lambda: alive(address) == (0, 0, 0, 0))


def see_all(person: Person) -> None:
    """Look at the pages that keep most."""
    for page in ("concepts", "prototypes", "failures", "model", "attribution"):
        person.go(page, "", finished)
        person.session.run(finished)


def ask_much(person: Person) -> None:
    """Ask what takes long, and leave while it is computed."""
    person.go("", "methods=smoothgrad&methods=lrp&methods=rise", finished)


def lose_network(person: Person) -> None:
    """Break the connection without a word."""
    person.session.socket.socket.shutdown(socket.SHUT_RDWR)


def leave(person: Person) -> None:
    """Close the page."""


MORE = [pytest.param(end, marks=pytest.mark.exhaustive) for end in (leave, see_all)]


@pytest.mark.parametrize("end", [ask_much, lose_network, *MORE])
def test_a_picture_and_a_model_are_gone_when_their_session_has_ended(
    address: str, photo: bytes, network: bytes, end: Callable[[Person], None]
) -> None:
    with open_session(address) as session:
        person = Person(session)
        person.add_picture(photo)
        person.add_model(network)
        assert alive(address)[:3] == (1, 1, 2)
        end(person)
    wait_until_gone(address)


def test_what_cannot_be_read_is_gone_with_its_session_too(address: str) -> None:
    with open_session(address) as session:
        person = Person(session)
        person.upload("uploaded_images", "broken.png", b"\x89PNG\r\n\x1a\nnothing", person.sees("uploaded_images"))
        person.upload("uploaded_images", "table.csv", b"image,label\na.png,cat\n", person.sees("uploaded_images"))
        person.go("model", "", person.sees("model_file"))
        person.upload("names_file", "names.txt", b"cat\ndog\n", person.sees("model_file"))
        person.upload("model_file", "evil.pt", b"\x80\x04nothing", person.sees("model_file"))
        assert look(address)["files"] == 4
    wait_until_gone(address)


def test_what_is_removed_is_gone_while_its_session_goes_on(address: str, photo: bytes, network: bytes) -> None:
    with open_session(address) as session:
        person = Person(session)
        person.add_picture(photo)
        person.remove("uploaded_images", has_heatmap)
        wait_until(lambda: not alive(address)[0])
        person.test_model(network)
        person.remove("model_file", person.sees("What can be uploaded"))
        wait_until(lambda: not alive(address)[1])
        person.add_model(network)
        assert alive(address)[1] == 1
        person.go("model", "", person.sees("Remove this model"))
        person.press("Remove this model", person.sees("Bring your own"))
        wait_until(lambda: not alive(address)[1])


def test_what_was_shared_is_gone_with_its_owner_though_somebody_looks_at_it(address: str, photo: bytes) -> None:
    with open_session(address) as looking:
        guest = Person(looking)
        with open_session(address) as session:
            owner = Person(session)
            owner.add_picture(photo)
            owner.press("Share with everybody on this server", owner.sees("Take back"))
            guest.go("", "model=digits&source=Shared", lambda messages: has_heatmap(messages) and guest.saw("photo"))
        wait_until_gone(address)


@pytest.mark.exhaustive
def test_memory_after_many_sessions_is_that_after_one(address: str, photo: bytes, network: bytes) -> None:
    resident = []
    for _ in range(4):
        with open_session(address) as session:
            person = Person(session)
            person.add_picture(photo)
            person.add_model(network)
        wait_until_gone(address)
        resident.append(look(address)["resident"])
    assert resident[-1] - resident[0] < 2 * len(network)  # what one of the three brought, as a file and as tensors


class Stubborn:
    """A session that cannot be read."""

    @property
    def session_state(self) -> Any:
        raise OSError("the name of a patient")


def test_an_error_does_not_keep_what_others_left_from_being_removed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(belongings, "GRACE", 0.0)
    monkeypatch.setattr(belongings, "BEAT", 0.01)
    now = monotonic()
    broken = belongings.Belongings("broken", cast("Any", Stubborn()), now, now)
    with caplog.at_level(logging.ERROR):
        belongings._sessions["broken"] = broken
        belongings.register("another")  # starts the thread that looks after all
        wait_until(lambda: "OSError" in caplog.text)
        left = belongings.Remains(now, set(), [], PrivateFolder())
        belongings._remains.append(left)
        wait_until(lambda: left not in belongings._remains and not left.folder)
    belongings._sessions.clear()
    assert "patient" not in caplog.text
