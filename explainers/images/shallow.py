"""What Pillow decodes: formats of 8 bits, and the simpler kinds of deeper ones."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from PIL import ExifTags, Image

from explainers.errors import ImageError
from explainers.images.boxes import declare
from explainers.images.decoded import Decoded, compose, separate
from explainers.images.picture import Reading, check_frame, check_size
from explainers.images.profiles import Profile
from explainers.settings import settings

#: In pixels; it refuses twice as many.
PILLOWS_BOUND = Image.MAX_IMAGE_PIXELS or 0

#: Pillow's modes of more than 8 bits.
DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")


def decode_shallow(data: bytes, name: str, kind: str, reading: Reading) -> Decoded:
    """Decode with Pillow; raises ImageError if a picture is too large or the frame is not there."""
    image, frames = open_frame(data, name, kind, reading.frame)
    icc = image.info.get("icc_profile")
    profile, notes = declare(data, icc) if kind == "AVIF" else (Profile(icc) if icc else None, ())
    decoded = take(name, image, reading)
    return replace(decoded, frames=frames, notes=(*decoded.notes, *notes), profile=profile)


def take(name: str, image: Image.Image, reading: Reading) -> Decoded:
    """Decode an opened image of any mode of Pillow."""
    # Taken out before loading, or Pillow itself turns a TIFF.
    orientation = image.getexif().pop(ExifTags.Base.Orientation, 1)
    if image.mode in DEEP_MODES:
        values = np.asarray(image)
        shown = compose(name, values[..., None], values.dtype.itemsize * 8, reading.window, colours=1)
        return replace(shown, orientation=orientation)
    return Decoded(*separate(image), orientation=orientation)


def open_frame(data: bytes, name: str, kind: str, frame: int) -> tuple[Image.Image, int]:
    """Open a file with Pillow at a frame, not yet decoded, and count its frames."""
    # Pillow's own bound, which sees frames grow while one is looked for, must not be lower than ours.
    Image.MAX_IMAGE_PIXELS = max(settings().picture_pixels, PILLOWS_BOUND)
    try:
        image = Image.open(io.BytesIO(data), formats=[kind])
        # Further pictures of a JPEG file are previews and gain maps.
        frames = 1 if kind == "JPEG" else getattr(image, "n_frames", 1)
        image.seek(check_frame(name, frame, frames))
    except Image.DecompressionBombError:
        raise ImageError(
            f"{name} has far more than {settings().picture_pixels // 10**6} million pixels. Save it smaller."
        ) from None
    check_size(name, *image.size)
    return image, frames
