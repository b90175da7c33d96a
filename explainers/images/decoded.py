"""What a decoder gives, and how it becomes a picture: colours by their profile, then white below, then upright."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Real
from PIL import Image

from explainers.images.depth import divide_by_alpha, show_values
from explainers.images.picture import Picture, Reading, Window
from explainers.images.profiles import Converted, Profile, to_srgb

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
    """One frame in 8 bits as it was stored.

    ``image`` has Pillow's mode L, RGB, CMYK or LAB; ``opacity`` is how opaque its pixels are. ``orientation`` is
    EXIF's, ``frames`` how many there are; ``window``, ``bands`` and ``notes`` are those of a Picture.
    """

    image: Image.Image
    opacity: Image.Image | None = None
    orientation: int = 1
    frames: int = 1
    notes: tuple[str, ...] = ()
    window: Window = None
    profile: Profile | None = None
    bands: Float32[np.ndarray, "h w band"] | None = None


def separate(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Take an 8-bit image of any mode of Pillow apart into its colours and its opacity."""
    if image.has_transparency_data:
        grey = image.mode in ("L", "LA", "La")
        whole = image.convert("RGBA")
        colours = whole.convert("RGB")
        return (colours.getchannel("R") if grey else colours), whole.getchannel("A")
    if image.mode in ("L", "RGB", "CMYK", "LAB"):
        return image, None
    return image.convert("L" if image.mode == "1" else "RGB"), None


def compose(
    name: str,
    channels: Real[np.ndarray, "h w channel"],
    bits: int,
    window: Window,
    *,
    colours: int,
    opacity: int | None = None,
    multiplied: bool = False,
) -> Decoded:
    """Show the first ``colours`` channels: 1, 3 or 4.

    ``opacity`` is the place of the channel that says how opaque they are, ``multiplied`` that they were multiplied with
    it. Raises ImageError if no value is finite.
    """
    values = channels[..., :colours]
    alpha = None
    if opacity is not None:
        largest = 1 if channels.dtype.kind == "f" else 2**bits - 1
        alpha = show_values(name, channels[..., opacity], bits, (largest, largest / 2)).pixels
        values = divide_by_alpha(values, alpha) if multiplied else values
    shown = show_values(name, values, bits, window, colours=colours > 1)
    image = Image.fromarray(shown.pixels[..., 0] if colours == 1 else np.ascontiguousarray(shown.pixels))
    if colours == 4:
        image = Image.fromarray(np.ascontiguousarray(shown.pixels), "CMYK")
    return Decoded(image, None if alpha is None else Image.fromarray(alpha), notes=shown.notes, window=shown.window)


def finish(name: str, decoded: Decoded, reading: Reading) -> Picture:
    """Make a picture of what was decoded."""
    converted = bring_to_srgb(decoded, reading)
    image, notes = converted.image, (*decoded.notes, *converted.notes)
    if decoded.opacity is not None and decoded.opacity.getextrema() != (255, 255):
        image, notes = lay_over_white(image, decoded.opacity), (*notes, "transparent parts laid over white")
    bands = decoded.bands
    if bands is not None:
        notes = (*notes, f"{bands.shape[-1]} channels read")
    if decoded.orientation in TURNS:
        bands = None if bands is None else turn(bands, decoded.orientation)
        image, notes = image.transpose(TURNS[decoded.orientation]), (*notes, "turned upright as the camera noted")
    if decoded.frames > 1:
        notes = (f"frame {reading.frame} of {decoded.frames}", *notes)
    return Picture(
        name,
        np.asarray(image),
        notes=notes,
        frames=decoded.frames,
        bands=bands,
        window=decoded.window,
        profile=converted.profile,
    )


def bring_to_srgb(decoded: Decoded, reading: Reading) -> Converted:
    """Follow the colour profile, but not for measured greys, whose window it would bend."""
    measured = decoded.window is not None and decoded.image.mode == "L"
    converted = to_srgb(decoded.image, decoded.profile, reading.profile and not measured)
    if measured and converted.profile:
        note = f"the colour profile {converted.profile} is not for values shown through a window and was left out"
        return Converted(converted.image, (note,))
    return converted


def lay_over_white(image: Image.Image, opacity: Image.Image) -> Image.Image:
    """Lay an RGB image over white."""
    above = Image.merge("RGBA", (*image.split(), opacity))
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), above).convert("RGB")


def turn(bands: Float32[np.ndarray, "h w band"], orientation: int) -> Float32[np.ndarray, "h w band"]:
    """Turn each channel upright."""
    turned = [Image.fromarray(band).transpose(TURNS[orientation]) for band in np.moveaxis(bands, -1, 0)]
    return np.stack([np.asarray(band) for band in turned], axis=-1)
