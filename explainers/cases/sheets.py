"""Tables that come with pictures, from CSV, Excel and Parquet, as texts. Free of torch."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from typing import Any

import numpy as np
import pandas as pd

from explainers.errors import TableError
from explainers.images import Attachment
from explainers.images.picture import DECODER_ERRORS
from explainers.labels import compose
from explainers.texts import decode_text

#: Bounds on a table: its file, what is unpacked from it, and what it holds.
MAX_BYTES, UNPACKED = 64 << 20, 256 << 20
ROWS, COLUMNS, CELLS = 1_000_000, 2_000, 10_000_000

#: What separates the cells of a text, where that is not said; and how many rows tell which one it is.
SEPARATORS, LOOKED_AT = (",", ";", "\t", "|"), 50

#: How files of old Excel begin, and those that are locked with a password.
COMPOUND = b"\xd0\xcf\x11\xe0"

#: How numbers are written that are no codes, and with a comma before the decimals.
NUMBER = r"[+-]?(?:(?:0|[1-9]\d{0,14})(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,2})?"
COMMA_NUMBER = r"[+-]?\d+(?:,\d+)?"

#: Cells that say that there is no value.
MISSING = frozenset(["", "na", "n/a", "nan", "null", "none", "-", "?", "<na>"])

PICTURE = r"(?i)\S.*\.(?:png|jpe?g|tiff?|webp|bmp|gif|dcm|dicom|heic|heif|avif|jxl|jp2)"


def read_tables(attachment: Attachment) -> dict[str, pd.DataFrame]:
    """Read the tables in a file by their names: one of a text or Parquet file, of Excel one a sheet.

    All cells are texts, "" where there is none; formulas are what they last gave. Columns have different names. Raises
    TableError.
    """
    name, data = attachment.name, attachment.data
    if len(data) > MAX_BYTES:
        raise TableError(f"{name} has {len(data):,} bytes; at most {MAX_BYTES:,} are read of a table. Split it.")
    if data.startswith(COMPOUND):
        raise TableError(f"{name} is an old Excel file, or locked with a password. Save it as .xlsx without one.")
    if data.startswith(b"PAR1"):
        return {name: read_parquet(data, name)}
    if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
        return read_records(data, name)
    if data.startswith(b"PK"):
        sheets = read_workbook(data, name)
        return {name if len(sheets) == 1 else f"{name} · {sheet}": table for sheet, table in sheets.items()}
    return {name: read_text(data, name)}


@contextmanager
def parsing(name: str, kind: str) -> Iterator[None]:
    """Turn what a library raises into a TableError without its words, which may quote cells."""
    from openpyxl.utils.exceptions import InvalidFileException

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (*DECODER_ERRORS, csv.Error, InvalidFileException):
            raise TableError(f"{name} begins like {kind} but cannot be read. Save it anew, as CSV in UTF-8.") from None


def read_text(data: bytes, name: str) -> pd.DataFrame:
    """Read a text with a separator between cells, whichever it is; raises TableError."""
    text = decode_text(data)
    if text is None:
        raise TableError(f"{name} is no text in UTF-8 and no table that is known. Save it as CSV in UTF-8.")
    text = unicodedata.normalize("NFC", text)
    said = re.match(r"sep=(.)\r?\n", text)
    text = text[said.end() :] if said else text
    separator = said[1] if said else guess_separator(text)
    with parsing(name, "a table"):
        table = make_table(take(csv.reader(io.StringIO(text, newline=""), delimiter=separator), name), name)
    return point_decimals(table) if separator == ";" else table


def guess_separator(text: str) -> str:
    """Tell what separates the cells of a text: what gives most rows the same number of cells, then more of them."""
    head = text[: 1 << 16]
    if len(head) < len(text):
        head = head[: head.rfind("\n") + 1] or head

    def rate(separator: str) -> tuple[float, int]:
        try:
            rows = [row for row in csv.reader(io.StringIO(head, newline=""), delimiter=separator) if any(row)]
        except csv.Error:
            return 0.0, 0
        widths = np.array([len(row) for row in rows[:LOOKED_AT]])
        usual = int(np.bincount(widths).argmax()) if len(widths) else 0
        return (float((widths == usual).mean()), usual) if usual > 1 else (0.0, 0)

    best = max(SEPARATORS, key=rate)
    return best if rate(best)[1] or rate(" ")[0] < 1 else " "


def point_decimals(table: pd.DataFrame) -> pd.DataFrame:
    """Write numbers with a point where all of a column have commas for it, as between semicolons."""
    for name, column in table.items():
        if column[column != ""].str.fullmatch(COMMA_NUMBER).all() and column.str.contains(",").any():
            table[name] = column.str.replace(",", ".")
    return table


def read_workbook(data: bytes, name: str) -> dict[str, pd.DataFrame]:
    """Read the sheets of an Excel file that hold a table; raises TableError."""
    from openpyxl import load_workbook

    with parsing(name, "an Excel file"):
        entries = zipfile.ZipFile(io.BytesIO(data)).infolist()
        if sum(entry.file_size for entry in entries) > UNPACKED:
            raise TableError(f"{name} holds more than {UNPACKED:,} bytes when unpacked. Save it as CSV, or split it.")
        if not any(entry.filename.lower().startswith("xl/") for entry in entries):
            raise TableError(f"{name} is a zip archive but no Excel file. Save the table as .xlsx or CSV.")
        book = load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
        found, cells = dict[str, pd.DataFrame](), 0
        for sheet in book.worksheets:
            sheet.reset_dimensions()  # else rows are as long as the file says, whatever they hold
            rows = take(sheet.iter_rows(values_only=True), name, cells)
            cells += sum(map(len, rows))
            table = make_table(rows, name)
            if len(table) and sheet.sheet_state == "visible":
                found[sheet.title] = table
        return found


def read_records(data: bytes, name: str) -> dict[str, pd.DataFrame]:
    """Read JSON that is a list of records, or has a record a line, as a table; none for other JSON.

    Raises TableError.
    """
    text = decode_text(data) or ""
    with parsing(name, "JSON"):
        try:
            records = json.loads(text)
        except ValueError:
            records = [json.loads(line) for line in text.splitlines() if line.strip()]
    if not isinstance(records, list) or not records or not all(isinstance(record, dict) for record in records):
        return {}
    titles = list(dict.fromkeys(title for record in records for title in record))
    rows = [[flatten(record.get(title)) for title in titles] for record in records]
    return {name: make_table(take([titles, *rows], name), name)}


def flatten(value: object) -> object:
    """Write several values of a record as one with "|" between them; what is nested deeper is left out."""
    if isinstance(value, list):
        return (
            "|".join(write_cell(one) for one in value) if not any(isinstance(one, list | dict) for one in value) else ""
        )
    return None if isinstance(value, dict) else value


def read_parquet(data: bytes, name: str) -> pd.DataFrame:
    """Read the plain columns of a Parquet file; raises TableError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with parsing(name, "a Parquet file"):
        described = pq.ParquetFile(io.BytesIO(data))
        schema = described.schema_arrow
        plain = [field.name for field in schema if not pa.types.is_nested(field.type) and not is_binary(field.type)]
        words = [field.name for field in schema if pa.types.is_string(field.type)]
        parts = [described.metadata.row_group(index) for index in range(described.metadata.num_row_groups)]
        check_bounds(name, described.metadata.num_rows, len(plain))
        if sum(part.total_byte_size for part in parts) > UNPACKED:
            raise TableError(f"{name} holds more than {UNPACKED:,} bytes when unpacked. Save it as CSV, or split it.")
        # Texts that repeat are kept once until it is known how long they are together.
        source = pq.ParquetFile(io.BytesIO(data), read_dictionary=words)
        batches = list(source.iter_batches(columns=plain))
        check_length(name, batches)
        table = pa.Table.from_batches(batches, source.schema_arrow.empty_table().select(plain).schema)
        texts = [write_column(column) for column in table.columns]
    return pd.DataFrame(dict(enumerate(texts))).set_axis(name_columns(plain), axis=1)


