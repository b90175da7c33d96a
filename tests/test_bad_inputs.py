"""A corpus of bad inputs of every kind: each gets a sentence of its own, leaves nothing behind and takes no memory."""

from __future__ import annotations

import gc
import os
import re
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from onnx import TensorProto, helper
from PIL import Image

from explainers.errors import LightboxError
from explainers.graph import sandbox
from explainers.graph.class_names import read_class_names
from explainers.graph.loader import load
from explainers.images.reading import read, read_contents
from explainers.info import Layer
from explainers.notes import read_names
from explainers.preprocessing import Preprocessing
from explainers.settings import read_file
from tests import model_files, onnx_files, picture_files
from tests.model_files import PICKLES, Touch, archived, assembled, saved, tiny, zipped
from tests.picture_files import archive, dicom, dicom_file, enlarge, photo

#: A file's name, its content that would like to make a marker file, and the words of the sentence that it gets.
Bad = tuple[str, Callable[[Path], bytes], str]

IMAGES = torch.zeros(2, 3, 8, 8)
LAYERS = (Layer("conv1", "conv1", "Conv2d", (8, 4, 4), "channels first", (4, 4)),)


def weights() -> dict[str, torch.Tensor]:
    return dict(model_files.resnet().state_dict())


def with_endless_loop() -> bytes:
    """A loop without a number of turns, whose condition stays true."""
    again = helper.make_node("Identity", ["more"], ["still"])
    body = helper.make_graph(
        [again, helper.make_node("Identity", ["value"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("more", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    loop = helper.make_node("Loop", ["", "yes", "image"], ["scores"], name="/endless", body=body)
    return onnx_files.write(loop, yes=np.array(True))


def png_with_text_bomb() -> bytes:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("comment", "0" * 100_000_000, zip=True)
    return picture_files.save(Image.new("L", (8, 8)), "PNG", pnginfo=info)


def flipped(data: bytes, place: int) -> bytes:
    """One bit the other way round; the place may be counted from the end."""
    changed = bytearray(data)
    changed[place] ^= 0x10
    return bytes(changed)


def nested_zip() -> bytes:
    return archive({"inner.zip": archive({"a.png": photo("PNG")})})


def locked_zip() -> bytes:
    data = bytearray(archive({"a.png": photo("PNG")}))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def unread_zip() -> bytes:
    data = bytearray(archive({"a.png": photo("PNG")}))
    data[8] = data[data.index(b"PK\x01\x02") + 10] = 9
    return bytes(data)


def overlapping_zip() -> bytes:
    """Many entries of the central directory for one and the same member."""
    data = archive({"a.png": photo("BMP")})
    start = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    entry = data[start:end]
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 60_000, 60_000, len(entry) * 60_000, start, 0)
    return data[:start] + entry * 60_000 + tail


def plain(make: Callable[[], bytes]) -> Callable[[Path], bytes]:
    return lambda _: make()


PICKLED: dict[str, Bad] = {
    f"pickled object {wrapping}": ("weights.pt", lambda marker, wrap=wrap: wrap(Touch(marker)), r"pickled object \(")
    for wrapping, wrap in PICKLES.items()
}
ARCHIVES: dict[str, Bad] = {
    f"archive with {attack}": (
        "model.pt2",
        lambda marker, make=make: zipped(make(marker)),
        r"pickled object \("
        if attack == "pickled sample inputs"
        else "as a pickled object|none of the op|has a member",
    )
    for attack, make in (model_files.RUNNING | model_files.LURKING).items()
}
ONNX: dict[str, Bad] = {
    f"ONNX: {words}": ("model.onnx", plain(make), words) for make, _, words in onnx_files.REFUSALS
} | {
    "ONNX with a loop that never ends": (
        "model.onnx",
        plain(with_endless_loop),
        r"'/endless' \(Loop\) has over 10,000 passes",
    ),
    "ONNX of an opset to come": (
        "model.onnx",
        plain(lambda: onnx_files.write(*onnx_files.head(), opset=99, **onnx_files.WEIGHTS)),
        "of opset 99",
    ),
    "ONNX with NaN weights": (
        "model.onnx",
        plain(lambda: onnx_files.write(*onnx_files.head(), **onnx_files.WEIGHTS | {"shift": np.full(5, np.nan, "f4")})),
        "model gives outputs that are not finite",
    ),
}
WEIGHTS: dict[str, Bad] = {
    "an empty model file": ("empty.pt", plain(bytes), "of 0 bytes, is no model file"),
    "text as a model file": ("model.pt", plain(lambda: b"hello, world"), "of 12 bytes, is no model file"),
    "safetensors cut off": ("a.safetensors", plain(lambda: safetensors.torch.save(weights())[:-40]), "safetensors"),
    "safetensors with a flipped bit": (
        "b.safetensors",
        plain(lambda: flipped(safetensors.torch.save(weights()), 9)),
        "safetensors file is damaged",
    ),
    "safetensors with a header longer than the file": (
        "c.safetensors",
        plain(lambda: (1 << 20).to_bytes(8, "little") + b"{}" + bytes(90)),
        "header claims 1,048,576 bytes",
    ),
    "a checkpoint cut off": ("cut.pt", plain(lambda: saved(weights())[:-40]), "archive is damaged"),
    "a checkpoint with a flipped bit": (
        "flipped.pt",
        plain(lambda: flipped(saved(tiny().state_dict()), 80)),
        "no readable checkpoint",
    ),
    "an older checkpoint cut off": (
        "old.pt",
        plain(lambda: saved(weights(), _use_new_zipfile_serialization=False)[:-4000]),
        "no readable checkpoint",
    ),
    "a checkpoint without weights": ("none.pt", plain(lambda: saved({"epoch": 3})), "no named tensors"),
    "a checkpoint of huge tensors": (
        "huge.pt",
        plain(lambda: saved({"a": torch.zeros(1).expand(1 << 31)})),
        "1 tensors of 8,589,934,592 bytes",
    ),
    "a checkpoint of too many tensors": (
        "many.pt",
        plain(lambda: safetensors.torch.save({str(number): torch.zeros(1) for number in range(20_001)})),
        "20,001 tensors of",
    ),
    "a checkpoint that fits nothing": ("tiny.pt", plain(lambda: saved(tiny().state_dict())), "No architecture of timm"),
    "a pickle of a text without end": (
        "text.pt",
        plain(lambda: assembled(b"\x8d" + bytes([255] * 6 + [127, 0]), b"a.")),
        "bytes in a unicodestring8",
    ),
    "a pickle of a number of too many digits": (
        "number.pt",
        plain(lambda: assembled(b"L" + b"9" * 100_000 + b"L\n.")),
        "4300 digits",
    ),
    "a pickle that reads what it never wrote": ("memory.pt", plain(lambda: assembled(b"h\x07.")), r"checkpoint \(7\)"),
    "a pickle without end": ("end.pt", plain(lambda: assembled(b"]")), "pickle exhausted before seeing STOP"),
    "a pickle nested without end": (
        "deep.pt",
        plain(lambda: assembled(b")" + b"\x85" * 1_000_000 + b"}h\x00K\x01s.".replace(b"h\x00", b"N"))),
        "no named tensors",
    ),
    "NaN weights": (
        "nan.pt",
        plain(lambda: saved(weights() | {"fc.bias": torch.full((7,), torch.nan)})),
        "nan gives outputs that are not finite",
    ),
    "a program cut off": ("a.pt2", plain(lambda: model_files.tiny_archive()[:-40]), "no readable checkpoint"),
    "a program with a flipped bit": (
        "b.pt2",
        plain(lambda: flipped(model_files.tiny_archive(), model_files.tiny_archive().index(b'"graph_module"') + 1)),
        "archive cannot be opened",
    ),
    "a compressed program": (
        "bomb.pt2",
        plain(
            lambda: zipped(
                model_files.with_member("data/weights/weight_0", bytes(50_000_000)), compression=zipfile.ZIP_DEFLATED
            )
        ),
        "compressed, overlap or share a name",
    ),
    "a program whose values outgrow a batch": (
        "program.pt2",
        plain(model_files.outgrowing),
        "compares the pictures of a batch",
    ),
    **{
        f"a program that is {module.__name__}": ("program.pt2", plain(partial(archived, module(), IMAGES)), words)
        for module, words in (
            (model_files.Huge, "has a value .* of 8,000,000,000 bytes for one picture"),
            (model_files.DecidedByNumbers, "depends on the picture"),
            (model_files.Dropping, r"draws random numbers \(by torch.ops.aten.rand_like"),
        )
    },
    "a zip archive of pictures as a model": ("p.pt2", plain(nested_zip), "zip archive but not one that torch wrote"),
}
PICTURES: dict[str, Bad] = {
    "an empty picture": ("empty.png", plain(bytes), "empty.png is empty"),
    "a PDF document": ("a.png", plain(lambda: b"%PDF-1.7 ..."), "a PDF document"),
    "a video": ("a.jpg", plain(lambda: b"\0\0\0\x18ftypisom" + bytes(200)), "is a video"),
    "an SVG drawing": ("a.png", plain(lambda: b"<svg onload='alert(1)'/>"), "a text or SVG file"),
    "a pickle as a picture": ("a.png", lambda marker: PICKLES["without torch"](Touch(marker)), "no known picture"),
    **{
        f"{format} cut off": (f"cut.{format}", plain(partial(lambda kind: photo(kind)[:120], format)), f"a {format} f")
        for format in ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF")
    },
    **{
        f"{format} of 30,000 x 30,000 pixels": (f"large.{format}", plain(partial(enlarge, format, 30_000)), "64 mil")
        for format in ("PNG", "JPEG", "BMP", "GIF")
    },
    "PNG with a flipped bit": ("flipped.PNG", plain(lambda: flipped(photo("PNG"), 18)), "a PNG file"),
    "PNG that is black and huge": (
        "bomb.png",
        plain(lambda: picture_files.save(Image.new("1", (9_000, 9_000)), "PNG")),
        "9000 × 9000 pixels",
    ),
    "PNG with a text that inflates": ("text.png", plain(png_with_text_bomb), "text.png begins like a PNG file"),
    "TIFF of numbers that are none": (
        "nan.tif",
        plain(lambda: picture_files.tiff(np.full((3, 4), np.nan, np.float32))),
        "no finite value",
    ),
    "DICOM without pixels": ("report.dcm", plain(lambda: dicom_file("reportsi.dcm")), "DICOM file without a picture"),
    "DICOM cut off": ("cut.dcm", plain(lambda: dicom_file("MR_truncated.dcm")), "a DICOM file but cannot be decoded"),
    "DICOM that is deflated": ("deflated.dcm", plain(lambda: dicom_file("image_dfl.dcm")), "deflated DICOM file"),
    "DICOM of a huge frame": (
        "large.dcm",
        plain(lambda: dicom(np.zeros((2, 2), np.uint8), Rows=65_535, Columns=65_535)),
        "65535 × 65535 pixels",
    ),
    "DICOM of frames that are not there": (
        "frames.dcm",
        plain(lambda: dicom(np.zeros((2, 2), np.uint8), NumberOfFrames=2**31 - 1)),
        "frames.dcm has 2,147,483,647 frames",
    ),
    "zip bomb": (
        "bomb.zip",
        plain(lambda: archive({"zeros.bmp": bytes(20_000_000)}, compression=zipfile.ZIP_DEFLATED)),
        "20,000,000 bytes when unpacked",
    ),
    "zip bomb in BZIP2": (
        "bomb.zip",
        plain(lambda: archive({"zeros.bmp": bytes(20_000_000)}, compression=zipfile.ZIP_BZIP2)),
        "20,000,000 bytes when unpacked",
    ),
    "zip in LZMA that holds more than it says": (
        "lying.zip",
        plain(
            lambda: archive({"zeros.bmp": bytes(20_000_000)}, compression=zipfile.ZIP_LZMA).replace(
                struct.pack("<L", 20_000_000), struct.pack("<L", 1_000)
            )
        ),
        "zeros.bmp is damaged inside the zip",
    ),
    "zip in a compression that is not read": ("deflate64.zip", plain(unread_zip), "compressed as Deflate64"),
    "zip of overlapping entries": ("overlap.zip", plain(overlapping_zip), "60,000 entries; 10,000 are allowed"),
    "zip of nothing but a zip": ("nested.zip", plain(nested_zip), "None of the 1 files in nested.zip"),
    "zip cut off": ("cut.zip", plain(lambda: archive({"a.png": photo("PNG")})[:-30]), "like a zip archive but"),
    "zip with a password": (
        "locked.zip",
        plain(locked_zip),
        "locked with a password",
    ),
    "zip with paths out of it": (
        "paths.zip",
        plain(lambda: archive({"../../../../marker": b"x", "/etc/cron.d/x.txt": b"x"})),
        "None of the 2 files in paths.zip",
    ),
    "a name with a path": ("../../etc/passwd", plain(lambda: b"root"), r"^passwd is in no known"),
    "a name of control characters": ("\x1b[2J\n\0\u202egnp.x", plain(lambda: b"%PDF"), r"^\[2Jgnp.x is a PDF"),
    "a name in another script": ("画像 صورة.png", plain(lambda: b"%PDF"), r"^画像 صورة.png is a PDF"),
    "a name that is nothing": ("/..//", plain(lambda: b"%PDF"), r"^picture is a PDF"),
}
TABLES: dict[str, Bad] = {
    "class names that are no text": ("classes.txt", plain(lambda: b"\xff\xfe\0"), "not text in UTF-8"),
    "class names with a gap": ("classes.json", plain(lambda: b'{"0": "cat", "2": "dog"}'), "without a gap"),
    "class names in broken JSON": ("classes.json", plain(lambda: b'["cat"'), "no valid JSON"),
    "JSON nested without end": ("classes.json", plain(lambda: b"[" * 200_000), "JSON"),
    "as many class names as are too few": ("classes for five.txt", plain(lambda: b"cat\ndog"), "names 2 classes"),
    "names of concepts without a column": ("notes.csv", plain(lambda: b"layer,name\n"), "no column concept"),
    "names of concepts of no layer": ("notes.csv", plain(lambda: b"layer,concept,name\nfc,1,a"), "no layer 'fc'"),
    "names of concepts with a huge number": (
        "notes.csv",
        plain(lambda: b"layer,concept,name\nconv1," + b"9" * 5_000 + b",a"),
        "is no concept of conv1",
    ),
    "a huge cell in names of concepts": (
        "notes.csv",
        plain(lambda: b"layer,concept,name\nconv1,1," + b"a" * 200_000),
        "name has 200000 characters|field larger",
    ),
    "settings that are no TOML": ("settings.toml", plain(lambda: b"memory = = 3"), "cannot be read"),
    "names in a zip of 9,000 digits": ("digits.zip", plain(lambda: archive({"9" * 9_000: b"x"})), "in digits.zip is"),
    "names of concepts at the end of time": (
        "notes.csv",
        plain(lambda: b"layer,concept,name,date\nconv1,1,a,0001-01-01T00:00+14:00"),
        "no past date",
    ),
    "class names in a huge cell": ("classes.csv", plain(lambda: b"a" * 200_000 + b",b"), "names are no table"),
    "settings that are no text": ("settings.toml", plain(lambda: b"\xff\xfe\0"), "cannot be read"),
}
CORPUS = PICKLED | ARCHIVES | ONNX | WEIGHTS | PICTURES | TABLES


def open_input(name: str, data: bytes, folder: Path) -> object:
    """Give an input to the reader that it would come to."""
    if name.startswith("classes for five"):
        return load(model_files.tiny_archive(), "tiny.pt2", class_names=read_class_names(data, name))
    if name.startswith("classes"):
        return read_class_names(data, name)
    if name == "notes.csv":
        return read_names("digest", LAYERS, data)
    if name == "settings.toml":
        (folder / name).write_bytes(data)
        return read_file(folder / name)
    if Path(name).suffix in (".pt", ".pt2", ".safetensors", ".onnx"):
        size = None if name.endswith((".pt2", ".onnx")) else Preprocessing((64, 64), 64)
        return load(data, name, preprocessing=size)
    return read(data, name)


# What each gets, and what it leaves behind

#: What inputs did while ``watching``: everything that Python itself reports of files written and processes begun.
deeds: list[str] = []
watching: list[bool] = []

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
EVENTS = ("os.mkdir", "os.rename", "os.remove", "os.system", "os.exec", "os.posix_spawn", "socket.connect")


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if not watching:
        return
    if event in EVENTS or event.startswith("subprocess."):
        deeds.append(f"{event} {arguments}")
    if (
        event == "open"
        and arguments[2] is not None
        and arguments[2] & WRITES
        and "__pycache__" not in str(arguments[0])
    ):
        deeds.append(f"open {arguments[0]}")


sys.addaudithook(watch)


@cache
def answer(kind: str, folder: Path) -> str:
    """What a bad input is told; an AssertionError if it is taken."""
    name, make, _ = CORPUS[kind]
    data = make(folder / "marker")
    watching.extend([True] * (name != "settings.toml"))
    try:
        opened = open_input(name, data, folder)
    except LightboxError as error:
        return str(error)
    finally:
        watching.clear()
    raise AssertionError(f"{kind} was taken as {opened}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("inputs")


@pytest.fixture(scope="module", autouse=True)
def memory_before() -> float:
    """Megabytes that the process has once the readers are loaded."""
    load(model_files.tiny_archive(), "tiny.pt2")
    load(onnx_files.write(*onnx_files.head(), **onnx_files.WEIGHTS), "tiny.onnx")
    load(saved(weights()), "weights.pt", preprocessing=Preprocessing((64, 64), 64))
    read(dicom_file("CT_small.dcm"), "a.dcm")
    return resident()


def resident() -> float:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.fixture(autouse=True)
def elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(folder)
    yield
    assert not (folder / "marker").exists()


@pytest.mark.parametrize("kind", CORPUS)
def test_a_bad_input_gets_a_clear_sentence_and_touches_no_file(kind: str, folder: Path) -> None:
    deeds.clear()
    told = answer(kind, folder)
    assert re.search(CORPUS[kind][2], told)
    assert told.isprintable()
    assert told.endswith(".")
    assert 40 < len(told) < 700
    assert not deeds
    assert {file.name for file in folder.iterdir()} <= {"settings.toml"}


def test_inputs_of_different_kinds_are_told_different_things(folder: Path) -> None:
    kinds: dict[str, set[str]] = {}
    for kind, (_, _, words) in CORPUS.items():
        kinds.setdefault(answer(kind, folder), set()).add(words)
    assert {told: sorted(words) for told, words in kinds.items() if len(words) > 1} == {}
    assert len(kinds) >= 60


@pytest.mark.parametrize(
    "kind", ["pickled object alone", "archive with pickled weight", "ONNX with a loop that never ends"]
)
def test_the_worker_tells_the_same_and_touches_no_file_either(kind: str, folder: Path) -> None:
    name, make, _ = CORPUS[kind]
    with pytest.raises(LightboxError) as caught:
        sandbox.load(make(folder / "marker"), name)
    assert str(caught.value) == answer(kind, folder)


@pytest.mark.parametrize(
    ("bound", "name", "make", "words"),
    [
        ("picture_pixels", "a.png", lambda: photo("PNG"), "40 × 30 pixels"),
        ("picture_frames", "a.dcm", lambda: dicom(np.zeros((3, 2, 2), np.uint8)), "3 frames; 2 are"),
        ("archive_entries", "a.zip", lambda: archive(dict.fromkeys("abc", photo("PNG"))), "3 entries; 2 are"),
        ("archive_bytes", "a.zip", lambda: archive({"a": photo("PNG")}), "bytes when unpacked; 2 are"),
        ("archive_pixels", "a.zip", lambda: archive({"a": photo("PNG")}), "1,200 pixels; 2 are"),
        ("model_bytes", "a.pt", lambda: saved(tiny().state_dict()), "and 2 bytes"),
        ("model_tensors", "a.pt", lambda: saved(tiny().state_dict()), "at most 2 are read"),
        ("model_header", "a.safetensors", lambda: safetensors.torch.save(tiny().state_dict()), "may have 2"),
        ("model_classes", "a.pt2", model_files.tiny_archive, "5 outputs; at most 2"),
    ],
)
def test_every_bound_is_a_setting(
    bound: str, name: str, make: Callable[[], bytes], words: str, bounds: Callable[..., None], folder: Path
) -> None:
    bounds(**{bound: 2})
    with pytest.raises(LightboxError, match=words):
        open_input(name, make(), folder)


def with_corrupt_exif() -> bytes:
    return photo("JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(range(200)))


@pytest.mark.parametrize(
    ("make", "note"),
    [
        (lambda: photo("TIFF", "CMYK"), "CMYK converted"),
        (lambda: picture_files.save(Image.fromarray(picture_files.ramp(np.uint16)), "PNG"), "16-bit values 12..4031"),
        (
            lambda: picture_files.save(
                Image.new("L", (4, 3)), "GIF", save_all=True, append_images=[Image.new("L", (4, 3), 9)]
            ),
            "frame 1 of 2",
        ),
        (
            lambda: archive({"../../up.png": photo("PNG"), "bad.png": b"x"}),
            "1 of 2 pictures is left out: bad.png is in no",
        ),
        (lambda: dicom(np.zeros((2, 2), np.uint8), BurnedInAnnotation="YES"), "text burned into the pixels stays"),
        (lambda: picture_files.save(Image.new("RGB", (1, 1)), "PNG"), ""),
        (with_corrupt_exif, ""),
    ],
    ids=["CMYK", "16-bit", "animated", "paths in a zip", "burned in", "1 pixel", "corrupt EXIF"],
)
def test_an_odd_picture_is_shown_with_a_note(make: Callable[[], bytes], note: str) -> None:
    contents = read_contents(make(), "odd")
    assert note in "; ".join((*contents.notes, *contents.pictures[0].notes))
    assert "/" not in contents.pictures[0].name


def test_memory_is_back_when_all_bad_inputs_are_gone(folder: Path, memory_before: float) -> None:
    for kind in CORPUS:
        answer(kind, folder)
    assert resident() - memory_before < 200
