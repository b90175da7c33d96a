"""What happened on this server: a line of JSON for each event, and how often each was, without any name.

A line says what, when, of which kind, and how long it took: never whose, about which file, model or picture. Free of
torch.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections import Counter

from explainers.errors import SettingError
from explainers.settings import settings

#: Of which events there are lines, from all to none.
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "off": logging.CRITICAL}

_log = logging.getLogger("lightbox")
_log.handlers, _log.propagate = [logging.NullHandler()], False  # until a server wants lines
_counts: Counter[tuple[str, str]] = Counter()
_lock = threading.Lock()


class _Line(logging.Formatter):
    """One event as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        line = {"time": when, "level": record.levelname.lower(), "event": record.msg}
        return json.dumps(line | getattr(record, "facts", {}))


def write_lines() -> None:
    """Write events to the standard error stream from now on, as the setting says; raises SettingError."""
    level = settings().log.lower()
    if level not in LEVELS:
        raise SettingError(f"The setting 'log' is '{level}'; {', '.join(LEVELS)} are possible. Change it.")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line())
    _log.handlers = [handler]
    _log.setLevel(LEVELS[level])


def tell(event: str, kind: str = "", level: int = logging.INFO, **figures: float) -> None:
    """Count an event and write its line; ``kind`` is one of a few words, such as the name of an error."""
    with _lock:
        _counts[event, kind] += 1
    facts = ({"kind": kind} if kind else {}) | {name: round(value, 3) for name, value in figures.items()}
    _log.log(level, event, extra={"facts": facts})


def counts() -> dict[tuple[str, str], int]:
    """How often each event was, by event and kind."""
    with _lock:
        return dict(_counts)
