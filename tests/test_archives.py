"""Archives and folders: what is in them, what it is called, and what folders say about pictures."""

import io
import lzma
import os
import shutil
import struct
import unicodedata
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from explainers.errors import ImageError, SelectionError
from explainers.images import Reading, find
from explainers.images.contents import find_attachments
from explainers.images.encodings import decode_names
from explainers.images.layout import read_layout
from explainers.images.naming import split_name
from explainers.images.reading import read, read_contents
from explainers.index.samples import name_samples, read_sample, write_sample
from explainers.info import ModelInfo
from explainers.labels import match_class
from explainers.preprocessing import Preprocessing
from explainers.targets import find_class
from tests.picture_files import PHOTO, archive, dicom, photo, save, tiff

CASES = Path(__file__).parent / "cases"
PNG = photo("PNG")


def case(name):
    return (CASES / name).read_bytes()


def understood(*paths, level=None):
    """Labels and splits of paths, the two things that a picture gets from its folders."""
    layout = read_layout([tuple(path.split("/")) for path in paths], level)
    return list(layout.labels), list(layout.splits)


def labels(*paths, level=None):
    return understood(*paths, level=level)[0]


def model_of(*names):
    return ModelInfo("pets", "test", Preprocessing(), names, (), (len(names),), 0, "", "")


# Labels from folders

KAGGLE = [f"chest_xray/{split}/{label}/{split}_1.jpeg" for split in ("train", "val", "test") for label in ("A", "B")]


def test_names_of_splits_are_kept_as_the_split_wherever_they_stand():
    assert understood(*KAGGLE) == (["A", "B"] * 3, ["train", "train", "val", "val", "test", "test"])
    assert understood("A/Train/1.png", "A/TEST/2.png", "B/Train/3.png") == (["A", "A", "B"], ["Train", "TEST", "Train"])


SPLITS = """train training Training val valid VALIDATION dev test Testing holdout hold-out fold1 fold_2 Fold10 train2017
test_images training-set Validation_Data 训练集"""


@pytest.mark.parametrize("name", SPLITS.split())
def test_the_name_of_a_split_is_no_label(name):
    assert understood(f"set/{name}/cat/1.png", "set/train/dog/2.png") == (["cat", "dog"], [name, "train"])
    assert labels(f"set/{name}/1.png", "set/train/2.png") == [None, None]


def test_archives_of_a_challenge_are_splits_although_its_name_stands_before():
    names = ["ISIC_2019_Training_Input", "ISIC_2019_Test_Input"]
    assert understood(*(f"{name}/1.jpg" for name in names)) == ([None, None], names)


def test_one_loose_picture_beside_class_folders_changes_nothing_for_the_others():
    assert labels("set/cat/1.png", "set/dog/2.png", "set/loose.png") == ["cat", "dog", None]
    assert labels("set/cat/1.png", "set/dog/2.png", "loose.png") == ["cat", "dog", None]


@pytest.mark.parametrize("name", ["images", "imgs", "JPEG", "photos", "Pictures", "data", "dataset", "png", "dicom"])
def test_a_folder_for_pictures_of_any_kind_is_no_label(name):
    assert labels(f"cat/{name}/1.png", f"dog/{name}/2.png") == ["cat", "dog"]
    assert labels(f"{name}/1.png", f"{name}/2.png", "3.png") == [None, None, None]


def test_parts_of_one_archive_are_no_labels():
    assert labels("HAM10000_images_part_1/a.jpg", "HAM10000_images_part_2/b.jpg") == [None, None]
    assert labels("images_001/images/a.png", "images_002/images/b.png") == [None, None]
    assert labels("batch1/a.png", "batch2/b.png", "batch10/b.png") == [None] * 3


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("photo", "sketch"),
        ("case", "control"),
        ("mask", "no_mask"),
        ("original", "forged"),
        ("0", "1"),
        ("007", "10"),
        ("cat_images", "dog_images"),
        ("class1", "class2"),
        ("with_mask", "without_mask"),
        ("40X", "100X"),
        ("s1", "s2"),
        ("stage1", "stage2"),
        ("test_tube", "bottle"),
        ("trainer", "sandal"),
        ("a.b", "a.c"),
    ],
)
def test_what_tells_classes_apart_is_a_label_although_it_looks_like_another_thing(first, second):
    assert labels(f"train/{first}/1.png", f"train/{second}/2.png") == [first, second]


