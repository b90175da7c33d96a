"""DICOM: the values of one frame, through the modality and window transforms that its file asks for.

Nothing else of a header is read: who was examined, where and when never enters this process's memory as text.
"""

from __future__ import annotations

import io
import re

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from explainers.errors import ImageError
from explainers.images.depth import Shown
from explainers.images.dicom_codestreams import guess_syntax
from explainers.images.dicom_display import show_colours, show_grey, show_palette
from explainers.images.dicom_header import Header
from explainers.images.dicom_pixels import (
    Layout,
    compressed_frame,
    count_frames,
    decode_cells,
    find_padding,
    leave_out,
    mask_bits,
    read_layout,
    settle_high,
)
from explainers.images.picture import USUAL, Picture, Reading, check_frame, check_size, decoding

#: The attributes that say how to show pixels, PS3.3 C.7.5.1, C.7.6.3, C.7.6.16, C.8.11.3, C.11.1 and C.11.2.
ATTRIBUTES = [
    "BitsAllocated",
    "BitsStored",
    "BluePaletteColorLookupTableData",
    "BluePaletteColorLookupTableDescriptor",
    "BurnedInAnnotation",
    "Columns",
    "DoubleFloatPixelData",
    "DoubleFloatPixelPaddingRangeLimit",
    "DoubleFloatPixelPaddingValue",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "FloatPixelData",
    "FloatPixelPaddingRangeLimit",
    "FloatPixelPaddingValue",
    "GreenPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableDescriptor",
    "HighBit",
    "ModalityLUTSequence",
    "NumberOfFrames",
    "PerFrameFunctionalGroupsSequence",
    "PhotometricInterpretation",
    "PixelData",
    "PixelPaddingRangeLimit",
    "PixelPaddingValue",
    "PixelPresentation",
    "PixelRepresentation",
    "PlanarConfiguration",
    "RedPaletteColorLookupTableData",
    "RedPaletteColorLookupTableDescriptor",
    "RescaleIntercept",
    "RescaleSlope",
    "Rows",
    "SamplesPerPixel",
    "SegmentedBluePaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData",
    "SharedFunctionalGroupsSequence",
    "VOILUTFunction",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
]

#: The transfer syntaxes of pixels that are not compressed.
NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)

#: Representations whose length has four bytes.
LONG = (b"OB", b"UN", b"UT", b"SQ", b"UC")

#: The first element of a data set without a preamble: groups 2 and 8, implicit or explicit, little endian.
FIRST = re.compile(
    rb"[\x02\x08]\0[^\xff]\0(?:(?:AE|AS|CS|DA|DS|DT|IS|LO|LT|PN|SH|ST|TM|UI|UL|US)[\0-\xff][\0\x01]"
    rb"|(?:OB|UN|UT|SQ|UC)\0\0[\0-\xff]{4}|[\0-\xfe][\0\x01]\0\0)",
    re.DOTALL,
)


def is_bare(head: bytes) -> bool:
    """Whether a file begins like a DICOM data set without a preamble, by its first elements."""
    if not FIRST.match(head):
        return False
    if head[4:6] in LONG:
        return True
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    length = int.from_bytes(head[6:8] if explicit else head[4:8], "little")
    second = head[8 + length : 12 + length]
    # Elements have an even length and come in the order of their tags.
    return length % 2 == 0 and (len(second) < 4 or tag_of(head[:4]) < tag_of(second) < 0x7FE1_0000)


def tag_of(start: bytes) -> int:
    """The number of an element's tag."""
    return int.from_bytes(start[:2], "little") << 16 | int.from_bytes(start[2:4], "little")


