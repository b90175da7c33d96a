"""DICOM files: shown as the standard says, whatever a single attribute says, and never decoded beyond their header."""

import io
import struct
import warnings
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.tag import Tag
from pydicom.uid import (
    JPEG2000,
    ExplicitVRBigEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from explainers.errors import ImageError
from explainers.images import Reading
from explainers.images.dicom_header import Header
from explainers.images.dicom_pixels import decode_cells, read_layout
from explainers.images.formats import sniff
from explainers.images.reading import read
from tests import jpeg_files
from tests.picture_files import PHOTO, RANDOM, case, dicom, dicom_file

CASES = Path(__file__).parent / "cases"
BURNED_IN = "text burned into the pixels, if any, stays"
GREY = RANDOM.integers(0, 4096, (24, 32)).astype(np.uint16)
SMOOTH = np.asarray(Image.fromarray(PHOTO[:15, :20]).resize((64, 48), Image.Resampling.BICUBIC))


def only(data, **options):
    (picture,) = read(data, "picture", Reading(**options))
    return picture


def changed(data, syntax=None, **attributes):
    """A DICOM file with other attributes; ``(VR, bytes)`` is written as it is, None takes one out."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    for keyword, value in attributes.items():
        tag = Tag(keyword)
        if value is None:
            dataset.pop(tag, None)
        elif isinstance(value, tuple):
            dataset[tag] = RawDataElement(tag, value[0], len(value[1]), value[1], 0, False, True)
        else:
            setattr(dataset, keyword, value)
    if syntax:
        dataset.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


def compressed(frame, syntax, values, **attributes):
    """A DICOM file of these values, compressed to this frame."""
    if values.ndim == 3:
        attributes = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PhotometricInterpretation": "RGB"} | attributes
    data = dicom(values[..., 0] if values.ndim == 3 else values)
    dataset = pydicom.dcmread(io.BytesIO(data))
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def to_bytes(values, low, high):
    return np.floor(np.clip((np.asarray(values, float) - low) / (high - low), 0, 1) * 255 + 0.5)


def linear(values, width, centre):
    """PS3.3 C.11.2.1.2.1, word for word."""
    values = np.asarray(values, float)
    shown = ((values - (centre - 0.5)) / max(width - 1, 1e-9) + 0.5) * 255
    shown[values <= centre - 0.5 - (width - 1) / 2] = 0
    shown[values > centre - 0.5 + (width - 1) / 2] = 255
    return np.floor(shown + 0.5)


def grey(picture):
    assert (picture.pixels == picture.pixels[..., :1]).all()
    return picture.pixels[..., 0].astype(int)


def jpeg(values=SMOOTH, **options):
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "JPEG", **({"quality": 95} | options))
    return buffer.getvalue()


def decoded(frame):
    return np.asarray(Image.open(io.BytesIO(frame)).convert("RGB")).astype(int)


def j2k(values, **options):
    return imagecodecs.jpeg2k_encode(values, level=0, codecformat="j2k", reversible=True, **options)


def with_segment(frame, marker, content):
    """A JPEG with one more segment at its start."""
    return frame[:2] + struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content + frame[2:]


def reference(name_or_data):
    """Show a grey DICOM file through pydicom's own pipeline, as numbers from 0 to 1."""
    dataset = pydicom.dcmread(io.BytesIO(name_or_data))
    shown = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset).astype(float)
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    low = -(2 ** (dataset.BitsStored - 1)) if dataset.PixelRepresentation else 0
    high = low + 2**dataset.BitsStored - 1
    return (shown - (low * slope + intercept)) / ((high - low) * slope)


# The grey-scale pipeline


@pytest.mark.parametrize(
    "name",
    [
        "693_J2KI.dcm",
        "J2K_pixelrep_mismatch.dcm",
        "MR_small.dcm",
        "MR_small_RLE.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_implicit.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "examples_overlay.dcm",
    ],
)
def test_real_scans_are_shown_through_their_own_window(name):
    picture = only(dicom_file(name))
    expected = np.floor(reference(dicom_file(name)) * 255 + 0.5)
    assert abs(picture.pixels - expected[..., None]).max() == 0
    assert any(note.startswith("window") for note in picture.notes)


def test_a_ct_in_hounsfield_units_is_shown_through_a_given_window():
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
    hounsfield = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    width, centre = 400, 40
    # PS3.3 C.11.2.1.2.1, word for word
    expected = ((hounsfield - (centre - 0.5)) / (width - 1) + 0.5) * 255
    expected[hounsfield <= centre - 0.5 - (width - 1) / 2] = 0
    expected[hounsfield > centre - 0.5 + (width - 1) / 2] = 255
    picture = only(dicom_file("CT_small.dcm"), window=(width, centre))
    assert abs(picture.pixels - np.floor(expected + 0.5)[..., None]).max() == 0
    assert "window 400/40 (width/centre)" in picture.notes


def test_a_scan_without_a_window_is_scaled_over_its_range():
    picture = only(dicom_file("CT_small.dcm"))
    assert (picture.pixels.min(), picture.pixels.max()) == (0, 255)
    assert "values -896..1167 scaled to 8 bit" in picture.notes


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_every_window_function_of_the_standard_agrees_with_pydicom(function):
    values = RANDOM.integers(-1000, 1000, (9, 11)).astype(np.int16)
    data = dicom(
        values,
        WindowCenter=["30", "50"],
        WindowWidth=["310", "2000"],
        VOILUTFunction=function,
        RescaleSlope=2,
        RescaleIntercept=-7,
    )
    assert abs(only(data).pixels[..., 0] - np.floor(reference(data) * 255 + 0.5)).max() == 0


def test_a_look_up_table_of_the_file_is_followed():
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [4, 0, 16], np.array([0, 65535, 0, 32768], np.uint16).tobytes()
    values = np.array([[0, 1, 2, 3, 9]], np.uint16)
    picture = only(dicom(values, VOILUTSequence=[item]))
    assert picture.pixels[0, :, 0].tolist() == [0, 255, 0, 128, 128]


def test_monochrome1_is_turned_round():
    values = RANDOM.integers(0, 4000, (9, 11)).astype(np.uint16)
    plain, inverse = only(dicom(values)), only(dicom(values, PhotometricInterpretation="MONOCHROME1"))
    assert (inverse.pixels == 255 - plain.pixels).all()
    assert any("MONOCHROME1" in note for note in inverse.notes)


@pytest.mark.parametrize("slope", [1, 50, 0.01])
def test_8_bit_greys_stay_as_they_are(slope):
    values = RANDOM.integers(20, 99, (9, 11)).astype(np.uint8)
    picture = only(dicom(values, RescaleSlope=slope, RescaleIntercept=-10))
    assert (picture.pixels == values[..., None]).all()


def test_a_frame_of_a_stack_has_its_own_window():
    def frame_group(width):
        window, group = Dataset(), Dataset()
        window.WindowWidth, window.WindowCenter = width, 0
        group.FrameVOILUTSequence = [window]
        return group

    values = RANDOM.integers(-500, 500, (3, 9, 11)).astype(np.int16)
    data = dicom(values, PerFrameFunctionalGroupsSequence=[frame_group(width) for width in (100, 200, 300)])
    picture = only(data, frame=3)
    assert (picture.pixels == only(dicom(values[2]), window=(300, 0)).pixels).all()
    assert picture.notes[:2] == ("frame 3 of 3", "window 300/0 (width/centre)")


