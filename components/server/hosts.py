"""The names by which browsers know this server, and the pages that may speak to it: its own alone.

A name that is not known means that another site's name was made to point here (DNS rebinding): its pages would count as
ours. What a proxy says about other names (X-Forwarded-Host) is not believed, for everybody can say it.
"""

from __future__ import annotations

import re
from functools import cache
from ipaddress import ip_address

from explainers.errors import SettingError
from explainers.settings import settings

#: What a browser on the same machine calls it.
LOCAL = ("localhost", "127.0.0.1", "[::1]")

#: A host as browsers write it: a name, an address of IPv4 or, in brackets, of IPv6. A dot may end a name.
HOST = re.compile(r"(?:\[(?P<six>[\da-f:.]+)\]|(?P<name>[\w-]+(?:\.[\w-]+)*)\.?)(?::(?P<port>\d{1,5}))?", re.A | re.I)
ORIGIN = re.compile(r"(?P<scheme>https?)://(?P<host>[^/?#@\\\s]+)", re.A | re.I)

#: The ports that browsers leave out.
PORTS = {"http": 80, "https": 443}


def is_known(host: str) -> bool:
    """Tell whether a Host header names this server; its port may be any, for a proxy may have another."""
    parts = split_host(host)
    return parts is not None and parts[0] in known_names()


def is_own(origin: str, host: str) -> bool:
    """Tell whether an Origin header names the very server that the Host header names, with the same port."""
    found, asked = ORIGIN.fullmatch(origin), split_host(host)
    sender = split_host(found["host"]) if found else None
    if found is None or sender is None or asked is None:  # "null" among others
        return False
    port = PORTS[found["scheme"].lower()]
    return (sender[0], sender[1] or port) == (asked[0], asked[1] or port)


def split_host(host: str) -> tuple[str, int | None] | None:
    """Read a host's name, in the one way in which it is written here, and its port; None for anything else."""
    found = HOST.fullmatch(host)
    if found is None:
        return None
    port = int(found["port"]) if found["port"] else None
    if found["six"] is None:
        return found["name"].lower(), port
    try:
        return f"[{ip_address(found['six']).compressed}]", port
    except ValueError:
        return None


def known_names() -> frozenset[str]:
    """The names by which this server is known; raises SettingError."""
    return _read_names(settings().hosts)


@cache
def _read_names(text: str) -> frozenset[str]:
    return frozenset((*LOCAL, *(_read_name(name) for part in text.split(",") if (name := part.strip()))))


def _read_name(name: str) -> str:
    try:
        parts = split_host(name if name.startswith("[") else name.encode("idna").decode())
    except UnicodeError:
        parts = None
    if parts is None or parts[1] is not None:
        raise SettingError(
            f"The setting 'hosts' names '{name}'; names as in lightbox.example.org were expected, with commas between "
            "them, without https:// or a port. Change it."
        )
    return parts[0]
