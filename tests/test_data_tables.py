"""Tables as people have them: which column names the file, which labels it, and what else is known of each picture."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from streamlit.testing.v1 import AppTest

from components.plain_text import plain
from explainers.cases import sheets
from explainers.cases.arranging import AUTOMATIC, FOLDERS, Arrangement, Choice, arrange, read_material
from explainers.cases.columns import Columns
from explainers.cases.sheets import as_numbers, read_tables
from explainers.errors import TableError
from explainers.images import Attachment, File, Picture, Reading, Samples, read_contents
from tests.conftest import ROOT
from tests.table_files import write_excel, write_parquet

HAM = """lesion_id,image_id,dx,dx_type,age,sex,localization
HAM_0000118,ISIC_0027419,bkl,histo,80.0,male,scalp
HAM_0000118,ISIC_0025030,mel,histo,,male,scalp
HAM_0001466,ISIC_0031633,nv,histo,75.0,female,ear
"""

ISIC = """image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK
ISIC_0000000,0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0
ISIC_0000001,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0
ISIC_0000002,0.0,0.0,0.0,0.0,0.0,0.0,1.0,0.0,0.0
"""

ISIC_METADATA = """image,age_approx,anatom_site_general,lesion_id,sex
ISIC_0000000,55.0,anterior torso,,female
ISIC_0000001,30.0,anterior torso,,female
ISIC_0000002,,upper extremity,,
"""

NIH = """Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,
00000001_000.png,Cardiomegaly,0,1,58,M,PA,
00000001_001.png,Cardiomegaly|Emphysema,1,1,58,M,PA,
00000002_000.png,No Finding,0,2,81,M,AP,
00000013_005.png,Emphysema|Infiltration,5,13,60,M,AP,
"""

CHEXPERT = """Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Cardiomegaly,Lung Opacity,Edema,Support Devices
CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,,,1.0
CheXpert-v1.0-small/train/patient00002/study2/view1_frontal.jpg,Female,87,Frontal,AP,,-1.0,1.0,-1.0,
CheXpert-v1.0-small/train/patient00002/study1/view1_frontal.jpg,Female,83,Frontal,AP,,0.0,1.0,1.0,0.0
CheXpert-v1.0-small/train/patient00002/study1/view2_lateral.jpg,Female,83,Lateral,,,,1.0,,
"""


def samples(*names: str, label: str | None = None) -> Samples:
    return Samples(File(name, path=Path("/data", name), label=label) for name in names)


def understand(
    entries: Samples,
    *texts: str | bytes,
    classes: tuple[str, ...] = (),
    choice: Choice = AUTOMATIC,
    ending: str = "csv",
) -> Arrangement:
    attachments = [
        Attachment(f"table{number}.{ending}", text if isinstance(text, bytes) else text.encode())
        for number, text in enumerate(texts)
    ]
    return arrange(entries, read_material(attachments), classes, choice)


def labels(found: Arrangement) -> list[str | None]:
    return [entry.label for entry in found.dataset.entries]


def test_the_zip_of_pictures_in_two_parts_takes_its_labels_from_the_table() -> None:
    contents = read_contents((ROOT / "tests/cases/z3_ham10000_metadata.zip").read_bytes(), "z3.zip")
    found = arrange(contents.pictures, read_material(contents.attachments), ())
    assert {entry.name[-16:-4]: entry.label for entry in found.dataset.entries} == {
        "ISIC_0027419": "bkl",
        "ISIC_0025030": "mel",
    }
    assert list(found.dataset.metadata) == ["lesion_id", "dx_type", "age", "sex", "localization"]
    assert list(found.dataset.metadata["age"]) == [80, 80]


@pytest.mark.parametrize("ending", [".jpg", ".JPG", ""])
def test_ham10000_names_its_files_without_ending(ending: str) -> None:
    names = [f"part_{number % 2}/{stem}{ending}" for number, stem in enumerate(["ISIC_0031633", "ISIC_0025030"])]
    found = understand(samples(*names), HAM)
    assert found.columns == {"table0.csv": Columns(("image_id",), ("dx",))}
    assert labels(found) == ["nv", "mel"]
    assert "1 of its 3 rows is about no picture here." in found.dataset.notes[-1]
    ages = found.dataset.metadata["age"]
    assert ages[0] == 75
    assert np.isnan(ages[1])


@pytest.mark.parametrize("classes", [(), ("melanoma", "naevus"), ("mel", "nv", "bcc", "vasc")])
def test_isic_has_a_column_of_one_and_zero_for_each_class_and_metadata_in_another_table(classes: tuple[str]) -> None:
    entries = samples(*(f"ISIC_2019_Training_Input/ISIC_000000{number}.jpg" for number in range(3)))
    found = understand(entries, ISIC, ISIC_METADATA, classes=classes)
    assert labels(found) == ["NV", "MEL", "VASC"]
    assert found.dataset.order[:2] == ("MEL", "NV")
    known = found.dataset.metadata
    assert list(known["anatom_site_general"]) == ["anterior torso", "anterior torso", "upper extremity"]
    assert list(known["age_approx"][:2]) == [55, 30]


def test_nih_has_several_findings_in_a_cell_and_no_finding() -> None:
    names = [f"images_00{number}/images/{stem}.png" for number, stem in enumerate(["00000001_001", "00000002_000"])]
    found = understand(samples(*names), NIH)
    assert labels(found) == ["Cardiomegaly|Emphysema", "No Finding"]
    assert list(found.dataset.metadata["Patient Age"]) == [58, 81]
    assert "Finding Labels" not in found.dataset.metadata


def test_chexpert_has_another_root_and_knows_of_doubt() -> None:
    names = ["chex/train/patient00002/study1/view1_frontal.jpg", "chex/train/patient00002/study2/view1_frontal.jpg",
             "chex/train/patient00001/study1/view1_frontal.jpg"]  # fmt: skip
    found = understand(samples(*names), CHEXPERT)
    said = [set((label or "").split("|")) for label in labels(found)]
    assert said[0] == {"Lung Opacity", "Edema", "?No Finding"}
    assert said[1] == {"Lung Opacity", "?No Finding", "?Cardiomegaly", "?Edema", "?Support Devices"}
    assert said[2] == {"No Finding", "Support Devices", "?Cardiomegaly", "?Lung Opacity", "?Edema"}
    assert list(found.dataset.metadata["Age"]) == [83, 87, 68]
    assert list(found.dataset.metadata["split"]) == ["train"] * 3


def test_of_many_columns_those_named_after_classes_are_labels_and_a_class_without_column_is_unknown() -> None:
    entries = samples("chex/train/patient00002/study1/view1_frontal.jpg", "chex/train/x/study9/view1_frontal.jpg")
    found = understand(entries, CHEXPERT, classes=("Edema", "Cardiomegaly", "Fracture"))
    assert labels(found) == ["Edema|?Fracture", None]
    assert "Lung Opacity" in found.dataset.metadata


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id,label\na,dog\nb.png,cat\n", ["dog", "cat"]),
        ("id;label;size\na;dog;1,5\nb;cat;2,25\n", ["dog", "cat"]),
        ("id\tlabel\na\tdog\nb\tcat\n", ["dog", "cat"]),
        ("sep=|\nid|label\na|dog\nb|cat\n", ["dog", "cat"]),
        ("a.png,dog\nb.png,cat\n", ["dog", "cat"]),
        ("Export of 2024\n\nid,label,age\na,dog,1\nb,cat,2\n", ["dog", "cat"]),
        ("id,label\r\na,dog\r\nb,cat\r\n", ["dog", "cat"]),
        ("id,label\ra,dog\rb,cat\r", ["dog", "cat"]),
        ('id,label\na,"dog, small"\nb,"cat"\n', ["dog, small", "cat"]),
        ("id,age,diagnosis,label\na,1,x,\nb,2,y,\n", ["x", "y"]),
        ("file,species\nC:\\data\\x\\a.png,dog\nC:\\data\\x\\b.png,cat\n", ["dog", "cat"]),
        ("id,target\na,1.0\nb,0.0\nc,\n", ["1", "0"]),
        ("id,dog,cat,owl\na,1,,\nb,,1,\nc,,,1\n", ["dog", "cat"]),
        ("id,dog,cat,owl\na,TRUE,FALSE,FALSE\nb,FALSE,TRUE,FALSE\n", ["dog", "cat"]),
        ("id,dog,cat,owl,ant,bee\na,1,1,0,0,0\nb,0,0,0,0,0\n", ["dog|cat", "no finding"]),
        ("id,label\na,dog\na,cat\nb,cat\n", ["dog|cat", "cat"]),
        ("A,LABEL\nA,dog\nB,cat\n", ["dog", "cat"]),
        ("id,labels\na,\"['dog', 'cat']\"\nb,['cat']\n", ["dog|cat", "cat"]),
        ("Id,Target\na,16 0\nb,7\n", ["16|0", "7"]),
        ("id,A,B,C,D,E\na,1,1,-1,-1,-1\nb,-1,1,-1,-1,1\n", ["A|B", "B|E"]),
        ("id,itch,grew,hurt,bleed,old,diagnostic\na,1,0,0,0,1,nev\nb,1,1,1,1,1,mel\n", ["nev", "mel"]),
        ("1 a.png dog\n2 b.png dog\n", [None, None]),
    ],
)
def test_tables_are_read_as_programs_write_them(text: str, expected: list[str | None]) -> None:
    assert labels(understand(samples("x/a.png", "x/b.png"), text)) == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252"])
def test_tables_are_read_in_their_encoding(encoding: str) -> None:
    found = understand(samples("é/a.png", "é/b.png"), "Fichier;Étiquette;x\na;Mélanome;1\nb;Nævus;2\n".encode(encoding),
                       classes=("Me\u0301lanome", "Nævus"))  # fmt: skip
    assert labels(found) == ["Mélanome", "Nævus"]


@pytest.mark.parametrize(("ending", "write"), [("xlsx", write_excel), ("parquet", write_parquet)])
def test_excel_and_parquet_are_read_and_formulas_are_not_computed(ending: str, write: Callable[[], bytes]) -> None:
    found = understand(samples("a.png", "b.png"), write(), ending=ending)
    assert labels(found) == ["dog", "cat"]
    assert list(found.dataset.metadata) == ["Age", "Sum"]
    assert found.dataset.metadata["Age"][0] == 50
    assert found.dataset.metadata["Age"].isna()[1]
    assert list(found.dataset.metadata["Sum"].fillna(-1)) == [-1, 2.5]


def test_records_in_json_are_a_table() -> None:
    lines = '{"file_name": "a.png", "label": "dog", "tags": ["x", "y"]}\n{"file_name": "b.png", "label": "cat"}\n'
    found = understand(samples("train/a.png", "train/b.png"), lines, ending="jsonl")
    assert labels(found) == ["dog", "cat"]
    assert list(found.dataset.metadata["tags"]) == ["x|y", ""]


def test_a_name_in_several_folders_is_said_and_not_guessed() -> None:
    entries = samples("a/1.png", "b/1.png", "a/2.png", "b/2.png")
    found = understand(entries, "name,label\n1.png,x\n2.png,y\n")
    assert labels(found) == [None] * 4
    assert "2 of its rows could mean several of the pictures" in found.dataset.notes[-1]


def test_a_column_of_the_folder_tells_names_in_several_folders_apart() -> None:
    entries = samples("a/1.png", "b/1.png", "a/2.png", "b/2.png")
    found = understand(entries, "site,name,label\na,1.png,p\nb,1.png,q\na,2.png,r\nb,2.png,s\n")
    assert labels(found) == ["p", "q", "r", "s"]
    assert found.columns["table0.csv"].file == ("site", "name")


def test_a_path_in_the_table_that_names_another_folder_is_no_row_of_a_picture() -> None:
    found = understand(samples("a/1.png", "a/2.png"), "path,label\na/1.png,p\nb/1.png,q\nb/2.jpg,r\na/2.jpg,s\n")
    assert labels(found) == ["p", "s"]


def test_a_table_about_few_of_the_pictures_leaves_labels_to_folders() -> None:
    entries = Samples([*samples("a/1.png", "a/2.png", label="a"), *samples("b/3.png", "b/4.png", label="b")])
    found = understand(entries, "id,label,age\n1.png,x,30\n")
    assert found.source == FOLDERS
    assert found.dataset.entries is entries
    assert found.dataset.metadata["age"][0] == 30
    assert found.dataset.metadata["label"][0] == "x"


@pytest.mark.parametrize(
    ("table", "classes", "expected"),
    [
        ("file,site\n1.png,site 3\n2.png,site 4\n", ("0", "1", "2", "3", "4"), ["0", "1"]),  # numbers of places
        ("file,lesions\n1.png,3\n2.png,4\n", ("0", "1", "2", "3", "4"), ["0", "1"]),  # counts
        ("file,diagnosis\n1.png,mel\n2.png,nv\n", ("0", "1"), ["0", "1"]),  # labels of another task
        ("file,label\n1.png,1\n2.png,0\n", ("0", "1"), ["1", "0"]),  # labels of this one
    ],
)
def test_folders_that_are_classes_go_before_columns_that_are_other_things(
    table: str, classes: tuple[str, ...], expected: list[str]
) -> None:
    entries = Samples([*samples("0/1.png", label="0"), *samples("1/2.png", label="1")])
    assert labels(understand(entries, table, classes=classes)) == expected


def test_pictures_without_a_folder_take_the_label_that_a_table_has() -> None:
    entries = Samples([*samples("a/1.png", label="a"), *samples("b/2.png", "b/4.png", label="b"), *samples("3.png")])
    found = understand(entries, "id,label\n3.png,x\n")
    assert labels(found) == ["a", "b", "b", "x"]
    assert "1 without a folder that tells is labelled by a table." in found.dataset.notes


def test_what_is_not_about_the_pictures_is_said() -> None:
    found = understand(samples("a/x.png", "b/y.png"), "colour,weight\nred,1\nblue,2\n")
    assert found.dataset.notes[-1] == "table0.csv has no column that names these pictures; it is not used."


def test_a_person_corrects_columns_source_and_level() -> None:
    entries = Samples([*samples("p/a/1.png", label="a"), *samples("q/b/2.png", label="b")])
    table = "id,label,sex\n1,x,f\n2,y,m\n"
    columns = (("table0.csv", Columns(("id",), ("sex",))),)
    assert labels(understand(entries, table)) == ["x", "y"]
    assert labels(understand(entries, table, choice=Choice(columns=columns))) == ["f", "m"]
    assert labels(understand(entries, table, choice=Choice(source=FOLDERS))) == ["a", "b"]
    assert labels(understand(entries, table, choice=Choice(source=FOLDERS, level=2))) == ["p", "q"]
    assert labels(understand(entries, table, choice=Choice(left_out=("table0.csv",)))) == ["a", "b"]


def test_labels_of_pictures_are_changed_without_computing_what_they_are_anew() -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    picture = Picture("a.png", pixels, again=lambda reading: Picture("a.png", pixels, notes=(str(reading.frame),)))
    known = picture.digest
    (entry,) = arrange([picture], read_material([Attachment("t.csv", b"id,label\na,dog\n")]), ()).dataset.entries
    assert isinstance(entry, Picture)
    assert (entry.label, vars(entry)["digest"], picture.label) == ("dog", known, None)
    again = entry.again(Reading(frame=3)) if entry.again else picture
    assert (again.label, again.notes) == ("dog", ("3",))


def test_ten_thousand_rows_come_to_their_pictures() -> None:
    numbers = np.random.default_rng(0).permutation(10_000)
    table = pd.DataFrame({"lesion": numbers // 2, "image_id": [f"ISIC_{number:07}" for number in numbers],
                          "dx": np.array(["mel", "nv", "bkl"])[numbers % 3], "age": numbers % 90})  # fmt: skip
    entries = samples(*(f"part_{number % 2}/ISIC_{number:07}.jpg" for number in range(10_000)))
    found = understand(entries, table.to_csv(index=False), classes=("mel", "nv", "bkl"))
    assert labels(found) == [["mel", "nv", "bkl"][number % 3] for number in range(10_000)]
    assert (found.dataset.metadata["age"].to_numpy() == np.arange(10_000) % 90).all()
    assert isinstance(found.dataset.entries, Samples)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["80", "", "7.5"], [80, None, 7.5]),
        (["1e3", "-2", "NA"], [1000, -2, None]),
        (["007", "1"], None),
        (["1", "x"], None),
        (["1e999", "1"], None),
        (["1" * 20, "1"], None),
        (["", ""], None),
    ],
)
def test_columns_of_numbers_are_numbers_and_codes_stay_texts(cells: list[str], expected: list[float] | None) -> None:
    found = as_numbers(pd.Series(cells, dtype="str"))
    assert list(found.astype(object).where(found.notna(), None)) == (expected or cells)


def test_columns_have_different_names() -> None:
    (table,) = read_tables(Attachment("t.csv", b"a,a,,b,column 3\n1,2,3,4,5\n")).values()
    assert list(table) == ["a", "a (2)", "column 3 (2)", "b", "column 3"]


def swap(workbook: bytes, sheet: bytes) -> bytes:
    """Put something else in the place of a workbook's sheet."""
    source, file = zipfile.ZipFile(io.BytesIO(workbook)), io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, sheet if name == "xl/worksheets/sheet1.xml" else source.read(name))
    return file.getvalue()