def is_binary(kind: Any) -> bool:
    """Whether a column of Parquet holds bytes."""
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def check_length(name: str, batches: Sequence[Any]) -> None:
    """Raise TableError if the texts of a Parquet file were longer together than what is read of a table."""
    import pyarrow as pa
    import pyarrow.compute as pc

    total = 0
    for batch in batches:
        for column in batch.columns:
            if pa.types.is_dictionary(column.type) and len(column):
                lengths = pc.binary_length(column.dictionary)
                total += pc.sum(lengths.take(column.indices.drop_null())).as_py() or 0
    if total > UNPACKED:
        raise TableError(f"{name} holds more than {UNPACKED:,} bytes when unpacked. Save it as CSV, or split it.")


def write_column(column: Any) -> pd.Series[Any]:
    """Write the values of a column of Parquet as texts."""
    import pyarrow as pa

    if pa.types.is_floating(column.type):
        return pd.Series([write_cell(value) for value in column.to_pylist()], dtype="str")
    return pd.Series(column.cast(pa.string()).to_pylist(), dtype="str").fillna("").str.normalize("NFC").str.strip()


def take(rows: Iterable[Sequence[Any]], name: str, cells: int = 0) -> list[list[str]]:
    """Take the rows of a table as texts, without blank ones; raises TableError if they are too many."""
    found: list[list[str]] = []
    for row in rows:
        cells += len(row)
        check_bounds(name, len(found) + 1, len(row))
        written = [write_cell(value) for value in row]
        if cells > CELLS:
            raise TableError(f"{name} has more than {CELLS:,} cells. Split the table, or leave out columns.")
        if any(written):
            found.append(written)
    return found


