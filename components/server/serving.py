"""What `streamlit run` serves beside the pages, and what every request goes through on its way to them."""

from __future__ import annotations

import sys
from typing import Any

from starlette.middleware import Middleware
from starlette.routing import Route

from components.policy import Policy
from components.server import hosts
from components.server.door import Door
from components.server.health import tell_health
from components.server.life import live
from components.server.login import find_place, log_in
from components.server.metrics import tell_metrics
from explainers.errors import SettingError
from explainers.events import write_lines


def serve(*inner: Any) -> dict[str, Any]:
    """What the server is made of, outermost first; ``inner`` is what requests go through within the door.

    A setting that cannot be used ends the server with a sentence.
    """
    try:
        write_lines()
        hosts.known_names()
    except SettingError as error:
        sys.exit(f"error: {error}")
    ways = {"healthz": tell_health, "metrics": tell_metrics, "login": log_in}
    return {
        "lifespan": live,
        "routes": [Route(find_place(path), answer) for path, answer in ways.items()],
        "middleware": [Middleware(part) for part in (Policy, Door, *inner)],
    }