@pytest.mark.parametrize(
    "name", ["SC_rgb_rle.dcm", "SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_dcmtk_+eb+cr.dcm", "SC_ybr_full_422_uncompressed.dcm"]
)
def test_colour_files_show_their_bars(name):
    pixels = only(dicom_file(name)).pixels.astype(int)
    red, white = pixels[5, 50], pixels[-5, 50]
    assert red[0] > 240
    assert red[1:].max() < 15
    assert white.min() > 240


def test_a_palette_is_looked_up():
    dataset = pydicom.dcmread(get_testdata_file("examples_palette.dcm", download=False))
    tables = [
        np.frombuffer(dataset[f"{colour}PaletteColorLookupTableData"].value, "<u2")
        for colour in ("Red", "Green", "Blue")
    ]
    expected = np.stack([table[dataset.pixel_array] for table in tables], axis=-1) / 65535 * 255
    assert abs(only(dicom_file("examples_palette.dcm")).pixels - expected).max() <= 0.5


@pytest.mark.parametrize("burned_in", ["YES", "NO", None])
def test_text_burned_into_the_pixels_is_pointed_out(burned_in):
    picture = only(dicom(np.zeros((2, 2), np.uint8), **({"BurnedInAnnotation": burned_in} if burned_in else {})))
    expected = {"YES": ("text burned into the pixels stays",), "NO": ()}
    assert picture.notes == expected.get(burned_in, ("text burned into the pixels, if any, stays",))


def test_nothing_that_identifies_a_patient_survives():
    for data in (dicom(np.zeros((2, 2), np.uint16)), dicom(np.zeros((2, 2), np.uint16))[:-3]):
        try:
            told = repr(only(data))
        except ImageError as error:
            told = str(error)
        assert not any(word in told for word in ("Doe", "4711", "Hospital", "Knee"))


def test_a_dicom_file_without_a_picture_says_so():
    with pytest.raises(ImageError, match="without a picture, such as a report"):
        read(dicom_file("reportsi.dcm"), "report.dcm")


def test_a_deflated_dicom_file_is_refused_before_it_is_inflated():
    with pytest.raises(ImageError, match="deflated"):
        read(dicom_file("image_dfl.dcm"), "image.dcm")


def test_a_codestream_that_asks_for_more_than_its_header_is_refused():
    data = bytearray(dicom_file("MR_small_jp2klossless.dcm"))
    size = data.find(b"\xff\x4f\xff\x51") + 8
    data[size : size + 8] = (60_000).to_bytes(4) * 2
    with pytest.raises(ImageError, match="cannot be decoded"):
        read(bytes(data), "bomb.dcm")


# What is compressed


#: What declares a size of 65,000 × 65,000 pixels if it is taken for a segment.
DECOY = b"\xff\xc0\x00\x11\x08\xfd\xe8\xfd\xe8\x03\x01\x11\x00\x02\x11\x01\x03\x11\x01"


@pytest.mark.parametrize("marker", [0xE1, 0xE2, 0xEB, 0xED, 0xEF, 0xFE])
def test_what_lies_inside_a_segment_of_a_jpeg_declares_no_size(marker):
    frame = with_segment(jpeg(), marker, b"Exif\0\0" + DECOY + jpeg(SMOOTH[:8, :8]) + DECOY)
    picture = only(compressed(frame, JPEGBaseline8Bit, SMOOTH, PhotometricInterpretation="YBR_FULL_422"))
    assert abs(picture.pixels - decoded(frame)).max() <= 5


@pytest.mark.parametrize("options", [{"progressive": True}, {"restart_marker_blocks": 2}, {"comment": DECOY}])
def test_every_way_of_writing_a_jpeg_is_walked(options):
    frame = jpeg(**options)
    picture = only(compressed(frame, JPEGBaseline8Bit, SMOOTH, PhotometricInterpretation="YBR_FULL_422"))
    assert abs(picture.pixels - decoded(frame)).max() <= 5


def test_a_table_of_a_jpeg_that_looks_like_a_size_is_a_table():
    flat = np.full((48, 64), 100, np.uint8)
    frame = jpeg(flat)
    place = frame.index(b"\xff\xdb") + 20
    frame = frame[:place] + DECOY[:10] + frame[place + 10 :]
    picture = only(compressed(frame, JPEGBaseline8Bit, flat))
    assert abs(picture.pixels - decoded(frame)).max() <= 1


def test_a_comment_of_jpeg_2000_that_looks_like_a_size_is_a_comment():
    comment = b"\xff\x64" + struct.pack(">HH", 64, 0) + (b"\xff\x4f\xff\x51" + b"\xff" * 56)
    frame = j2k(GREY)
    place = frame.index(b"\xff\x52")
    data = compressed(frame[:place] + comment + frame[place:], JPEG2000Lossless, GREY)
    assert (grey(only(data, window=(4096, 2048))) == linear(GREY, 4096, 2048)).all()


def test_jpeg_2000_in_boxes_is_read():
    frame = imagecodecs.jpeg2k_encode(GREY, level=0, codecformat="jp2", reversible=True)
    assert frame[4:8] == b"jP  "
    data = compressed(frame, JPEG2000Lossless, GREY)
    assert (grey(only(data, window=(4096, 2048))) == linear(GREY, 4096, 2048)).all()


@pytest.mark.parametrize("length", [0, 1, 2, 7, 2**31])
def test_a_box_that_leads_nowhere_is_refused(length):
    frame = imagecodecs.jpeg2k_encode(GREY, level=0, codecformat="jp2", reversible=True)
    for kind in (b"ftyp", b"jp2h"):
        place = frame.index(kind) - 4
        bad = frame[:place] + length.to_bytes(4) + frame[place + 4 :]
        with pytest.raises(ImageError, match="cannot be decoded"):
            read(compressed(bad, JPEG2000Lossless, GREY), "box.dcm")


def test_a_palette_in_boxes_is_refused():
    frame = imagecodecs.jpeg2k_encode(GREY, level=0, codecformat="jp2", reversible=True)
    place = frame.index(b"jp2h") - 4
    length = int.from_bytes(frame[place : place + 4])
    box = struct.pack(">I4sHB", 11, b"pclr", 1024, 255)
    bad = (length + 11).to_bytes(4) + frame[place + 4 : place + length] + box
    with pytest.raises(ImageError, match="cannot be decoded"):
        read(compressed(frame[:place] + bad + frame[place + length :], JPEG2000Lossless, GREY), "box.dcm")


def test_a_jpeg_with_a_second_codestream_in_a_segment_is_refused():
    frame = with_segment(jpeg(), 0xEB, b"JP" + struct.pack(">HII4s", 1, 1, 100, b"RESI") + DECOY)
    with pytest.raises(ImageError, match="cannot be decoded"):
        read(compressed(frame, JPEGBaseline8Bit, SMOOTH), "xt.dcm")


@pytest.mark.parametrize("encoder", ["JPEG 2000", "JPEG-LS", "JPEG lossless"])
def test_compressed_values_of_more_bits_than_are_allocated_are_followed_with_a_note(encoder):
    encode, syntax = ENCODERS[encoder]
    header = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    picture = only(compressed(encode(GREY), syntax, GREY, **header), window=(4096, 2048))
    assert (grey(picture) == linear(GREY, 4096, 2048)).all()
    assert any("Bits Allocated" in note for note in picture.notes)


def test_boxes_without_a_codestream_are_refused():
    frame = imagecodecs.jpeg2k_encode(GREY, level=0, codecformat="jp2", reversible=True)
    with pytest.raises(ImageError, match="cannot be decoded"):
        read(compressed(frame[: frame.index(b"jp2c") - 4], JPEG2000Lossless, GREY), "box.dcm")


