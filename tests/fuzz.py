"""Damaged inputs for every reader: ``python -m tests.fuzz [COUNT [SEED]]``, or a slice of them as a test.

Valid files are changed bit by bit, cut, and spliced with themselves and each other; members of archives are changed
before they are packed, or their checksums would keep the damage from the readers within. A reader may take what comes
of it or refuse it in a sentence; anything else is a finding.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import safetensors.torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from explainers.cases.arranging import arrange, read_material
from explainers.errors import LightboxError
from explainers.graph.class_names import read_class_names
from explainers.graph.loader import propose
from explainers.images import Attachment, File
from explainers.images.reading import read_contents
from explainers.info import Layer
from explainers.notes import read_names
from explainers.settings import make, read_file
from tests import model_files, onnx_files, picture_files, table_files

LAYERS = (Layer("conv1", "conv1", "Conv2d", (8, 4, 4), "channels first", (4, 4)),)
NAMES = b'layer;concept;name;author;date\nconv1;3;hair;Ada;2026-01-31T12:00:00Z\nconv1;4;"a; b";Ben;2026-02-01\n'
SETTINGS = b'memory = 5\nupload_seconds = 7\ncache = "/somewhere"\nnotes = "/else"\n'


#: How many seconds of a processor an input may take, and how many times as long a reader may not be heard of.
BUSY, STUCK = 10, 6


class BusyError(BaseException):
    """An input takes too long; of a kind that no reader catches."""


@dataclass(frozen=True)
class Target:
    """A valid input and the reader that it is changed for."""

    content: bytes
    open: Callable[[bytes], object]


def open_settings(data: bytes) -> object:
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(data)
        return make(read_file(Path(file.name)))


def open_table(name: str, data: bytes) -> object:
    """Understand pictures with a table or annotations."""
    entries = [File(file, path=Path(file)) for file in ("x/a.png", "x/b.png", "x.jpg")]
    return arrange(entries, read_material([Attachment(name, data)]), ("dog", "cat"))


def open_member(members: dict[str, bytes], name: str, data: bytes) -> object:
    """Read an archive in which one member is this."""
    return propose(model_files.zipped(members | {name: data}), "model.pt")


@cache
def targets() -> dict[str, Target]:
    model = partial(propose, file_name="model.pt")
    weights = model_files.tiny().state_dict()
    checkpoint = model_files.saved(weights)
    found = {
        f"picture: {name}": Target(data, partial(read_contents, file_name="a"))
        for name, data in (picture_files.SEEDS | picture_files.further_seeds()).items()
    }
    found |= {
        "safetensors": Target(safetensors.torch.save(weights), model),
        "checkpoint": Target(checkpoint, model),
        "older checkpoint": Target(model_files.saved(weights, _use_new_zipfile_serialization=False), model),
        "pickle of arrays": Target(pickle.dumps({"model": {"a.weight": np.zeros((3, 4)), "n": np.int64(3)}}), model),
        "archive": Target(model_files.tiny_archive(), model),
        "ONNX": Target(onnx_files.write(*onnx_files.head(), **onnx_files.WEIGHTS), model),
        "names of concepts": Target(NAMES, partial(read_names, "digest", LAYERS)),
        "class names, CSV": Target(b"index,name\n1,dog\n0,cat\n", partial(read_class_names, file_name="a.csv")),
        "class names, JSON": Target(
            b'{"0": ["n01", "cat"], "1": "dog"}', partial(read_class_names, file_name="a.json")
        ),
        "class names, YAML": Target(b"names:\n  0: cat\n  1: dog\n", partial(read_class_names, file_name="a.yaml")),
        "class names, text": Target(b"0 cat\n1: dog\n", partial(read_class_names, file_name="a.txt")),
        "settings": Target(SETTINGS, open_settings),
    }
    found |= {
        f"table: {name}": Target(data, partial(open_table, name))
        for name, data in {
            "t.csv": b"id,label,age\na,dog,1\nb,cat,2\n",
            "t.xlsx": table_files.write_excel(),
            "t.parquet": table_files.write_parquet(),
            "t.jsonl": b'{"file_name": "a.png", "label": "dog"}\n{"file_name": "b.png", "label": "cat"}\n',
            "t.json": table_files.COCO,
            "t.xml": table_files.VOC.encode(),
        }.items()
    }
    for whole, parts in {
        checkpoint: ["data.pkl", "version"],
        model_files.tiny_archive(): [
            "models/model.json",
            "data/weights/model_weights_config.json",
            "data/constants/model_constants_config.json",
            "data/sample_inputs/model.pt",
        ],
    }.items():
        members = model_files.members_of(whole)
        found |= {f"member {name}": Target(members[name], partial(open_member, members, name)) for name in parts}
    members = model_files.members_of(model_files.structured_archive())
    program = "models/model.json"
    found["program of several outputs"] = Target(members[program], partial(open_member, members, program))
    return found


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Change bits of an input, splice in a part of another or of itself, and cut it."""
    data = bytearray(content)
    place = st.one_of(st.integers(0, len(data) - 1), st.integers(0, min(len(data), 700) - 1))
    for where, value in draw(st.lists(st.tuples(place, st.integers(0, 255)), max_size=8)):
        data[where] = value
    if draw(st.integers(0, 3)) == 0:
        where, length = draw(place), draw(st.sampled_from(picture_files.LENGTHS))
        data[where : where + 4] = length.to_bytes(4)
    if draw(st.booleans()):
        source = draw(st.sampled_from([content, *(target.content for target in targets().values())]))
        start, end = draw(st.integers(0, len(source))), draw(st.integers(0, 200))
        where = draw(place)
        data[where : where + draw(st.integers(0, 200))] = source[start : start + end]
    if draw(st.integers(0, 3)) == 0:
        del data[draw(st.integers(0, len(data))) :]
    return bytes(data)