def check_bounds(name: str, rows: int, columns: int) -> None:
    """Raise TableError for a table that is too large."""
    if rows > ROWS or columns > COLUMNS or rows * columns > CELLS:
        raise TableError(
            f"{name} has more than {ROWS:,} rows, {COLUMNS:,} columns or {CELLS:,} cells. Split the table, or leave "
            "out columns."
        )


def write_cell(value: Any) -> str:
    """Write a value as text: whole numbers without decimals, nothing for what is no number."""
    if isinstance(value, str):
        return compose(value)
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else str(value)
    if isinstance(value, datetime) and value.time() == time():
        return value.date().isoformat()
    return value.isoformat() if isinstance(value, date | time) else str(value)


def make_table(rows: list[list[str]], name: str) -> pd.DataFrame:
    """Make a table of rows, the first of which have titles."""
    width = max(map(len, rows), default=0)
    check_bounds(name, len(rows), width)
    rows = rows[find_titles(rows) :]
    untitled = any(re.fullmatch(PICTURE, cell) for cell in rows[0]) if rows else True
    titles, body = ([], rows) if untitled else (rows[0], rows[1:])
    padded = [row + [""] * (width - len(row)) for row in body]
    table = pd.DataFrame(padded, columns=range(width), dtype="str")
    titles = [*titles, *[""] * (width - len(titles))]
    kept = [place for place in range(width) if titles[place] or (table[place] != "").any()]
    named = dict(zip(range(width), name_columns(titles), strict=True))
    return table[kept].rename(columns=named)


def find_titles(rows: Sequence[Sequence[str]]) -> int:
    """Find the row of titles: the first one that is not much shorter than those that follow.

    What stands above it, such as what the table is about, has text in its first cell alone or in few cells.
    """
    filled = [sum(map(bool, row)) for row in rows[:LOOKED_AT]]
    most = max(filled, default=0)
    for place, (row, count) in enumerate(zip(rows, filled, strict=False)):
        alone = count == 1 and bool(row[0]) and most > 1
        if count * 2 >= most and not alone:
            return place
    return 0


def name_columns(titles: Sequence[str]) -> list[str]:
    """Give columns names that are not empty and all different."""
    found: list[str] = []
    taken = set(titles)
    for place, title in enumerate(titles):
        name = title or f"column {place + 1}"
        number = 2
        while name in found or (not title and name in taken):
            name, number = f"{title or f'column {place + 1}'} ({number})", number + 1
        found.append(name)
    return found


def as_numbers(column: pd.Series[Any]) -> pd.Series[Any]:
    """Make numbers of a column of texts if all that it holds are numbers, and no codes such as 007; else leave it."""
    empty = column.str.casefold().isin(MISSING)
    if empty.all() or not column[~empty].str.fullmatch(NUMBER).all():
        return column
    return pd.to_numeric(column.where(~empty, None), errors="coerce")
