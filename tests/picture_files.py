"""Picture files for tests, in every format that is read."""

import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pydicom
import tifffile
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

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


SEEDS = {
    **{format: photo(format) for format in ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF")},
    "palette": photo("PNG", "P"),
    "transparent": photo("PNG", "RGBA"),
    "CMYK": photo("JPEG", "CMYK"),
    "LZW": photo("TIFF", compression="tiff_lzw"),
    "float": tiff(ramp(np.float64)),
    "pages": tiff(np.zeros((3, 8, 8), np.uint16), photometric="minisblack"),
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
}
