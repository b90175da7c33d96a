"""The process that opens one uploaded file and ends: ``python -m explainers.graph.worker SOCKET``."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

from explainers.confinement import limit
from explainers.errors import LightboxError
from explainers.graph import loader
from explainers.graph.stored import frozen, pack
from explainers.preprocessing import Preprocessing


def main() -> None:
    """Receive a request and a file, answer with the outcome and a model."""
    connection = Connection(int(sys.argv[1]))
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
    settings = frozen(request["settings"])
    if request["call"] == "propose":
        return asdict(loader.propose(data, request["file_name"], **settings)), b""
    if settings.get("preprocessing"):
        settings["preprocessing"] = Preprocessing(**frozen(settings["preprocessing"]))
    return {}, pack(loader.load(data, request["file_name"], **settings))


if __name__ == "__main__":
    main()
