"""What uploads hold in memory: files, pixels, tables and models, counted for each session and for all together.

What is decoded or opened counts as long as anybody holds it. Files count as long as Streamlit keeps them.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Collection
from functools import cache
from typing import Any

from streamlit.runtime import get_instance

from explainers.errors import LimitError
from explainers.held import collect, measure
from explainers.owners import Budget
from explainers.settings import settings

#: What a file takes besides its bytes.
RECORD = 1024

_files: dict[tuple[str, str], int] = {}
_parts: set[int] = set()
#: What was freed, as (identity, bytes, session). Only noted when it is, for that may be in the middle of anything.
_freed: deque[tuple[int, int, str]] = deque()
#: What was refused as it arrived, in a sentence, until the session's page says so.
_refused: dict[str, list[str]] = {}
#: The sessions whose pages are still to be drawn anew for that.
_untold: set[str] = set()
_lock = threading.RLock()


@cache
def budget() -> Budget:
    """What uploads may hold on this server."""
    return Budget(
        "MiB of uploads (files, pictures and models)", settings().server_bytes, settings().person_bytes, 2**20
    )


def claim(amount: int, session: str) -> None:
    """Count bytes as a session's, once what is garbage by now is freed if need be; raises LimitError."""
    settle()
    try:
        budget().claim(amount, session)
    except LimitError:
        if not collect():
            raise
        settle()
        budget().claim(amount, session)


def hold(content: Any, session: str) -> None:
    """Count a picture, table or model as a session's for as long as it is in memory; raises LimitError."""
    for part, amount in measure(content):
        with _lock:
            settle()
            if id(part) in _parts:
                continue
            claim(amount, session)
            _parts.add(id(part))
        weakref.finalize(part, _freed.append, (id(part), amount, session))


def settle() -> None:
    """Give back what was freed."""
    with _lock:
        while _freed:
            part, amount, session = _freed.popleft()
            _parts.discard(part)
            budget().release(amount, session)


def keep_file(session: str, file: str, claimed: int) -> None:
    """Count a file that has arrived, of which ``claimed`` bytes are counted already, as long as it is kept."""
    with _lock:
        _files[session, file] = _files.get((session, file), 0) + claimed
    release_files(session)


def release_files(session: str) -> None:
    """Give back what a session's files take that are kept no more, and what others took when they arrived."""
    with _lock:
        claimed = {file: amount for (owner, file), amount in _files.items() if owner == session}
        kept = {one.file_id: one for one in get_instance().uploaded_file_mgr.get_files(session, list(claimed))}
        for file, amount in claimed.items():
            size = len(kept[file].data) + RECORD if file in kept else 0
            if amount > size:
                budget().release(amount - size, session)
            if size:
                _files[session, file] = min(amount, size)
            else:
                del _files[session, file]


def refuse_file(session: str, sentence: str) -> None:
    """Have a session's page say why a file was refused as it arrived."""
    with _lock:
        _refused.setdefault(session, []).append(sentence)
        _untold.add(session)


def untold() -> Collection[str]:
    """Name once the sessions whose pages are to be drawn anew to say what was refused."""
    with _lock:
        found = list(_untold)
        _untold.clear()
    return found


def refusals(session: str) -> Collection[str]:
    """Say once what was refused, each sentence once."""
    with _lock:
        return dict.fromkeys(_refused.pop(session, ()))