def write_long_words() -> bytes:
    """Parquet in which one long text is every cell of a column."""
    file = io.BytesIO()
    words = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), pa.array(["x" * 100_000]))
    pq.write_table(pa.table({"a": words}), file, compression="zstd")
    return file.getvalue()


def write_far_cell() -> bytes:
    book, file = openpyxl.Workbook(), io.BytesIO()
    book.active["A1"], book.active["XFD1048576"] = "a", "b"
    book.save(file)
    return file.getvalue()


ENTITIES = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a0 "' + b"x" * 1000 + b'">'
    + b"".join(b'<!ENTITY a%d "%s">' % (number, b"&a%d;" % (number - 1) * 50) for number in range(1, 8))
    + b"]><worksheet><sheetData><row><c t='str'><v>&a7;</v></c></row></sheetData></worksheet>"
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "make", "told"),
    [
        ("t.csv", lambda: b"a" * (sheets.MAX_BYTES + 1), "at most 67,108,864"),
        ("t.csv", lambda: b"," * 3000 + b"\n", "2,000 columns"),
        ("t.csv", lambda: bytes(range(256)), "no text"),
        ("t.csv", lambda: b'a,b\n"' + b"x" * 200_000 + b'",1\n', "cannot be read"),
        ("t.xls", lambda: b"\xd0\xcf\x11\xe0" + bytes(600), "old Excel file, or locked"),
        ("t.xlsx", lambda: b"PK\x03\x04" + bytes(600), "cannot be read"),
        ("t.xlsx", lambda: swap(write_excel(), b" " * (sheets.UNPACKED + 1)), "when unpacked"),
        ("t.xlsx", lambda: swap(write_excel(), ENTITIES), "cannot be read"),
        ("t.xlsx", write_far_cell, "2,000 columns"),
        ("t.parquet", write_long_words, "when unpacked"),
        ("t.parquet", lambda: b"PAR1" + bytes(50) + b"PAR1", "cannot be read"),
        ("t.json", lambda: b"[" * 100_000, "cannot be read"),
    ],
)
def test_hostile_tables_end_in_a_sentence(
    name: str, make: Callable[[], bytes], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sheets, "UNPACKED", 4 << 20)
    with pytest.raises(TableError, match=told):
        read_tables(Attachment(name, make()))