LARGER = np.zeros((40, 32), np.uint16)


@pytest.mark.parametrize(
    ("frame", "syntax"),
    [
        (jpeg(LARGER.astype(np.uint8)), JPEGBaseline8Bit),
        (with_segment(jpeg(LARGER.astype(np.uint8)), 0xFE, b"comment"), JPEGBaseline8Bit),
        (imagecodecs.ljpeg_encode(LARGER), JPEGLosslessSV1),
        (imagecodecs.jpegls_encode(LARGER), JPEGLSLossless),
        (j2k(LARGER), JPEG2000Lossless),
        (imagecodecs.jpeg2k_encode(LARGER, level=0, codecformat="jp2"), JPEG2000Lossless),
        (j2k(GREY)[:8] + struct.pack(">4I", 32 + 2**30, 24, 2**30, 0) + j2k(GREY)[24:], JPEG2000Lossless),
        (b"\xff\xd8\xff\xd9", JPEGBaseline8Bit),
        (b"no codestream", JPEG2000Lossless),
    ],
    ids=["JPEG", "comment", "lossless", "JPEG-LS", "JPEG 2000", "JP2", "offset", "no frame", "nothing"],
)
def test_data_that_declare_another_size_are_refused_before_they_are_decoded(frame, syntax, monkeypatch):
    def decode(*_):
        raise AssertionError("decoded")

    monkeypatch.setattr("explainers.images.dicom_pixels.get_decoder", decode)
    with pytest.raises(ImageError, match="cannot be decoded"):
        read(compressed(frame, syntax, GREY), "bomb.dcm")


def test_tiles_beyond_measure_are_refused_before_they_are_decoded():
    values = np.zeros((200, 200), np.uint8)
    frame = bytearray(j2k(values))
    frame[24:32] = (1).to_bytes(4) * 2
    with pytest.raises(ImageError, match="cannot be decoded"):
        read(compressed(bytes(frame), JPEG2000Lossless, values), "tiles.dcm")


@pytest.mark.parametrize("tile", [(16, 16), (24, 20)])
def test_tiles_of_jpeg_2000_are_read(tile):
    buffer = io.BytesIO()
    Image.fromarray(SMOOTH).save(buffer, "JPEG2000", no_jp2=True, tile_size=tile)
    data = compressed(buffer.getvalue(), JPEG2000Lossless, SMOOTH, PhotometricInterpretation="YBR_RCT")
    assert (only(data).pixels == SMOOTH).all()


def test_runs_that_unpack_to_far_more_than_a_frame_are_refused_before_they_are_unpacked(monkeypatch):
    monkeypatch.setattr("pydicom.pixels.decoders.rle._rle_decode_segment", None)
    monkeypatch.setattr("explainers.images.dicom_codestreams.SMALL", 2**20)
    frame = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\0" * 2**14
    with pytest.raises(ImageError, match="cannot be decoded"):
        read(compressed(frame, RLELossless, GREY.astype(np.uint8)), "bomb.dcm")


#: A frame of SMOOTH, its transfer syntax, what the header calls its colours, and how far decoders may differ.
COLOURS = {
    "JPEG": (jpeg(), JPEGBaseline8Bit, "YBR_FULL_422", 5),
    "JPEG without shared chroma": (jpeg(subsampling=0), JPEGBaseline8Bit, "YBR_FULL", 5),
    "JPEG of RGB": (imagecodecs.jpeg8_encode(SMOOTH, 95, outcolorspace="rgb"), JPEGBaseline8Bit, "RGB", 3),
    "JPEG lossless": (imagecodecs.jpeg8_encode(SMOOTH, lossless=True), JPEGLosslessSV1, "RGB", 0),
    "JPEG-LS": (imagecodecs.jpegls_encode(SMOOTH), JPEGLSLossless, "RGB", 0),
    "JPEG 2000, RCT": (j2k(SMOOTH), JPEG2000Lossless, "YBR_RCT", 0),
    "JPEG 2000, ICT": (imagecodecs.jpeg2k_encode(SMOOTH, 60, codecformat="j2k"), JPEG2000, "YBR_ICT", 1),
    "JPEG 2000, RGB": (j2k(SMOOTH, mct=False), JPEG2000Lossless, "RGB", 0),
    "high throughput": (imagecodecs.htj2k_encode(SMOOTH), HTJ2KLossless, "YBR_RCT", 0),
}


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("kind", COLOURS)
def test_compressed_colours_are_those_of_their_codestream_whatever_the_planar_configuration(kind, planar):
    frame, syntax, interpretation, far = COLOURS[kind]
    data = compressed(frame, syntax, SMOOTH, PhotometricInterpretation=interpretation, PlanarConfiguration=planar)
    expected = SMOOTH if far == 0 else decoded(frame)
    assert abs(only(data).pixels - expected.astype(int)).max() <= far


@pytest.mark.parametrize("planar", [0, 1])
def test_run_lengths_are_by_plane_whatever_the_planar_configuration(planar):
    dataset = pydicom.dcmread(io.BytesIO(dicom_file("SC_rgb_rle.dcm")))
    expected = dataset.pixel_array
    assert (only(changed(dicom_file("SC_rgb_rle.dcm"), PlanarConfiguration=planar)).pixels == expected).all()


@pytest.mark.parametrize("planar", [0, 1])
def test_uncompressed_colours_follow_the_planar_configuration(planar):
    stored = SMOOTH.transpose(2, 0, 1) if planar else SMOOTH
    data = dicom(SMOOTH[..., 0], SamplesPerPixel=3, PlanarConfiguration=planar, PhotometricInterpretation="RGB")
    assert (only(changed(data, PixelData=stored.tobytes())).pixels == SMOOTH).all()


def uncompressed(stored, interpretation, **attributes):
    values = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PhotometricInterpretation": interpretation}
    return changed(dicom(stored[..., 0]), **(values | {"PixelData": stored.tobytes()} | attributes))


def to_ybr(rgb):
    """PS3.3 C.7.6.3.1.2, written out for 8 bits."""
    red, green, blue = (rgb[..., channel].astype(float) for channel in range(3))
    luminance = 0.299 * red + 0.587 * green + 0.114 * blue
    first = -0.1687 * red - 0.3313 * green + 0.5 * blue + 128
    second = 0.5 * red - 0.4187 * green - 0.0813 * blue + 128
    return np.stack([luminance, first, second], -1)


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_uncompressed_ybr_of_any_depth_becomes_rgb(bits):
    dtype, scale = np.uint8 if bits == 8 else np.uint16, (2**bits - 1) / 255
    stored = np.rint((to_ybr(SMOOTH) - [0, 128, 128]) * scale + [0, 2 ** (bits - 1), 2 ** (bits - 1)]).clip(
        0, 2**bits - 1
    )
    data = uncompressed(stored.astype(dtype), "YBR_FULL", BitsStored=bits, HighBit=bits - 1)
    assert abs(only(data).pixels - SMOOTH.astype(int)).max() <= 2


def test_uncompressed_ybr_with_shared_chroma_becomes_rgb():
    pairs = SMOOTH[:, ::2].repeat(2, axis=1)
    ybr = np.rint(to_ybr(pairs)).clip(0, 255).astype(np.uint8)
    stored = np.stack([ybr[:, ::2, 0], ybr[:, 1::2, 0], ybr[:, ::2, 1], ybr[:, ::2, 2]], -1)
    data = uncompressed(ybr, "YBR_FULL_422", PixelData=stored.tobytes())
    assert abs(only(data).pixels - pairs.astype(int)).max() <= 2


