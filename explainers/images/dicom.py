"""DICOM: the values of one frame, through the modality and window transforms that its file asks for.

Nothing else of a header is read: who was examined, where and when never enters this process's memory as text.
"""

from __future__ import annotations

import io
import re

import numpy as np
import pydicom
from jaxtyping import Real, UInt8
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi
from pydicom.pixels.utils import pixel_array
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from explainers.errors import ImageError
from explainers.images.picture import (
    USUAL,
    Picture,
    Reading,
    Window,
    check_frame,
    check_size,
    decoding,
    reduce_depth,
    to_bytes,
)

#: The attributes that say how to show pixels, PS3.3 C.7.6.3, C.7.6.16, C.8.11.3, C.11.1 and C.11.2.
ATTRIBUTES = [
    "BitsAllocated",
    "BitsStored",
    "BluePaletteColorLookupTableData",
    "BluePaletteColorLookupTableDescriptor",
    "BurnedInAnnotation",
    "Columns",
    "DoubleFloatPixelData",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "FloatPixelData",
    "GreenPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableDescriptor",
    "HighBit",
    "ModalityLUTSequence",
    "NumberOfFrames",
    "PerFrameFunctionalGroupsSequence",
    "PhotometricInterpretation",
    "PixelData",
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


def read_dicom(data: bytes, name: str, reading: Reading = USUAL) -> Picture:
    """Decode one frame as the standard's grey-scale pipeline shows it (PS3.3 C.11); raises ImageError.

    A window, in the units after rescaling, replaces the file's own.
    """
    if DeflatedExplicitVRLittleEndian.encode() in data:
        raise ImageError(f"{name} is a deflated DICOM file, which can blow up in memory. Export it uncompressed.")
    with decoding(name, "a DICOM file"):
        dataset = pydicom.dcmread(io.BytesIO(data), specific_tags=list(ATTRIBUTES))
        check_decodable(name, dataset)
        frames = int(dataset.get("NumberOfFrames") or 1)
        index = check_frame(name, reading.frame, frames)
        check_size(name, dataset.Columns, dataset.Rows)
        check_codestream(dataset, index, frames)
        take_frame_attributes(dataset, index)
        values = pixel_array(dataset, index=index)
        colour = dataset.SamplesPerPixel == 3 or dataset.PhotometricInterpretation == "PALETTE COLOR"
        pixels, notes = show_colours(values, dataset) if colour else show_grey(name, values, dataset, reading.window)
    if frames > 1:
        notes = (f"frame {index + 1} of {frames}", *notes)
    burned_in = dataset.get("BurnedInAnnotation")
    if burned_in != "NO":
        notes += (f"text burned into the pixels{'' if burned_in == 'YES' else ', if any,'} stays",)
    return Picture(name, pixels, notes=notes, frames=frames)


def check_decodable(name: str, dataset: Dataset) -> None:
    """Raise ImageError if a file holds no pixels, or pixels in a compression that cannot be decoded."""
    if not any(keyword in dataset for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise ImageError(f"{name} is a DICOM file without a picture, such as a report. Choose one with pixel data.")
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        get_decoder(syntax)
    except NotImplementedError:
        kind = "in a way that is not known" if syntax.name == syntax else f"as {syntax.name}"
        raise ImageError(f"{name} is compressed {kind}. Export it uncompressed.") from None


#: Where JPEG and JPEG-LS (SOF, DHP) and JPEG 2000 (SIZ) declare the size of a picture.
SIZES = (
    rb"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf\xde\xf7]...(?P<height>..)(?P<width>..)(?P<channels>.)",
    rb"\xff\x4f\xff\x51.{4}(?P<width>.{4})(?P<height>.{4}).{24}(?P<channels>..)",
)


def check_codestream(dataset: Dataset, index: int, frames: int) -> None:
    """Raise ValueError unless compressed data declare the very size that the header does.

    Decoders allocate what the data ask for, so a file of a kilobyte could ask for all the memory there is.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated or syntax == RLELossless:
        return
    offsets = (
        (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths) if "ExtendedOffsetTable" in dataset else None
    )
    data = get_frame(dataset.PixelData, index, number_of_frames=frames, extended_offsets=offsets)
    matches = [match for pattern in SIZES for match in re.finditer(pattern, data, re.DOTALL)]
    found = {tuple(int.from_bytes(match[part]) for part in ("width", "height", "channels")) for match in matches}
    if found != {(dataset.Columns, dataset.Rows, dataset.SamplesPerPixel)}:
        raise ValueError


def take_frame_attributes(dataset: Dataset, index: int) -> None:
    """Copy rescale and window of one frame from where multi-frame files keep them to where plain files do."""
    for groups in (
        dataset.get("SharedFunctionalGroupsSequence", [])[:1],
        dataset.get("PerFrameFunctionalGroupsSequence", [])[index : index + 1],
    ):
        for group in groups:
            for keyword in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
                for item in group.get(keyword, []):
                    dataset.update(item)


def show_colours(
    values: Real[np.ndarray, "h w *channel"], dataset: Dataset
) -> tuple[UInt8[np.ndarray, "h w 3"], tuple[str, ...]]:
    """Bring RGB or palette colours to 8 bits."""
    bits = dataset.BitsStored
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        values = apply_color_lut(values, dataset)[..., :3]
        bits = 16 if values.max() > 255 else 8
    notes = (f"the upper 8 of {bits} bits kept",) if bits > 8 else ()
    return to_bytes(values, 0, 2**bits - 1), notes


def show_grey(
    name: str, values: Real[np.ndarray, "h w"], dataset: Dataset, window: Window
) -> tuple[UInt8[np.ndarray, "h w 3"], tuple[str, ...]]:
    """Bring greys to 8 bits, and turn MONOCHROME1 round."""
    pixels, notes = apply_transforms(name, values, dataset, window)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        pixels, notes = 255 - pixels, (*notes, "turned round, for the file stores white as 0 (MONOCHROME1)")
    return np.repeat(pixels[..., None], 3, axis=-1), notes


def apply_transforms(
    name: str, stored: Real[np.ndarray, "h w"], dataset: Dataset, window: Window
) -> tuple[UInt8[np.ndarray, "h w"], tuple[str, ...]]:
    """Apply the modality transform, then a window or look-up table or, without either, the range of the values."""
    values = apply_modality_lut(stored, dataset)
    if window is None and dataset.get("VOILUTSequence"):
        bits = dataset.VOILUTSequence[0].LUTDescriptor[2]
        looked_up = apply_voi(np.rint(values).astype(int), dataset)
        return to_bytes(looked_up, 0, 2**bits - 1), ("look-up table of the file",)
    if window := window or stored_window(dataset):
        pixels = apply_window(values, window, dataset.get("VOILUTFunction") or "LINEAR")
        return pixels, (f"window {window[0]:g}/{window[1]:g} (width/centre)",)
    if dataset.BitsAllocated <= 8:
        low = -(2 ** (dataset.BitsStored - 1)) if dataset.PixelRepresentation else 0
        ends = np.array([low, low + 2**dataset.BitsStored - 1], stored.dtype)
        return to_bytes(values, *sorted(apply_modality_lut(ends, dataset))), ()
    pixels, note = reduce_depth(name, values, None)
    return pixels, (note,)


def stored_window(dataset: Dataset) -> Window:
    """The first window of a file, None without one."""
    width, centre = (dataset.get(keyword) for keyword in ("WindowWidth", "WindowCenter"))
    if width is None or centre is None:
        return None
    return float(np.atleast_1d(width)[0]), float(np.atleast_1d(centre)[0])


def apply_window(
    values: Real[np.ndarray, "h w"], window: tuple[float, float], function: str
) -> UInt8[np.ndarray, "h w"]:
    """Map a window to 0..255 by the function that the file names: LINEAR, LINEAR_EXACT or SIGMOID (PS3.3 C.11.2.1)."""
    width, centre = window
    if function.upper() == "SIGMOID":
        return to_bytes(1 / (1 + np.exp(-4 * (values - centre) / width)), 0, 1)
    if function.upper() == "LINEAR" and width > 1:
        width, centre = width - 1, centre - 0.5
    return to_bytes(values, centre - width / 2, centre + width / 2)
