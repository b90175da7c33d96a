"""Colour profiles: they say what a file's colours mean, and are followed to sRGB, which screens and models expect."""

from __future__ import annotations

import io
from dataclasses import dataclass

import imagecodecs
import numpy as np
from PIL import Image, ImageCms

#: How much of a profile's own description is shown.
NAME_LENGTH = 60

#: Pillow's mode for the colours that a profile describes.
MODES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK", "Lab": "LAB"}

#: In levels of 255: a profile that moves no colour further is taken for sRGB itself.
TOLERANCE = 2

UNKNOWN = "its colours are of a kind that is not known and were left as stored"
DAMAGED = "its colour profile is damaged and was left out"

D65 = (0.3127, 0.3290)

#: White and the red, green and blue of code points for video (ITU-T H.273), with the words for them.
PRIMARIES = {
    1: ("sRGB", (0.64, 0.33, 0.30, 0.60, 0.15, 0.06)),
    9: ("BT.2020", (0.708, 0.292, 0.170, 0.797, 0.131, 0.046)),
    12: ("Display P3", (0.680, 0.320, 0.265, 0.690, 0.150, 0.060)),
}

#: Primaries that are not said, or close to sRGB's.
NEAR_SRGB = (1, 2, 5, 6, 7)

#: Code points whose curve is sRGB's, or is shown as if it were; linear; and those of high dynamic range.
SRGB_CURVES = (1, 2, 6, 13, 14, 15)
LINEAR = 8
HIGH_RANGE = {16: "PQ", 18: "HLG"}


@dataclass(frozen=True)
class Profile:
    """A colour profile as the bytes of an ICC file, or none with a note that says why; ``name`` is fit to be shown."""

    icc: bytes = b""
    name: str = ""
    note: str = ""


@dataclass(frozen=True)
class Converted:
    """Colours in sRGB, what was done to them, and the name of the profile that the file brings."""

    image: Image.Image
    notes: tuple[str, ...] = ()
    profile: str = ""


def to_srgb(image: Image.Image, profile: Profile | None, follow: bool) -> Converted:
    """Bring an image of mode L, RGB, CMYK or LAB to RGB, by its profile if ``follow`` says so.

    Conversion is relative colorimetric with black point compensation, as photo editors do.
    """
    if image.mode == "LAB":
        lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
        return convert(image, Profile(lab, "CIELab"), follow=True)
    if profile is None:
        return without(image)
    if not profile.icc:
        return without(image, profile.note, profile.name)
    try:
        return convert(image, profile, follow)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return without(image, DAMAGED)


def without(image: Image.Image, note: str = "", name: str = "") -> Converted:
    """Convert to RGB by plain arithmetic."""
    notes = [note] if note else []
    if image.mode == "CMYK":
        notes.append("CMYK converted to RGB without a colour profile")
    return Converted(image.convert("RGB"), tuple(notes), name)


def convert(image: Image.Image, profile: Profile, follow: bool) -> Converted:
    """Convert by an ICC profile, unless it is sRGB itself or made for other colours; raises what ImageCms does."""
    opened = ImageCms.getOpenProfile(io.BytesIO(profile.icc))
    name = profile.name or describe(opened)
    mode = MODES.get(opened.profile.xcolor_space.strip(), "")
    if image.mode == "L" and mode == "RGB":
        image = image.convert("RGB")
    if mode != image.mode:
        return without(image, f"the colour profile {name} is not for such colours and was left out")
    transform = ImageCms.buildTransform(
        opened,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    if mode in ("L", "RGB") and is_srgb(transform, mode):
        return without(image)
    if not follow:
        return without(image, f"colours left as stored, not converted from {name} to sRGB", name)
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None
    return Converted(converted, (f"colours converted from {name} to sRGB",), name)


def is_srgb(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Tell whether a transform to sRGB leaves a grid of colours where they are."""
    levels = np.arange(0, 256, 15).astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(levels.size, -1, 3)
    image = Image.fromarray(grid if mode == "RGB" else levels[None])
    moved = ImageCms.applyTransform(image, transform)
    return bool(abs(np.asarray(image.convert("RGB"), int) - np.asarray(moved, int)).max() <= TOLERANCE)


def describe(opened: ImageCms.ImageCmsProfile) -> str:
    """The description that a profile carries, of printable characters only; "an unnamed profile" without any."""
    told = opened.profile.profile_description or ""
    return (
        " ".join("".join(letter if letter.isprintable() else " " for letter in told).split())[:NAME_LENGTH]
        or "an unnamed profile"
    )


def coded(primaries: int, transfer: int) -> Profile | None:
    """The profile that two code points of ITU-T H.273 name, None for sRGB and what is not said."""
    name, points = PRIMARIES.get(primaries, ("", None))
    if transfer in HIGH_RANGE:
        return Profile(name=f"{name} {HIGH_RANGE[transfer]}".strip(), note=high_range_note(HIGH_RANGE[transfer]))
    if points is None or transfer not in (*SRGB_CURVES, LINEAR):
        return None if primaries in NEAR_SRGB and transfer in SRGB_CURVES else Profile(note=UNKNOWN)
    if primaries == 1 and transfer != LINEAR:
        return None
    curve = srgb_curve() if transfer != LINEAR else None
    return Profile(made("rgb", D65, points, curve, 1.0), f"linear {name}" if transfer == LINEAR else name)


def high_range_note(curve: str) -> str:
    """Say that colours of high dynamic range are not mapped."""
    return f"colours of high dynamic range ({curve}) left as stored"


def measured(
    gamma: float, white: tuple[float, float] = D65, primaries: tuple[float, ...] | None = None, grey: bool = False
) -> Profile | None:
    """The profile of an exponent, white and primaries as a PNG file gives them, None for what is as good as sRGB.

    ``gamma`` is the exponent with which stored values become light.
    """
    points = primaries or PRIMARIES[1][1]
    usual = abs(gamma - 2.2) < 0.05
    near = max(abs(one - other) for one, other in zip((*points, *white), (*PRIMARIES[1][1], *D65), strict=True)) < 0.01
    if usual and (near or grey):
        return None
    name = f"gamma {gamma:.3g}" if near or grey else f"the file's own primaries, gamma {gamma:.3g}"
    try:
        if grey:
            return Profile(made("gray", white, None, None, gamma), name)
        return Profile(made("rgb", white, points, srgb_curve() if usual else None, gamma), name)
    except (RuntimeError, ValueError):
        return Profile(note=DAMAGED)


def made(
    kind: str,
    white: tuple[float, float],
    primaries: tuple[float, ...] | None,
    curve: np.ndarray | None,
    gamma: float,
) -> bytes:
    """Write an ICC profile."""
    return imagecodecs.cms_profile(
        kind,
        whitepoint=[*white, 1.0],
        primaries=[*primaries[0:2], 1.0, *primaries[2:4], 1.0, *primaries[4:6], 1.0] if primaries else None,
        transferfunction=curve,
        gamma=gamma if curve is None else None,
    )


def srgb_curve() -> np.ndarray:
    """Light by stored value, for 0..65535 and in 1024 steps (IEC 61966-2-1)."""
    stored = np.linspace(0, 1, 1024)
    light = np.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4)
    return (light * 65535).round().astype(np.uint16)
