"""What `streamlit run` serves beside the pages, and what every request goes through on its way to them."""

from __future__ import annotations

import sys
from typing import Any

from starlette.middleware import Middleware
from starlette.routing import Route

from components.policy import Policy
from components.server import hosts
from components.server.door import METRICS, Door
from components.server.health import tell_health
from components.server.life import live
from components.server.login import log_in
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
    return {
        "lifespan": live,
        "routes": [Route("/healthz", tell_health), Route(METRICS, tell_metrics), Route("/login", log_in)],
        "middleware": [Middleware(part) for part in (Policy, Door, *inner)],
    }
