"""What pydicom calls to decode frames of JPEG and JPEG-LS: libjpeg-turbo and CharLS, by imagecodecs.

They read every process that DICOM allows, with values of 2 to 16 bits, and are free to be passed on, unlike the decoder
that pydicom would choose (pylibjpeg-libjpeg, GPL-3.0).
"""

from __future__ import annotations

import imagecodecs
import numpy as np
from pydicom.pixels.decoders.base import DecodeRunner, get_decoder
from pydicom.uid import UID, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes

#: The marker at the end of a frame.
END = b"\xff\xd9"

#: Under which name pydicom knows these decoders.
PLUGIN = "imagecodecs"

#: What pydicom reads of a module of decoders: what each needs, and below whether that is there.
DECODER_DEPENDENCIES = dict.fromkeys((*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes), ("imagecodecs",))


def is_available(syntax: str) -> bool:
    """Tell pydicom which transfer syntaxes are decoded here."""
    return syntax in DECODER_DEPENDENCIES


def choose_plugin(syntax: UID) -> str:
    """The plugin by which pydicom decodes a transfer syntax; "" where the choice is its own."""
    if syntax not in DECODER_DEPENDENCIES:
        return ""
    decoder = get_decoder(syntax)
    if PLUGIN not in decoder.available_plugins:
        function = decode_jpegls.__name__ if syntax in JPEGLSTransferSyntaxes else decode_jpeg.__name__
        decoder.add_plugin(PLUGIN, (__name__, function))
    return PLUGIN


def decode_jpeg(frame: bytes, runner: DecodeRunner) -> bytes:
    """Decode a frame of JPEG to bytes or words, colours by pixel and as they were compressed; what is cut is grey."""
    colours = "GRAYSCALE" if runner.samples_per_pixel == 1 else "YCBCR"
    return imagecodecs.jpeg8_decode(frame, colorspace=colours, outcolorspace=colours).tobytes()


def decode_jpegls(frame: bytes, runner: DecodeRunner) -> bytes:
    """Decode a frame of JPEG-LS to bytes or words, colours by pixel; a frame that is cut is an error.

    CharLS looks for the end of a frame that has none without end.
    """
    values: np.ndarray = imagecodecs.jpegls_decode(frame + END)
    runner.set_option("bits_allocated", 8 * values.dtype.itemsize)
    runner.set_option("planar_configuration", 0)
    return values.tobytes()
