"""What people write down: names of concepts and tags of samples, kept with author and date and never lost.

Every note is added to what was said before, so two people who write at once both keep theirs, and the history of a
name stays. The file is an SQLite database that many threads and processes share. Free of torch.
"""

from __future__ import annotations

import csv
import errno
import io
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import astuple, dataclass, fields, replace
from datetime import UTC, datetime
from functools import cache as remember
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

from explainers.errors import NotesError
from explainers.info import Layer
from explainers.salvage import Salvage, salvage
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
DROP INDEX IF EXISTS tags_of_sample;
CREATE INDEX IF NOT EXISTS whole_tags ON tags (sample, tag, date, holds, author);
"""

#: What SQLite says where it cannot write: no right to, no place left, or no file. Primary codes of its errors.
UNWRITABLE = (sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN)

#: How an author is written who did not write a note here, but is stated by a file that somebody imported.
IMPORTED = re.compile(r"( \(imported( by .*)?\)|^imported( by .*)?)$")

T = TypeVar("T")

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


#: Reads names and counts those of other models, see ``read_names``.
ReadNames = Callable[[str, Sequence[Layer], bytes], tuple[list[ConceptName], int]]


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
    written to; what can be read of it is carried over, and ``damage`` says so in a sentence. Where the file cannot be
    written its notes are shown all the same, and ``damage`` says that. Raises NotesError if it cannot be used at all.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.damage = ""
        #: Held by who writes, or sets a damaged file aside: nobody writes into a file that somebody sets aside.
        self._turn = FileLock(f"{path}.lock", PATIENCE, thread_local=False, poll_interval=0.002) if path else None
        self._file: object = None
        self._unwritable = False
        self._base = _connect(":memory:")
        if path:
            with _telling(path):
                self._open(path)

    def close(self) -> None:
        """Let go of the file."""
        self._base.close()

    def _open(self, path: Path) -> None:
        """Open the file that lies at the path now, once it is mended, or without writing where that is impossible."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._held():
                self._take(path)
        except (OSError, sqlite3.OperationalError) as error:
            if path.is_dir() or not _is_unwritable(error):
                raise
            self.damage = f"Names and tags cannot be kept now: {error}. Ask who runs this server to make place for them"
            self.damage += f" in {path.parent}."
            self._change(_connect_for_reading(path) if path.exists() else _connect(":memory:"), path)
            self._unwritable = True

    def _take(self, path: Path) -> None:
        """Open the file at the path, setting it aside if it is damaged; the turn is held."""
        try:
            base = _connect(str(path))
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            self.damage = _set_aside(path)
            base = _connect(str(path))
        self._change(base, path)

    def _change(self, base: sqlite3.Connection, path: Path) -> None:
        self._base.close()
        self._base, self._file, self._unwritable = base, _identify(path), False

    @contextmanager
    def _held(self) -> Iterator[None]:
        with self._turn or nullcontext():
            yield

    def _follow(self) -> None:
        """Open the file anew where another process has set aside the one that was open."""
        if self._path and _identify(self._path) != self._file:
            self._open(self._path)

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

    def import_names(
        self, model: str, layers: Sequence[Layer], data: bytes, author: str = "", read: ReadNames | None = None
    ) -> Imported:
        """Take over the names of a model's layers from a CSV file, all or none; the same file twice adds nothing.

        Columns are layer, concept and name; model, author and date may be left out. What the file says of authors is
        kept as what it is: "Ada (imported by Ben)", where ``author`` is Ben. ``read`` is how the file is read if not
        in this process. Raises NotesError.
        """
        notes, others = (read or read_names)(model, layers, data)
        importer, current, before = _check("author", author), self.concept_names(model), self._read_known(model)
        new = [
            replace(note, author=sign_import(note.author, importer), date=note.date or _now())
            for note in notes
            if (_key(note) not in before)
            and (note.date or note.name != getattr(current.get((note.layer, note.concept)), "name", ""))
        ]
        added = self._write("INSERT OR IGNORE INTO names VALUES (?, ?, ?, ?, ?, ?)", [astuple(note) for note in new])
        return Imported(added, len(notes) - added, others)

    def _read_known(self, model: str) -> set[tuple[object, ...]]:
        return {_key(ConceptName(*row)) for row in self._read("SELECT * FROM names WHERE model = ?", model)}

    def _write(self, query: str, rows: Sequence[tuple[Any, ...]]) -> int:
        if not rows:
            return 0
        with self._lock, _telling():
            if self._unwritable and self._path:
                self._open(self._path)
            if self._unwritable:
                raise NotesError(self.damage)
            return self._mending(lambda: self._write_now(query, rows))

    def _write_now(self, query: str, rows: Sequence[tuple[Any, ...]]) -> int:
        while True:
            self._follow()
            with self._held():
                if self._path and _identify(self._path) != self._file:
                    continue  # it was set aside before our turn
                with self._base:
                    self._base.execute("BEGIN IMMEDIATE")
                    return self._base.executemany(query, rows).rowcount

    def _read(self, query: str, *values: Any) -> list[Any]:
        with self._lock, _telling():
            self._follow()
            return self._mending(lambda: self._base.execute(query, values).fetchall())

    def _mending(self, work: Callable[[], T]) -> T:
        """Do what needs the file; where that meets damage, once more with what can be read of the file."""
        try:
            return work()
        except sqlite3.DatabaseError as error:
            if self._path is None or not _is_damage(error):
                raise
            self._open(self._path)
            return work()


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
    name, author = _check("name", texts["name"]), _check("author", origin(texts["author"]))
    return ConceptName(model, layer, int(concept), name, author, _read_date(line, texts["date"]))