def test_folders_of_patients_and_series_are_no_labels():
    assert labels("benign/patient1/1.png", "malignant/patient2/1.png") == ["benign", "malignant"]
    assert labels("benign/0001/1.dcm", "malignant/0002/IM0001") == ["benign", "malignant"]
    assert labels("DICOM/PA000001/SE000001/IM000001", "DICOM/PA000001/SE000002/IM000001") == [None, None]
    assert labels("1.2.840.113619.2/1.dcm", "1.2.840.113619.3/1.dcm") == [None, None]


@pytest.mark.parametrize(
    ("paths", "found"),
    [
        (["Lungs/Train/COVID/images/1.png", "Lungs/Train/COVID/lung masks/1.png"], [None, None]),
        (["L/Train/A/images/1.png", "L/Train/A/lung masks/1.png", "L/Test/B/images/1.png"], ["A", None, "B"]),
        (["I/1. Original Images/a. Training Set/1.jpg", "I/1. Original Images/b. Testing Set/2.jpg"], [None, None]),
        (["I/1. Original Images/a. Training Set/1.jpg", "I/2. Groundtruths/a. Training Set/1.tif"], [None, None]),
        (["LIDC-IDRI-0001/01-01-2000-30178/3000566/1.dcm", "LIDC-IDRI-0002/01-01-2000-1/300/1.dcm"], [None, None]),
        (["CheXpert/train/patient00001/study1/a.jpg", "CheXpert/valid/patient00002/study1/a.jpg"], [None, None]),
        (["Final_Training/Images/00000/1.ppm", "Final_Training/Images/00014/1.ppm"], ["00000", "00014"]),
        (["train2017/1.jpg", "val2017/2.jpg", "annotations/1.png"], [None, None, None]),
        (["set/yes/1.jpg", "set/no/2.jpg", "yes/1.jpg", "no/2.jpg"], ["yes", "no", "yes", "no"]),
        (["colon_image_sets/colon_aca/1.jpg", "lung_image_sets/lung_n/1.jpg"], ["colon_aca", "lung_n"]),
        (["benign/SOB/adenosis/40X/1.png", "benign/SOB/adenosis/100X/1.png"], ["40X", "100X"]),
        (["train/n01440764/1.JPEG", "val/n01443537/1.JPEG"], ["n01440764", "n01443537"]),
        (["OCT2017 /train/CNV/1.jpeg", "OCT2017 /test/DME/1.jpeg"], ["CNV", "DME"]),
    ],
)
def test_published_layouts_are_understood(paths, found):
    assert labels(*paths) == found


def test_numbers_next_to_pictures_are_labels_below_numbers_of_patients():
    assert labels("8863/0/1.png", "8863/1/2.png", "8864/0/3.png") == ["0", "1", "0"]


def test_masks_have_no_label():
    layout = read_layout([(one, kind, "1.png") for one in ("COVID", "Normal") for kind in ("images", "masks")])
    assert (layout.labels, layout.masks) == (("COVID", None, "Normal", None), (False, True, False, True))
    assert layout.sentence.endswith("COVID, Normal; 2 pictures in folders of masks have none.")


def test_what_was_understood_is_said_in_one_line():
    assert read_layout([tuple(path.split("/")) for path in KAGGLE]).sentence == (
        "Labels are the folders next to the pictures: A, B; train, val and test are kept as the split."
    )
    assert read_layout([("a", "images", "1.png"), ("b", "images", "2.png"), ("3.png",)]).sentence == (
        "Labels are the folders 2 levels above the pictures: a, b; 1 picture beside them has no label."
    )
    assert read_layout([("part1", "1.png"), ("part2", "2.png")]).sentence == "Folders give no labels."
    assert read_layout([("1.png",)]).sentence == ""


def test_another_level_can_be_chosen_and_names_that_are_there():
    paths = ["animals/cat/1.png", "animals/dog/2.png", "plants/oak/3.png"]
    layout = read_layout([tuple(path.split("/")) for path in paths])
    assert (layout.level, layout.choices) == (1, {0: (), 1: ("cat", "dog", "oak"), 2: ("animals", "plants")})
    assert labels(*paths, level=2) == ["animals", "animals", "plants"]
    assert labels(*paths, level=0) == [None] * 3
    assert understood(*KAGGLE, level=2) == (["train", "train", "val", "val", "test", "test"], [""] * 6)


def test_choosing_the_level_that_was_understood_changes_nothing():
    paths = [("a", "images", "1.png"), ("a", "2.png"), ("b", "images", "3.png"), ("c", "masks", "3.png")]
    layout = read_layout(paths)
    assert read_layout(paths, layout.level) == layout


