"""Notes: what people wrote stays, whatever happens to the process, the file or the other writer."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from explainers.errors import NotesError
from explainers.info import Layer
from explainers.notes import Imported, Notes, origin, read_names, write_names
from tests.conftest import ROOT

LAYERS = (Layer("conv1", "conv1", "Conv2d", (8, 4, 4), "channels first", (4, 4)),)

WRITER = """
import sys
from pathlib import Path
from explainers.notes import Notes
notes = Notes(Path(sys.argv[1]))
for number in range(100000):
    notes.name_concept("digest", "conv1", number % 8, f"{sys.argv[2]} {number}", sys.argv[2])
    print(number, flush=True)
"""


#: The tables of notes of an earlier version.
EARLIER = """
CREATE TABLE names (model TEXT, layer TEXT, concept INTEGER, name TEXT, author TEXT, date TEXT,
    UNIQUE (model, layer, concept, name, author, date));
CREATE TABLE tags (sample TEXT, tag TEXT, holds INTEGER, author TEXT, date TEXT);
CREATE INDEX tags_of_sample ON tags (sample, tag, date);
"""

#: A process in which no file may grow beyond a few bytes more, as on a full disk.
FULL = """
import resource, sys
from pathlib import Path
from explainers.errors import NotesError
from explainers.notes import Notes
path = Path(sys.argv[1])
notes = Notes(path)
print(notes.concept_names("digest")["conv1", 3].name)
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size,) * 2)
try:
    for number in range(100):
        notes.name_concept("digest", "conv1", 4, f"{number}" * 20, "Ben")
        written = number
except NotesError:
    print("told")
print(notes.concept_names("digest")["conv1", 4].name == f"{written}" * 20)
"""

#: A process of a user who may read the file and write nothing.
READ_ONLY = """
import os, sys
from pathlib import Path
from explainers.errors import NotesError
from explainers.notes import Notes
path = Path(sys.argv[1])
for one in path.parents:
    if "pytest" in str(one):
        one.chmod(0o755)
path.chmod(0o444)
path.parent.chmod(0o555)
if os.getuid() == 0:
    os.setuid(65534)
notes = Notes(path)
print(notes.concept_names("digest")["conv1", 3].name)
try:
    notes.name_concept("digest", "conv1", 4, "late", "Ben")
except NotesError as error:
    print("told" if "cannot be kept now" in str(error) else error)
