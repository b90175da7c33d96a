"""The server as a whole: what is told of it besides the pages, and what every request goes through."""

from __future__ import annotations

from starlette.middleware import Middleware
from starlette.routing import Route

from components.arrivals import Arrivals
from components.policy import Policy
from components.server.door import Door
from components.server.health import tell_health
from components.server.life import live
from components.server.login import log_in
from components.server.metrics import tell_metrics

#: What Streamlit's server is made with, beside the script that it runs for each session; requests go through the
#: layers in this order.
SERVER = {
    "lifespan": live,
    "routes": [Route("/healthz", tell_health), Route("/metrics", tell_metrics), Route("/login", log_in)],
    "middleware": [Middleware(Policy), Middleware(Door), Middleware(Arrivals)],
}