def answer(target: Target, data: bytes) -> str:
    """The sentence by which an input is refused, or that it was read."""
    try:
        target.open(data)
    except LightboxError as error:
        return str(error)
    except BusyError:
        raise AssertionError(f"It keeps its reader busy for more than {BUSY} seconds") from None
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return "Read."


def fuzz(name: str, count: int, start: int = 0, begin: Callable[[bytes], object] = len) -> None:
    """Read ``count`` damaged inputs of one target; raises what its reader raised, with the smallest such input.

    ``begin`` is told each input before it is read.
    """
    target = targets()[name]

    @seed(start)
    @settings(
        max_examples=count, deadline=None, database=None, phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(data=damaged(target.content))
    def check(data: bytes) -> None:
        begin(data)
        told = answer(target, data)
        assert told.endswith((".", "?"))
        assert told.isprintable()

    check()


def fuzz_apart(name: str, count: int, start: int = 0) -> str:
    """Fuzz a target in a process of its own; returns what was found, "" for nothing.

    An input that keeps its reader busy for too long is a finding, as one is that ends the process: the smallest such.
    """
    with tempfile.NamedTemporaryFile() as place, tempfile.NamedTemporaryFile() as told:
        if (child := os.fork()) == 0:
            os._exit(work_apart(name, count, start, Path(place.name), Path(told.name)))
        until = time.monotonic() + BUSY * STUCK
        known, code = b"", None
        while code is None and time.monotonic() < until:
            time.sleep(0.05)
            if (data := Path(place.name).read_bytes()) != known:
                known, until = data, time.monotonic() + BUSY * STUCK
            ended, status = os.waitpid(child, os.WNOHANG)
            code = status if ended else None
        if code is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return f"does not end, nor can it be stopped: {known!r}"
        return Path(told.name).read_text() or (f"ended by {code}: {known!r}" if code else "")


def work_apart(name: str, count: int, start: int, place: Path, told: Path) -> int:
    """Fuzz a target, with each input written down before it is read and a clock that runs while it is."""

    def ring(*_: object) -> None:
        raise BusyError

    def begin(data: bytes) -> None:
        place.write_bytes(data)
        signal.setitimer(signal.ITIMER_VIRTUAL, BUSY)

    signal.signal(signal.SIGVTALRM, ring)
    try:
        fuzz(name, count, start, begin)
    except BaseException as error:
        words = [repr(error), *getattr(error, "__notes__", ())]
        told.write_text("\n".join(part[:1000] for part in words))
    return 0


def main(count: int = 20_000, start: int = 0) -> None:
    """Fuzz all targets, and tell each one's findings."""
    share, findings = -(-count // len(targets())), 0
    for name in targets():
        begun = time.monotonic()
        if found := fuzz_apart(name, share, start):
            findings += 1
            print(f"{name}: {found}", flush=True)
        print(f"{name}: {share} inputs in {time.monotonic() - begun:.1f} s", flush=True)
    print(f"{share * len(targets()):,} inputs, {findings} findings")
    sys.exit(findings > 0)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