def test_chroma_that_is_said_to_be_shared_but_is_not_is_noted():
    picture = only(uncompressed(np.rint(to_ybr(SMOOTH)).clip(0, 255).astype(np.uint8), "YBR_FULL_422"))
    assert abs(picture.pixels - SMOOTH.astype(int)).max() <= 2
    assert any("Photometric Interpretation" in note for note in picture.notes)


def test_ybr_of_the_range_of_television_becomes_rgb():
    stored = np.rint((to_ybr(SMOOTH) - [0, 128, 128]) * [219 / 255, 224 / 255, 224 / 255] + [16, 128, 128])
    stored = stored[:, ::2].repeat(2, axis=1).astype(np.uint8)
    packed = np.stack([stored[:, ::2, 0], stored[:, 1::2, 0], stored[:, ::2, 1], stored[:, ::2, 2]], -1)
    data = uncompressed(stored, "YBR_PARTIAL_422", PixelData=packed.tobytes())
    assert abs(only(data).pixels - SMOOTH[:, ::2].repeat(2, axis=1).astype(int)).max() <= 3


@pytest.mark.parametrize(
    ("encode", "syntax"), [(lambda v: j2k(v, mct=False), JPEG2000Lossless), (imagecodecs.jpegls_encode, JPEGLSLossless)]
)
def test_compressed_ybr_becomes_rgb(encode, syntax):
    stored = np.rint(to_ybr(SMOOTH)).clip(0, 255).astype(np.uint8)
    data = compressed(encode(stored), syntax, stored, PhotometricInterpretation="YBR_FULL", PlanarConfiguration=1)
    assert abs(only(data).pixels - SMOOTH.astype(int)).max() <= 2


@pytest.mark.parametrize("interpretation", ["YBR_RCT", "YBR_ICT"])
def test_what_decompressing_jpeg_2000_leaves_behind_is_shown_as_rgb(interpretation):
    picture = only(uncompressed(SMOOTH, interpretation))
    assert (picture.pixels == SMOOTH).all()
    assert any("which only JPEG 2000 can be; shown as RGB" in note for note in picture.notes)


def test_colours_that_a_jpeg_states_itself_are_followed():
    for frame, wrong in ((jpeg(), "RGB"), (COLOURS["JPEG of RGB"][0], "YBR_FULL")):
        picture = only(compressed(frame, JPEGBaseline8Bit, SMOOTH, PhotometricInterpretation=wrong))
        assert abs(picture.pixels - decoded(frame)).max() <= 5


@pytest.mark.parametrize("bits", [8, 16])
def test_a_jpeg_of_8_bits_is_read_whatever_is_allocated(bits):
    frame = jpeg(SMOOTH[..., 0])
    data = compressed(frame, JPEGBaseline8Bit, SMOOTH[..., 0].astype(np.uint16 if bits == 16 else np.uint8))
    assert abs(only(data).pixels - decoded(frame)).max() <= 1


def test_the_real_cases_of_compressed_colour_show_what_their_codestream_holds():
    for name in ("d25_planar1_j2k.dcm", "d25_planar1_jpeg.dcm", "d6_jpeg_exif_thumbnail.dcm"):
        dataset = pydicom.dcmread(CASES / name)
        frame = pydicom.encaps.get_frame(dataset.PixelData, 0, number_of_frames=1)
        picture = only(case(name))
        assert picture.pixels.shape == (120, 160, 3)
        assert abs(picture.pixels - decoded(frame)).max() <= 5


# Every process of JPEG that DICOM allows


