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
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
)

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


def with_length(data, kind, length):
    """The same file with another length before the first box of a kind."""
    place = data.index(kind) - 4
    return data[:place] + struct.pack(">I", length) + data[place + 4 :]


#: What lengths of boxes say that is not the length: up to the end, in 64 bits, too short for the box, far too long.
LENGTHS = (0, 1, 2, 7, 2**31)


def transferred(values, syntax):
    """Pack values into a DICOM file in another way to write numbers."""
    dataset = pydicom.dcmread(io.BytesIO(dicom(values)))
    dataset.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, implicit_vr=syntax == "1.2.840.10008.1.2", enforce_file_format=True)
    return buffer.getvalue()


def further_seeds():
    """More inputs for every decoder, which only ``make fuzz`` and the exhaustive tests change."""
    wide, grey, film = (
        PHOTO.astype(np.uint16) * 16,
        PHOTO[..., 0],
        [Image.fromarray(PHOTO), Image.fromarray(PHOTO[::-1])],
    )
    return {
        **{
            f"{name} with a box of length {length}": with_length(SEEDS[seed], kind, length)
            for length in LENGTHS
            for name, seed, kind in (
                ("DICOM", "JPEG 2000 in boxes", b"jp2c"),
                ("HEIC", "HEIC", b"meta"),
                ("AVIF", "AVIF", b"meta"),
                ("JPEG XL", "JPEG XL in boxes", b"jxlc"),
            )
        },
        **{
            f"PNG of 16 bits, {name}": imagecodecs.png_encode(np.ascontiguousarray(values))
            for name, values in {"grey": wide[..., 0], "grey and opacity": wide[..., :2]}.items()
        },
        "PNG of 1 bit": photo("PNG", "1"),
        "PNG film": save(film[0], "PNG", save_all=True, append_images=film[1:]),
        **{
            f"TIFF by {compression}": tiff(grey, compression=compression, **GREY)
            for compression in ("packbits", "zlib", "lzma", "zstd", "lzw", "jpeg", "jpeg2000", "jpegxl")
        },
        **{
            f"TIFF as {compression}": photo("TIFF", mode, compression=compression)
            for mode, compression in {
                "1": "group4",
                "L": "tiff_adobe_deflate",
                "CMYK": "packbits",
                "RGB": "jpeg",
            }.items()
        },
        "TIFF of group 3": photo("TIFF", "1", compression="group3"),
        "TIFF of 64 bits": tiff(wide, photometric="rgb", bigtiff=True, compression="zlib", predictor=True),
        "TIFF of L*a*b*": photo("TIFF", "LAB"),
        "JPEG of many scans": photo("JPEG", progressive=True),
        "JPEG of grey": photo("JPEG", "L"),
        "JPEG of little": many_scans(64, 3),
        "WEBP without loss": photo("WEBP", "RGBA", lossless=True),
        "WEBP film": save(film[0], "WEBP", save_all=True, append_images=film[1:]),
        "GIF film": save(film[0], "GIF", save_all=True, append_images=film[1:]),
        "BMP with a palette": photo("BMP", "P"),
        "AVIF with opacity": photo("AVIF", "RGBA"),
        "JPEG XL of 16 bits": imagecodecs.jpegxl_encode(wide),
        "JPEG XL of a JPEG": imagecodecs.jpegxl_encode_jpeg(photo("JPEG")),
        "JPEG XL of floats": imagecodecs.jpegxl_encode(PHOTO.astype(np.float32) / 255),
        "DICOM implicit": transferred(grey, ImplicitVRLittleEndian),
        "DICOM deflated": transferred(grey, DeflatedExplicitVRLittleEndian),
        "DICOM of JPEG": compress(Image.fromarray(grey), "JPEG", JPEGBaseline8Bit),
        **{name: dicom_file(name) for name in FURTHER_DICOM},
    }


#: Files of pydicom's in further transfer syntaxes.
FURTHER_DICOM = (
    "ExplVR_BigEnd.dcm", "MR_small_bigendian.dcm", "JPEG-lossy.dcm", "SC_rgb_jpeg_gdcm.dcm", "image_dfl.dcm",
    "SC_rgb_small_odd_jpeg.dcm", "JPEGLSNearLossless_16.dcm", "SC_rgb_jls_lossy_line.dcm", "JPEG2000.dcm",
    "GDCMJ2K_TextGBR.dcm", "SC_rgb_rle_32bit.dcm", "SC_ybr_full_422_uncompressed.dcm",
)  # fmt: skip
