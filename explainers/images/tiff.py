"""TIFF, of which there are many kinds: what the samples of a page are decides, not how they are compressed."""

from __future__ import annotations

import io
import math
import re
import struct
from dataclasses import replace

import numpy as np
import tifffile
from jaxtyping import Float32, Integer, Real
from PIL import Image, ImageChops

from explainers.errors import ImageError
from explainers.images.decoded import Decoded, compose
from explainers.images.jpegxl import read_header
from explainers.images.picture import DECODER_ERRORS, Reading, check_frame, check_size
from explainers.images.profiles import Profile
from explainers.images.shallow import decode_shallow
from explainers.settings import settings

#: How many channels of a TIFF are read at most.
BANDS = 64

#: How many bytes a page may unpack to, for each pixel that a picture may have.
BYTES_PER_PIXEL = 8

#: Values of TIFF's tag for what samples mean, and in words those that are not read.
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, MASK, CMYK, YCBCR, LAB = 0, 1, 2, 3, 4, 5, 6, 8
GREYS = (WHITE_IS_ZERO, BLACK_IS_ZERO, MASK)
PHOTOMETRICS = {
    9: "ICC Lab",
    10: "ITU Lab",
    32803: "colour filter array",
    32844: "LogL",
    32845: "LogLuv",
    34892: "LinearRaw",
}

#: How many samples colours take at least.
SAMPLES = {RGB: 3, CMYK: 4, YCBCR: 3, LAB: 3}

#: Compressions that Pillow undoes.
SIMPLE = (1, 2, 3, 4, 5, 8, 32773, 32946)
OLD_JPEG, JPEG = 6, 7

#: Further ones that are undone into the room that the page says: LZMA and zstd.
BOUNDED = (34925, 50000)

#: Those whose segments are pictures of their own, each of which tells how large it is; WebP and PNG come last.
JPEG_2000, JPEG_XL, LERC, FURTHER = (33004, 33005, 34712), (50002, 52546), 34887, (34927, 50001, 34933)
PICTURES = (JPEG, *JPEG_2000, *JPEG_XL, LERC, *FURTHER)

#: Where JPEG 2000 declares its grid, its offset and its components.
SIZ = rb"\xff\x4f\xff\x51.{4}(.{34})"

#: Kinds of opacity among further samples: colours are multiplied with it, or not.
MULTIPLIED, STRAIGHT = 1, 2

ICC_PROFILE, LERC_PARAMETERS = 34675, 50674


def decode_tiff(data: bytes, name: str, reading: Reading) -> Decoded:
    """Decode one page; raises ImageError, also for kinds that are not supported."""
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        frames = len(tiff.pages)
        page = tiff.pages[check_frame(name, reading.frame, frames)].aspage()
        check_size(name, page.imagewidth, page.imagelength)
        refuse(name, page)
        icc, orientation = page.tags.valueof(ICC_PROFILE), page.tags.valueof("Orientation", 1)
        profile = Profile(bytes(icc)) if icc else None
        if is_simple(page):
            return replace(decode_simple(data, name, page, reading), profile=profile)
        check_segments(name, page, data)
        planes = page.asarray(squeeze=False)[:, 0]
        sparse = ("parts that the file leaves out shown as 0",) if 0 in page.databytecounts else ()
    channels = planes[0] if page.planarconfig == 1 else planes[..., 0].transpose(1, 2, 0)
    shown = show_channels(name, page, channels, reading)
    notes, bands = (*shown.notes, *sparse), None
    if page.samplesperpixel not in (1, 3):
        large = 4 * channels.size > memory(data)
        notes += ("too large for all channels to be kept",) if large else ()
        bands = None if large else to_bands(page, channels)
    return replace(shown, notes=notes, orientation=orientation, frames=frames, profile=profile, bands=bands)


def decode_simple(data: bytes, name: str, page: tifffile.TiffPage, reading: Reading) -> Decoded:
    """Decode with Pillow; raises ImageError, which names what it is that Pillow does not know of some files."""
    try:
        return decode_shallow(data, name, "TIFF", reading)
    except DECODER_ERRORS:
        if page.compression == OLD_JPEG:
            raise ImageError(told(name, "compressed as JPEG in the way of TIFF 6.0")) from None
        if page.photometric == YCBCR and page.compression != JPEG:
            raise ImageError(told(name, "with colours as YCbCr in this form")) from None
        raise


