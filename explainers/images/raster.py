"""Who decodes which format of pictures that is not DICOM."""

from __future__ import annotations

from collections.abc import Callable

from explainers.images.decoded import Decoded, finish
from explainers.images.phones import decode_heic, decode_jpegxl
from explainers.images.picture import USUAL, Picture, Reading, decoding
from explainers.images.png import decode_png
from explainers.images.shallow import decode_shallow
from explainers.images.tiff import decode_tiff

DECODERS: dict[str, Callable[[bytes, str, Reading], Decoded]] = {
    "PNG": decode_png,
    "TIFF": decode_tiff,
    "HEIC": decode_heic,
    "JPEG XL": decode_jpegxl,
}


def read_raster(data: bytes, name: str, kind: str, reading: Reading = USUAL) -> Picture:
    """Decode one frame or page of a file of the format ``kind``, any but DICOM; raises ImageError."""
    with decoding(name, f"{'an' if kind == 'AVIF' else 'a'} {kind} file"):
        decode = DECODERS.get(kind)
        decoded = decode(data, name, reading) if decode else decode_shallow(data, name, kind, reading)
        return finish(name, decoded, reading)
