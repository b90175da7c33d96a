"""The app with one more address, at which tests read what uploads are alive in its memory."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from streamlit.runtime import get_instance

from app import app as real
from components import belongings, holdings
from explainers.images import Attachment, Picture

ROOT = Path(__file__).parent.parent


def is_upload(thing: Any) -> bool:
    """Whether something is a picture, table or model that somebody uploaded."""
    kind = type(thing)
    if kind is Picture:
        return bool(thing.private)
    return kind is Attachment or (kind.__name__ == "Model" and bool(thing.info.private))


def look(request: Request) -> JSONResponse:
    """Count uploads in memory, their files and their bytes, without collecting any garbage."""
    uploads = [thing for thing in gc.get_objects() if is_upload(thing)]
    files: dict[str, dict[str, Any]] = get_instance().uploaded_file_mgr.file_storage  # type: ignore[attr-defined]
    return JSONResponse(
        {
            "pictures": sum(type(thing) is Picture for thing in uploads),
            "models": sum(type(thing).__name__ == "Model" for thing in uploads),
            "tables": sum(type(thing) is Attachment for thing in uploads),
            "files": sum(map(len, files.values())),
            "held": holdings.budget().held(),
            "sessions": len(belongings._sessions),
            "resident": int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
            "process": os.getpid(),
        }
    )


# Nobody comes back in these tests.
belongings.GRACE, belongings.BEAT, belongings.ECHO = 1.0, 0.5, 4.0

app = st.App(str(ROOT / "app.py"), middleware=real._user_middleware, routes=[Route("/watched", look)])