FILES = ["train/cat/1.png", "train/dog/2.png", "val/cat/3.png", "loose.png", "train/dog/images/10.png"]


@pytest.mark.parametrize("files", [FILES, ["cat/1.png", "cat/2.png"], ["cat/1.png", "2.png"], ["1.png"]])
def test_a_folder_on_the_server_its_zip_and_the_folder_dropped_agree(files, tmp_path):
    for name in files:
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(PNG)
    zipped = Path(shutil.make_archive(str(tmp_path / "zipped"), "zip", tmp_path, "set")).read_bytes()
    listed = [(f"set/{sample.name}", sample.label) for sample in find(tmp_path / "set")]
    pictures = read(zipped, "set.zip")
    dropped = [read_contents(PNG, name).pictures[0].name for name, _ in listed]
    assert [(picture.name, picture.label) for picture in pictures] == listed
    assert [*zip(dropped, read_layout([split_name(name) for name in dropped]).labels, strict=True)] == listed


@given(st.lists(st.lists(st.text(max_size=12), min_size=1, max_size=5).map(tuple), max_size=12))
def test_any_names_of_folders_are_understood(paths):
    layout = read_layout(paths)
    assert len(layout.labels) == len(layout.splits) == len(layout.masks) == len(paths)
    for path, label in zip(paths, layout.labels, strict=True):
        assert label is None or label in path[:-1]


def test_kaggles_layout_gives_classes_and_splits():
    pictures = read_contents(case("z1_chest_xray_train_test_val.zip"), "z1.zip").pictures
    assert {(picture.label, picture.name.split("/")[2]) for picture in pictures} == {
        ("NORMAL",) * 2,
        ("PNEUMONIA",) * 2,
    }
    splits = read_layout([split_name(picture.name) for picture in pictures]).splits
    assert list(splits) == [picture.name.split("/")[1] for picture in pictures]


def test_pictures_of_phones_have_the_labels_of_their_folders():
    pictures = read(case("r2_only_heic.zip"), "r2_only_heic.zip")
    assert [picture.label for picture in pictures] == ["a", "a", "b"]


def test_a_table_in_an_archive_is_an_attachment_and_parts_are_no_labels():
    contents = read_contents(case("z3_ham10000_metadata.zip"), "z3.zip")
    assert [picture.label for picture in contents.pictures] == [None, None]
    (table,) = contents.attachments
    assert table.name == "HAM10000_metadata.csv"
    assert table.data == zipfile.ZipFile(CASES / "z3_ham10000_metadata.zip").read("HAM10000_metadata.csv")


# Names in other scripts

MELANOMA = "M\N{LATIN SMALL LETTER E WITH ACUTE}lanome"
APART = unicodedata.normalize("NFD", MELANOMA)


def raw_archive(names, flag=0):
    """A zip whose names are these bytes, marked as UTF-8 or not, as other programs write them."""
    buffer, places = io.BytesIO(), []
    for name in names:
        places.append(buffer.tell())
        head = struct.pack("<HHHHHLLLHH", 20, flag, 0, 0, 33, zlib.crc32(PNG), len(PNG), len(PNG), len(name), 0)
        buffer.write(b"PK\3\4" + head + name + PNG)
    start = buffer.tell()
    for name, place in zip(names, places, strict=True):
        head = struct.pack("<HHHHHHLLLHH", 20, 20, flag, 0, 0, 33, zlib.crc32(PNG), len(PNG), len(PNG), len(name), 0)
        buffer.write(b"PK\1\2" + head + struct.pack("<HHHLL", 0, 0, 0, 0, place) + name)
    size = buffer.tell() - start
    buffer.write(b"PK\5\6" + struct.pack("<HHHHLLH", 0, 0, len(names), len(names), size, start, 0))
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["z4_macos_finder_accents.zip", "z4_nfd_folder.zip"])
def test_an_accent_is_one_letter_however_the_archive_writes_it(name):
    pictures = read(case(name), name)
    assert [picture.label for picture in pictures] == [MELANOMA, "Naevus"]
    assert pictures[0].name == f"{MELANOMA}/1.png"
    for spelling in (MELANOMA, APART, f" {APART.upper()} "):
        assert match_class(pictures[0].label, model_of("x", spelling)) == 1
        assert find_class(model_of("x", spelling), APART) == 1


