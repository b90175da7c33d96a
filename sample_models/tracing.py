"""Sample models traced in a process of its own: that takes seconds in which no page of a server could be drawn."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

from sample_models import models

#: How often it is looked whether a model is there, in seconds.
BEAT = 0.1

_tracer: subprocess.Popen[bytes] | None = None
_lock = threading.Lock()


def prepare(name: str) -> None:
    """Wait until a model can be opened at once; where its process ends without it, whoever opens it traces it."""
    model = models()[name]
    while not model.is_kept() and start(name).poll() is None:
        time.sleep(BEAT)


def start(first: str) -> subprocess.Popen[bytes]:
    """Have all models traced, one of them first; once for this process."""
    global _tracer
    with _lock:
        if _tracer is None:
            command = [sys.executable, "-W", "ignore", "-m", "sample_models", "keep", first]
            _tracer = subprocess.Popen(
                command, cwd=Path(__file__).parents[1], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
        return _tracer
