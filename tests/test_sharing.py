"""Many sessions at once on the real server: each result is computed once.

The sessions speak the app's own protocol, as a browser does, without drawing anything: twenty browsers would keep two
cores busy with drawing for minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

import numpy as np
import pytest
from PIL import Image
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect

from tests.conftest import running_app

SESSIONS = 20


def visit(address: str, complete: Callable[[list[ForwardMsg]], bool], page: str = "", **link: str) -> list[ForwardMsg]:
    """Open a session at a link and stay until what was sent is complete; returns it."""
    messages = []
    socket = f"{address.replace('http', 'ws')}/_stcore/stream"
    with connect(socket, subprotocols=["streamlit"], max_size=None, origin=address) as session:
        wish = BackMsg()
        wish.rerun_script.query_string = urlencode(link)
        wish.rerun_script.page_name = page
        session.send(wish.SerializeToString())
        while not complete(messages):
            message = ForwardMsg.FromString(session.recv(timeout=120))
            messages.append(message)
            if timer := message.auto_rerun.fragment_id:  # a browser comes back so to look at progress
                again = BackMsg()
                again.rerun_script.CopyFrom(wish.rerun_script)
                again.rerun_script.fragment_id = timer
                again.rerun_script.is_auto_rerun = True
                session.send(again.SerializeToString())
    return messages


def has_heatmap(messages: list[ForwardMsg]) -> bool:
    return any('"type":"heatmap"' in message.delta.new_element.plotly_chart.spec for message in messages[-1:])


def figures(messages: list[ForwardMsg]) -> dict[str, str]:
    metrics = [message.delta.new_element.metric for message in messages]
    return {metric.label: metric.body for metric in metrics if metric.label}


def counters(address: str) -> dict[str, str]:
    """Read the figures of the page of activity."""
    return figures(visit(address, lambda messages: len(figures(messages)) == 9, "activity"))


@pytest.fixture(scope="module", params=[3, pytest.param(10, marks=pytest.mark.exhaustive)])
def pictures(request: pytest.FixtureRequest) -> int:
    """How many pictures the server has."""
    return request.param


@pytest.fixture(scope="module")
def address(pictures: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("sharing")
    data = folder / "pictures"
    data.mkdir()
    for number in range(pictures):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).resize((256, 256)).save(data / f"{number}.png")
    with running_app(folder, LIGHTBOX_DATA=str(data)) as address:
        yield address


def test_the_first_visit_to_a_fresh_server_may_be_to_any_page(address: str):
    visit(
        address, lambda messages: any(m.delta.new_element.heading.body == "Bring your own" for m in messages), "model"
    )


def test_twenty_sessions_that_ask_for_the_same_views_cause_one_computation_of_each(address: str, pictures: int):
    with ThreadPoolExecutor(SESSIONS) as people:
        for number in range(pictures):
            link = {"source": "Folder", "image": f"{number}.png"}
            visits = [people.submit(visit, address, has_heatmap, **link) for _ in range(SESSIONS)]
            assert all(done.result() for done in visits)
    counted = counters(address)
    assert counted["Heatmaps computed"] == counted["Predictions computed"] == str(pictures)
    assert counted["Backward passes"] == str(pictures)
    assert int(counted["Answered without computing"].replace(",", "")) >= (SESSIONS - 1) * pictures