@pytest.mark.parametrize(
    ("encoding", "names"),
    [
        ("utf-8", ["Mélanome", "黑色素瘤", "Меланома"]),
        ("cp437", ["Mélanome", "Größe", "nævus"]),
        ("cp850", ["lesão", "Mélanome", "João"]),
        ("cp1252", ["Mélanome", "bénin", "Größe"]),
        ("cp932", ["画像", "悪性", "表示", "ソート", "メラノーマ"]),
        ("cp936", ["图像", "恶性", "正常", "肿瘤"]),
        ("euc_kr", ["정상", "흑색종", "고양이"]),
        ("big5", ["圖像", "惡性", "黑色素瘤"]),
        ("cp1251", ["Меланома", "норма", "Новая папка"]),
        ("cp866", ["Меланома", "норма", "Новая папка"]),
        ("cp1253", ["Μελάνωμα", "φυσιολογικό", "Πνευμονία"]),
    ],
)
def test_the_encoding_of_names_is_guessed_over_the_whole_archive(encoding, names):
    data = raw_archive([f"{name}/{number}.png".encode(encoding) for number, name in enumerate(names)])
    assert {picture.label for picture in read(data, "a.zip")} == set(names)


def test_names_marked_as_utf_8_are_not_guessed():
    data = raw_archive(["猫/1.png".encode(), "ÄÖ/2.png".encode()], flag=0x800)
    assert {picture.label for picture in read(data, "a.zip")} == {"猫", "ÄÖ"}


def test_a_name_that_is_wrongly_marked_as_utf_8_does_not_lose_the_archive():
    data = raw_archive([b"M\xe9lanome/1.png", b"x/2.png"], flag=0x800)
    assert [picture.label for picture in read(data, "a.zip")] == [MELANOMA, "x"]


@pytest.mark.parametrize(("shown", "checksum"), [("Größe", zlib.crc32(b"Gr??e.png")), ("Gr??e", 7)])
def test_the_unicode_path_of_info_zip_counts_if_it_belongs_to_the_name(shown, checksum):
    field = b"\1" + struct.pack("<L", checksum) + "Größe.png".encode()
    entry = zipfile.ZipInfo("Gr??e.png")
    entry.extra = struct.pack("<HH", 0x7075, len(field)) + field
    (picture,) = read(archive({entry: PNG}), "a.zip")
    assert picture.name == f"{shown}.png"


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_any_bytes_are_a_name(names):
    assert len(decode_names(names)) == len(names)


def test_invisible_signs_are_no_part_of_a_name():
    assert split_name("a\u202egnp.exe/b\u200b\ufeff\u3164.png") == ("agnp.exe", "b.png")
    assert split_name("Screenshot 3.45\u202fPM.png") == ("Screenshot 3.45 PM.png",)


def test_names_that_look_the_same_are_told_apart(tmp_path):
    (tmp_path / f"{MELANOMA}.png").write_bytes(PNG)
    (tmp_path / f"{APART}.png").write_bytes(photo("PNG", "L"))
    samples = find(tmp_path)
    assert sorted(sample.name for sample in samples) == [f"{MELANOMA} .png".replace(" ", ""), f"{MELANOMA}.png (2)"]
    assert len({sample.read().digest for sample in samples}) == 2


def test_a_folder_on_the_server_has_composed_names_and_is_read_by_its_own(tmp_path):
    (tmp_path / APART).mkdir()
    (tmp_path / APART / "1.png").write_bytes(PNG)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "2.png").write_bytes(PNG)
    (sample, _) = find(tmp_path) if find(tmp_path)[0].label != "x" else reversed(find(tmp_path))
    assert (sample.name, sample.label) == (f"{MELANOMA}/1.png", MELANOMA)
    assert sample.path.parent.name == APART
    assert find(tmp_path).named(f"{APART}/1.png") == sample
    assert (sample.read().pixels == PHOTO).all()


def test_a_name_on_the_server_that_is_not_in_utf_8_is_guessed_and_can_be_kept(tmp_path):
    place = os.fsencode(tmp_path) + b"/M\xe9lanome.png"
    Path(os.fsdecode(place)).write_bytes(PNG)
    (sample,) = find(tmp_path)
    assert sample.name == f"{MELANOMA}.png"
    assert read_sample(write_sample(sample), {}).read().name.encode() == sample.name.encode()


def test_numbers_are_an_index_only_where_no_class_is_named_by_one():
    assert match_class("0", model_of("1", "2", "3", "10")) == -1
    assert match_class("10", model_of("1", "2", "3", "10")) == 3
    assert match_class("1", model_of("cat", "dog")) == 1
    assert match_class("9" * 5000, model_of("cat", "dog")) == -1


