"""The one entry for model files: bytes become a proposal to look at, and with it a Model."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath

import torch
from torch.export import ExportedProgram

from explainers.errors import ModelError, UnsafeFileError
from explainers.graph import architectures, zoo
from explainers.graph.archive import EXPORT_AGAIN, open_archive, signature
from explainers.graph.checkpoint import check_entries, open_zip, printable, telling
from explainers.graph.class_names import imagenet_names
from explainers.graph.export import export, from_program
from explainers.graph.guessing import find_networks, guess
from explainers.graph.matching import describe, fill, match
from explainers.graph.model import Model
from explainers.graph.networks import Weights, read_networks
from explainers.graph.onnx.builder import DYNAMIC
from explainers.graph.onnx.file import parse
from explainers.graph.onnx.importer import Imported, build, import_graph
from explainers.graph.precision import compute_in_single
from explainers.preprocessing import Preprocessing
from explainers.proposal import Guess, Proposal
from explainers.settings import settings

#: What a checkpoint is compared with that resembles no architecture.
DEFAULT = "torchvision/resnet50"


def propose(data: bytes, file_name: str, architecture: str | None = None, network: str | None = None) -> Proposal:
    """Tell what a model file seems to hold, without running it.

    ``architecture`` overrules the best guess, ``network`` chooses one of several in the file. Raises UnsafeFileError
    for a file that could run code when opened, and ModelError for one that is damaged or of an unknown format.
    """
    return read(data, file_name, architecture, network)[0]


def load(
    data: bytes,
    file_name: str,
    *,
    architecture: str | None = None,
    network: str | None = None,
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] = (),
    name: str | None = None,
) -> Model:
    """Make a Model of a model file; what is not given is taken from the proposal.

    Raises UnsafeFileError and ModelError as ``propose`` does, and ModelError if weights do not fit the architecture,
    class names do not match the outputs, the model cannot be exported, or its outputs are not finite.
    """
    proposal, content = read(data, file_name, architecture, network, preprocessing.size if preprocessing else None)
    name = name or proposal.name
    preprocessing = preprocessing or proposal.preprocessing
    class_names = tuple(class_names) or proposal.class_names
    check_choices(proposal, preprocessing, class_names)
    if isinstance(content, ExportedProgram):
        with telling("The program is not as torch exports it", EXPORT_AGAIN):
            model = from_program(content, name, preprocessing, class_names, "pt2", proposal.notes)
    elif isinstance(content, Imported):
        model = build(content, name, preprocessing, class_names)
    else:
        chosen = architecture or proposal.architecture
        if chosen is None:
            raise ModelError(proposal.notes[-1])
        module, notes = fill(chosen, content, preprocessing.size)
        source = f"{proposal.format} as {chosen}"
        notes = tuple(dict.fromkeys([*proposal.notes, *notes]))
        model = export(module, name, preprocessing, class_names, source, notes)
    check_outputs(model)
    return model


def read(
    data: bytes, file_name: str, architecture: str | None, network: str | None, size: tuple[int, int] | None = None
) -> tuple[Proposal, Weights | ExportedProgram | Imported]:
    """Read a file by the format that its content shows; returns the proposal with what it was made from.

    ``size`` (height, width) is for ONNX files that leave the size of images open.
    """
    kind = sniff(data)
    if kind == "pt2":
        return read_archive(data, file_name)
    if kind == "onnx":
        return read_onnx(data, file_name, size)
    networks = find_networks(read_networks(data, kind))
    name = next(iter(networks)) if network is None else network
    if name not in networks:
        raise ModelError(f"There is no network '{printable(name)}' in the file. Choose one of {', '.join(networks)}.")
    proposal = propose_architecture(networks[name], kind, file_name, architecture)
    if len(networks) > 1:
        others = ", ".join(printable(other or "the file's own") for other in networks if other != name)
        note = f"The file holds several networks: this is {printable(name)}, and there is {others}."
        proposal = replace(proposal, networks=tuple(networks), network=name, notes=(note, *proposal.notes))
    return proposal, networks[name]


def sniff(data: bytes) -> str:
    """Tell a format by its content: "safetensors", "checkpoint", "onnx" or "pt2"; raises ModelError for any other."""
    if data.startswith(b"PK") or zipfile.is_zipfile(io.BytesIO(data)):
        return sniff_zip(data)
    if data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= max(settings().model_header, len(data)):
        return "safetensors"
    if data[:1] == b"\x80":
        return "checkpoint"
    if re.match(rb"\x08[\x01-\x20][\x12\x1a\x22\x28\x32\x3a\x42]", data):
        return "onnx"
    raise ModelError(
        f"The file, of {len(data):,} bytes, is no model file that Lightbox knows. It reads weights "
        "(.safetensors, .pt, .pth), ONNX models (.onnx) and exported programs (.pt2)."
    )


def sniff_zip(data: bytes) -> str:
    """Tell the formats of torch apart, which are all zip archives."""
    archive = open_zip(data)
    names = {name.partition("/")[2] or name for name in archive.namelist()}
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        raise UnsafeFileError(
            "The file is a TorchScript archive, which brings code of its own. Export the original model "
            f"instead. {EXPORT_AGAIN}"
        )
    if any(name.startswith("serialized_") for name in names):
        raise UnsafeFileError(
            "The file is an archive of torch 2.7 or older, whose pickled objects could run code. "
            f"Use torch 2.8 or newer. {EXPORT_AGAIN}"
        )
    check_entries(archive, len(data))
    if "archive_format" in names:
        return "pt2"
    if "data.pkl" in names:
        return "checkpoint"
    raise ModelError("The file is a zip archive but not one that torch wrote. Upload the model file itself.")


def read_archive(data: bytes, file_name: str) -> tuple[Proposal, ExportedProgram]:
    """Open a ``.pt2`` archive; the preprocessing is ImageNet's, for want of better knowledge."""
    program = open_archive(data)
    with telling("The program is not as torch exports it", EXPORT_AGAIN):
        channels, size, classes = signature(program)
        precision = compute_in_single(program)
    default = Preprocessing()
    scaling = (default.mean, default.std) if channels == 3 else ((0.5,) * channels, (0.5,) * channels)
    preprocessing = Preprocessing(size, round(min(size) * 256 / 224), *scaling)
    notes = ("The archive does not say how images are prepared: check size, mean and standard deviation.", *precision)
    names = imagenet_names() if classes == 1000 else ()
    return Proposal(plain_name(file_name), "pt2", (), (), classes, channels, preprocessing, names, notes), program


