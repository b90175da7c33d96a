"""Numbers as links bring them: anybody may have written these, with more digits than a number is read from."""

from __future__ import annotations

import re

#: The greatest number that is read: more than there are concepts, prototypes or pixels in a row.
MOST = 999_999_999

WHOLE = re.compile(r"-?\d+", re.ASCII)


def read_whole(text: str) -> int | None:
    """Read a whole number, as MOST where it is greater; None if it is none."""
    if not WHOLE.fullmatch(text):
        return None
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    digits = digits.lstrip("0") or "0"
    return sign * (int(digits) if len(digits) < 10 else MOST)


def read_count(text: str) -> int | None:
    """Read a whole number that is not negative; None if it is none."""
    number = read_whole(text)
    return number if number is not None and number >= 0 else None
