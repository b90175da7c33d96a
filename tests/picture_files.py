"""Picture files for tests, in every format that is read."""

import io
import struct
import zipfile
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import tifffile
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless

#: Small inputs, each of which stands for a kind.
CASES = Path(__file__).parent / "cases"

RANDOM = np.random.default_rng(0)


PHOTO = RANDOM.integers(0, 256, (30, 40, 3), np.uint8)
PHOTO[:15] //= 3  # no symmetry, so that every turn shows


def save(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def photo(format, mode="RGB", **options):
    return save(Image.fromarray(PHOTO).convert(mode), format, **options)


def tiff(values, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def archive(files, **options):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as target:
        for name, content in files.items():
            target.writestr(name, content)
    return buffer.getvalue()


def dicom_file(name):
    path = get_testdata_file(name, download=False)
    assert path is not None
    return Path(path).read_bytes()


def dicom(values, **attributes):
    """Pack values into a minimal DICOM file about a patient called Doe."""
    dataset = Dataset()
    dataset.PatientName, dataset.PatientID, dataset.InstitutionName = "Doe^Jane", "Secret-4711", "General Hospital"
    dataset.StudyDescription, dataset.SOPClassUID, dataset.SOPInstanceUID = (
        "Knee of Doe",
        "1.2.840.10008.5.1.4.1.1.7",
        "1.2",
    )
    dataset.Rows, dataset.Columns = values.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = values.dtype.itemsize * 8
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, int(values.dtype.kind == "i")
    dataset.PixelData = values.tobytes()
    if values.ndim == 3:
        dataset.NumberOfFrames = len(values)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def case(name):
    return (Path(__file__).parent / "cases" / name).read_bytes()


def compress(image, format, syntax):
    """Pack a grey picture into a DICOM file, as Pillow compresses it."""
    dataset = pydicom.dcmread(io.BytesIO(dicom(np.asarray(image))))
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([save(image, format)])
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


#: Two numbers, a line of four from the last one, and both again (PS3.3 C.7.9.2).
SEGMENTS = np.array([0, 2, 100, 200, 1, 4, 1000, 2, 2, 0, 0], np.uint16).tobytes()


def ramp(dtype, low=12, high=4031):
    return np.linspace(low, high, 1200).reshape(30, 40).astype(dtype)


def enlarge(format, side):
    """A small file whose header claims to be a square of this side."""
    data = bytearray(photo(format, "L"))
    place, code = {
        "PNG": (16, ">II"),
        "BMP": (18, "<ii"),
        "GIF": (6, "<HH"),
        "JPEG": (data.find(b"\xff\xc0") + 5, ">HH"),
    }[format]
    struct.pack_into(code, data, place, side, side)
    if format == "PNG":
        struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
    return bytes(data)


def many_scans(side, scans):
    """A progressive JPEG in which each scan of a few bytes passes over the whole picture (LJT-01-004)."""

    def segment(code, content):
        return struct.pack(">BBH", 0xFF, code, len(content) + 2) + content

    frame = struct.pack(">BHHB3B", 8, side, side, 1, 1, 0x11, 0)
    tables = segment(0xDB, bytes([0]) + bytes([1]) * 64) + segment(0xC2, frame)
    # One code of one bit each: no difference, and a run of 2^14 blocks and more without coefficients.
    tables += segment(0xC4, bytes([0, 1, *[0] * 15, 0])) + segment(0xC4, bytes([0x10, 1, *[0] * 15, 0xE0]))
    first = segment(0xDA, bytes([1, 1, 0, 0, 0, 0])) + bytes(16)
    further = segment(0xDA, bytes([1, 1, 0, 1, 63, 0])) + bytes(((side // 8) ** 2 // 2**14 + 1) * 15 // 8 + 1)
    return b"\xff\xd8" + tables + first + further * scans + b"\xff\xd9"


GREY = {"photometric": "minisblack"}

DISPLAY_P3 = Image.open(io.BytesIO((CASES / "r1_display_p3.jpeg").read_bytes())).info["icc_profile"]

SEEDS = {
    **{format: photo(format) for format in ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF")},
    "palette": photo("PNG", "P"),
    "transparent": photo("PNG", "RGBA"),
    "CMYK": photo("JPEG", "CMYK"),
    "LZW": photo("TIFF", compression="tiff_lzw"),
    "float": tiff(ramp(np.float64)),
    "pages": tiff(np.zeros((3, 8, 8), np.uint16), photometric="minisblack"),
    "PNG of 16 bits": imagecodecs.png_encode(PHOTO.astype(np.uint16) * 16),
    "PNG with a profile": photo("PNG", icc_profile=DISPLAY_P3),
    "HEIC": (CASES / "r2_phone.heic").read_bytes(),
    "AVIF": photo("AVIF"),
    "JPEG XL": imagecodecs.jpegxl_encode(PHOTO),
    "JPEG XL in boxes": imagecodecs.jpegxl_encode(PHOTO[..., 0].astype(np.uint16), usecontainer=True),
    "TIFF of floats": tiff(ramp(np.float32), compression="zlib", predictor=True),
    "TIFF of 12 bits": tiff(ramp(np.uint16), bitspersample=12),
    "TIFF of planes": tiff(np.stack([PHOTO[..., 0]] * 5), planarconfig="separate", compression="lzw", **GREY),
    "TIFF with opacity": tiff(
        np.dstack([PHOTO, PHOTO[..., :1]]).astype(np.uint16),
        photometric="rgb",
        extrasamples=["assocalpha"],
        compression="zstd",
    ),
    **{
        f"TIFF as {compression}": tiff(PHOTO, photometric="rgb", compression=compression, tile=(16, 16))
        for compression in ("jpeg2000", "jpegxl", "lerc", "webp", "png")
    },
    "TIFF as 12-bit JPEG": tiff(ramp(np.uint16), compression="jpeg"),
    "zip": archive({"a/a.png": photo("PNG"), "b/b.dcm": dicom(PHOTO[..., 0])}, compression=zipfile.ZIP_DEFLATED),
    "zip of LZMA": archive({"a/a.png": photo("PNG"), "train/b.csv": b"a,b"}, compression=zipfile.ZIP_LZMA),
    "CT": dicom_file("CT_small.dcm"),
    "RLE": dicom_file("MR_small_RLE.dcm"),
    "JPEG 2000": dicom_file("MR_small_jp2klossless.dcm"),
    "JPEG-LS": dicom_file("MR_small_jpeg_ls_lossless.dcm"),
    "JPEG 12 bit": dicom_file("JPGExtended.dcm"),
    "JPEG colour": dicom_file("SC_rgb_jpeg_dcmtk.dcm"),
    "RLE colour": dicom_file("SC_rgb_rle_2frame.dcm"),
    "colour table": dicom_file("examples_palette.dcm"),
    "JPEG with a thumbnail": case("d6_jpeg_exif_thumbnail.dcm"),
    "look-up table of 12 bits": case("e3_modality_lut_12bit.dcm"),
    "padding": case("d3_padding_monochrome1.dcm"),
    "no preamble": dicom(PHOTO[..., 0], WindowWidth=100, WindowCenter=50)[132:],
    "colour table in segments": dicom(
        PHOTO[..., 0],
        PhotometricInterpretation="PALETTE COLOR",
        **{f"{colour}PaletteColorLookupTableDescriptor": [256, 0, 16] for colour in ("Red", "Green", "Blue")},
        **{f"Segmented{colour}PaletteColorLookupTableData": SEGMENTS for colour in ("Red", "Green", "Blue")},
    ),
    "JPEG 2000 in boxes": compress(Image.fromarray(PHOTO[..., 0]), "JPEG2000", JPEG2000Lossless),
}

#: Those of which another one of the same decoder is tried each time.
SIBLINGS = {"JPEG XL in boxes", "TIFF of 12 bits", "TIFF with opacity", "TIFF as jpegxl", "TIFF as webp", "TIFF as png"}
