"""TIFF, of which there are many kinds: what the samples of a page are decides, not how they are compressed."""

from __future__ import annotations

import io
import math
import struct
from dataclasses import replace

import numpy as np
import tifffile
from jaxtyping import Float32, Integer, Real
from PIL import Image, ImageChops

from explainers.errors import ImageError
from explainers.images.decoded import Decoded, compose
from explainers.images.jpegxl import read_header
from explainers.images.picture import Reading, check_frame, check_size
from explainers.images.profiles import Profile
from explainers.images.shallow import decode_shallow
from explainers.settings import settings

#: How many channels of a TIFF are read at most.
BANDS = 64

#: How many bytes a page may unpack to, for each pixel that a picture may have.
BYTES_PER_PIXEL = 16

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

#: Those whose segments are pictures of their own, by Pillow's name for these; each tells how large it is.
PICTURES = {
    JPEG: "JPEG",
    33004: "JPEG2000",
    33005: "JPEG2000",
    34712: "JPEG2000",
    34927: "WEBP",
    34933: "PNG",
    50001: "WEBP",
}
JPEG_XL, LERC = (50002, 52546), 34887

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
            return replace(decode_shallow(data, name, "TIFF", reading), profile=profile)
        check_segments(name, page, data)
        planes = page.asarray(squeeze=False)[:, 0]
    channels = planes[0] if page.planarconfig == 1 else planes[..., 0].transpose(1, 2, 0)
    bands = to_bands(page, channels) if page.samplesperpixel not in (1, 3) else None
    shown = show_channels(name, page, channels, reading)
    return replace(shown, orientation=orientation, frames=frames, profile=profile, bands=bands)


def is_simple(page: tifffile.TiffPage) -> bool:
    """Tell whether a page has up to 8 bits a sample, in an order and a compression that Pillow knows."""
    depths = (1, 2, 4, 8) if page.samplesperpixel == 1 else (8,)
    if page.dtype not in (np.uint8, np.bool_) or page.bitspersample not in depths or page.planarconfig != 1:
        return False
    if page.photometric in (YCBCR, LAB) or page.compression in (OLD_JPEG, JPEG):
        return True
    return page.compression in SIMPLE and page.samplesperpixel == (3 if page.photometric == RGB else 1)


def refuse(name: str, page: tifffile.TiffPage) -> None:
    """Raise ImageError, which names what is not supported, if a page is of a kind that is not read."""
    if (what := unsupported(page)) is not None:
        raise ImageError(f"{name} is a TIFF file {what}, which Lightbox does not read. Save it otherwise, or as PNG.")


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
    if page.compression not in (*SIMPLE, *BOUNDED, *PICTURES, *JPEG_XL, LERC) and not simple:
        return f"compressed as {spell(page.compression)}"
    if page.compression == LERC and any(page.tags.valueof(LERC_PARAMETERS, (0, 0))[1:2]):
        return "compressed as LERC and once more"
    if page.predictor not in (1, 2, 3):
        return f"with predictor {int(page.predictor)}"
    return None


def spell(compression: int) -> str:
    """The name of a compression, or its number."""
    known = compression in tifffile.COMPRESSION.__members__.values()
    return tifffile.COMPRESSION(compression).name if known else f"number {int(compression)}"


def check_segments(name: str, page: tifffile.TiffPage, data: bytes) -> None:
    """Raise ImageError if a page unpacks to too much, ValueError if a segment is missing or larger than its place."""
    bound = max(len(data), BYTES_PER_PIXEL * settings().picture_pixels)
    segment = math.prod(page.chunks) * (page.nbytes // page.size)
    if max(page.nbytes, segment) > bound:
        raise ImageError(f"{name} unpacks to more than {bound / 2**30:.1f} GiB. Crop it, or save fewer channels.")
    if page.samplesperpixel < SAMPLES.get(page.photometric, 1) or len(page.dataoffsets) < math.prod(page.chunked):
        raise ValueError
    row = math.ceil(page.imagewidth * page.samplesperpixel * page.bitspersample / 8)
    if page.compression == 1 and row * page.imagelength > len(data):
        raise ValueError
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        if page.compression != 1 and offset + count > len(data):
            raise ValueError
        if page.compression not in (*SIMPLE, *BOUNDED) and count:
            check_codestream(page, data[offset : offset + count])


def check_codestream(page: tifffile.TiffPage, data: bytes) -> None:
    """Raise ValueError if a segment that is a picture of its own is larger than its place."""
    if page.compression in JPEG_XL:
        header = read_header(data)
        width, height, samples = header.width, header.height, len(header.extra)
    elif page.compression == LERC:
        # Magic, version and, since the third, a checksum; then height, width and, since the fourth, samples.
        version = int.from_bytes(data[6:10], "little")
        height, width, samples = struct.unpack_from("<3i", data, 14 if version > 2 else 10)
        samples = samples if version > 3 else 1
    elif page.compression == JPEG:
        height, width, samples = declared_by_jpeg(data)
    else:
        image = Image.open(io.BytesIO(data), formats=[PICTURES[page.compression]])
        (width, height), samples = image.size, 1
    length, wide = page.chunks[-3:-1] if page.planarconfig == 1 and page.samplesperpixel > 1 else page.chunks[-2:]
    if not (0 < width <= max(wide, 8) and 0 < height <= max(length, 8) and samples <= max(page.samplesperpixel, 4)):
        raise ValueError


def declared_by_jpeg(data: bytes) -> tuple[int, int, int]:
    """Height, width and channels that a JPEG stream declares, also one of 12 bits; raises ValueError without any."""
    place = 2
    while place + 10 <= len(data) and data[place] == 0xFF:
        code = data[place + 1]
        if code == 0xFF:
            place += 1
        elif 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            return struct.unpack_from(">HHB", data, place + 5)
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
    bands: np.ndarray = channels.astype(np.float32) / np.float32(largest)
    return bands if np.isfinite(bands).all() else None