# Archives


def test_folders_of_an_archive_give_labels():
    data = archive(
        {"set/dogs/rex.png": photo("PNG"), "set/cats/10.jpg": photo("JPEG"), "set/cats/9.dcm": dicom(PHOTO[..., 0])}
    )
    pictures = read(data, "set.zip")
    assert [(picture.name, picture.label) for picture in pictures] == [
        ("set/cats/9.dcm", "cats"),
        ("set/cats/10.jpg", "cats"),
        ("set/dogs/rex.png", "dogs"),
    ]


def test_pictures_at_the_top_of_an_archive_have_no_label():
    assert [picture.label for picture in read(archive({"a.png": photo("PNG"), "b/c.png": photo("PNG")}), "a.zip")] == [
        None,
        "b",
    ]


def test_what_is_left_out_of_an_archive_is_said_once_with_the_reason():
    files = {
        "a.png": photo("PNG"),
        "__MACOSX/._a.png": b"x",
        "notes.txt": b"x",
        "cut.jpg": photo("JPEG")[:200],
        "b.zip": archive({}),
    }
    contents = read_contents(archive(files), "a.zip")
    assert [picture.notes for picture in contents.pictures] == [()]
    assert contents.notes == (
        "1 of the 4 files in a.zip is left out: b.zip is packed as an archive inside the archive; unpack that first.",
        "1 of 2 pictures is left out: cut.jpg begins like a JPEG file but cannot be decoded: it is damaged, cut short "
        "or of a rare kind. Export it again, or save it as PNG.",
        "1 of the 4 files in a.zip left out as neither pictures nor tables: notes.txt.",
    )


def test_names_that_climb_out_are_only_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["../../up.png", "/etc/abs.png", "C:\\win\\x.png", "line\nbreak.png"]
    pictures = read(archive({name: photo("PNG") for name in names}), "../../evil.zip")
    assert {picture.name for picture in pictures} == {"up.png", "etc/abs.png", "C:/win/x.png", "linebreak.png"}
    assert list(tmp_path.iterdir()) == []


def test_a_zip_bomb_is_refused_unopened():
    with pytest.raises(ImageError, match="bytes when unpacked"):
        read(archive({"zeros.bmp": bytes(20_000_000)}, compression=zipfile.ZIP_DEFLATED), "bomb.zip")


def test_too_many_entries_or_pixels_are_refused(bounds):
    data = archive({f"{number}.png": photo("PNG") for number in range(5)})
    bounds(archive_pixels=3 * 1200)
    with pytest.raises(ImageError, match="4,800 pixels; 3,600 are allowed"):
        read(data, "many.zip")
    bounds(archive_entries=4)
    with pytest.raises(ImageError, match="5 entries; 4 are allowed"):
        read(data, "many.zip")


def test_an_archive_without_pictures_says_what_it_should_hold():
    with pytest.raises(ImageError, match=r"None of the 1 files in a.zip is a picture; put PNG"):
        read(archive({"readme.txt": b"hello"}), "a.zip")


