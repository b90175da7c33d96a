"""A browser's page without the drawing: Streamlit's websocket protocol, spoken as a browser speaks it.

It runs the script with the state of the clicked widget and the address, follows the parts of a page that run by
themselves, and reads every message. It leaves out what costs the server next to nothing (style sheets, scripts, fonts),
and the hashes by which a browser says which large messages it still has: the server always sends them whole. Lightbox
sends its pictures inside the messages.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlencode

from streamlit.proto.Alert_pb2 import Alert
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.Common_pb2 import FileURLs
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.sync.client import ClientConnection, connect

from tests.test_privacy import put

#: How long a person waits for a picture before calling it an error, in seconds.
PATIENCE = 180.0

#: How long a part of the page that runs by itself may leave its call unanswered before it is taken for gone.
GONE = 15.0


class Session:
    """One connection, and what is on the screen."""

    def __init__(self, socket: ClientConnection, query: str = "", page: str = "") -> None:
        self.socket, self.query, self.page, self.pages = socket, query, "", dict[str, str]()
        self.widgets, self.metrics, self.timers = dict[str, str](), dict[str, int](), dict[str, tuple[float, float]]()
        self.errors, self.marks, self.position, self.running = list[str](), dict[str, float](), (0, 0), True
        self.uploaders, self.kept, self.id, self.urls = dict[str, str](), dict[str, WidgetState](), "", list[FileURLs]()
        self.begins_anew = False
        self.unanswered: float | None = None
        self.send(name=page)

    def send(self, *states: WidgetState, page: str = "", name: str = "", fragment: str = "") -> None:
        """Ask the server to run the script, as every click does."""
        message = BackMsg()
        asked = message.rerun_script
        asked.query_string, asked.page_script_hash, asked.page_name = self.query, page or self.page, name
        asked.fragment_id, asked.is_auto_rerun = fragment, bool(fragment)
        asked.widget_states.widgets.extend((*self.kept.values(), *states))
        self.running, self.unanswered = True, time.monotonic() if fragment else None
        self.socket.send(message.SerializeToString())

    def click(self, key: str) -> None:
        """Click the button with a key."""
        self.marks = {}
        self.send(WidgetState(id=self.widgets[key], trigger_value=True))

    def upload(self, address: str, label: str, name: str, data: bytes) -> None:
        """Give the uploader with a label one more file."""
        ask = BackMsg()
        ask.file_urls_request.session_id, ask.file_urls_request.request_id = self.id, "1"
        ask.file_urls_request.file_names.append(name)
        self.socket.send(ask.SerializeToString())
        while not self.urls:
            self.read(self.socket.recv(timeout=PATIENCE))
        urls = self.urls.pop()
        put(address, urls.upload_url, name, data)
        state = self.kept.setdefault(label, WidgetState(id=self.uploaders[label]))
        info = state.file_uploader_state_value.uploaded_file_info.add()
        info.name, info.size, info.file_id = name, len(data), urls.file_id
        info.file_urls.CopyFrom(urls)
        self.marks = {}
        self.send()

    def go(self, page: str) -> None:
        """Click a page in the navigation; that empties the address."""
        self.marks, self.query = {}, ""
        self.send(page=self.pages[page])

    def settle(self, patience: float = PATIENCE, timers: bool = True) -> None:
        """Read until the script has run and no part of the page runs by itself any more."""
        end = time.monotonic() + patience
        while self.running or (timers and self.timers):
            if time.monotonic() > end:
                raise TimeoutError(f"no end of the page within {patience:.0f} s at {self.query}")
            due = min((due for _, due in self.timers.values()), default=end)
            with suppress(TimeoutError):
                self.read(self.socket.recv(timeout=max(0.01, min(due, end) - time.monotonic())))
            self.run_fragments()
        if self.errors:
            raise RuntimeError(f"{self.errors[0]} at {self.query}")

    def run_fragments(self) -> None:
        """Run the parts of the page whose time has come; one that has just gone gets no answer."""
        if self.unanswered is not None and time.monotonic() - self.unanswered > GONE:
            self.running, self.unanswered = False, None
        for fragment, (interval, due) in self.timers.items():
            if not self.running and time.monotonic() >= due:
                self.timers[fragment] = interval, time.monotonic() + interval
                self.send(fragment=fragment)

    def read(self, data: str | bytes) -> None:
        """Take in one message."""
        self.unanswered = None
        message = ForwardMsg.FromString(data)
        kind = message.WhichOneof("type")
        if kind == "new_session":
            self.id = message.new_session.initialize.session_id or self.id
            self.begins_anew = False
            if not message.metadata.run.fragment_ids:
                self.timers, self.widgets = {}, {}
        elif kind == "session_status_changed" and not self.begins_anew:
            self.running = message.session_status_changed.script_is_running
        elif kind == "navigation":
            self.page = message.navigation.page_script_hash
            self.pages = {page.url_pathname: page.page_script_hash for page in message.navigation.app_pages}
        elif kind == "page_info_changed":
            self.query = message.page_info_changed.query_string
        elif kind == "file_urls_response":
            self.urls += message.file_urls_response.file_urls
        elif kind == "auto_rerun":
            interval = message.auto_rerun.interval
            self.timers[message.auto_rerun.fragment_id] = interval, time.monotonic() + interval
        elif kind == "stop_auto_rerun":
            for fragment in message.stop_auto_rerun.fragment_ids:
                self.timers.pop(fragment, None)
        elif kind == "script_finished":
            self.begins_anew = message.script_finished == ForwardMsg.FINISHED_EARLY_FOR_RERUN
            if message.script_finished == ForwardMsg.FINISHED_WITH_COMPILE_ERROR:
                self.errors.append("the script does not compile")
        elif kind == "delta" and message.delta.WhichOneof("type") == "new_element":
            self.see(message.delta.new_element)

    def see(self, element: Any) -> None:
        """Take in what is drawn: pictures by name, buttons, the place in the strip, errors."""
        kind = element.WhichOneof("type")
        drawn = getattr(element, kind)
        if kind in ("button", "plotly_chart"):
            self.widgets[drawn.id.split("-", 2)[-1]] = drawn.id
        if kind == "button":
            self.widgets[drawn.label] = drawn.id
        elif kind == "file_uploader":
            self.uploaders[drawn.label] = drawn.id
        if kind == "plotly_chart":
            self.marks.setdefault(drawn.id.split("-", 2)[-1], time.perf_counter())
        elif kind == "html":
            for mark in re.findall("lightbox-(?:tiles|verdict)", drawn.body):
                self.marks.setdefault(mark, time.perf_counter())
        elif kind == "metric":
            self.metrics[drawn.label] = int(float(drawn.body.replace(",", "")))
        elif kind == "markdown" and (place := re.fullmatch(r"(\d+) of (\d+)", drawn.body.strip())):
            self.position = int(place[1]) - 1, int(place[2])
        elif kind == "exception" or (kind == "alert" and drawn.format == Alert.ERROR):
            self.errors.append(f"{getattr(drawn, 'type', '')} {getattr(drawn, 'message', '') or drawn.body}")


@contextmanager
def opened(address: str, page: str = "", **query: Any) -> Iterator[Session]:
    """Open a link to a page, "" for the first one, in a session of its own."""
    stream = f"{address.replace('http', 'ws')}/_stcore/stream"
    with connect(stream, subprotocols=["streamlit"], max_size=None, open_timeout=60, origin=address) as socket:
        yield Session(socket, urlencode(query, doseq=True), page)