"""


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    return Notes(tmp_path / "notes.sqlite")


def names_of(notes: Notes) -> dict[tuple[str, int], str]:
    return {place: note.name for place, note in notes.concept_names("digest").items()}


def start_writer(path: Path, author: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), author]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_a_name_is_there_with_its_author_and_date_after_a_restart(tmp_path: Path, notes: Notes):
    given = notes.name_concept("digest", "conv1", 3, "  band-aid,\n blue ", "Ada")
    again = Notes(tmp_path / "notes.sqlite")
    assert again.concept_names("digest") == {("conv1", 3): given}
    assert (given.name, given.author, given.date[:2]) == ("band-aid, blue", "Ada", "20")


def test_the_last_name_holds_and_the_earlier_ones_stay_in_the_history(notes: Notes):
    for name, author in (("hair", "Ada"), ("ruler", "Ben"), ("", "Ada")):
        notes.name_concept("digest", "conv1", 3, name, author)
        assert names_of(notes) == ({("conv1", 3): name} if name else {})
    assert [(note.name, note.author) for note in notes.history("digest", "conv1", 3)] == [
        ("", "Ada"),
        ("ruler", "Ben"),
        ("hair", "Ada"),
    ]


def test_each_model_has_names_of_its_own(notes: Notes):
    notes.name_concept("digest", "conv1", 3, "hair", "Ada")
    assert notes.concept_names("another") == {}


def test_notes_in_memory_are_seen_by_nobody_else():
    first, second = Notes(), Notes()
    first.name_concept("digest", "conv1", 3, "hair", "Ada")
    assert names_of(first)
    assert not names_of(second)


def test_a_tag_holds_until_it_is_taken_off(notes: Notes):
    notes.tag_samples(["picture"], "artifact", "Ada")
    notes.tag_samples(["picture"], "blurred", "Ben")
    assert [tag.tag for tag in notes.tags(["picture", "other"])["picture"]] == ["artifact", "blurred"]
    notes.tag_samples(["picture"], "artifact", "Ben", holds=False)
    assert {sample: [tag.tag for tag in tags] for sample, tags in notes.tags(["picture", "other"]).items()} == {
        "picture": ["blurred"],
        "other": [],
    }


def test_many_samples_are_tagged_in_one_transaction(notes: Notes):
    said: list[str] = []
    notes._base.set_trace_callback(said.append)
    notes.tag_samples([str(number) for number in range(300)], "artifact", "Ada")
    assert said.count("COMMIT") == 1
    assert len(notes.tags(["0", "299"])["299"]) == 1


@pytest.mark.parametrize(("name", "author", "told"), [("x" * 121, "Ada", "121 characters"), ("hair", " ", "author")])
def test_what_cannot_be_noted_is_told_in_a_sentence(notes: Notes, name: str, author: str, told: str):
    with pytest.raises(NotesError, match=told):
        notes.name_concept("digest", "conv1", 3, name, author)
    assert not names_of(notes)


def test_threads_that_write_at_once_all_keep_theirs(notes: Notes):
    def write(author: str) -> None:
        for number in range(20):
            notes.name_concept("digest", "conv1", number % 8, f"{author} {number}", author)

    threads = [threading.Thread(target=write, args=(author,)) for author in ("Ada", "Ben", "Cem")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(len(notes.history("digest", "conv1", concept)) for concept in range(8)) == 60


def test_notes_of_two_processes_survive_when_both_are_killed(tmp_path: Path):
    path = tmp_path / "notes.sqlite"
    writers = [start_writer(path, author) for author in ("Ada", "Ben")]
    acknowledged = {}
    for author, writer in zip(("Ada", "Ben"), writers, strict=True):
        assert writer.stdout
        while (number := int(writer.stdout.readline())) < 12:
            acknowledged[author] = number
    for writer in writers:
        writer.kill()
    for author, writer in zip(("Ada", "Ben"), writers, strict=True):
        rest, _ = writer.communicate()
        numbers = [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]
        acknowledged[author] = max([acknowledged[author] + 1, *numbers])
    kept = {note.name for concept in range(8) for note in Notes(path).history("digest", "conv1", concept)}
    assert {f"{author} {number}" for author, last in acknowledged.items() for number in range(last + 1)} <= kept


def test_a_damaged_file_is_named_and_set_aside_as_it_is(tmp_path: Path):
    path = tmp_path / "notes.sqlite"
    path.write_bytes(b"this is no database, but somebody's work " * 100)
    notes = Notes(path)
    (kept,) = tmp_path.glob("notes.sqlite.damaged-*")
    assert kept.name in notes.damage
    assert kept.read_bytes().startswith(b"this is no database")
    notes.name_concept("digest", "conv1", 3, "hair", "Ada")
    assert Notes(path).damage == ""
    assert names_of(Notes(path))


def fill(path: Path, count: int = 300) -> bytes:
    """Write a file of names and tags, some of them longer than a page; returns its bytes."""
    notes = Notes(path)
    rows = [f"conv1,{number % 8},name {number} {'ä' * (number % 80)},Ada {number % 7}\n" for number in range(count)]
    long = Layer("l" * 5000, "x", "Conv2d", (8, 4, 4), "channels first", (4, 4))
    notes.import_names("digest", LAYERS, f"layer,concept,name,author\n{''.join(rows)}".encode(), "Ben")
    notes.name_concept("digest", long.name, 1, "of a long layer", "Ada")
    notes.tag_samples([f"{number:064x}" for number in range(count)], "artifact", "Ben")
    notes.close()
    return path.read_bytes()


def kept(path: Path) -> set[str]:
    """What a file holds of names and tags, once it was opened."""
    notes = Notes(path)
    rows = notes._read(
        "SELECT name || author || date FROM names UNION SELECT sample || tag || author || date FROM tags"
    )
    notes.close()
    return {text for (text,) in rows}


def damage(path: Path, whole: bytes, data: bytes) -> tuple[int, int, int, bool]:
    """Put a damaged file in the place of a whole one: how many notes are kept, were there, are new, and if it said."""
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    path.write_bytes(whole)
    before = kept(path)
    path.write_bytes(data)
    notes = Notes(path)
    notes.close()
    after = kept(path)
    assert notes.damage == "" or data in [file.read_bytes() for file in path.parent.glob("*.damaged-*")]
    return len(before & after), len(before), len(after - before), bool(notes.damage)


def test_damage_within_a_file_is_found_when_it_is_opened_and_the_rest_is_carried_over(tmp_path: Path):
    path = tmp_path / "notes.sqlite"
    data = bytearray(fill(path))
    data[4096 : 4096 + 2000] = b"\xff" * 2000
    path.write_bytes(data)
    notes = Notes(path)
    assert "601 of at least 601 notes could be read" in notes.damage
    assert bytes(data) == next(tmp_path.glob("*.damaged-*")).read_bytes()
    assert len(notes.tags([f"{number:064x}" for number in range(300)])) == 300
    assert notes.concept_names("digest")["l" * 5000, 1].name == "of a long layer"
    notes.close()
    assert Notes(path).damage == ""


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_a_page_that_is_lost_takes_no_note_along(tmp_path: Path, step: int):
    path = tmp_path / "notes.sqlite"
    whole = fill(path)
    for start in range(0, len(whole), 4096 * step):
        for fill_in in (bytes(4096), b"\xff" * 4096):
            data = whole[:start] + fill_in + whole[start + 4096 :]
            found, there, new, said = damage(path, whole, data)
            assert (found, new, said) == (there, 0, True), start


@pytest.mark.parametrize("count", [12, pytest.param(400, marks=pytest.mark.exhaustive)])
def test_a_flipped_bit_is_found_and_loses_no_note(tmp_path: Path, count: int):
    path, dice = tmp_path / "notes.sqlite", random.Random(3)
    whole = fill(path)
    for _ in range(count):
        data = bytearray(whole)
        place = dice.randrange(len(data))
        data[place] ^= 1 << dice.randrange(8)
        found, there, new, said = damage(path, whole, bytes(data))
        assert found == there, place
        assert new == 0 or (new == 1 and said), place


@pytest.mark.parametrize("count", [6, pytest.param(60, marks=pytest.mark.exhaustive)])
def test_of_a_file_that_is_cut_all_that_is_there_is_carried_over(tmp_path: Path, count: int):
    path = tmp_path / "notes.sqlite"
    whole = fill(path)
    for part in range(1, count):
        cut = len(whole) * part // count
        found, there, new, said = damage(path, whole, whole[:cut])
        texts = kept(path)
        assert said
        assert new == 0
        for number in range(300):
            inside = f"name {number} ".encode() in whole[: max(0, cut - 4096)]
            assert not inside or any(text.startswith(f"name {number} ") for text in texts)
        assert found <= there


def test_a_process_whose_file_was_set_aside_writes_into_the_new_one(tmp_path: Path):
    path = tmp_path / "notes.sqlite"
    fill(path)
    first = Notes(path)
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3000)
    second = Notes(path)
    assert second.damage
    given = first.name_concept("digest", "conv1", 3, "of the first", "Ada")
    other = second.name_concept("digest", "conv1", 4, "of the second", "Ben")
    for notes in (first, second, Notes(path)):
        names = notes.concept_names("digest")
        assert (names["conv1", 3], names["conv1", 4]) == (given, other)


def test_a_file_that_is_damaged_while_it_is_open_is_mended_and_nothing_written_is_lost(tmp_path: Path):
    path = tmp_path / "notes.sqlite"
    data = fill(path)
    notes = Notes(path)
    path.write_bytes(b"\xff" * len(data))  # the same file, with other content
    os.utime(path)
    notes.name_concept("digest", "conv1", 3, "late", "Ada")
    assert names_of(Notes(path))["conv1", 3] == "late"
    assert "damaged" in notes.damage


def test_a_file_of_an_earlier_version_keeps_its_notes_and_those_in_its_log(tmp_path: Path):
    base = sqlite3.connect(tmp_path / "old")
    base.execute("PRAGMA journal_mode = WAL")
    base.executescript(EARLIER)
    base.execute("INSERT INTO names VALUES ('digest', 'conv1', 3, 'hair', 'Ada', '2026-01-01T00:00:00.000000Z')")
    base.commit()
    for name in ("whole", "damaged"):
        for suffix in ("", "-wal"):
            (tmp_path / f"{name}{suffix}").write_bytes((tmp_path / f"old{suffix}").read_bytes())
    base.close()
    (tmp_path / "damaged").write_bytes(b"\xff" * 8192)  # while all of it is in the log
    for name in ("whole", "damaged"):
        assert names_of(Notes(tmp_path / name)) == {("conv1", 3): "hair"}


def test_where_nothing_can_be_written_notes_are_shown_and_a_new_one_is_refused_in_a_sentence(tmp_path: Path):
    path = tmp_path / "notes.sqlite"
    Notes(path).name_concept("digest", "conv1", 3, "hair", "Ada")
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["hair", "told", "True"], done.stderr
    notes = Notes(path)
    notes.name_concept("digest", "conv1", 4, "later", "Ben")
    assert (names_of(notes), notes.damage) == ({("conv1", 3): "hair", ("conv1", 4): "later"}, "")


def test_a_folder_that_cannot_be_written_leaves_the_page_its_notes(tmp_path: Path):
    path = tmp_path / "notes.sqlite"
    Notes(path).name_concept("digest", "conv1", 3, "hair", "Ada")
    (tmp_path / "notes.sqlite.lock").unlink(missing_ok=True)
    command = [sys.executable, "-c", READ_ONLY, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["hair", "told"], done.stderr


def test_a_file_that_cannot_be_opened_is_told_and_left_alone(tmp_path: Path):
    (tmp_path / "notes.sqlite").mkdir()
    with pytest.raises(NotesError, match=r"notes\.sqlite"):
        Notes(tmp_path / "notes.sqlite")
    assert (tmp_path / "notes.sqlite").is_dir()


def test_an_import_says_who_imported_and_nobody_can_sign_as_another(notes: Notes):
    old = notes.name_concept("digest", "conv1", 3, "hair", "Ada")
    forged = [
        replace(old, name="no hair"),
        replace(old, concept=4, author="Ada (imported by Cem)"),
        replace(old, concept=5, author=""),
    ]
    assert notes.import_names("digest", LAYERS, write_names(forged), "Ben").added == 3
    names = notes.concept_names("digest")
    authors = [note.author for note in notes.history("digest", "conv1", 3)]
    assert sorted(authors) == ["Ada", "Ada (imported by Ben)"]
    assert [names["conv1", concept].author for concept in (4, 5)] == ["Ada (imported by Ben)", "imported by Ben"]
    again = write_names([*names.values(), *notes.history("digest", "conv1", 3)])
    assert notes.import_names("digest", LAYERS, again, "Dan") == Imported(added=0, known=5, others=0)


def test_names_exported_and_imported_are_the_same_and_a_second_import_adds_nothing(notes: Notes):
    notes.name_concept("digest", "conv1", 3, 'a "quoted", name; with\tsigns', "Ada")
    notes.name_concept("digest", "conv1", 4, "Narbe — größer", "Ben")
    file = write_names(list(notes.concept_names("digest").values()))
    other = Notes()
    assert other.import_names("digest", LAYERS, file) == Imported(added=2, known=0, others=0)
    assert {
        place: replace(note, author=origin(note.author)) for place, note in other.concept_names("digest").items()
    } == (notes.concept_names("digest"))
    assert other.import_names("digest", LAYERS, file) == Imported(added=0, known=2, others=0)


def test_a_hand_written_table_is_imported_once(notes: Notes):
    table = "\ufefflayer;concept;name\nconv1;3;hair\nconv1;4;ruler\n".encode()
    assert notes.import_names("digest", LAYERS, table) == Imported(added=2, known=0, others=0)
    assert notes.import_names("digest", LAYERS, table) == Imported(added=0, known=2, others=0)
    assert names_of(notes) == {("conv1", 3): "hair", ("conv1", 4): "ruler"}


def test_an_older_name_that_is_imported_joins_the_history_only(notes: Notes):
    new = notes.name_concept("digest", "conv1", 3, "new", "Ada")
    notes.import_names("digest", LAYERS, write_names([replace(new, name="old", date="2020-01-31T12:00:00Z")]))
    assert names_of(notes) == {("conv1", 3): "new"}
    assert [note.name for note in notes.history("digest", "conv1", 3)] == ["new", "old"]


def test_names_of_other_models_are_left_out_and_counted(notes: Notes):
    table = b"model,layer,concept,name\nanother,fc,3,hair\ndigest,conv1,4,ruler\n"
    assert notes.import_names("digest", LAYERS, table) == Imported(added=1, known=0, others=1)
    assert notes.concept_names("another") == {}


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("layer,name\n", "no column concept"),
        ("layer,concept,name\nconv9,1,hair\n", "Line 2: the model has no layer 'conv9'"),
        ("layer,concept,name\nconv1,1,hair\nconv1,8,hair\n", "Line 3: '8' is no concept of conv1; it has 0 to 7"),
        ("layer,concept,name,date\nconv1,1,hair,24/11/2026\n", "Line 2: '24/11/2026' is no past date"),
        ("layer,concept,name,date\nconv1,1,hair,2999-01-01\n", "Line 2: '2999-01-01' is no past date"),
    ],
)
def test_a_wrong_table_is_told_in_a_sentence_and_nothing_of_it_is_kept(notes: Notes, table: str, told: str):
    with pytest.raises(NotesError, match=told):
        notes.import_names("digest", LAYERS, table.encode())
    assert not names_of(notes)


def test_a_table_that_is_not_text_is_told_in_a_sentence():
    with pytest.raises(NotesError, match="UTF-8"):
        read_names("digest", LAYERS, b"PK\x03\x04\xff\xfe")
