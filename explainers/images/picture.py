"""What every file becomes: 8-bit colours for people and models alike, and notes on how they came to be."""

from __future__ import annotations

import hashlib
import io
import logging
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float32, Float64, Real, UInt8
from PIL import Image
from pydicom.errors import BytesLengthException

from explainers.errors import ImageError
from explainers.settings import settings

#: All that the decoders have been seen to raise on damaged data.
DECODER_ERRORS = (
    ArithmeticError,
    AttributeError,
    BytesLengthException,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


#: Decoders that log what they find in a file, which may be about a patient, are silenced.
for decoder in ("PIL", "pydicom", "tifffile"):
    logging.getLogger(decoder).setLevel(logging.CRITICAL + 1)

#: How many values are brought to 8 bits at once.
BLOCK = 2**22

#: A window on values: width and centre.
Window = tuple[float, float] | None


@dataclass(frozen=True)
class Reading:
    """How a picture is read from its file.

    ``frame`` counts from 1. ``window`` (width, centre) is for values of more than 8 bits, in the file's units (None: as
    the file says, else from the smallest value to the largest). ``profile`` brings colours from the file's own profile
    to sRGB.
    """

    frame: int = 1
    window: Window = None
    profile: bool = True


#: How pictures are read unless somebody chooses otherwise.
USUAL = Reading()


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture as read from a file.

    ``pixels`` are made read-only. ``private`` is True for what a person uploaded: nothing computed from it may reach
    the disk. ``notes`` say in words what was done to it; ``frames`` is how many frames or pages its file holds.
    ``bands`` are all channels of a file that has neither one nor three, from 0 to 1; ``pixels`` shows some of them.
    ``window`` is the one that values of more than 8 bits are shown through; ``profile`` names the colour profile that
    the file brings. ``again`` reads the same picture of an upload otherwise.
    """

    name: str
    pixels: UInt8[np.ndarray, "h w 3"]
    label: str | None = None
    private: bool = True
    notes: tuple[str, ...] = ()
    frames: int = 1
    bands: Float32[np.ndarray, "h w band"] | None = None
    window: Window = None
    profile: str = ""
    again: Callable[[Reading], Picture] | None = None

    def __post_init__(self) -> None:
        self.pixels.setflags(write=False)

    @property
    def nbytes(self) -> int:
        """How many bytes its pixels take, and all channels of a file of many."""
        return self.pixels.nbytes + (0 if self.bands is None else self.bands.nbytes)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of shape and pixels, and of all channels of a file of more, as hexadecimal digits."""
        digest = hashlib.sha256(str(self.pixels.shape).encode())
        digest.update(np.ascontiguousarray(self.pixels).data)
        if self.bands is not None:
            digest.update(np.ascontiguousarray(self.bands).data)
        return digest.hexdigest()


def thumbnail(picture: Picture | UInt8[np.ndarray, "h w 3"], side: int = 96) -> bytes:
    """Shrink a picture into a square of ``side`` pixels, as the bytes of a JPEG file."""
    image = Image.fromarray(picture.pixels if isinstance(picture, Picture) else picture)
    image.thumbnail((side, side), reducing_gap=2)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def check_size(name: str, width: int, height: int) -> None:
    """Raise ImageError if a picture of this size must not be decoded."""
    if width < 1 or height < 1 or width * height > settings().picture_pixels:
        raise ImageError(
            f"{name} measures {width} × {height} pixels; Lightbox reads up to {settings().picture_pixels // 10**6} "
            "million. Crop it or save it smaller."
        )


def check_frame(name: str, frame: int, frames: int) -> int:
    """Return the index of the chosen frame, counted from 1; raises ImageError."""
    if frames > settings().picture_frames:
        raise ImageError(f"{name} has {frames:,} frames; {settings().picture_frames:,} are allowed. Split the file.")
    if not 1 <= frame <= frames:
        raise ImageError(f"{name} has no frame {frame}; choose one from 1 to {frames}.")
    return frame - 1


@contextmanager
def decoding(name: str, kind: str) -> Iterator[None]:
    """Turn whatever a decoder raises into an ImageError.

    Decoders' own words are dropped, warnings too, because they may quote a header that identifies a patient.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except MemoryError:
            raise ImageError(
                f"{name} is damaged, or takes more than {settings().picture_memory / 2**30:g} GiB of memory to decode. "
                "Save it smaller, or ask who runs this server to raise LIGHTBOX_PICTURE_MEMORY."
            ) from None
        except DECODER_ERRORS:
            raise ImageError(
                f"{name} begins like {kind} but cannot be decoded: it is damaged, cut short or of a rare kind. "
                "Export it again, or save it as PNG."
            ) from None


def to_bytes(values: Real[np.ndarray, "h w *channel"], low: float, high: float) -> UInt8[np.ndarray, "h w *channel"]:
    """Map low..high to 0..255, clipping what lies outside; not-a-number becomes black."""
    if values.dtype == np.uint16 and values.size > 2**16:
        mapped: np.ndarray = scale(np.arange(2**16, dtype=np.uint16)[:, None], low, high).astype(np.uint8)[:, 0][values]
        return mapped
    mapped = np.empty(values.shape, np.uint8)
    # By rows, because doubles take many times the memory of a picture.
    rows = max(1, BLOCK // max(1, values[:1].size))
    for start in range(0, len(values), rows):
        mapped[start : start + rows] = scale(values[start : start + rows], low, high)
    return mapped


def scale(values: Real[np.ndarray, "h w *channel"], low: float, high: float) -> Float64[np.ndarray, "h w *channel"]:
    """Map low..high to 0.5..255.5, whose whole parts are the levels."""
    # Halves, because the difference of two large numbers can exceed the largest; in place, because pictures are large.
    scaled = values * np.float64(0.5)
    scaled -= np.float64(low) / 2
    scaled /= max(np.float64(high) / 2 - np.float64(low) / 2, np.finfo(np.float64).tiny)
    np.nan_to_num(scaled.clip(0, 1, out=scaled), copy=False, nan=0)
    scaled *= 255
    scaled += 0.5
    return scaled
