"""What people write down: names of concepts and tags of samples, kept with author and date and never lost.

Every note is added to what was said before, so two people who write at once both keep theirs, and the history of a
name stays. The file is an SQLite database that many threads and processes share. Free of torch.
"""

from __future__ import annotations

import csv
import io
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from functools import cache as remember
from pathlib import Path
from typing import Any

from filelock import FileLock

from explainers.errors import NotesError
from explainers.info import Layer
from explainers.settings import settings
from explainers.tables import unquote, write_csv

#: The longest name, tag or author, in characters.
LONGEST = 120

#: How long a writer waits for others to finish, in seconds.
PATIENCE = 30

SCHEMA = """
CREATE TABLE IF NOT EXISTS names (model TEXT, layer TEXT, concept INTEGER, name TEXT, author TEXT, date TEXT,
    UNIQUE (model, layer, concept, name, author, date));
CREATE TABLE IF NOT EXISTS tags (sample TEXT, tag TEXT, holds INTEGER, author TEXT, date TEXT);
CREATE INDEX IF NOT EXISTS tags_of_sample ON tags (sample, tag, date);
"""

_opening = threading.Lock()


@dataclass(frozen=True)
class ConceptName:
    """What a person called a concept of a model (its digest); an empty name takes the earlier one back."""

    model: str
    layer: str
    concept: int
    name: str
    author: str
    date: str


@dataclass(frozen=True)
class Tag:
    """A tag that a person put on a sample (its picture's digest), or took off it where ``holds`` is False."""

    sample: str
    tag: str
    holds: bool
    author: str
    date: str


@dataclass(frozen=True)
class Imported:
    """How many names of a CSV file were added, known already, or about another model and left out."""

    added: int
    known: int
    others: int


def shared_notes() -> Notes:
    """The notes that everybody on this server shares, in the file that the settings name; raises NotesError."""
    with _opening:
        return _open_notes()


@remember
def _open_notes() -> Notes:
    return Notes(settings().notes or settings().cache / "notes.sqlite")


class Notes:
    """Notes in a file, or with ``path`` None in memory: for models that nobody but one session may know of.

    A note is on disk when the call that wrote it returns. A damaged file is set aside under another name and never
    written to; ``damage`` then says so in a sentence. Raises NotesError if the file cannot be opened.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._lock = threading.Lock()
        self.damage = ""
        if path is None:
            self._base = _connect(":memory:")
            return
        with _telling(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{path}.lock"):  # or two processes could set aside one after the other
                try:
                    self._base = _connect(str(path))
                except sqlite3.DatabaseError as error:
                    if not _is_damage(error):
                        raise
                    self.damage = _set_aside(path)
                    self._base = _connect(str(path))

    def close(self) -> None:
        """Let go of the file."""
        self._base.close()

    def name_concept(self, model: str, layer: str, concept: int, name: str, author: str) -> ConceptName:
        """Name a concept, or with "" take its name back; raises NotesError for text that is too long or unsigned."""
        note = ConceptName(model, layer, concept, _check("name", name), _check_author(author), _now())
        self._write("INSERT INTO names VALUES (?, ?, ?, ?, ?, ?)", [astuple(note)])
        return note

    def concept_names(self, model: str) -> Mapping[tuple[str, int], ConceptName]:
        """The names of a model's concepts, by layer and concept: of each the last that was given."""
        rows = self._read("SELECT *, max(date) FROM names WHERE model = ? GROUP BY layer, concept", model)
        notes = [ConceptName(*row[:-1]) for row in rows]
        return {(note.layer, note.concept): note for note in notes if note.name}

    def history(self, model: str, layer: str, concept: int) -> list[ConceptName]:
        """All names that a concept was ever given, the last one first."""
        where = "model = ? AND layer = ? AND concept = ?"
        rows = self._read(f"SELECT * FROM names WHERE {where} ORDER BY date DESC", model, layer, concept)
        return [ConceptName(*row) for row in rows]

    def tag_samples(self, samples: Sequence[str], tag: str, author: str, holds: bool = True) -> None:
        """Put a tag on samples, or with ``holds`` False take it off, all or none; raises NotesError as names do."""
        said = (_check("tag", tag), holds, _check_author(author), _now())
        self._write("INSERT INTO tags VALUES (?, ?, ?, ?, ?)", [(sample, *said) for sample in samples])

    def tags(self, samples: Sequence[str]) -> Mapping[str, tuple[Tag, ...]]:
        """The tags that samples bear now, by sample."""
        query = "SELECT *, max(date) FROM tags WHERE sample = ? GROUP BY tag"
        return {sample: tuple(Tag(*row[:-1]) for row in self._read(query, sample) if row[2]) for sample in samples}

    def every_tag(self) -> Mapping[str, tuple[str, ...]]:
        """The words of the tags that samples bear now, by sample, of all that bear any."""
        found: dict[str, tuple[str, ...]] = {}
        for sample, tag, holds, _ in self._read("SELECT sample, tag, holds, max(date) FROM tags GROUP BY sample, tag"):
            if holds:
                found[sample] = (*found.get(sample, ()), tag)
        return found

    def import_names(self, model: str, layers: Sequence[Layer], data: bytes, author: str = "") -> Imported:
        """Take over the names of a model's layers from a CSV file, all or none; the same file twice adds nothing.

        Columns are layer, concept and name; model, author and date may be left out. Raises NotesError.
        """
        notes, others = read_names(model, layers, data)
        current = self.concept_names(model)
        undated = [note for note in notes if not note.date]
        known = [note for note in undated if note.name == getattr(current.get((note.layer, note.concept)), "name", "")]
        rows = [
            (note.model, note.layer, note.concept, note.name, note.author, note.date or _now())
            for note in notes
            if note not in known
        ]
        added = self._write("INSERT OR IGNORE INTO names VALUES (?, ?, ?, ?, ?, ?)", rows)
        return Imported(added, len(notes) - added, others)

    def _write(self, query: str, rows: Sequence[tuple[Any, ...]]) -> int:
        with self._lock, _telling(), self._base:
            self._base.execute("BEGIN IMMEDIATE")
            return self._base.executemany(query, rows).rowcount if rows else 0

    def _read(self, query: str, *values: Any) -> list[Any]:
        with self._lock, _telling():
            return self._base.execute(query, values).fetchall()


