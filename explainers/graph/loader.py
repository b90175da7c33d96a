"""The one entry for model files: bytes become a proposal to look at, and with it a Model."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

import torch

from explainers.errors import ModelError, UnsafeFileError
from explainers.graph import architectures, zoo
from explainers.graph.archive import check_images, open_archive
from explainers.graph.bounds import check_memory
from explainers.graph.checkpoint import check_entries, open_zip, printable, telling
from explainers.graph.class_names import imagenet_names
from explainers.graph.cuts import sizes
from explainers.graph.ends import propose_preprocessing
from explainers.graph.export import Reading, Traced, export, finish, make_model, trace
from explainers.graph.guessing import find_networks, guess
from explainers.graph.matching import describe, fill, match
from explainers.graph.model import Model
from explainers.graph.networks import Weights, read_networks
from explainers.graph.onnx.file import parse
from explainers.graph.onnx.importer import import_graph
from explainers.graph.program import EXPORT_AGAIN
from explainers.outputs import check_kind, count_names, guess_kind
from explainers.preprocessing import Preprocessing
from explainers.proposal import Guess, Proposal
from explainers.settings import settings

#: What a checkpoint is compared with that resembles no architecture.
DEFAULT = "torchvision/resnet50"


def propose(
    data: bytes,
    file_name: str,
    architecture: str | None = None,
    output: str | None = None,
    network: str | None = None,
) -> Proposal:
    """Tell what a model file seems to hold, without running it.

    ``architecture`` overrules the best guess, ``output`` picks one of several by its name in ``Proposal.outputs``, and
    ``network`` one of several in a file of weights. Raises UnsafeFileError for a file that could run code when opened,
    and ModelError for one that is damaged, of an unknown format, or without that output or network.
    """
    return read(data, file_name, Choice(architecture, output, network))[0]


def load(
    data: bytes,
    file_name: str,
    *,
    architecture: str | None = None,
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] = (),
    name: str | None = None,
    kind: str | None = None,
    unit: str = "",
    usual: Sequence[float] = (),
    output: str | None = None,
    network: str | None = None,
) -> Model:
    """Make a Model of a model file; what is not given is taken from the proposal.

    ``output`` and ``network`` pick one of several by name; ``kind`` says what the outputs mean, see
    ``explainers.outputs.KINDS``. Raises UnsafeFileError and ModelError as ``propose`` does, and ModelError if weights
    do not fit the architecture, class names do not match the outputs, the model cannot be exported or takes too much
    memory, or its outputs are not finite or mean something that cannot be explained.
    """
    choice = Choice(architecture, output, network, preprocessing.size if preprocessing else None)
    proposal, content = read(data, file_name, choice)
    preprocessing = preprocessing or proposal.preprocessing
    reading = Reading(tuple(class_names) or proposal.class_names, kind or proposal.kind, unit, usual)
    check_choices(proposal, preprocessing, reading)
    proposal = replace(proposal, name=name or proposal.name, preprocessing=preprocessing)
    model = make(proposal, content, reading, architecture or proposal.architecture)
    check_outputs(model)
    return model


def make(proposal: Proposal, content: Weights | Traced, reading: Reading, architecture: str | None) -> Model:
    """Make a Model of what was read, as it is proposed; raises ModelError."""
    name, preprocessing = proposal.name, proposal.preprocessing
    if isinstance(content, Traced):
        return make_model(content, name, preprocessing, reading, proposal.format, proposal.notes)
    if architecture is None:
        raise ModelError(proposal.notes[-1])
    module, notes = fill(architecture, content, preprocessing.size)
    notes = tuple(dict.fromkeys([*proposal.notes, *notes]))
    return export(module, name, preprocessing, (), f"{proposal.format} as {architecture}", notes, reading)


@dataclass(frozen=True)
class Choice:
    """What a person chose before a file is read: None for the best guess.

    ``size`` (height, width) is for ONNX files that leave the size of images open.
    """

    architecture: str | None = None
    output: str | None = None
    network: str | None = None
    size: tuple[int, int] | None = None


def read(data: bytes, file_name: str, choice: Choice) -> tuple[Proposal, Weights | Traced]:
    """Read a file by the format that its content shows; returns the proposal with what it was made from."""
    kind = sniff(data)
    if kind == "pt2":
        return read_archive(data, file_name, choice.output)
    if kind == "onnx":
        return read_onnx(data, file_name, choice.size, choice.output)
    networks = find_networks(read_networks(data, kind))
    name = next(iter(networks)) if choice.network is None else choice.network
    if name not in networks:
        raise ModelError(f"There is no network '{printable(name)}' in the file. Choose one of {', '.join(networks)}.")
    proposal = propose_architecture(networks[name], kind, file_name, choice.architecture)
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


def read_archive(data: bytes, file_name: str, output: str | None = None) -> tuple[Proposal, Traced]:
    """Open a ``.pt2`` archive, with the preprocessing that is in it, as far as it is."""
    archive = open_archive(data, output)
    with telling("The program is not as torch exports it", EXPORT_AGAIN):
        check_images(archive.program)
        traced = trace(archive.program)
        proposal = propose_traced(traced, file_name, "pt2", notes=archive.notes)
    return replace(proposal, outputs=archive.outputs), traced


def read_onnx(
    data: bytes, file_name: str, size: tuple[int, int] | None, output: str | None = None
) -> tuple[Proposal, Traced]:
    """Import an ONNX file, with the preprocessing and class names that are in it, as far as they are."""
    made = import_graph(parse(data), size, output)
    file = made.file
    proposal = propose_traced(made.traced, file_name, "onnx", file.class_names, made.notes, file.pixels)
    return replace(proposal, outputs=made.outputs), made.traced


def propose_traced(
    traced: Traced,
    file_name: str,
    form: str,
    class_names: Sequence[str] = (),
    notes: Sequence[str] = (),
    pixels: bool = False,
) -> Proposal:
    """Propose how a network that brings its own graph is read; a normalisation in the graph is taken off it."""
    (image,) = traced.graph.graph.find_nodes(op="placeholder")
    _, channels, height, width = sizes(traced.graph, image.meta["val"])
    preprocessing, note = propose_preprocessing(traced.graph, (height, width), pixels)
    finish(traced.graph)
    kind, reason = guess_kind(traced.shape, traced.squashing)
    classes = traced.shape[0]
    if len(class_names) not in (classes, count_names(kind, classes)):
        class_names = imagenet_names() if traced.shape == (1000,) else ()
    return Proposal(
        plain_name(file_name),
        form,
        (),
        (),
        classes,
        channels,
        preprocessing,
        tuple(class_names),
        (*notes, *traced.notes, note, *note_channels(channels)),
        shape=traced.shape,
        kind=kind,
        reason=reason,
    )


def propose_architecture(weights: Weights, form: str, file_name: str, architecture: str | None) -> Proposal:
    """Propose what a checkpoint may be read as; ``architecture`` overrules the best guess."""
    guesses = guess(weights, file_name)
    chosen = architecture or (guesses[0].architecture if guesses else DEFAULT)
    found = match(chosen, weights)
    shape = zoo.output_shape(chosen, found.classes)
    kind, reason = guess_kind(shape, "")
    return Proposal(
        plain_name(file_name),
        form,
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
        shape=shape,
        kind=kind,
        reason=reason,
        chosen=architecture,
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
    return (f"The model takes {channels} channels: add pictures as uncompressed TIFF files with as many.",)


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


def check_choices(proposal: Proposal, preprocessing: Preprocessing, reading: Reading) -> None:
    """Raise ModelError unless channels, kind and class names agree with the file, and it has not too many classes."""
    check_kind(reading.kind, proposal.shape)
    if proposal.classes > settings().model_classes:
        raise ModelError(
            f"The model has {proposal.classes:,} outputs; at most {settings().model_classes:,} are explained. "
            "Upload a model of fewer classes."
        )
    names, given = count_names(reading.kind, proposal.classes), len(reading.class_names)
    if given and given not in (names, proposal.classes):
        raise ModelError(
            f"The file names {given} classes, the model has {names}. Give one name for each "
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
    if info.source in ("pt2", "onnx"):
        check_memory(model)
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
