"""How the pixels of a DICOM file lie in their cells, and the stored values of one frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Real
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.tag import Tag
from pydicom.uid import JPEG2000TransferSyntaxes, JPEGTransferSyntaxes

from explainers.errors import ImageError
from explainers.images.dicom_codestreams import check_frame_data, is_cut, stated_colours
from explainers.images.dicom_colours import convert_full, convert_partial
from explainers.images.dicom_decoders import choose_plugin
from explainers.images.dicom_header import Header

GREYS = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT")
KNOWN = {words.replace(" ", ""): words for words in (*GREYS, *COLOURS)}

OFFSETS = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")

#: Bits are masked by ``mask_bits``, for compressed data too.
UNMASKED: Any = {"correct_unused_bits": False}


@dataclass(frozen=True)
class Layout:
    """What a header says about each pixel (PS3.3 C.7.6.3), with what stands in for values that cannot be read."""

    columns: int
    rows: int
    frames: int
    samples: int
    allocated: int
    stored: int
    high: int
    signed: bool
    interpretation: str

    @property
    def ends(self) -> tuple[int, int]:
        """The smallest and the largest value that can be stored."""
        low = -(2 ** (self.stored - 1)) if self.signed else 0
        return low, low + 2**self.stored - 1


def read_layout(name: str, header: Header) -> Layout:
    """Read what decoding needs; raises ImageError for channels that are not shown, ValueError without a size."""
    columns, rows, allocated = (header.words(keyword)[:1] for keyword in ("Columns", "Rows", "BitsAllocated"))
    if not (columns and rows and allocated):
        raise ValueError
    stated = KNOWN.get(header.text("PhotometricInterpretation").replace(" ", ""), "")
    samples = header.count("SamplesPerPixel", 3 if stated in COLOURS else 1, range(1, 65536))
    if samples not in (1, 3):
        raise ImageError(f"{name} has {samples} values per pixel; Lightbox reads DICOM of 1 or 3. Export it as RGB.")
    stored, high, signed = allocated[0], allocated[0] - 1, False
    if "PixelData" in header.dataset:
        stored = header.count("BitsStored", stored, range(1, stored + 1))
        high = header.count("HighBit", stored - 1, range(stored - 1, allocated[0]))
        signed = header.count("PixelRepresentation", 0, range(2)) == 1
    return Layout(
        columns[0], rows[0], count_frames(header), samples, allocated[0], stored, high, signed,
        choose_interpretation(header, stated, samples),
    )  # fmt: skip


def count_frames(header: Header) -> int:
    """How many frames a header declares; 1 with a note where that cannot be read."""
    frames = header.decimal("NumberOfFrames", 1, zero=False) if header.raw("NumberOfFrames")[0].strip() else 1
    if frames >= 1 and frames == int(frames):
        return int(frames)
    header.note("NumberOfFrames", "is no number of frames; 1 used instead")
    return 1


def choose_interpretation(header: Header, stated: str, samples: int) -> str:
    """The photometric interpretation, or with a note what its channels and compression make likely."""
    syntax, keyword = header.dataset.file_meta.TransferSyntaxUID, "PhotometricInterpretation"
    if stated not in (COLOURS if samples == 3 else GREYS):
        likely = "RGB" if samples == 3 else "MONOCHROME2"
        header.note(keyword, f"{'does not fit' if stated else 'is missing or unknown'}; {likely} used instead")
        return likely
    if stated in ("YBR_ICT", "YBR_RCT") and syntax not in JPEG2000TransferSyntaxes:
        # What tools leave behind that decompress JPEG 2000, whose decoders give RGB.
        header.note(keyword, f"is {stated}, which only JPEG 2000 can be; shown as RGB")
        return "RGB"
    return stated


def decode_cells(header: Header, layout: Layout, index: int) -> tuple[Real[np.ndarray, "h w *channel"], Layout]:
    """Decode one frame as its cells hold it, colours as RGB, once its data are known to ask for what the header says.

    Returns how the cells lie with them, for compressed data say themselves how many bits they have.
    """
    dataset, syntax = header.dataset, header.dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        layout = check_compressed(header, layout, index)
    write(header, layout)
    options = UNMASKED | {"decoding_plugin": choose_plugin(syntax)}
    cells, properties = get_decoder(syntax).as_array(dataset, index=index, raw=True, **options)
    if not str(properties["photometric_interpretation"]).startswith(("YBR_FULL", "YBR_PARTIAL")):
        return cells, layout
    convert = convert_partial if layout.interpretation.startswith("YBR_PARTIAL") else convert_full
    return convert(cells, layout.stored), layout


def check_compressed(header: Header, layout: Layout, index: int) -> Layout:
    """Check that a compressed frame asks for what its header says, and take from it what it says of its values."""
    syntax = header.dataset.file_meta.TransferSyntaxUID
    frame = compressed_frame(header.dataset, index, layout.frames)
    bits = check_frame_data(frame, syntax, layout.columns, layout.rows, layout.samples, layout.allocated)
    if is_cut(frame):
        header.note("PixelData", "has no end of its compressed data; part of the picture may be missing")
    if bits > layout.allocated:
        header.note("BitsAllocated", f"is less than the {bits} bits of its compressed data, which are followed")
        layout = replace(layout, allocated=-(-bits // 8) * 8, stored=bits)
    # A codestream of no more bits than are stored has none below them.
    layout = replace(layout, high=layout.high if bits > layout.high >= layout.stored else layout.stored - 1)
    if syntax in JPEGTransferSyntaxes:
        # Decoders of JPEG give bytes or words by the data alone.
        allocated = 8 if bits <= 8 else 16
        layout = replace(layout, allocated=allocated, stored=min(layout.stored, allocated))
    if layout.samples == 1:
        return layout
    interpretation = follow_colours(header, layout, stated_colours(frame))
    return replace(layout, stored=min(layout.stored, bits), interpretation=interpretation)


def follow_colours(header: Header, layout: Layout, stated: str) -> str:
    """The photometric interpretation, or with a note that of the compressed data where the two contradict."""
    if not stated or header.dataset.file_meta.TransferSyntaxUID not in JPEGTransferSyntaxes:
        return layout.interpretation
    if stated[:3] == layout.interpretation[:3]:
        return layout.interpretation
    header.note("PhotometricInterpretation", f"contradicts its compressed data, which say {stated}; they are followed")
    return stated


def write(header: Header, layout: Layout) -> None:
    """Write what was understood into the data set that pydicom decodes, whatever stood there and in what form."""
    dataset = header.dataset
    found: dict[str, int | str] = {"PhotometricInterpretation": subsampling(header, layout)}
    if layout.samples == 3:
        # It means nothing for compressed data (PS3.5 8.2.1); decoders of RLE set it themselves.
        compressed = dataset.file_meta.TransferSyntaxUID.is_encapsulated
        found["PlanarConfiguration"] = 0 if compressed else header.count("PlanarConfiguration", 0, range(2))
    else:
        dataset.pop(Tag("PlanarConfiguration"), None)
    if "PixelData" in dataset:
        found |= {"BitsStored": layout.stored, "PixelRepresentation": int(layout.signed)}
    found |= {"NumberOfFrames": layout.frames, "SamplesPerPixel": layout.samples, "Rows": layout.rows}
    found |= {"Columns": layout.columns, "BitsAllocated": layout.allocated}
    for keyword, value in found.items():
        dataset.add_new(keyword, dictionary_VR(keyword), value)


def leave_out(dataset: Dataset) -> None:
    """Take out what pydicom would look at though it means nothing: other pixels, and offsets that cannot be."""
    if "PixelData" in dataset:
        for keyword in ("FloatPixelData", "DoubleFloatPixelData"):
            dataset.pop(Tag(keyword), None)
    offsets, lengths = (Header(dataset).raw(keyword)[0] for keyword in OFFSETS)
    compressed = dataset.file_meta.TransferSyntaxUID.is_encapsulated
    if not (compressed and offsets and len(offsets) == len(lengths) and len(offsets) % 8 == 0):
        for keyword in OFFSETS:
            dataset.pop(Tag(keyword), None)


def subsampling(header: Header, layout: Layout) -> str:
    """How colours are decoded: uncompressed ones share chroma only where their length says so too."""
    if not layout.interpretation.endswith("_422"):
        return layout.interpretation
    whole = layout.columns * layout.rows * 3 * layout.allocated // 8 * layout.frames
    compressed = header.dataset.file_meta.TransferSyntaxUID.is_encapsulated
    if compressed or len(header.dataset.PixelData) < whole:
        return "YBR_FULL_422"
    header.note("PhotometricInterpretation", "says that chroma is shared, which it is not; read as YBR_FULL")
    return "YBR_FULL"


def compressed_frame(dataset: Dataset, index: int, frames: int) -> bytes:
    """The bytes of one compressed frame."""
    offsets = tuple(dataset[keyword].value for keyword in OFFSETS) if OFFSETS[0] in dataset else None
    return get_frame(dataset.PixelData, index, number_of_frames=frames, extended_offsets=offsets)


def mask_bits(cells: Real[np.ndarray, "h w *channel"], layout: Layout) -> Real[np.ndarray, "h w *channel"]:
    """Keep the stored bits of each cell, with their sign: overlays and what else lies beside them are left out."""
    width = cells.dtype.itemsize * 8
    if cells.dtype.kind not in "iu" or layout.allocated == 1 or layout.stored >= width:
        return cells
    # A compressed value of as many bits as are stored has none below them.
    high = layout.high if layout.high < width else layout.stored - 1
    return (cells << (width - 1 - high)) >> (width - layout.stored)


def settle_high(header: Header, cells: Real[np.ndarray, "h w *channel"], layout: Layout) -> Layout:
    """Take the lowest bits for the stored ones where a header says otherwise, but nothing lies where it says."""
    below = layout.high - layout.stored + 1
    if cells.dtype.kind not in "iu" or below <= 0 or layout.high >= cells.dtype.itemsize * 8:
        return layout
    above = cells >> layout.stored
    if not (cells & (2**below - 1)).any() or not ((above == 0) | (above == -1)).all():
        return layout
    header.note("HighBit", f"is {layout.high}, but the values lie in the lowest {layout.stored} bits; read from there")
    return replace(layout, high=layout.stored - 1)


def find_padding(
    cells: Real[np.ndarray, "h w"], values: Real[np.ndarray, "h w"], header: Header, layout: Layout
) -> Bool[np.ndarray, "h w"]:
    """Which pixels pad the picture out to its rectangle (PS3.3 C.7.5.1.1.2)."""
    none = np.zeros(values.shape, bool)
    bounds = read_padding(header, layout)
    if not bounds:
        return none
    found = (values >= min(bounds)) & (values <= max(bounds))
    if len(bounds) == 1 and cells.dtype.kind in "iu":
        found |= cells == bounds[0]  # which may lie outside of what the stored bits can say
    if found.all() and values.min() < values.max():
        header.note("PixelPaddingValue", "would leave no pixel; taken for values")
        return none
    return found


def read_padding(header: Header, layout: Layout) -> list[float]:
    """The value that pads, and the other end of its range if there is one; none without."""
    kinds = {"FloatPixelData": ("Float", "f"), "DoubleFloatPixelData": ("DoubleFloat", "d")}
    prefix, kind = next((found for keyword, found in kinds.items() if keyword in header.dataset), ("", ""))
    ends: list[float | None] = []
    for keyword in (f"{prefix}PixelPaddingValue", f"{prefix}PixelPaddingRangeLimit"):
        ends += (header.binary(keyword, kind) if prefix else header.words(keyword))[:1]
        if not ends:
            return []
    # Whatever a file states of their sign: as that of the pixels.
    wrap = 65536 if layout.signed else 0
    return [end - wrap if not prefix and end > 32767 else end for end in ends if end is not None]
