"""Which format a file has, by its first bytes, and who decodes it."""

from __future__ import annotations

from explainers.errors import ImageError
from explainers.images.boxes import describe_boxes, sniff_boxes
from explainers.images.dicom import is_bare, read_dicom
from explainers.images.picture import USUAL, Picture, Reading
from explainers.images.raster import read_raster

ACCEPTED = "PNG, JPEG, TIFF, WebP, BMP, GIF, HEIC, AVIF, JPEG XL or DICOM"

SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
    b"PK\x03\x04": "ZIP",
    b"PK\x05\x06": "ZIP",
}

#: What people upload by mistake.
OTHERS = {
    b"%PDF": "a PDF document",
    b"\x1f\x8b": "a gzip archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 file",
    b"\x93NUMPY": "a NumPy array",
    b"\x89HDF": "an HDF5 file",
    b"<": "a text or SVG file",
    b"{": "a JSON file",
    b"PK": "a zip archive inside an archive",
}


def sniff(head: bytes) -> str | None:
    """Tell the format of a file from at least its first 132 bytes; None if Lightbox does not read it."""
    if head[128:132] == b"DICM" or is_bare(head):
        return "DICOM"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    known = next((kind for signature, kind in SIGNATURES.items() if head.startswith(signature)), None)
    return known or sniff_boxes(head)


def read_file(data: bytes, name: str, reading: Reading = USUAL) -> Picture:
    """Decode the content of one picture file; raises ImageError."""
    if not data:
        raise ImageError(f"{name} is empty. Choose a picture as {ACCEPTED}.")
    if reading.window and not reading.window[0] > 0:
        raise ImageError(f"The window's width is {reading.window[0]:g}; give one greater than 0.")
    kind = sniff(data)
    if kind == "DICOM":
        return read_dicom(data, name, reading)
    if kind is None or kind == "ZIP":
        raise ImageError(f"{name} is {describe(data)}; Lightbox reads {ACCEPTED}. Convert it to one of these.")
    return read_raster(data, name, kind, reading)


def describe(data: bytes) -> str:
    """Say in words what a file is that is no picture."""
    if data[4:8] == b"ftyp":
        return describe_boxes(data)
    return next(
        (words for signature, words in OTHERS.items() if data.startswith(signature)), "in no known picture format"
    )
