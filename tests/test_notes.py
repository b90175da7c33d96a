"""Notes: what people wrote stays, whatever happens to the process, the file or the other writer."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from explainers.errors import NotesError
from explainers.info import Layer
from explainers.notes import Imported, Notes, read_names, write_names
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
        while (number := int(writer.stdout.readline())) < 40:
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


def test_damage_within_a_file_is_found_when_it_is_opened(tmp_path: Path):
    path = tmp_path / "notes.sqlite"
    writer = Notes(path)
    for number in range(500):
        writer.name_concept("digest", "conv1", 3, f"name {number}", "Ada")
    writer.close()
    data = bytearray(path.read_bytes())
    data[4096 : 4096 + 2000] = b"\xff" * 2000
    path.write_bytes(data)
    notes = Notes(path)
    assert "damaged" in notes.damage
    assert bytes(data) == next(tmp_path.glob("*.damaged-*")).read_bytes()


def test_a_file_that_cannot_be_opened_is_told_and_left_alone(tmp_path: Path):
    (tmp_path / "notes.sqlite").mkdir()
    with pytest.raises(NotesError, match=r"notes\.sqlite"):
        Notes(tmp_path / "notes.sqlite")
    assert (tmp_path / "notes.sqlite").is_dir()


def test_names_exported_and_imported_are_the_same_and_a_second_import_adds_nothing(notes: Notes):
    notes.name_concept("digest", "conv1", 3, 'a "quoted", name; with\tsigns', "Ada")
    notes.name_concept("digest", "conv1", 4, "Narbe — größer", "Ben")
    file = write_names(list(notes.concept_names("digest").values()))
    other = Notes()
    assert other.import_names("digest", LAYERS, file) == Imported(added=2, known=0, others=0)
    assert other.concept_names("digest") == notes.concept_names("digest")
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
