"""How much memory things take, and giving back what nobody holds. Free of torch at import."""

from __future__ import annotations

import ctypes
import gc
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from explainers.images import Attachment, Picture

if TYPE_CHECKING:
    from explainers.graph.model import Model

#: Garbage is collected again only after so many seconds, and so many times the processor time that it took.
PAUSE, SHARE = 4.0, 10

_collecting = threading.Lock()
_next = 0.0


def measure(content: Picture | Attachment | Model) -> Iterator[tuple[Any, int]]:
    """List the parts that an upload holds in memory, each with its bytes; parts may be shared with other uploads."""
    if isinstance(content, Attachment):
        yield content, len(content.data)
    elif isinstance(content, Picture):
        for pixels in (content.pixels, content.bands):
            if pixels is not None:
                whole = find_whole(pixels)
                yield whole, whole.nbytes
    else:
        from explainers.graph.model import count_stored

        yield content.program, count_stored(content.tensors)


def find_whole(pixels: np.ndarray) -> np.ndarray:
    """The array whose memory a view shows."""
    while isinstance(pixels.base, np.ndarray):
        pixels = pixels.base
    return pixels


def collect(soon: bool = False) -> bool:
    """Free what nobody holds any more, which graphs and errors hold in circles; tells whether that was done.

    Everybody waits meanwhile, so it is left out shortly after the last time; ``soon`` does it all the same.
    """
    global _next
    with _collecting:
        if time.monotonic() < _next and not soon:
            return False
        start = time.thread_time()
        gc.collect()
        with suppress(AttributeError, OSError):  # elsewhere than on Linux
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        _next = time.monotonic() + max(PAUSE, SHARE * (time.thread_time() - start))
    return True


def settle() -> None:
    """Count all there is now as staying for ever, so that it is looked through no more when garbage is collected."""
    collect(soon=True)
    gc.freeze()
