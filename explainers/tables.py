"""Tables that people take along as CSV files and open in a spreadsheet. Free of torch."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

#: What a spreadsheet would take for the beginning of a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Write a table as CSV in UTF-8, its texts quoted so that no spreadsheet computes them (OWASP, CSV injection)."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([quote(cell) for cell in row] for row in rows)
    return file.getvalue().encode()


def quote(cell: Any) -> Any:
    """Put an apostrophe before a text that begins as a formula does; numbers stay as they are."""
    if not isinstance(cell, str) or not _is_formula(cell):
        return cell
    with suppress(ValueError):
        float(cell)
        return cell
    return f"'{cell}"


def unquote(cell: str) -> str:
    """Take back what ``quote`` did, for a file that is read again."""
    return cell[1:] if cell.startswith("'") and _is_formula(cell) else cell


def _is_formula(cell: str) -> bool:
    return cell.lstrip("'").startswith(FORMULA)
