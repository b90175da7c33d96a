"""PNG: 16-bit colours, which Pillow cuts, and the chunks that say what colours mean."""

from __future__ import annotations

import struct
from dataclasses import replace

import imagecodecs
from PIL import ExifTags

from explainers.images.decoded import Decoded, compose
from explainers.images.picture import Reading
from explainers.images.profiles import DAMAGED, Profile, coded, measured
from explainers.images.shallow import open_frame, take

#: Where the head of a PNG file tells its bits per sample and kind of colours.
DEPTH, KIND = 24, 25

GREYS = (0, 4)

#: What a file has in it somewhere if it tells its orientation.
EXIF = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")


def decode_png(data: bytes, name: str, reading: Reading) -> Decoded:
    """Decode a PNG file with all the bits that it has."""
    found = chunks(data)
    image, frames = open_frame(data, name, "PNG", reading.frame)
    grey, depth, key = data[KIND] in GREYS, data[DEPTH], image.info.get("transparency")
    profile = declared_profile(found, image.info.get("icc_profile"), grey)
    if depth < 16 or frames > 1:
        if depth < 8 and image.mode == "L" and isinstance(key, int):
            # Pillow scales the greys, and forgets the one that is transparent.
            image.info["transparency"] = key * 255 // (2**depth - 1)
        decoded = take(name, image, reading)
        cut = ("the upper 8 of 16 bits kept",) if depth == 16 and decoded.window is None else ()
        return replace(decoded, frames=frames, notes=(*decoded.notes, *cut), profile=profile)
    # The orientation may stand behind the pixels, which Pillow then decodes as well.
    turned = any(word in data for word in EXIF)
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1) if turned else 1
    values = imagecodecs.png_decode(data)
    channels = values.reshape(*values.shape[:2], -1)
    count = channels.shape[-1]
    opacity = count - 1 if count in (2, 4) else None
    decoded = compose(name, channels, 16, reading.window, colours=1 if grey else 3, opacity=opacity)
    return replace(decoded, orientation=orientation, profile=profile)


def chunks(data: bytes) -> dict[bytes, bytes]:
    """The chunks before the pixels, the first of each kind; damaged ones are left out."""
    found: dict[bytes, bytes] = {}
    place = 8
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        if kind == b"IDAT":
            break
        found.setdefault(kind, data[place + 8 : place + 8 + length])
        place += 12 + length
    return found


def declared_profile(found: dict[bytes, bytes], icc: bytes | None, grey: bool) -> Profile | None:
    """What the colours mean, by the first of cICP, iCCP, sRGB, and cHRM with gAMA that there is (PNG, 3rd edition)."""
    if len(found.get(b"cICP", b"")) == 4:
        return coded(*found[b"cICP"][:2])
    if icc:
        return Profile(icc)
    if b"iCCP" in found:
        return Profile(note=DAMAGED)
    gamma = int.from_bytes(found.get(b"gAMA", b""))
    if b"sRGB" in found or not (len(found.get(b"gAMA", b"")) == 4 and gamma):
        return None
    if len(found.get(b"cHRM", b"")) != 32:
        return measured(1e5 / gamma, grey=grey)
    points = tuple(number / 1e5 for number in struct.unpack(">8I", found[b"cHRM"]))
    return measured(1e5 / gamma, (points[0], points[1]), points[2:], grey)
