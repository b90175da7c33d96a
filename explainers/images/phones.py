"""HEIC, AVIF and JPEG XL, as phones store their pictures."""

from __future__ import annotations

import io
from dataclasses import replace

import imagecodecs
import pi_heif
from PIL import Image, ImageFile

from explainers.errors import ImageError
from explainers.images.boxes import declare
from explainers.images.decoded import Decoded, compose, separate
from explainers.images.jpegxl import ALPHA, BLACK, Header, read_header
from explainers.images.picture import Reading, check_frame, check_size
from explainers.images.profiles import Profile, coded


def decode_heic(data: bytes, name: str, reading: Reading) -> Decoded:
    """Decode the first picture of a HEIC file; the decoder itself turns it upright."""
    check_frame(name, reading.frame, 1)
    image: ImageFile.ImageFile = pi_heif.HeifImageFile(io.BytesIO(data))
    check_size(name, *image.size)
    pictures, icc = getattr(image, "n_frames", 1), image.info.get("icc_profile")
    profile, notes = declare(data, icc)
    image.load()
    colours, opacity = separate(image)
    if pictures > 1:
        notes += (f"the main one of {pictures} pictures",)
    return Decoded(colours, opacity, notes=notes, profile=profile)


def decode_jpegxl(data: bytes, name: str, reading: Reading) -> Decoded:
    """Decode the first frame of a JPEG XL file; the decoder itself turns it upright."""
    check_frame(name, reading.frame, 1)
    header = read_header(data)
    check_size(name, header.width, header.height)
    refuse(name, header)
    values = imagecodecs.jpegxl_decode(data, index=0)
    if len(header.extra) and ALPHA not in header.extra and values.ndim == 3 and values.shape[-1] != 3:
        values = values[0]  # the grey one of channels that lie one after the other
    channels = values.reshape(*values.shape[:2], -1)
    count = channels.shape[-1]
    told = {
        "the first frame of a film": header.animated,
        "further channels left out": len(header.extra) > (count in (2, 4)),
    }
    whole = values.dtype.kind in "iu" and values.max() < 2**header.bits
    shown = compose(
        name,
        channels,
        header.bits if whole else 8 * values.dtype.itemsize,
        reading.window,
        colours=3 if count > 2 else 1,
        opacity=count - 1 if count in (2, 4) else None,
    )
    return replace(
        shown, notes=(*shown.notes, *(note for note in told if told[note])), profile=jpegxl_profile(data, header)
    )


def refuse(name: str, header: Header) -> None:
    """Raise ImageError if colours of a JPEG XL file cannot be shown, or take more than memory should hold."""
    if BLACK in header.extra:
        raise ImageError(f"{name} is a JPEG XL file in CMYK, which Lightbox does not read. Save it in RGB.")
    if header.samples > 8:
        raise ImageError(f"{name} is a JPEG XL file of {header.samples} channels; 8 are read. Save it with fewer.")
    if header.icc and header.perceptual:
        raise ImageError(
            f"{name} is a lossy JPEG XL file with an ICC profile, which Lightbox does not read. Save it as PNG."
        )


def jpegxl_profile(data: bytes, header: Header) -> Profile | None:
    """What the colours that the decoder gives mean: by code points, or by the profile of the JPEG file inside."""
    if not header.icc:
        return coded(header.primaries, header.transfer)
    try:
        restored = imagecodecs.jpegxl_decode_jpeg(data, numthreads=1)
    except (RuntimeError, ValueError):
        return Profile(note="its colour profile cannot be read out of a JPEG XL file and was left out")
    icc = Image.open(io.BytesIO(restored), formats=["JPEG"]).info.get("icc_profile")
    return Profile(icc) if icc else None