def draw() -> None:
    import streamlit as st

    from components.metadata import draw_metadata
    from components.understanding import understand
    from explainers.images import read_contents
    from tests.conftest import ROOT

    if "contents" not in st.session_state:
        file = ROOT / "tests/cases/z3_ham10000_metadata.zip"
        st.session_state["contents"] = read_contents(file.read_bytes(), file.name)
    contents = st.session_state["contents"]
    st.session_state["found"] = understand(list(contents.pictures), contents.attachments)
    draw_metadata(st.session_state["found"], 0)


def test_the_page_says_what_was_understood_and_lets_a_person_change_it() -> None:
    page = AppTest.from_function(draw).run(timeout=30)
    assert page.caption[0].value == plain("Labels are dx of HAM10000_metadata.csv: bkl, mel.")
    first = page.session_state["found"]
    assert page.run().session_state["found"] is first, "nothing was chosen, and all was understood anew"
    page.multiselect[1].set_value(["sex"]).run()
    assert [entry.label for entry in page.session_state["found"].entries] == ["male", "male"]
    assert "dx" in page.session_state["found"].metadata
    page.selectbox[0].set_value(FOLDERS).run()
    assert [entry.label for entry in page.session_state["found"].entries] == [None, None]
    page.toggle[0].set_value(False).run()
    assert not len(page.session_state["found"].metadata.columns)
    assert not page.exception
