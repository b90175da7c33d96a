"""Which versions of what computes the numbers are there: other ones may give other last digits. Free of torch."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version

VERSION = "0.1.0"

#: The packages that compute or resize.
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "scikit-image", "pillow", "pandas")


@cache
def versions() -> dict[str, str]:
    """The versions by name, with Lightbox's own."""
    return {name: version(name) for name in PACKAGES} | {"lightbox": VERSION}