def stored(data):
    """The values of a DICOM file's first frame, as it is shown."""
    header = Header(pydicom.dcmread(io.BytesIO(data)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The number of bytes of compressed pixel data")  # by chance that of none
        return decode_cells(header, read_layout("picture", header), 0)[0]


@pytest.mark.parametrize("bits", range(2, 17))
@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_jpeg_of_every_precision_and_predictor_is_exact(bits, channels):
    values = RANDOM.integers(0, 2**bits, (9, 11, channels)).astype(np.uint8 if bits <= 8 else np.uint16).squeeze()
    for predictor in range(1, 8):
        syntax = JPEGLosslessSV1 if predictor == 1 else JPEGLossless
        for restart_rows, apart in ((0, False), (1, False), (4, True)):
            frame = jpeg_files.encode(values, bits, predictor, restart_rows, apart)
            assert (stored(compressed(frame, syntax, values, BitsStored=bits, HighBit=bits - 1)) == values).all()


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("near", [0, 1, 3])
def test_jpeg_ls_is_as_exact_as_it_says(bits, channels, near):
    values = RANDOM.integers(0, 2**bits, (9, 11, channels)).astype(np.uint8 if bits <= 8 else np.uint16).squeeze()
    frame = imagecodecs.jpegls_encode(values, level=near)
    data = compressed(frame, JPEGLSNearLossless if near else JPEGLSLossless, values, BitsStored=bits, HighBit=bits - 1)
    assert abs(stored(data).astype(int) - values).max() <= near


@pytest.mark.parametrize("values", [SMOOTH, SMOOTH[..., 0]])
def test_lossy_jpeg_of_12_bits_is_read(values):
    deep = values.astype(np.uint16) * 16
    frame = imagecodecs.jpeg8_encode(deep, level=97, bitspersample=12)
    colours = {"PhotometricInterpretation": "YBR_FULL_422"} if deep.ndim == 3 else {}
    data = compressed(frame, JPEGExtended12Bit, deep, BitsStored=12, HighBit=11, **colours)
    assert abs(only(data, window=(4096, 2048)).pixels - linear(deep.reshape(48, 64, -1), 4096, 2048)).mean() < 5


def test_a_real_scan_whose_extended_jpeg_is_not_quite_as_the_standard_says_is_read():
    assert only(dicom_file("JPEG-lossy.dcm")).pixels.std() > 20


def test_a_jpeg_that_was_cut_is_shown_with_a_note():
    for frame in (jpeg(SMOOTH[..., 0].copy(), restart_marker_blocks=2), jpeg_files.encode(GREY, 12)):
        values = GREY if frame[2:4] == b"\xff\xc3" else SMOOTH[..., 0]
        syntax = JPEGLosslessSV1 if values is GREY else JPEGBaseline8Bit
        whole, cut = (only(compressed(data, syntax, values)) for data in (frame, frame[: len(frame) // 2]))
        assert cut.pixels.shape == whole.pixels.shape
        missing = [note for note in cut.notes if "part of the picture may be missing" in note]
        assert missing
        assert not set(missing) & set(whole.notes)


def test_jpeg_ls_that_was_cut_is_refused_wherever_it_was():
    frame = imagecodecs.jpegls_encode(SMOOTH)
    for length in range(100, 200):
        with pytest.raises(ImageError, match="cannot be decoded"):
            read(compressed(frame[:length], JPEGLSLossless, SMOOTH), "cut.dcm")


# Bits that are not stored


ENCODERS = {
    "none": None,
    "JPEG 2000": (j2k, JPEG2000Lossless),
    "JPEG-LS": (imagecodecs.jpegls_encode, JPEGLSLossless),
    "JPEG lossless": (imagecodecs.ljpeg_encode, JPEGLosslessSV1),
}


def with_overlay(values, encoder, **attributes):
    """Values of 12 bits with an overlay in the four bits above them."""
    overlay = RANDOM.integers(0, 16, values.shape).astype(np.uint16) << 12
    cells = (values.astype(np.uint16) & 0xFFF) | overlay
    attributes = {"BitsStored": 12, "HighBit": 11} | attributes
    if ENCODERS[encoder] is None:
        return dicom(cells, **attributes)
    encode, syntax = ENCODERS[encoder]
    return compressed(encode(cells), syntax, cells, **attributes)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_bits_above_those_stored_are_left_out(encoder):
    picture = only(with_overlay(GREY, encoder), window=(4096, 2048))
    assert (grey(picture) == linear(GREY, 4096, 2048)).all()


def run_lengths(data):
    dataset = pydicom.dcmread(io.BytesIO(data))
    dataset.compress(RLELossless)
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("high", [11, 13, 15])
@pytest.mark.parametrize("pack", [bytes, run_lengths])
def test_bits_on_either_side_of_those_stored_are_left_out(high, pack):
    values = GREY.astype(np.int16) - 2048
    noise = RANDOM.integers(0, 2**16, values.shape)
    place = high - 11
    cells = ((values.astype(int) & 0xFFF) << place) | (noise & ~(0xFFF << place) & 0xFFFF)
    data = dicom(cells.astype(np.uint16), BitsStored=12, HighBit=high, PixelRepresentation=1)
    assert (grey(only(pack(data), window=(3000, 100))) == linear(values, 3000, 100)).all()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_sign_is_that_of_the_stored_bits(encoder):
    values = GREY.astype(np.int16) - 2048
    picture = only(with_overlay(values, encoder, PixelRepresentation=1), window=(3000, 100))
    assert (grey(picture) == linear(values, 3000, 100)).all()


def test_bits_are_taken_from_below_the_high_bit():
    values = GREY.astype(np.int16) - 2048
    cells = (values << 4) | RANDOM.integers(0, 16, values.shape).astype(np.int16)
    picture = only(dicom(cells, BitsStored=12, HighBit=15), window=(3000, 100))
    assert (grey(picture) == linear(values, 3000, 100)).all()


def test_a_high_bit_under_which_nothing_lies_is_noted():
    picture = only(dicom(GREY, BitsStored=12, HighBit=15), window=(4096, 2048))
    assert (grey(picture) == linear(GREY, 4096, 2048)).all()
    assert any("High Bit of the file is 15" in note for note in picture.notes)


def test_an_overlay_above_compressed_values_does_not_show():
    dataset = pydicom.dcmread(CASES / "d2_overlay_high_bits_j2k.dcm")
    cells = imagecodecs.jpeg2k_decode(pydicom.encaps.get_frame(dataset.PixelData, 0, number_of_frames=1))
    values = cells & 0xFFF
    assert cells.max() > 4095
    assert (grey(only(case("d2_overlay_high_bits_j2k.dcm"))) == to_bytes(values, values.min(), values.max())).all()


# Padding


def test_padding_is_left_out_of_the_range_and_shown_black():
    dataset = pydicom.dcmread(CASES / "d3_padding_no_window.dcm")
    inside = dataset.pixel_array != -2000
    values = dataset.pixel_array - 1024.0
    picture = only(case("d3_padding_no_window.dcm"))
    expected = np.where(inside, to_bytes(values, values[inside].min(), values[inside].max()), 0)
    assert (grey(picture) == expected).all()
    assert "values -1000..900 scaled to 8 bit" in picture.notes


@pytest.mark.parametrize("window", [None, (3000, 2500), (100, 50)])
def test_padding_of_a_picture_that_is_turned_round_is_black(window):
    dataset = pydicom.dcmread(CASES / "d3_padding_monochrome1.dcm")
    values = dataset.pixel_array
    width, centre = window or (3000, 2500)
    expected = np.where(values == 0, 0, 255 - linear(values, width, centre))
    assert (grey(only(case("d3_padding_monochrome1.dcm"), window=window)) == expected).all()


@pytest.mark.parametrize(("signed", "ends"), [(True, (-2000, -1990)), (True, (-1990, -2000)), (False, (0, 9))])
def test_a_range_that_pads_is_left_out_whatever_its_representation_says(signed, ends):
    values = GREY.astype(np.int16) - 1000 if signed else GREY + 100
    values[:8] = RANDOM.integers(min(ends), max(ends) + 1, (8, 32))
    packed = [struct.pack("<h" if signed else "<H", end) for end in ends]
    data = changed(dicom(values), PixelPaddingValue=("US", packed[0]), PixelPaddingRangeLimit=("US", packed[1]))
    inside = values[8:]
    assert (grey(only(data))[:8] == 0).all()
    assert (grey(only(data))[8:] == to_bytes(inside, inside.min(), inside.max())).all()


def test_padding_outside_of_the_stored_bits_is_found():
    cells = GREY % 2000 + 100
    cells[:8] = 0xF830
    data = dicom(cells, BitsStored=12, HighBit=11, PixelPaddingValue=0xF830)
    assert (grey(only(data))[:8] == 0).all()
    assert (grey(only(data))[8:] == to_bytes(cells[8:], cells[8:].min(), cells[8:].max())).all()


def test_padding_that_would_leave_nothing_is_taken_for_values():
    picture = only(dicom(GREY, PixelPaddingValue=0, PixelPaddingRangeLimit=65535))
    assert picture.pixels.max() == 255
    assert any("Pixel Padding Value" in note for note in picture.notes)
    assert only(dicom(GREY * 0, PixelPaddingValue=0)).pixels.max() == 0


def test_padding_of_real_numbers_is_left_out():
    values = RANDOM.random((8, 9)).astype(np.float32)
    values[0], values[1, 0] = -9999, np.nan
    data = changed(
        dicom(values.view(np.uint32)), PixelData=None, BitsStored=None, HighBit=None, PixelRepresentation=None,
        FloatPixelData=values.tobytes(), FloatPixelPaddingValue=-9999.0,
    )  # fmt: skip
    inside = values[1:][np.isfinite(values[1:])]
    assert (grey(only(data))[0] == 0).all()
    expected = np.nan_to_num(to_bytes(values[1:], inside.min(), inside.max()))
    assert abs(grey(only(data))[1:] - expected).max() <= 1


# One attribute that cannot be read


DECIMALS = {
    "40": 40.0,
    " 40 ": 40.0,
    "4e1": 40.0,
    "40,5": 40.5,
    "40 HU": 40.0,
    "40.5HU": 40.5,
    "-,5": -0.5,
    "": None,
    "nan": None,
    "inf": None,
    "1e999": None,
    "forty": None,
    "1,234.5": None,
    "Doe^Jane": None,
    "\xff\xfe": None,
    "1_0": None,
}


@pytest.mark.parametrize("text", DECIMALS)
@pytest.mark.parametrize("keyword", ["WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept"])
def test_a_decimal_that_cannot_be_read_costs_a_note_but_not_the_picture(keyword, text):
    good = {"WindowCenter": 500.0, "WindowWidth": 900.0, "RescaleSlope": 2.0, "RescaleIntercept": -7.0}
    data = changed(dicom(GREY, **good), **{keyword: ("DS", text.encode("latin-1"))})
    number = DECIMALS[text]
    usual = {"RescaleSlope": 1.0, "RescaleIntercept": 0.0}
    number = usual.get(keyword) if number is None else number
    number = None if keyword == "WindowWidth" and (number or 0) <= 0 else number
    found = good | {keyword: number}
    values = GREY * found["RescaleSlope"] + found["RescaleIntercept"]
    picture = only(data)
    if number is None:
        assert (grey(picture) == to_bytes(values, values.min(), values.max())).all()
    else:
        assert abs(grey(picture) - linear(values, found["WindowWidth"], found["WindowCenter"])).max() == 0
    noted = any(f"{keyword.replace('Window', 'Window ').replace('Rescale', 'Rescale ')} of" in n for n in picture.notes)
    assert noted == (text.strip() not in ("40", "4e1"))
    assert "Doe" not in repr(picture)


def test_the_real_cases_of_odd_attributes_are_shown_with_a_note():
    values = pydicom.dcmread(CASES / "e2_empty_rescale_with_window.dcm").pixel_array
    picture = only(case("e2_empty_rescale_with_window.dcm"))
    assert (grey(picture) == linear(values, 256, 128)).all()
    assert "Rescale Slope of the file is empty; 1 used instead" in picture.notes
    values = pydicom.dcmread(CASES / "d4_window_comma.dcm").pixel_array
    picture = only(case("d4_window_comma.dcm"))
    assert abs(grey(picture) - linear(values, 400, 40.5)).max() <= 1
    assert any("Window Center" in note and "40.5" in note for note in picture.notes)


@pytest.mark.parametrize("width", ["0", "-5", "0\\-1"])
def test_a_window_without_width_in_a_file_gives_way_to_the_range(width):
    picture = only(changed(dicom(GREY, WindowCenter=5), WindowWidth=("DS", width.encode())))
    assert (grey(picture) == to_bytes(GREY, GREY.min(), GREY.max())).all()
    assert any("Window Width" in note for note in picture.notes)


def test_the_first_window_that_can_be_read_is_used():
    data = changed(dicom(GREY), WindowWidth=("DS", b"0\\nan\\900"), WindowCenter=("DS", b"1\\2\\500"))
    assert (grey(only(data)) == linear(GREY, 900, 500)).all()


@pytest.mark.parametrize(("kind", "form"), [("FD", "<d"), ("FL", "<f"), ("US", "<H"), ("LO", None), ("UN", None)])
def test_a_window_may_be_stored_as_another_kind_of_number(kind, form):
    width, centre = (struct.pack(form, number) if form else f"{number:4}".encode() for number in (900, 500))
    data = changed(dicom(GREY), WindowWidth=(kind, width), WindowCenter=(kind, centre))
    assert (grey(only(data)) == linear(GREY, 900, 500)).all()


def test_an_unknown_window_function_gives_way_to_the_usual_one():
    picture = only(dicom(GREY, WindowWidth=900, WindowCenter=500, VOILUTFunction="CUBIC"))
    assert (grey(picture) == linear(GREY, 900, 500)).all()
    assert any("VOI LUT Function" in note for note in picture.notes)


def table(entries, first, bits, count=None, kind="H", **attributes):
    item = Dataset()
    item.LUTDescriptor = [len(entries) if count is None else count, first, bits]
    item["LUTDescriptor"].VR = "SS" if first < 0 else "US"
    item.LUTData = np.asarray(entries, np.uint8 if kind == "B" else np.uint16).tobytes()
    item["LUTData"].VR = "OW"
    return [item]


@pytest.mark.parametrize("keyword", ["ModalityLUTSequence", "VOILUTSequence"])
@pytest.mark.parametrize(("bits", "kind"), [(8, "B"), (8, "H"), (10, "H"), (12, "H"), (14, "H"), (16, "H")])
def test_a_table_of_any_depth_is_applied(keyword, bits, kind):
    entries = np.sort(RANDOM.integers(0, 2**bits, 4096))[::-1]
    entries[-1], entries[0] = 0, 2**bits - 1
    picture = only(dicom(GREY, **{keyword: table(entries, 0, bits, kind=kind)}))
    low, high = (0, 2**bits - 1) if keyword[0] == "V" else (entries[GREY].min(), entries[GREY].max())
    assert (grey(picture) == to_bytes(entries[GREY], low, high)).all()


@pytest.mark.parametrize("keyword", ["ModalityLUTSequence", "VOILUTSequence"])
@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian])
def test_a_table_can_begin_below_zero(keyword, syntax):
    values, entries = GREY.astype(np.int16) - 2048, np.arange(4095, -1, -1)
    data = changed(dicom(values, **{keyword: table(entries, -2048, 12)}), syntax)
    low, high = (0, 4095) if keyword[0] == "V" else ((4095 - GREY).min(), (4095 - GREY).max())
    assert (grey(only(data)) == to_bytes(4095 - GREY, low, high)).all()


def test_values_outside_of_a_table_get_its_ends():
    picture = only(dicom(np.array([[0, 9, 10, 11, 12, 99]], np.uint16), VOILUTSequence=table([7, 50, 255], 10, 8)))
    assert grey(picture).tolist() == [[7, 7, 7, 50, 255, 255]]


@pytest.mark.parametrize("keyword", ["ModalityLUTSequence", "VOILUTSequence"])
@pytest.mark.parametrize("bits", [0, 3, 17, 255, 65535])
def test_a_table_with_wrong_bits_is_applied_with_those_of_its_entries(keyword, bits):
    entries = np.linspace(0, 4095, 4096).astype(int)[::-1]
    picture = only(dicom(GREY, **{keyword: table(entries, 0, bits)}))
    low, high = (0, 4095) if keyword[0] == "V" else (entries[GREY].min(), entries[GREY].max())
    assert (grey(picture) == to_bytes(entries[GREY], low, high)).all()
    assert any(f"states {bits} bits" in note for note in picture.notes)


@pytest.mark.parametrize("keyword", ["ModalityLUTSequence", "VOILUTSequence"])
@pytest.mark.parametrize("count", [4096, 0])
def test_a_table_with_too_few_entries_gives_way(keyword, count):
    picture = only(dicom(GREY, **{keyword: table(np.arange(100), 0, 16, count)}))
    assert (grey(picture) == to_bytes(GREY, GREY.min(), GREY.max())).all()
    assert any("too few entries" in note for note in picture.notes)


def test_a_table_without_descriptor_or_data_gives_way_to_the_window():
    for left_out in ("LUTDescriptor", "LUTData"):
        items = table(np.arange(4096), 0, 12)
        del items[0][left_out]
        picture = only(dicom(GREY, VOILUTSequence=items, WindowWidth=900, WindowCenter=500))
        assert (grey(picture) == linear(GREY, 900, 500)).all()
        assert any("VOI LUT Sequence" in note for note in picture.notes)


def test_the_real_table_of_12_bits_is_applied():
    dataset = pydicom.dcmread(CASES / "e3_modality_lut_12bit.dcm")
    item = dataset.ModalityLUTSequence[0]
    entries = np.frombuffer(item.LUTData, "<u2") if isinstance(item.LUTData, bytes) else np.array(item.LUTData)
    values = entries[(dataset.pixel_array.astype(int) - item.LUTDescriptor[1]).clip(0, len(entries) - 1)]
    assert (grey(only(case("e3_modality_lut_12bit.dcm"))) == to_bytes(values, values.min(), values.max())).all()


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("BitsStored", ("US", b"\x40\0")),
        ("BitsStored", None),
        ("HighBit", ("US", b"\xff\xff")),
        ("HighBit", None),
        ("PixelRepresentation", ("US", b"\x07\0")),
        ("PixelRepresentation", ("US", b"")),
        ("SamplesPerPixel", None),
        ("PhotometricInterpretation", ("CS", b"MONOCHROME3 ")),
        ("PhotometricInterpretation", None),
        ("NumberOfFrames", ("IS", b"one")),
        ("NumberOfFrames", ("IS", b"0")),
        ("NumberOfFrames", ("IS", b"-3")),
    ],
)
def test_a_layout_that_is_not_valid_gives_way_to_the_likely_one(keyword, value):
    picture = only(changed(dicom(GREY), **{"NumberOfFrames": 1, keyword: value}))
    assert (grey(picture) == to_bytes(GREY, GREY.min(), GREY.max())).all()
    words = pydicom.datadict.dictionary_description(keyword)
    assert any(note.startswith(words) for note in picture.notes)


@pytest.mark.parametrize("keyword", ["PlanarConfiguration", "FloatPixelData", "ExtendedOffsetTable", "WindowWidth"])
@pytest.mark.parametrize("kind", ["SQ", "FD", "OW", "UN"])
def test_an_attribute_that_means_nothing_here_never_costs_the_picture(keyword, kind):
    for data, expected in ((dicom(GREY), GREY), (compressed(j2k(GREY), JPEG2000Lossless, GREY), GREY)):
        picture = only(changed(data, **{keyword: (kind, b"4711")}), window=(4096, 2048))
        assert (grey(picture) == linear(expected, 4096, 2048)).all()


@pytest.mark.parametrize("text", [b"monochrome2 ", b"MONOCHROME 2", b"MONOCHROME2\0"])
def test_a_photometric_interpretation_may_be_written_carelessly(text):
    picture = only(changed(dicom(GREY), PhotometricInterpretation=("CS", text)))
    assert picture.notes == (f"16-bit values {GREY.min()}..{GREY.max()} scaled to 8 bit", BURNED_IN)


def test_colours_without_a_planar_configuration_are_by_pixel():
    picture = only(uncompressed(SMOOTH, "RGB", PlanarConfiguration=None))
    assert (picture.pixels == SMOOTH).all()
    assert any("Planar Configuration" in note for note in picture.notes)


# Windows


def test_a_picture_says_which_window_it_is_shown_through():
    assert only(dicom_file("MR_small.dcm")).window == (1600, 600)
    assert only(dicom_file("MR_small.dcm"), window=(3, 2)).window == (3, 2)
    assert only(dicom(GREY.astype(np.uint8))).window is None
    assert only(dicom(GREY.astype(np.uint8), WindowWidth=9, WindowCenter=4)).window == (9, 4)
    assert only(dicom_file("SC_rgb_rle_16bit.dcm")).window is None


@pytest.mark.parametrize("slope", [1, 2, 0.37, 1 / 4095])
@pytest.mark.parametrize(
    "stated", [{}, {"WindowWidth": 700.25, "WindowCenter": 300}, {"WindowWidth": 1, "WindowCenter": 0.5}]
)
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_the_window_of_a_picture_shows_the_same_picture_again(slope, stated, function):
    data = dicom(GREY, RescaleSlope=slope, RescaleIntercept=0, VOILUTFunction=function, **stated)
    picture = only(data)
    if not stated and function == "SIGMOID":
        return  # a range is not shown through a window function
    assert abs(grey(only(data, window=picture.window)) - grey(picture)).max() <= 1


@pytest.mark.parametrize(("width", "centre"), [(1, 0.5), (0.5, 0.25), (0.01, 0.7), (1e-6, 0.3)])
def test_windows_of_a_width_up_to_1_show_values_from_0_to_1(width, centre):
    values = GREY * (1 / 4095)
    expected = to_bytes(values, centre - width / 2, centre + width / 2)
    data = dicom(GREY, RescaleSlope=format(1 / 4095, ".13f"), RescaleIntercept=0)
    assert abs(grey(only(data, window=(width, centre))) - expected).max() <= (1 if width > 1e-3 else 255)
    own = only(changed(data, WindowWidth=("DS", f"{width:g}".encode()), WindowCenter=("DS", f"{centre:g}".encode())))
    assert (grey(own) == grey(only(data, window=(width, centre)))).all()
    assert any("LINEAR_EXACT" in note for note in own.notes)


def test_a_window_of_width_1_on_whole_values_is_a_step_as_the_standard_has_it():
    values = np.array([[3, 4, 5, 6]], np.uint16)
    assert grey(only(dicom(values, WindowWidth=1, WindowCenter=5))).tolist() == linear(values, 1, 5).tolist()
    assert linear(values, 1, 5).tolist() == [[0, 0, 255, 255]]


def test_a_chosen_window_replaces_that_of_the_file_and_its_table():
    data = dicom(GREY, WindowWidth=5, WindowCenter=5, VOILUTSequence=table(np.arange(4096)[::-1], 0, 12))
    assert (grey(only(data, window=(900, 500))) == linear(GREY, 900, 500)).all()


# Colour tables


def palette(index, tables, bits, first=0, count=None, segmented=False, **attributes):
    """A picture with a colour table, whose entries are written as they are."""
    word = "Segmented" if segmented else ""
    for colour, entries in zip(("Red", "Green", "Blue"), tables, strict=True):
        packed = struct.pack("<HhH", (len(entries) if count is None else count) % 65536, first, bits)
        attributes[f"{colour}PaletteColorLookupTableDescriptor"] = ("US", packed)
        attributes[f"{word}{colour}PaletteColorLookupTableData"] = ("OW", entries.tobytes() + bytes(entries.nbytes % 2))
    return changed(dicom(index, PhotometricInterpretation="PALETTE COLOR"), **attributes)


def test_a_dark_frame_of_a_deep_palette_is_dark():
    picture = only(case("e4_palette_dark_frame.dcm"))
    assert picture.pixels.max() <= 1
    assert "the upper 8 of 16 bits kept" in picture.notes


@pytest.mark.parametrize(("stated", "dtype"), [(8, np.uint8), (8, np.uint16), (16, np.uint16)])
@pytest.mark.parametrize("entries", [256, 255, 300])
@pytest.mark.parametrize("index", [np.uint8, np.uint16, np.int16])
def test_a_palette_has_the_depth_that_its_descriptor_states(stated, dtype, entries, index):
    tables = RANDOM.integers(0, 256, (3, entries)).astype(dtype)
    index = RANDOM.integers(0, min(entries, 256), (9, 11)).astype(index)
    tables[:, 0] = 255
    expected = np.stack([table[index] for table in tables], -1)
    if stated == 16:
        tables = tables * 257
    assert (only(palette(index, tables, stated)).pixels == expected).all()


def test_a_palette_of_8_bits_that_says_16_is_read_as_8_with_a_note():
    tables = RANDOM.integers(0, 256, (3, 256)).astype(np.uint16)
    index = RANDOM.integers(0, 256, (9, 11)).astype(np.uint8)
    picture = only(palette(index, tables, 16))
    assert (picture.pixels == np.stack([table[index] for table in tables], -1)).all()
    assert any("read as 8" in note for note in picture.notes)


def test_values_outside_of_a_palette_get_its_ends():
    tables = np.array([[10, 20, 30]] * 3, np.uint8)
    picture = only(palette(np.array([[-9, -2, -1, 0, 99]], np.int16), tables, 8, first=-2))
    assert picture.pixels[0, :, 0].tolist() == [10, 10, 20, 30, 30]
    picture = only(palette(np.array([[0, 253, 254, 255]], np.uint8), tables, 8, first=254))
    assert picture.pixels[0, :, 0].tolist() == [10, 10, 10, 20]


def test_a_palette_that_is_too_short_repeats_its_last_entry_with_a_note():
    picture = only(palette(np.array([[0, 1, 2, 200]], np.uint8), np.array([[10, 20]] * 3, np.uint8), 8, count=256))
    assert picture.pixels[0, :, 0].tolist() == [10, 20, 20, 20]
    assert any("only 2 were found" in note for note in picture.notes)


def test_a_palette_that_is_not_there_leaves_the_numbers_as_greys():
    picture = only(dicom(SMOOTH[..., 0], PhotometricInterpretation="PALETTE COLOR"))
    assert (grey(picture) == SMOOTH[..., 0]).all()
    assert any("shown as greys" in note for note in picture.notes)


def test_a_palette_in_segments_is_written_out():
    # Two numbers, a line of four from 200 to 1000, and both again: PS3.3 C.7.9.2.
    segments = np.array([0, 2, 100, 200, 1, 4, 1000, 2, 2, 0, 0], np.uint16)
    index = np.arange(12).reshape(1, 12).astype(np.uint8)
    expected = [100, 200, 400, 600, 800, 1000, 100, 200, 400, 600, 800, 1000]
    picture = only(palette(index, [segments * 1] * 3, 16, count=12, segmented=True))
    assert (picture.pixels[0, :, 0] == to_bytes(expected, 0, 65535)).all()


@pytest.mark.parametrize("bits", [8, 16])
def test_segments_are_written_out_as_pydicom_does(bits):
    largest, segments = 2**bits - 1, [0, 6, *RANDOM.integers(0, 2**bits, 6)]
    for length in RANDOM.integers(1, 50, 10):
        segments += [1, length, RANDOM.integers(0, largest)]
    segments = np.array([*segments], np.uint8 if bits == 8 else np.uint16)
    count = 6 + int(segments[9::3].sum())
    index = np.arange(count, dtype=np.uint16).reshape(1, -1)
    data = palette(index, [segments] * 3, bits, count=count, segmented=True)
    expected = apply_color_lut(index, pydicom.dcmread(io.BytesIO(data))) if bits == 16 or count <= 256 else None
    assert expected is None or (only(data).pixels == to_bytes(expected, 0, largest)).all()


def test_segments_that_would_write_endless_entries_end():
    segments = np.array([0, 0] * 1000 + [2, 65535, 0, 0] * 5000, np.uint16)
    assert only(palette(np.zeros((2, 2), np.uint8), [segments] * 3, 16, count=0, segmented=True)).pixels.shape[2] == 3


@pytest.mark.parametrize("named", ["PixelPresentation", "RedPaletteColorLookupTableDescriptor"])
def test_supplemental_colours_are_named(named):
    value = {"PixelPresentation": "MIXED", "RedPaletteColorLookupTableDescriptor": [256, 0, 16]}[named]
    picture = only(dicom(GREY, **{named: value}))
    assert (grey(picture) == to_bytes(GREY, GREY.min(), GREY.max())).all()
    assert "the file's supplemental colours left out" in picture.notes


# Files without a preamble


def bare(data):
    """The data set alone: neither preamble nor file meta information."""
    return data[132 + 12 + struct.unpack("<I", data[140:144])[0] :]


@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian])
@pytest.mark.parametrize("cut", [bare, lambda data: data[132:]])
def test_a_file_without_a_preamble_is_read(syntax, cut):
    data = cut(changed(dicom(GREY), syntax))
    assert sniff(data[:132]) == "DICOM"
    assert (grey(only(data)) == to_bytes(GREY, GREY.min(), GREY.max())).all()


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small_implicit.dcm", "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm"]
)
def test_a_real_file_is_the_same_without_its_preamble(name):
    whole, cut = only(dicom_file(name)), only(bare(dicom_file(name)))
    assert (whole.pixels == cut.pixels).all()
    assert any("names no transfer syntax" in note for note in cut.notes)