def test_a_locked_archive_asks_for_an_open_one():
    data = bytearray(archive({"a.png": photo("PNG")}))
    data[data.find(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(ImageError, match="password"):
        read(bytes(data), "locked.zip")


# Compressions, and what cannot be read


def changed(data, before, after):
    assert before in data
    return data.replace(before, after)


def with_method(names, method, good=()):
    """A zip of which some entries say that they are compressed otherwise."""
    data = bytearray(archive(dict.fromkeys([*names, *good], PNG)))
    for name in names:
        for signature, place, length in ((b"PK\3\4", 8, 30), (b"PK\1\2", 10, 46)):
            found = data.find(name.encode(), 0 if signature == b"PK\3\4" else data.find(b"PK\1\2")) - length
            assert data[found : found + 4] == signature
            struct.pack_into("<H", data, found + place, method)
    return bytes(data)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_python_packs_is_read(compression):
    pictures = read(archive({"a/1.png": PNG, "b/2.bmp": photo("BMP")}, compression=compression), "a.zip")
    assert [(picture.label, (picture.pixels == PHOTO).all()) for picture in pictures] == [("a", True), ("b", True)]


def test_an_lzma_archive_is_read():
    pictures = read(case("z5_lzma.zip"), "z5.zip")
    assert [picture.label for picture in pictures] == ["a", "b"]
    expected = zipfile.ZipFile(CASES / "z5_lzma.zip").read("a/1.png")
    assert (pictures[0].pixels == np.asarray(Image.open(io.BytesIO(expected)).convert("RGB"))).all()


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_more_than_was_declared_is_never_unpacked(compression, bounds):
    bounds(archive_ratio=10**6)
    packed = archive({"a.bmp": bytes(30_000_000)}, compression=compression)
    lying = changed(packed, struct.pack("<L", 30_000_000), struct.pack("<L", 1_000))
    with pytest.raises(ImageError, match=r"a.bmp is damaged inside the zip; pack it again"):
        read(lying, "a.zip")


def test_files_that_share_their_bytes_are_refused():
    data = archive({"a.bmp": photo("BMP")})
    start, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 9, 9, (end - start) * 9, start, 0)
    with pytest.raises(ImageError, match="begins like a zip archive but cannot be decoded"):
        read(data[:start] + data[start:end] * 9 + tail, "a.zip")


def test_a_dictionary_of_gigabytes_is_not_made(monkeypatch):
    made = []
    real = lzma.LZMADecompressor

    def watched(*arguments, filters, **options):
        made.append(filters[0]["dict_size"])
        return real(*arguments, filters=filters, **options)

    data = archive({"a.png": PNG}, compression=zipfile.ZIP_LZMA)
    properties = data.find(b"\x09\x04\x05\x00") + 5
    monkeypatch.setattr(lzma, "LZMADecompressor", watched)
    (picture,) = read(data[:properties] + b"\xff\xff\xff\xff" + data[properties + 4 :], "a.zip")
    assert (picture.pixels == PHOTO).all()
    assert made == [max(4096, len(PNG))]


@pytest.mark.parametrize(
    ("method", "words"),
    [(9, "Deflate64"), (98, "PPMd"), (95, "XZ"), (6, "Implode"), (1, "Shrink")],
)
def test_a_compression_that_is_not_read_is_named_with_its_entries(method, words):
    contents = read_contents(with_method(["a.png", "b.png", "c.png"], method, good=["d.png", "e.png"]), "a.zip")
    assert [picture.name for picture in contents.pictures] == ["d.png", "e.png"]
    assert contents.notes == (
        f"3 of 5 pictures are left out: a.png and 2 others are compressed as {words}, which is not read; pack the zip "
        "again with Deflate.",
    )
    with pytest.raises(ImageError, match=rf"None of the 1 files in a.zip .* a.png is compressed as {words}, which is"):
        read(with_method(["a.png"], method), "a.zip")


def test_an_unknown_compression_has_its_number():
    with pytest.raises(ImageError, match=r"a.png is compressed in an unknown way \(77\), which is not read"):
        read(with_method(["a.png"], 77), "a.zip")


def test_one_locked_picture_among_others_is_left_out():
    data = bytearray(archive({"a.png": PNG, "b.png": PNG}))
    data[data.find(b"PK\1\2") + 8] |= 1
    contents = read_contents(bytes(data), "a.zip")
    assert [picture.name for picture in contents.pictures] == ["b.png"]
    assert contents.notes == (
        "1 of 2 pictures is left out: a.png is locked with a password; pack the zip again without one.",
    )


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_one_damaged_picture_does_not_lose_the_others(compression):
    data = bytearray(archive({"a.png": PNG, "b.png": PNG}, compression=compression))
    data[200] ^= 0xFF
    contents = read_contents(bytes(data), "a.zip")
    assert [picture.name for picture in contents.pictures] == ["b.png"]
    assert contents.notes == (
        "1 of 2 pictures is left out: a.png is damaged inside the zip; pack it again from sound files.",
    )


def test_folders_that_windows_writes_with_backslashes_are_folders():
    data = raw_archive([b"set\\cat\\1.png", b"set\\dog\\2.png"])
    assert [picture.label for picture in read(data, "a.zip")] == ["cat", "dog"]


# Tables and annotations


def test_tables_and_annotations_are_attached():
    kept = dict.fromkeys(("t.csv", "t.TSV", "x/t.json", "t.xml", "t.parquet", "t.txt"), b"name,label\na.png,cat\n")
    kept["t.xlsx"] = archive({"[Content_Types].xml": b"<Types/>"})
    contents = read_contents(archive({"x/a.png": PNG, "readme.txt": b"Hello,\nyou", **kept}), "a.zip")
    assert {one.name: one.data for one in contents.attachments} == kept
    assert contents.notes == ("1 of the 9 files in a.zip left out as neither pictures nor tables: readme.txt.",)
    for name, data in kept.items():
        (alone,) = read_contents(data, f"folder/{name}").attachments
        assert (alone.name, alone.data) == (f"folder/{name}", data)


def test_an_archive_of_tables_alone_is_read_for_its_tables():
    contents = read_contents(archive({"a.csv": b"a,b\n"}), "a.zip")
    assert (contents.pictures, [one.name for one in contents.attachments]) == ((), ["a.csv"])


def test_a_table_that_begins_like_a_bitmap_is_a_table():
    assert read_contents(b"BMI,name\n30,a.png\n", "t.csv").attachments


def test_a_list_of_pictures_is_attached():
    assert read_contents(b"a.png\nb.png\n", "test_list.txt").attachments
    with pytest.raises(ImageError, match="no known picture format"):
        read_contents(b"Dear reader,\nthis is a text.\n", "readme.txt")


def test_a_picture_is_a_picture_whatever_its_name():
    assert (read_contents(PNG, "scan.csv").pictures[0].pixels == PHOTO).all()


def test_a_table_that_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr("explainers.images.reading.ATTACHMENT_BYTES", 5)
    with pytest.raises(ImageError, match=r"a.csv is larger than 0 MiB"):
        read_contents(b"a,b,c\n", "a.csv")
    contents = read_contents(archive({"a.csv": b"a,b,c\n", "b.png": PNG}), "a.zip")
    assert contents.attachments == ()
    assert contents.notes[0].startswith("1 of the 2 files in a.zip is left out: a.csv is larger than 0 MiB; split it")


def test_tables_in_a_folder_on_the_server_are_found_without_links_that_lead_out(tmp_path):
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    for name in ("root/a.csv", "root/sub/b.json", "root/.hidden.csv", "root/notes.txt", "root/a.png", "outside.csv"):
        (tmp_path / name).write_bytes(b"text")
    (root / "link.csv").symlink_to(tmp_path / "outside.csv")
    assert [(one.name, one.data) for one in find_attachments(root)] == [("a.csv", b"text"), ("sub/b.json", b"text")]


def test_a_dropped_file_keeps_its_path():
    assert read_contents(PNG, "folder/cat/1.png").pictures[0].name == "folder/cat/1.png"


# Reading a picture of an upload once more

CLIP = dicom(np.stack([PHOTO[..., channel] for channel in range(3)]))


@pytest.mark.parametrize("wrap", [lambda data: ("us.dcm", data), lambda data: ("a.zip", archive({"us.dcm": data}))])
def test_another_frame_of_an_upload_is_read(wrap):
    name, data = wrap(CLIP)
    (picture,) = read_contents(data, name).pictures
    assert (picture.again(Reading(frame=3)).pixels[..., 0] == PHOTO[..., 2]).all()
    assert (picture.again(Reading()).pixels == picture.pixels).all()


def test_the_clip_and_the_scan_of_one_archive_are_read_otherwise_as_each_file_alone():
    data = case("u1_clip_and_ct_in_zip.zip")
    clip, scan = read_contents(data, "u1.zip").pictures
    files = zipfile.ZipFile(io.BytesIO(data))
    frames = pydicom.dcmread(io.BytesIO(files.read("clips/us.dcm"))).pixel_array
    other = clip.again(Reading(frame=30))
    assert (clip.frames, other.notes[0]) == (30, "frame 30 of 30")
    assert (other.pixels == read(files.read("clips/us.dcm"), "x", Reading(frame=30))[0].pixels).all()
    assert (frames[29] != frames[0]).any()
    assert (other.pixels != clip.pixels).any()
    assert (other.name, other.label, other.private, other.again) == ("clips/us.dcm", "clips", True, clip.again)
    windowed = scan.again(Reading(window=(80, 40)))
    header = pydicom.dcmread(io.BytesIO(files.read("ct/a.dcm")))
    values = header.pixel_array * float(header.RescaleSlope) + float(header.RescaleIntercept)
    expected = np.clip((values - 39.5) / 79 + 0.5, 0, 1) * 255  # PS3.3 C.11.2.1.2
    assert np.abs(windowed.pixels[..., 0] - expected).max() <= 0.51


def test_two_scans_of_one_archive_share_its_bytes():
    data = case("u1_two_scans.zip")
    scans = read_contents(data, "u1.zip", private=False).pictures
    assert all(scan.again.data is data for scan in scans)
    for scan in scans:
        other = scan.again(Reading(window=(50, 1000)))
        assert (other.pixels != scan.pixels).any()
        assert (other.name, other.label, other.private) == (scan.name, None, False)


def test_deep_values_of_other_formats_are_read_again_too():
    values = np.linspace(0, 1, 1200, dtype=np.float32).reshape(30, 40)
    files = {"a.tif": tiff(values), "b.png": save(Image.fromarray((values * 65535).astype(np.uint16)), "PNG")}
    pictures = read_contents(archive({**files, "c.png": PNG}), "a.zip").pictures
    assert [picture.again is not None for picture in pictures] == [True, True, False]
    assert (pictures[0].again(Reading(window=(0.5, 0.25))).pixels[-1] == 255).all()


def test_what_can_be_read_again_says_nothing_of_what_its_file_holds():
    assert "Doe" not in repr(read_contents(CLIP, "us.dcm"))
    assert "Doe" not in repr(read_contents(archive({"a.csv": b"Doe,Jane\n"}), "a.zip"))


# Folders


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "root"
    for name in (
        "10.png",
        "9.png",
        "cats/siamese/1.PNG",
        "cats/2.png",
        "IM0001",
        ".hidden.png",
        "notes.txt",
        "cut.png",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(photo("PNG"))
    (root / "cut.png").write_bytes(photo("PNG")[:300])
    (tmp_path / "outside.png").write_bytes(photo("PNG"))
    (root / "link.png").symlink_to(tmp_path / "outside.png")
    (root / "inner.png").symlink_to(root / "9.png")
    (root / "loop").symlink_to(root)
    return root


def test_a_folder_lists_its_pictures_in_natural_order_without_links_that_lead_out(folder):
    names = [sample.name for sample in find(folder)]
    assert names == ["9.png", "10.png", "cats/2.png", "cats/siamese/1.PNG", "cut.png", "IM0001", "inner.png"]


def test_the_folder_next_to_it_is_the_label_of_a_sample_and_of_its_picture(folder):
    samples = find(folder)
    assert [sample.label for sample in samples] == [None, None, "cats", "siamese", None, None, None]
    assert samples.named("cats/siamese/1.PNG").read().label == "siamese"
    assert find(folder, level=2).named("cats/siamese/1.PNG").label == "cats"


def test_a_sample_is_read_when_asked_and_is_not_private(folder):
    picture = find(folder)[0].read()
    assert (picture.pixels == PHOTO).all()
    assert not picture.private
    with pytest.raises(ImageError, match=r"cut.png begins like a PNG file"):
        find(folder).named("cut.png").read()


def test_a_sample_that_is_gone_says_so(folder):
    sample = find(folder)[0]
    sample.path.unlink()
    with pytest.raises(ImageError, match="cannot be read from the server"):
        sample.read()


def test_an_unknown_sample_names_those_there_are(folder):
    with pytest.raises(SelectionError, match=r"no picture '8.png'. Choose one of 9.png, 10.png"):
        find(folder).named("8.png")


def test_a_folder_without_pictures_is_an_error(tmp_path):
    with pytest.raises(ImageError, match="no folder on the server"):
        find(tmp_path / "missing")
    with pytest.raises(ImageError, match="no pictures in any of its 0 files"):
        find(tmp_path)


def test_a_file_that_was_changed_is_another_sample_in_the_same_place(folder):
    before = find(folder).named("9.png")
    assert find(folder).named("9.png") == before
    (folder / "9.png").write_bytes(photo("PNG", "L"))
    after = find(folder).named("9.png")
    assert (after != before, hash(after) != hash(before)) == (True, True)
    assert write_sample(after) == write_sample(before)
    assert name_samples((after,)) != name_samples((before,))
    assert read_sample(write_sample(after), {}) == replace(after, stamp=None)


def test_ten_thousand_pictures_are_listed_without_opening_or_resolving_each(tmp_path, monkeypatch):
    for number in range(20):
        (tmp_path / f"{number}.png").write_bytes(PNG)
    asked = []
    monkeypatch.setattr(Path, "resolve", lambda self, **_: asked.append(self) or self)
    monkeypatch.setattr(Path, "open", None)
    assert [sample.name for sample in find(tmp_path)] == [f"{number}.png" for number in range(20)]
    assert asked == [tmp_path]


def test_phones_pictures_are_listed(tmp_path):
    for name in ("a.heic", "b.HEIF", "c.avif", "d.jxl"):
        (tmp_path / name).write_bytes(b"x")
    assert len(find(tmp_path)) == 4
