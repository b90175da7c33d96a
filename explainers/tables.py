"""Tables that people take along as CSV files and open in a spreadsheet. Free of torch."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

#: Where a spreadsheet may begin a cell: at the beginning of a text, and behind what it splits lines at elsewhere.
BEGINNING = r"(^|(?<=[;\t\r\n]))"

#: What a spreadsheet passes over before a formula: blanks, quotes, and signs that are not seen.
BLANK = r'[^\S;\t\r\n]|["\x00-\x08\x0e-\x1f\u200b-\u200f\u2060\ufeff]'

#: What it takes for the beginning of a formula, wide variants too; a break would begin a cell of its own.
FORMULA = r"[=+\-@＝＋－＠\t\r\n]"

TO_QUOTE = re.compile(f"{BEGINNING}(?='*(?:{BLANK})*{FORMULA})")
TO_UNQUOTE = re.compile(f"{BEGINNING}'(?='*(?:{BLANK})*{FORMULA})")

NUMBER = re.compile(r"[+-]?\d+(\.\d*)?(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def write_csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Write a table as CSV in UTF-8, its texts quoted so that no spreadsheet computes them (OWASP, CSV injection)."""
    lines: list[str] = []
    writer = csv.writer(SimpleNamespace(write=lines.append), lineterminator="\r\n")  # which quotes cells with either
    writer.writerow(map(quote, header))
    for first, *others in rows:
        # A spreadsheet that splits at semicolons takes a line for one cell, so a number must not begin it as a text.
        writer.writerow([_quote_always(first) if isinstance(first, str) else first, *map(quote, others)])
    text = "".join(line.removesuffix("\r\n") + "\n" for line in lines)
    return text.encode(errors="replace")  # halves of letters cannot be written


def quote(cell: Any) -> Any:
    """Put an apostrophe wherever a cell of a spreadsheet could begin with a formula; numbers stay as they are."""
    return cell if not isinstance(cell, str) or NUMBER.fullmatch(cell) else _quote_always(cell)


def _quote_always(text: str) -> str:
    return TO_QUOTE.sub("'", text)


def unquote(cell: str) -> str:
    """Take back what ``quote`` did, for a file that is read again."""
    return TO_UNQUOTE.sub("", cell)