@pytest.mark.parametrize(
    "frame_and_syntax",
    [(jpeg(SMOOTH[..., 0]), JPEGBaseline8Bit), (imagecodecs.jpegls_encode(SMOOTH[..., 0]), JPEGLSLossless)],
)
def test_a_compressed_file_without_a_preamble_shows_its_compression(frame_and_syntax):
    frame, syntax = frame_and_syntax
    data = compressed(frame, syntax, SMOOTH[..., 0])
    assert (only(bare(data)).pixels == only(data).pixels).all()


def test_compressed_pixels_under_an_uncompressed_transfer_syntax_are_read_with_a_note():
    frame = jpeg(SMOOTH[..., 0])
    data = compressed(frame, JPEGBaseline8Bit, SMOOTH[..., 0])
    stated = data.replace(b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.1\0\0\0")
    picture = only(stated)
    assert (picture.pixels == only(data).pixels).all()
    assert any("JPEG Baseline" in note for note in picture.notes)


def test_groups_of_older_files_begin_with_their_length():
    data = struct.pack("<HHII", 8, 0, 4, 1000) + bare(changed(dicom(GREY), ImplicitVRLittleEndian))
    assert (grey(only(data)) == to_bytes(GREY, GREY.min(), GREY.max())).all()


@pytest.mark.parametrize(
    "data",
    [
        b"name,label\r\n1.png,cat\r\n" * 20,
        "name\tlabel\n".encode("utf-16-le") * 20,
        "\u0002\u0010\u0008 text".encode("utf-16-le") * 20,
        b"\x08\0" + b"text and more of it, nothing else " * 20,
        b"\x02\0\x10\0" + bytes(200),
        bytes(500),
        b"\x08\0\x05\0" + bytes(RANDOM.integers(128, 256, 300, np.uint8)),
    ],
)
def test_text_and_other_files_are_not_taken_for_dicom(data):
    assert sniff(data) is None


@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian])
def test_nothing_that_identifies_a_patient_survives_without_a_preamble(syntax):
    data = bare(changed(dicom(GREY), syntax))
    for cut in (data, data[:-3], data[:120]):
        try:
            told = repr(only(cut))
        except ImageError as error:
            told = str(error)
        assert not any(word in told for word in ("Doe", "4711", "Hospital", "Knee"))


