"""Uploaded models, opened in a process of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from explainers.proposal import Proposal

if TYPE_CHECKING:
    from explainers.graph.model import Model


def prepare_upload() -> None:
    """Start the process that will open the next uploaded model, so that it is ready when the file comes."""
    from explainers.graph.sandbox import prepare

    prepare()


def propose(
    data: bytes, file_name: str, architecture: str | None = None, waiting: Callable[[], object] = lambda: None
) -> Proposal:
    """Look at an uploaded model file in a process of its own, with an architecture or the best guess.

    ``waiting`` is called meanwhile, and may raise to stop it. Raises ModelError.
    """
    from explainers.graph.sandbox import propose

    return propose(data, file_name, architecture, waiting)


def load(data: bytes, file_name: str, waiting: Callable[[], object] = lambda: None, **given: Any) -> Model:
    """Make a Model of an uploaded file in a process of its own, see ``explainers.graph.loader.load``.

    ``waiting`` is called meanwhile, and may raise to stop it. Raises ModelError.
    """
    from explainers.graph.sandbox import load

    return load(data, file_name, given, waiting)


def read_class_names(data: bytes, file_name: str) -> tuple[str, ...]:
    """Read class names from a text, CSV or JSON file; raises ModelError."""
    from explainers.graph.class_names import read_class_names

    return read_class_names(data, file_name)
