"""Whether the server can do its work, for whoever watches over it: a few checks, without names or places."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from tempfile import TemporaryFile

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from explainers import under_way
from explainers.cache import shared_cache
from explainers.errors import LightboxError
from explainers.notes import shared_notes
from explainers.settings import settings

#: For how many seconds what was found is told again: who asks often must not keep the disk busy.
FRESH = 2.0

_found: tuple[float, Mapping[str, str]] = (-FRESH, {})
_lock = threading.Lock()


async def tell_health(request: Request) -> Response:
    """Answer 200 if all is well, else 503, with each check and what is wrong."""
    checks = await run_in_threadpool(check)
    well = all(found == "ok" for found in checks.values())
    body = {"status": "ok" if well else "failing", "checks": dict(checks)}
    return JSONResponse(body, 200 if well else 503, {"Cache-Control": "no-store"})


def check() -> Mapping[str, str]:
    """Check all, unless that was done a moment ago; says "ok" or what is wrong."""
    global _found
    with _lock:
        if time.monotonic() - _found[0] >= FRESH or under_way.is_ending():
            _found = (time.monotonic(), {name: _try(call) for name, call in CHECKS.items()})
        return _found[1]


def _try(call: Callable[[], str]) -> str:
    try:
        return call()
    except (OSError, LightboxError) as error:
        return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "cannot be used"


def _check_running() -> str:
    return "stopping" if under_way.is_ending() else "ok"


def _check_cache() -> str:
    settings().cache.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=settings().cache) as file:
        file.write(b"lightbox")
        file.flush()
    return "ok"


def _check_notes() -> str:
    shared_notes().concept_names("")
    return "ok"


def _check_workers() -> str:
    shared_cache()
    alive = any(thread.name.startswith("worker") for thread in threading.enumerate())
    return "ok" if alive else "no worker is alive"


CHECKS = {
    "running": _check_running,
    "cache folder": _check_cache,
    "notes": _check_notes,
    "workers": _check_workers,
}