# Stacks


def test_a_frame_of_an_enhanced_file_has_the_rescale_and_window_that_all_share_unless_its_own():
    def group(**values):
        item, inner, window = Dataset(), Dataset(), Dataset()
        inner.RescaleSlope, inner.RescaleIntercept = values.get("slope", 1), -1000
        window.WindowWidth, window.WindowCenter = values["width"], 40
        item.PixelValueTransformationSequence, item.FrameVOILUTSequence = [inner], [window]
        return item

    values = np.stack([GREY, GREY[::-1], GREY // 2])
    shared, own = [group(width=400, slope=2)], [Dataset(), group(width=800), Dataset()]
    data = dicom(values, SharedFunctionalGroupsSequence=shared, PerFrameFunctionalGroupsSequence=own)
    assert (grey(only(data, frame=1)) == linear(values[0] * 2.0 - 1000, 400, 40)).all()
    assert (grey(only(data, frame=2)) == linear(values[1] * 1.0 - 1000, 800, 40)).all()
    assert (grey(only(data, frame=3)) == linear(values[2] * 2.0 - 1000, 400, 40)).all()


def test_big_endian_files_are_read_with_their_tables():
    data = dicom_file("MR_small_bigendian.dcm")
    dataset = pydicom.dcmread(io.BytesIO(data))
    assert dataset.file_meta.TransferSyntaxUID == ExplicitVRBigEndian
    assert (only(data).pixels == only(dicom_file("MR_small.dcm")).pixels).all()


def test_four_values_a_pixel_are_named():
    with pytest.raises(ImageError, match="4 values per pixel"):
        read(dicom(np.zeros((4, 8), np.uint8), SamplesPerPixel=4), "cmyk.dcm")