def is_simple(page: tifffile.TiffPage) -> bool:
    """Tell whether a page has up to 8 bits a sample, in an order and a compression that Pillow knows."""
    depths = (1, 2, 4, 8) if page.samplesperpixel == 1 else (8,)
    if page.dtype not in (np.uint8, np.bool_) or page.bitspersample not in depths or page.planarconfig != 1:
        return False
    if page.photometric in (YCBCR, LAB) or page.compression in (OLD_JPEG, JPEG):
        return True
    if page.compression != 1 and 0 in page.databytecounts:  # parts are left out
        return False
    return page.compression in SIMPLE and page.samplesperpixel == (3 if page.photometric == RGB else 1)


def refuse(name: str, page: tifffile.TiffPage) -> None:
    """Raise ImageError, which names what is not supported, if a page is of a kind that is not read."""
    if (what := unsupported(page)) is not None:
        raise ImageError(told(name, what))


def told(name: str, what: str) -> str:
    """The sentence that refuses a file for what it is."""
    return f"{name} is a TIFF file {what}, which Lightbox does not read. Save it otherwise, or as PNG."


def unsupported(page: tifffile.TiffPage) -> str | None:
    """Name what of a page is not supported; None for a page that is read."""
    simple = is_simple(page)
    if page.imagedepth > 1:
        return f"of a volume of {page.imagedepth} slices in one page"
    if page.sampleformat in (5, 6):
        return "of complex numbers"
    if page.dtype is None or page.dtype.kind not in "biuf":
        return f"with samples of {page.bitspersample} bits in sample format {int(page.sampleformat)}"
    if page.samplesperpixel > BANDS:
        return f"of {page.samplesperpixel} channels, more than {BANDS}"
    if page.photometric in PHOTOMETRICS or page.photometric not in (*GREYS, PALETTE, *SAMPLES):
        return f"with colours as {PHOTOMETRICS.get(page.photometric, int(page.photometric))}"
    if page.photometric == LAB and not (simple and page.compression in SIMPLE):
        return "with colours as CIELab in this form"
    if page.photometric == YCBCR and page.compression not in ((*SIMPLE, OLD_JPEG, JPEG) if simple else (JPEG,)):
        return "with colours as YCbCr in this form"
    if page.compression not in (*SIMPLE, *BOUNDED, *PICTURES) and not simple:
        return f"compressed as {spell(page.compression)}"
    if page.compression == LERC and any(page.tags.valueof(LERC_PARAMETERS, (0, 0))[1:2]):
        return "compressed as LERC and once more"
    if page.compression in JPEG_XL and page.planarconfig == 1 and page.samplesperpixel > 4:
        return f"of {page.samplesperpixel} interleaved channels compressed as {spell(page.compression)}"
    if page.predictor not in (1, 2, 3):
        return f"with predictor {int(page.predictor)}"
    return None


def spell(compression: int) -> str:
    """The name of a compression, or its number."""
    known = compression in tifffile.COMPRESSION.__members__.values()
    return tifffile.COMPRESSION(compression).name if known else f"number {int(compression)}"


def memory(data: bytes) -> int:
    """How many bytes a page may unpack to: some for each pixel that a picture may have, more for a large file."""
    return max(4 * len(data), BYTES_PER_PIXEL * settings().picture_pixels)