def write_names(notes: Sequence[ConceptName]) -> bytes:
    """Write names as the CSV file that ``Notes.import_names`` reads."""
    return write_csv([field.name for field in fields(ConceptName)], map(astuple, notes))


def read_names(model: str, layers: Sequence[Layer], data: bytes) -> tuple[list[ConceptName], int]:
    """Read a model's names from a CSV file, and count the rows about other models; raises NotesError."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise NotesError("The file of names is not text in UTF-8. Save it as CSV in UTF-8.") from None
    header = text.partition("\n")[0]
    table = csv.DictReader(io.StringIO(text), delimiter=";" if ";" in header else ",")
    try:
        columns, rows = table.fieldnames or (), list(enumerate(table, 2))
    except csv.Error as error:
        raise NotesError(f"The file of names is no table: {error}. Save it as CSV.") from None
    missing = [column for column in ("layer", "concept", "name") if column not in columns]
    if missing:
        raise NotesError(f"The file of names has no column {' and no column '.join(missing)}. Export one to compare.")
    own = [(line, row) for line, row in rows if (row.get("model") or model) == model]
    counts = {layer.name: layer.channels for layer in layers}
    return [_read_row(model, counts, line, row) for line, row in own], len(rows) - len(own)


def _read_row(model: str, counts: Mapping[str, int], line: int, row: Mapping[str, str | None]) -> ConceptName:
    texts = {field.name: unquote(row.get(field.name) or "") for field in fields(ConceptName)}
    layer, concept = texts["layer"], texts["concept"]
    if layer not in counts:
        raise NotesError(f"Line {line}: the model has no layer {layer[:60]!r} with concepts. Correct the line.")
    if not concept.isdecimal() or len(concept) > 9 or int(concept) >= counts[layer]:
        raise NotesError(f"Line {line}: {concept[:20]!r} is no concept of {layer}; it has 0 to {counts[layer] - 1}.")
    name, author = _check("name", texts["name"]), _check("author", texts["author"] or "imported")
    return ConceptName(model, layer, int(concept), name, author, _read_date(line, texts["date"]))


def _read_date(line: int, text: str) -> str:
    if not text:
        return ""
    with suppress(ValueError, OverflowError):
        date = datetime.fromisoformat(text)
        date = date.astimezone(UTC) if date.tzinfo else date.replace(tzinfo=UTC)
        if date <= datetime.now(UTC):
            return _write_date(date)
    raise NotesError(f"Line {line}: {text[:40]!r} is no past date like 2026-01-31T12:00:00Z. Correct it.")


def _now() -> str:
    return _write_date(datetime.now(UTC))


def _write_date(date: datetime) -> str:
    return date.strftime("%Y-%m-%dT%H:%M:%S.%fZ")  # of one length, so that text sorts by time


def _check(what: str, text: str) -> str:
    text = " ".join(text.split())
    if len(text) > LONGEST:
        raise NotesError(f"The {what} has {len(text)} characters; it may have {LONGEST}. Shorten it.")
    return text


def _check_author(author: str) -> str:
    if not author.strip():
        raise NotesError("A note needs an author. Say who you are, so that others can ask.")
    return _check("author", author)


def _connect(path: str) -> sqlite3.Connection:
    """Open a database that holds what it was told even if the power fails; raises DatabaseError if it is damaged."""
    base = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
    try:
        if found := [row for (row,) in base.execute("PRAGMA quick_check(1)") if row != "ok"]:
            raise sqlite3.DatabaseError(found[0])
        base.execute("PRAGMA journal_mode = WAL")
        base.execute("PRAGMA synchronous = FULL")
        base.executescript(SCHEMA)
    except sqlite3.Error:
        base.close()
        raise
    return base


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Tell a damaged file from one that is locked, full or not to be opened, which SQLite calls operational."""
    return not isinstance(error, sqlite3.OperationalError)


def _set_aside(path: Path) -> str:
    """Move a damaged file with its journal to a name with the date; returns the sentence that says so."""
    kept = path.with_name(f"{path.name}.damaged-{_now().replace(':', '-')}")
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{kept}{suffix}")
    return f"The file of notes was damaged and is kept as {kept.name}. New notes go to a new file."


@contextmanager
def _telling(path: Path | None = None) -> Iterator[None]:
    """Turn what the database or the disk says into a NotesError."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        file = f"The file {path}" if path else "The file"
        raise NotesError(f"{file} of notes cannot be used now: {error}. Earlier notes are safe; try again.") from error