def read_onnx(data: bytes, file_name: str, size: tuple[int, int] | None) -> tuple[Proposal, Imported]:
    """Import an ONNX file, with the preprocessing and class names that are in it, as far as they are."""
    made = import_graph(parse(data), size)
    if not made.batched:
        raise ModelError(f"The ONNX file's output does not keep the images of a batch apart. {DYNAMIC}.")
    proposal = Proposal(
        name=plain_name(file_name),
        format="onnx",
        guesses=(),
        choices=(),
        classes=made.classes,
        channels=made.file.channels,
        preprocessing=made.preprocessing,
        class_names=made.class_names,
        notes=made.notes,
    )
    return proposal, made


def propose_architecture(weights: Weights, kind: str, file_name: str, architecture: str | None) -> Proposal:
    """Propose what a checkpoint may be read as; ``architecture`` overrules the best guess."""
    guesses = guess(weights, file_name)
    chosen = architecture or (guesses[0].architecture if guesses else DEFAULT)
    found = match(chosen, weights)
    return Proposal(
        plain_name(file_name),
        kind,
        guesses,
        tuple(architectures.fingerprints()),
        found.classes,
        found.channels,
        resize(zoo.preprocessing(chosen, found.channels), found.size),
        zoo.class_names(chosen, found.classes),
        (
            *weights.notes,
            *(() if architecture else doubt(guesses)),
            *(describe(found, weights) if found.complete else ()),
            *note_channels(found.channels),
        ),
    )


def resize(preprocessing: Preprocessing, size: tuple[int, int] | None) -> Preprocessing:
    """The same preprocessing for another size of images."""
    if not size:
        return preprocessing
    return replace(preprocessing, size=size, resize=preprocessing.resize * size[0] // preprocessing.size[0])


def note_channels(channels: int) -> tuple[str, ...]:
    """Say that a model takes channels that pictures do not have."""
    if channels in (1, 3):
        return ()
    return (f"The model takes {channels} channels; pictures have three, so it can be opened but asked nothing.",)


def doubt(guesses: Sequence[Guess]) -> tuple[str, ...]:
    """Say in words that several architectures fit, or none."""
    if not guesses:
        return (
            "No architecture of timm or torchvision has tensors like these. Choose the one they were trained with.",
        )
    best, *others = (guess.architecture for guess in guesses)
    if not guesses[0].exact:
        return (f"No architecture fits exactly; {guesses[0].fitting} of {guesses[0].tensors} tensors fit {best}.",)
    if not others:
        return ()
    return (f"{', '.join(others[:5])} would fit as well as {best}: see whether the test prediction is right.",)


def plain_name(file_name: str) -> str:
    """A model's name from its file's: without folders, ending and control characters."""
    stem = PurePath(file_name.replace("\\", "/")).stem
    return "".join(letter for letter in stem if letter.isprintable())[:80] or "model"


def check_choices(proposal: Proposal, preprocessing: Preprocessing, class_names: Sequence[str]) -> None:
    """Raise ModelError unless channels and class names agree with the file, and there are not too many classes."""
    if proposal.classes > settings().model_classes:
        raise ModelError(
            f"The model has {proposal.classes:,} outputs; at most {settings().model_classes:,} are explained. "
            "Upload a model of fewer classes."
        )
    if class_names and len(class_names) != proposal.classes:
        raise ModelError(
            f"The file names {len(class_names)} classes, the model has {proposal.classes}. Give one name for each "
            "of the model's outputs, in their order, or none."
        )
    if proposal.format in ("pt2", "onnx") and preprocessing.size != proposal.preprocessing.size:
        raise ModelError(
            f"The program takes images of {proposal.preprocessing.size}, not of {preprocessing.size} pixels (height, "
            "width). Export it again for another size."
        )
    if preprocessing.channels != proposal.channels:
        raise ModelError(
            f"The preprocessing has {preprocessing.channels} means, the model takes {proposal.channels} channels. "
            "Give one mean and one standard deviation for each channel."
        )


def check_outputs(model: Model) -> None:
    """Raise ModelError unless a black image and a random one get finite outputs, and the same alone as together."""
    info = model.info
    shape = (1, info.preprocessing.channels, *info.preprocessing.size)
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    with telling(f"The model {info.name} cannot be run", "Export or save it for float32 images of this size."):
        together, alone = model(torch.cat([torch.zeros_like(noise), noise])), model(noise)
    if not together.isfinite().all():
        raise ModelError(
            f"The model {info.name} gives outputs that are not finite numbers. Its weights may be damaged, or the "
            "training diverged: try an earlier checkpoint."
        )
    if not torch.allclose(together[1:], alone, rtol=1e-2, atol=1e-2 * float(alone.abs().max())):
        raise ModelError(
            f"The model {info.name} gives an image other outputs alone than beside another, so it mixes the images of "
            "a batch. Export it again in inference mode, with a dynamic batch dimension."
        )
