"""PNG, JPEG, TIFF, WebP, BMP and GIF."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import tifffile
from jaxtyping import Float32
from PIL import ExifTags, Image

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
)
from explainers.settings import settings

#: How many channels of a TIFF are read at most.
BANDS = 64

FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF")

#: In pixels; it refuses twice as many.
PILLOWS_BOUND = Image.MAX_IMAGE_PIXELS or 0

#: What turns a picture upright, by its EXIF orientation.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Decoded:
    """One frame in 8-bit RGB as it was stored, its EXIF orientation, and how many frames there are."""

    image: Image.Image
    orientation: int
    frames: int
    notes: tuple[str, ...]


def read_raster(data: bytes, name: str, kind: str, reading: Reading = USUAL) -> Picture:
    """Decode one frame or page of a file of the format ``kind``, one of FORMATS; raises ImageError."""
    with decoding(name, f"a {kind} file"):
        decoded = decode_deep_tiff(data, name, reading) if kind == "TIFF" else None
        bands = read_bands(data, name, reading.frame) if kind == "TIFF" else None
        decoded = decoded or decode(data, name, kind, reading)
    image, notes = decoded.image, decoded.notes
    if bands is not None:
        notes = (*notes, f"{bands.shape[-1]} channels read")
    if decoded.orientation in TURNS:
        bands = None if bands is None else turn(bands, decoded.orientation)
        image, notes = image.transpose(TURNS[decoded.orientation]), (*notes, "turned upright as the camera noted")
    if decoded.frames > 1:
        notes = (f"frame {reading.frame} of {decoded.frames}", *notes)
    return Picture(name, np.asarray(image), notes=notes, frames=decoded.frames, bands=bands)


def turn(bands: Float32[np.ndarray, "h w band"], orientation: int) -> Float32[np.ndarray, "h w band"]:
    """Turn each channel upright."""
    turned = [Image.fromarray(band).transpose(TURNS[orientation]) for band in np.moveaxis(bands, -1, 0)]
    return np.stack([np.asarray(band) for band in turned], axis=-1)


def read_bands(data: bytes, name: str, frame: int) -> Float32[np.ndarray, "h w band"] | None:
    """Read all channels of an uncompressed TIFF that has neither one nor three; None for any other.

    Whole numbers become shares of the largest that their type has; others stay as they are.
    """
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        page = tiff.pages[check_frame(name, frame, len(tiff.pages))].aspage()
        many = page.samplesperpixel not in (1, 3) and page.samplesperpixel <= BANDS
        if not many or page.compression != 1 or page.imagedepth > 1 or page.nbytes > len(data):
            return None
        check_size(name, page.imagewidth, page.imagelength)
        planes = page.asarray(squeeze=False)[:, 0]
    channels = planes[0] if page.planarconfig == 1 else planes[..., 0].transpose(1, 2, 0)
    largest = np.iinfo(channels.dtype).max if channels.dtype.kind in "iu" else 1
    bands: np.ndarray = channels.astype(np.float32) / np.float32(largest)
    return bands if np.isfinite(bands).all() else None


def decode(data: bytes, name: str, kind: str, reading: Reading) -> Decoded:
    """Decode with Pillow."""
    # Pillow's own bound, which sees frames grow while one is looked for, must not be lower than ours.
    Image.MAX_IMAGE_PIXELS = max(settings().picture_pixels, PILLOWS_BOUND)
    try:
        image = Image.open(io.BytesIO(data), formats=[kind])
        # Further pictures of a JPEG file are previews and gain maps.
        frames = 1 if kind == "JPEG" else getattr(image, "n_frames", 1)
        image.seek(check_frame(name, reading.frame, frames))
    except Image.DecompressionBombError:
        raise ImageError(
            f"{name} has far more than {settings().picture_pixels // 10**6} million pixels. Save it smaller."
        ) from None
    check_size(name, *image.size)
    # Taken out before loading, or Pillow itself turns a TIFF.
    orientation = image.getexif().pop(ExifTags.Base.Orientation, 1)
    colours, notes = to_rgb(name, image, reading.window)
    if kind == "PNG" and data[24] == 16 and image.mode not in DEEP_MODES:
        notes += ("the upper 8 of 16 bits kept",)
    return Decoded(colours, orientation, frames, notes)


#: Pillow's modes of more than 8 bits.
DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")


def to_rgb(name: str, image: Image.Image, window: Window) -> tuple[Image.Image, tuple[str, ...]]:
    """Convert any mode of Pillow to RGB."""
    if image.mode in DEEP_MODES:
        pixels, note = reduce_depth(name, np.asarray(image), window)
        return Image.fromarray(pixels).convert("RGB"), (note,)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if np.asarray(image.getchannel("A")).min() < 255:
            white = Image.new("RGBA", image.size, "white")
            return Image.alpha_composite(white, image).convert("RGB"), ("transparent parts laid over white",)
    notes = ["CMYK converted to RGB without a colour profile"] if image.mode == "CMYK" else []
    return image.convert("RGB"), tuple(notes)


def decode_deep_tiff(data: bytes, name: str, reading: Reading) -> Decoded | None:
    """Decode more than 8 bits per sample, which Pillow cuts or lacks; None for what is better left to Pillow.

    Only uncompressed data, whose size in memory cannot exceed that of the file.
    """
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        frames = len(tiff.pages)
        page = tiff.pages[check_frame(name, reading.frame, frames)].aspage()
        known = page.samplesperpixel in (1, 3) or page.photometric == 2 or {1, 2} & {*page.extrasamples}
        shallow = page.bitspersample <= 8 and known  # which Pillow decodes, and lays on white what is transparent
        if shallow or page.compression != 1 or page.photometric > 2 or page.imagedepth > 1:
            return None
        check_size(name, page.imagewidth, page.imagelength)
        if page.nbytes > len(data):
            raise ValueError
        orientation = page.tags.valueof("Orientation", 1)
        planes = page.asarray(squeeze=False)[:, 0]
    channels = planes[0] if page.planarconfig == 1 else planes[..., 0].transpose(1, 2, 0)
    colours = 3 if page.photometric == 2 else 1
    pixels, note = reduce_depth(name, channels[..., :colours], reading.window)
    notes = (note, f"{colours} of {channels.shape[-1]} channels shown") if channels.shape[-1] > colours else (note,)
    pixels = 255 - pixels if page.photometric == 0 else pixels
    return Decoded(Image.fromarray(pixels.repeat(3 // colours, axis=-1)), orientation, frames, notes)