def check_segments(name: str, page: tifffile.TiffPage, data: bytes) -> None:
    """Raise ImageError if a page unpacks to too much, ValueError if a segment is missing or larger than its place."""
    bound = memory(data)
    segment = math.prod(page.chunks) * (page.nbytes // page.size)
    if max(page.nbytes, segment) > bound:
        raise ImageError(f"{name} unpacks to more than {bound / 2**30:.1f} GiB. Crop it, or save fewer channels.")
    if page.samplesperpixel < SAMPLES.get(page.photometric, 1) or len(page.dataoffsets) < math.prod(page.chunked):
        raise ValueError
    row = math.ceil(page.imagewidth * page.samplesperpixel * page.bitspersample / 8)
    if page.compression == 1 and row * page.imagelength > len(data):
        raise ValueError
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        if not page.is_contiguous and offset + count > len(data):
            raise ValueError
        if page.compression not in (*SIMPLE, *BOUNDED) and count:
            check_codestream(page, data[offset : offset + count])


def check_codestream(page: tifffile.TiffPage, data: bytes) -> None:
    """Raise ValueError if a segment that is a picture of its own declares more than its place holds."""
    length, wide = page.chunks[-3:-1] if page.planarconfig == 1 and page.samplesperpixel > 1 else page.chunks[-2:]
    for width, height, samples in declared(page.compression, data):
        if not (0 < width <= max(wide, 8) and 0 < height <= max(length, 8) and samples <= max(page.samplesperpixel, 4)):
            raise ValueError


def declared(compression: int, data: bytes) -> list[tuple[int, int, int]]:
    """Width, height and samples of a pixel, as a segment that is a picture of its own declares them."""
    if compression in JPEG_XL:
        header = read_header(data)
        return [(header.width, 0 if header.animated else header.height, len(header.extra))]
    if compression == LERC:
        # Magic, version and, since the third, a checksum; then height, width and, since the fourth, samples.
        version = int.from_bytes(data[6:10], "little")
        height, width, samples = struct.unpack_from("<3i", data, 14 if version > 2 else 10)
        return [(width, height, samples if version > 3 else 1)]
    if compression == JPEG:
        return [declared_by_jpeg(data)]
    if compression in JPEG_2000:
        found = [struct.unpack(">4I16xH", match[1]) for match in re.finditer(SIZ, data, re.DOTALL)]
        return [(right - left, bottom - top, samples) for right, bottom, left, top, samples in found] or [(0, 0, 0)]
    try:
        return [(*Image.open(io.BytesIO(data), formats=["WEBP", "PNG"]).size, 1)]
    except Image.DecompressionBombError:
        raise ValueError from None


def declared_by_jpeg(data: bytes) -> tuple[int, int, int]:
    """Width, height and samples that a JPEG stream declares, also one of 12 bits; raises ValueError without any."""
    place = 2
    while place + 10 <= len(data) and data[place] == 0xFF:
        code = data[place + 1]
        if code == 0xFF:
            place += 1
        elif 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            height, width, samples = struct.unpack_from(">HHB", data, place + 5)
            return width, height, samples
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4])
    raise ValueError


def show_channels(
    name: str, page: tifffile.TiffPage, channels: Real[np.ndarray, "h w channel"], reading: Reading
) -> Decoded:
    """Show the colours or greys among the channels of a page."""
    if page.photometric == PALETTE:
        return Decoded(look_up(page, channels[..., 0]))
    colours = SAMPLES.get(page.photometric, 1)
    kind = int(page.extrasamples[0]) if page.extrasamples and channels.shape[-1] > colours else 0
    opacity = colours if kind in (MULTIPLIED, STRAIGHT) else None
    decoded = compose(
        name,
        channels,
        page.bitspersample,
        reading.window,
        colours=colours,
        opacity=opacity,
        multiplied=kind == MULTIPLIED,
    )
    if page.photometric == WHITE_IS_ZERO:
        decoded = replace(decoded, image=ImageChops.invert(decoded.image))
    if channels.shape[-1] > colours + (opacity is not None):
        decoded = replace(decoded, notes=(*decoded.notes, f"{colours} of {channels.shape[-1]} channels shown"))
    return decoded


def look_up(page: tifffile.TiffPage, indices: Integer[np.ndarray, "h w"]) -> Image.Image:
    """Give indices the colours of a page's palette, of which the upper 8 of 16 bits count."""
    palette = np.asarray(page.colormap)
    return Image.fromarray(np.ascontiguousarray((palette[:, indices] >> 8).astype(np.uint8).transpose(1, 2, 0)))


def to_bands(page: tifffile.TiffPage, channels: Real[np.ndarray, "h w band"]) -> Float32[np.ndarray, "h w band"] | None:
    """Make whole numbers shares of the largest that they could be, and leave others as they are; None if not finite."""
    signed = channels.dtype.kind == "i"
    largest = 2 ** (page.bitspersample - signed) - 1 if channels.dtype.kind in "biu" else 1
    bands: np.ndarray = channels.astype(np.float32)
    bands /= np.float32(largest)
    return bands if np.isfinite(bands).all() else None
