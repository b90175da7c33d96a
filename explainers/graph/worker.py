"""The process that opens one uploaded file and ends: ``python -m explainers.graph.worker SOCKET PARENT``."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from explainers.confinement import confine, end_with, limit
from explainers.errors import LightboxError
from explainers.preprocessing import Preprocessing


def main() -> None:
    """Say which walls stand, receive a request and a file, answer with the outcome and a model."""
    connection = Connection(int(sys.argv[1]))
    end_with(int(sys.argv[2]))
    walls = confine(Path(os.environ["TMPDIR"]))
    import explainers.graph.stored  # noqa: F401  # behind the walls, as torch starts threads
    from explainers.graph import loader  # noqa: F401

    connection.send_bytes(json.dumps(walls).encode())
    request, data = json.loads(connection.recv_bytes()), connection.recv_bytes()
    limit(request["memory"], request["seconds"])
    try:
        outcome, model = handle(request, data)
    except LightboxError as error:
        outcome, model = {"error": type(error).__name__, "message": str(error)}, b""
    connection.send_bytes(json.dumps(outcome).encode())
    connection.send_bytes(model)


def handle(request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    """Propose or load; returns the outcome as plain data, and the bytes of a loaded model."""
    from explainers.graph import loader
    from explainers.graph.stored import frozen, pack

    settings = frozen(request["settings"])
    if request["call"] == "propose":
        return asdict(loader.propose(data, request["file_name"], **settings)), b""
    if settings.get("preprocessing"):
        settings["preprocessing"] = Preprocessing(**frozen(settings["preprocessing"]))
    return {}, pack(loader.load(data, request["file_name"], **settings))


if __name__ == "__main__":
    main()