def sign_import(stated: str, importer: str) -> str:
    """Sign a note that was imported: who is said to have written it, and who imported it, "" where nobody knows."""
    how = f"imported by {importer}" if importer else "imported"
    return f"{stated} ({how})" if stated else how


def origin(author: str) -> str:
    """Who is said to have written a note, without who imported it."""
    return IMPORTED.sub("", author)


def _key(note: ConceptName) -> tuple[object, ...]:
    return (note.layer, note.concept, note.name, origin(note.author), note.date)


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
    """Open a database that holds what it was told even if the power fails; raises DatabaseError if it is damaged.

    What is committed is in the file itself: a write-ahead log beside it could be lost, or be removed by a process that
    still holds a file that was set aside.
    """
    base = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
    try:
        if found := [row for (row,) in base.execute("PRAGMA integrity_check(1)") if row != "ok"]:
            raise sqlite3.DatabaseError(found[0])
        base.execute("PRAGMA journal_mode = PERSIST")
        base.execute("PRAGMA synchronous = FULL")
        base.executescript(SCHEMA)
        for table in ("names", "tags"):  # which another program may have made
            base.execute(f"SELECT * FROM {table} LIMIT 0")
    except sqlite3.Error:
        base.close()
        raise
    return base


def _connect_for_reading(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)


def _identify(path: Path) -> object:
    """What tells a file from another one that came to lie at its place; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Tell a damaged file from one that is locked, full or not to be opened, which SQLite calls operational."""
    return type(error) is sqlite3.DatabaseError


def _is_unwritable(error: Exception) -> bool:
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in UNWRITABLE
    return isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC)


def _set_aside(path: Path) -> str:
    """Give a damaged file another name, and put in its place a new one with what can be read of it.

    Returns the sentence that says so. Whatever happens meanwhile, one of the two lies at the path.
    """
    found, fresh = salvage(path), path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    base = _connect(str(fresh))
    with closing(base), base:
        base.execute("BEGIN")
        for table, kept, marks in (("names", found.names, "?, ?, ?, ?, ?, ?"), ("tags", found.tags, "?, ?, ?, ?, ?")):
            rows = [row for number in sorted(kept) for row in sorted(kept[number])]
            base.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", rows)
    aside = path.with_name(f"{path.name}.damaged-{_now().replace(':', '-')}")
    for suffix in ("-wal", "-shm", "-journal"):
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(aside.with_name(aside.name.replace(".damaged", f"{suffix}-damaged")))
    Path(f"{fresh}-journal").unlink(missing_ok=True)  # which is empty after a commit
    try:
        aside.hardlink_to(path)
    except OSError:  # a file system without links
        path.rename(aside)
    fresh.replace(path)
    return _tell_salvage(aside.name, found)


def _tell_salvage(kept: str, found: Salvage) -> str:
    if not found.found:
        return (
            f"The file of notes was damaged and is kept as {kept}. No note in it could be read; new ones can be kept."
        )
    carried = f"{found.found:,} of at least {found.least:,} notes could be read and were carried over"
    doubt = f", {found.doubtful:,} of them in two versions that differ" if found.doubtful else ""
    return f"The file of notes was damaged and is kept as {kept}. {carried}{doubt}."


@contextmanager
def _telling(path: Path | None = None) -> Iterator[None]:
    """Turn what the database or the disk says into a NotesError."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        file = f"The file {path}" if path else "The file"
        raise NotesError(f"{file} of notes cannot be used now: {error}. Earlier notes are safe; try again.") from error