def read_dicom(data: bytes, name: str, reading: Reading = USUAL) -> Picture:
    """Decode one frame as the standard's grey-scale pipeline shows it (PS3.3 C.11); raises ImageError.

    A window, in the units after rescaling, replaces the file's own.
    """
    if DeflatedExplicitVRLittleEndian.encode() in data:
        raise ImageError(f"{name} is a deflated DICOM file, which can blow up in memory. Export it uncompressed.")
    with decoding(name, "a DICOM file"):
        header = Header(pydicom.dcmread(io.BytesIO(data), specific_tags=list(ATTRIBUTES), force=True))
        find_syntax(name, header)
        leave_out(header.dataset)
        layout = read_layout(name, header)
        index = check_frame(name, reading.frame, layout.frames)
        check_size(name, layout.columns, layout.rows)
        take_frame_attributes(header, index)
        shown = show(name, header, layout, index, reading)
        burned_in = header.text("BurnedInAnnotation")
    notes = (*shown.notes, *header.notes)
    if layout.frames > 1:
        notes = (f"frame {index + 1} of {layout.frames}", *notes)
    if burned_in != "NO":
        notes += (f"text burned into the pixels{'' if burned_in == 'YES' else ', if any,'} stays",)
    pixels = shown.pixels if shown.pixels.ndim == 3 else np.repeat(shown.pixels[..., None], 3, axis=-1)
    return Picture(name, pixels, notes=notes, frames=layout.frames, window=shown.window)


def show(name: str, header: Header, layout: Layout, index: int, reading: Reading) -> Shown:
    """Decode a frame and bring it to 8 bits."""
    cells, layout = decode_cells(header, layout, index)
    layout = settle_high(header, cells, layout)
    stored = mask_bits(cells, layout)
    if layout.samples == 3:
        return show_colours(stored, layout)
    if layout.interpretation == "PALETTE COLOR" and (shown := show_palette(stored, header, layout)):
        return shown
    padding = find_padding(cells, stored, header, layout)
    return show_grey(name, stored, padding, header, layout, reading.window)


def find_syntax(name: str, header: Header) -> None:
    """Raise ImageError if a file holds no pixels, or pixels in a compression that cannot be decoded.

    A file that does not name its transfer syntax gets the one that its bytes show.
    """
    dataset = header.dataset
    if not any(keyword in dataset for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise ImageError(f"{name} is a DICOM file without a picture, such as a report. Choose one with pixel data.")
    stated = dataset.file_meta.get("TransferSyntaxUID")
    syntax = stated or guess(header)
    if syntax in NATIVE and is_compressed(dataset):
        syntax = guess(header)
    if syntax != stated:
        words = "states a transfer syntax that its pixels do not have" if stated else "names no transfer syntax"
        header.notes.append(f"the file {words}; read as {syntax.name}")
    dataset.file_meta.TransferSyntaxUID = syntax
    try:
        get_decoder(syntax)
    except NotImplementedError:
        kind = "in a way that is not known" if syntax.name == syntax else f"as {syntax.name}"
        raise ImageError(f"{name} is compressed {kind}. Export it uncompressed.") from None


def is_compressed(dataset: Dataset) -> bool:
    """Whether pixels are stored as compressed ones are: in fragments, without a length of their own."""
    return "PixelData" in dataset and bool(dataset["PixelData"].is_undefined_length)


def guess(header: Header) -> UID:
    """The transfer syntax by which a data set was read, or that its compressed pixels show."""
    implicit, little = header.dataset.original_encoding
    if is_compressed(header.dataset):
        return guess_syntax(compressed_frame(header.dataset, 0, count_frames(header)))
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def take_frame_attributes(header: Header, index: int) -> None:
    """Copy rescale and window of one frame from where multi-frame files keep them to where plain files do."""
    shared = header.items("SharedFunctionalGroupsSequence")[:1]
    own = header.items("PerFrameFunctionalGroupsSequence")[index : index + 1]
    for group in (*shared, *own):
        for keyword in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for item in group.items(keyword):
                merge(header.dataset, item.dataset)


def merge(dataset: Dataset, item: Dataset) -> None:
    """Put an item's elements, as they were read, into a data set."""
    for keyword in (
        "RescaleSlope",
        "RescaleIntercept",
        "WindowWidth",
        "WindowCenter",
        "VOILUTFunction",
        "VOILUTSequence",
    ):
        tag = pydicom.tag.Tag(keyword)
        if tag in item:
            dataset[tag] = item.get_item(tag)
