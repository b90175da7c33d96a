"""The tapes of the pictures that people look at now, so that the next question about one needs no forward pass.

Free of torch at import.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from explainers.relevance.tape import Tape

#: Bytes that all tapes together may hold.
LIMIT = 512 << 20


@dataclass
class _Slot:
    """A tape that is there or is being recorded, by whoever holds the lock."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    tape: Tape | None = None


class Tapes:
    """Tapes by model and picture, in memory alone; the least recently used leave first when bytes exceed the limit.

    Safe to use from any thread; a tape asked for by several is recorded once. Whoever works on a tape that leaves
    keeps it until the end. One that alone exceeds the limit is not kept.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self._slots: OrderedDict[tuple[str, ...], _Slot] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[str, ...], record: Callable[[int], Tape]) -> Tape:
        """Find the tape of a key or record it, within the given bytes."""
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
            self._slots.move_to_end(key)
        with slot.lock:
            tape = slot.tape = slot.tape or record(self.limit)
        self._trim(key)
        return tape

    def forget(self, part: str) -> None:
        """Drop every tape that has this, the digest of a model or a picture, in its key."""
        with self._lock:
            for key in [key for key in self._slots if part in key]:
                del self._slots[key]

    @property
    def bytes(self) -> int:
        """The bytes that all tapes hold at this moment; they grow with the questions asked of them."""
        return sum(slot.tape.bytes for slot in list(self._slots.values()) if slot.tape)

    def _trim(self, key: tuple[str, ...]) -> None:
        with self._lock:
            slot = self._slots.get(key)
            if slot and slot.tape and slot.tape.bytes > self.limit:
                del self._slots[key]
            while self._slots and self.bytes > self.limit:
                self._slots.popitem(last=False)


#: The tapes of this process.
TAPES = Tapes()
