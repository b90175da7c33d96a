"""A computation that breaks down: a sentence for the person at the screen, all that is known for the log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from explainers.errors import ComputationError, LightboxError

#: How a note on an error begins that names the operator of the model that failed.
OPERATOR = "operator "

#: How libraries say in their own errors that memory was refused.
REFUSED = ("allocate", "out of memory", "not enough memory", "bad_alloc")

log = logging.getLogger(__name__)


@contextmanager
def telling_breakdown(what: str) -> Iterator[None]:
    """Turn whatever fails in a computation into a ComputationError, and write it to the log with its traceback.

    ``what`` names the computation. Errors of Lightbox pass. The sentence quotes neither the error nor the file.
    """
    try:
        yield
    except LightboxError:
        raise
    except Exception as error:
        log.exception("%s broke down", what)
        raise ComputationError(describe(what, error)) from error


def describe(what: str, error: Exception) -> str:
    """Say in two sentences why a computation has no result, and what to do."""
    notes = [note.removeprefix(OPERATOR) for note in getattr(error, "__notes__", ()) if note.startswith(OPERATOR)]
    if isinstance(error, MemoryError) or any(word in str(error).lower() for word in REFUSED):
        place = f" (at the operator {notes[0]})" if notes else ""
        return (
            f"{what}: the server's memory did not suffice{place}. Try again when less is computed, with fewer steps or "
            "a smaller model."
        )
    if notes:
        return (
            f"{what}: the model's operator {notes[0]} cannot be computed on this picture ({type(error).__name__}). "
            "Check that the model runs on a picture of the size that its page names, or choose another method."
        )
    return (
        f"{what}: this ended in an error that was not expected ({type(error).__name__}). Choose another method or "
        "picture; who runs the server finds the details in its log."
    )


def strip(error: BaseException) -> None:
    """Take the places away where errors were raised, which would keep every value there in memory with the error."""
    seen, stack = set[int](), [error]
    while stack:
        one = stack.pop()
        if id(one) not in seen:
            seen.add(id(one))
            one.__traceback__ = None
            stack += [other for other in (one.__cause__, one.__context__) if other is not None]
