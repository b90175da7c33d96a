import io
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

from explainers.errors import ImageError, SelectionError
from explainers.images import Reading, find, read, thumbnail
from tests.picture_files import (
    PHOTO,
    RANDOM,
    SEEDS,
    SIBLINGS,
    archive,
    dicom,
    dicom_file,
    enlarge,
    photo,
    ramp,
    save,
    tiff,
)

SKIMAGE = Path(str(distribution("scikit-image").locate_file("skimage/data")))


def only(data, name="picture", private=True, **options):
    (picture,) = read(data, name, Reading(**options), private=private)
    return picture


def reference(name_or_data):
    """Show a grey DICOM file through pydicom's own pipeline, as numbers from 0 to 1."""
    dataset = pydicom.dcmread(io.BytesIO(name_or_data))
    shown = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset).astype(float)
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    low = -(2 ** (dataset.BitsStored - 1)) if dataset.PixelRepresentation else 0
    high = low + 2**dataset.BitsStored - 1
    return (shown - (low * slope + intercept)) / ((high - low) * slope)


# Formats


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP", "WEBP"])
def test_lossless_formats_give_back_every_pixel(format):
    data = photo(format, **({"lossless": True} if format == "WEBP" else {}))
    assert (only(data).pixels == PHOTO).all()


def test_jpeg_gives_what_its_decoder_gives():
    data = photo("JPEG")
    assert (only(data).pixels == np.asarray(Image.open(io.BytesIO(data)))).all()


def test_the_content_decides_not_the_suffix():
    assert (only(photo("PNG"), "photo.jpg").pixels == PHOTO).all()


def test_grey_becomes_three_equal_colours():
    pixels = only(photo("PNG", "L")).pixels
    assert (pixels == np.asarray(Image.fromarray(PHOTO).convert("L"))[..., None]).all()


def test_palette_becomes_its_colours():
    data = photo("PNG", "P")
    assert (only(data).pixels == np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))).all()


def test_black_and_white_become_0_and_255():
    assert set(np.unique(only(photo("PNG", "1")).pixels)) == {0, 255}


def test_transparent_parts_show_white():
    colours = np.zeros((1, 3, 4), np.uint8)
    colours[0, :, 3] = 0, 255, 51
    picture = only(save(Image.fromarray(colours), "PNG"))
    assert picture.pixels[0, :, 0].tolist() == [255, 0, 204]
    assert picture.notes == ("transparent parts laid over white",)


def test_a_transparent_palette_entry_shows_white():
    image = Image.new("P", (2, 1), 1)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((0, 0), 0)
    assert only(save(image, "PNG", transparency=0)).pixels.tolist() == [[[255] * 3, [40, 50, 60]]]


def test_an_opaque_alpha_channel_is_no_news():
    assert only(photo("PNG", "RGBA")).notes == ()


def test_cmyk_is_converted_and_noted():
    picture = only(photo("TIFF", "CMYK"))
    assert (picture.pixels == PHOTO).all()
    assert "CMYK" in picture.notes[0]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_a_picture_is_turned_as_its_camera_noted(format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = only(photo(format)).pixels
    # By the standard's table of where the first row and column of the stored picture belong
    turned = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: stored[::-1].transpose(1, 0, 2),
        7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: stored.transpose(1, 0, 2)[::-1],
    }[orientation]
    picture = only(photo(format, exif=exif))
    assert (picture.pixels == turned).all()
    assert ("turned upright as the camera noted" in picture.notes) == (orientation > 1)


def test_one_pixel_is_enough():
    for format in ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP"):
        assert only(save(Image.new("RGB", (1, 1), "white"), format)).pixels.tolist() == [[[255] * 3]]


@pytest.mark.parametrize(("side", "told"), [(20_000, "damaged, cut short"), (30_000, "30000 × 30000 pixels")])
def test_no_bound_but_the_setting_limits_a_picture(side, told, bounds):
    bounds(picture_pixels=500_000_000)
    with pytest.raises(ImageError, match=told):
        read(enlarge("PNG", side), "a.png")


# More than 8 bits


def scaled(values):
    values = values.astype(float)
    return np.floor((values - values.min()) / (values.max() - values.min()) * 255 + 0.5)


def test_16_bit_grey_is_scaled_from_its_smallest_to_its_largest_value():
    values = ramp(np.uint16)
    for data in (
        save(Image.fromarray(values), "PNG"),
        tiff(values),
        tiff(values, byteorder=">"),
        tiff(values, tile=(16, 16)),
    ):
        picture = only(data)
        assert (picture.pixels == scaled(values)[..., None]).all()
        assert picture.notes == ("16-bit values 12..4031 scaled to 8 bit",)


def test_compressed_16_bit_tiff_is_scaled_too():
    values = ramp(np.uint16)
    data = save(Image.fromarray(values), "TIFF", compression="tiff_lzw")
    assert (only(data).pixels == scaled(values)[..., None]).all()


@pytest.mark.parametrize("dtype", ["i2", "u4", "i4", "f2", "f4", "f8"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_scientific_tiff_types_are_scaled(dtype, byteorder):
    values = ramp(dtype, *((-5, 7) if dtype != "u4" else (3, 2**32 - 1)))
    expected = scaled(values)
    assert abs(only(tiff(values, byteorder=byteorder)).pixels - expected[..., None]).max() == 0


def test_a_tiff_that_stores_white_as_zero_is_turned_round():
    values = ramp(np.uint16)
    assert (only(tiff(values, photometric="miniswhite")).pixels == 255 - scaled(values)[..., None]).all()


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_16_bit_colours_are_scaled_together(planar):
    values = PHOTO.astype(np.uint16) * 16
    stored = values if planar == "contig" else values.transpose(2, 0, 1)
    picture = only(tiff(stored, photometric="rgb", planarconfig=planar))
    assert (picture.pixels == scaled(values)).all()


def test_further_channels_of_a_tiff_are_left_out_with_a_note():
    values = RANDOM.integers(0, 4000, (30, 40, 5), np.uint16)
    picture = only(tiff(values, photometric="minisblack", planarconfig="contig"))
    assert (picture.pixels == scaled(values[..., 0])[..., None]).all()
    assert "1 of 5 channels shown" in picture.notes


def test_not_a_number_becomes_black():
    values = ramp(np.float32)
    values[0, 0], values[0, 1] = np.nan, np.inf
    assert only(tiff(values)).pixels[0, :2, 0].tolist() == [0, 255]


def test_no_finite_value_is_an_error():
    with pytest.raises(ImageError, match="no finite value"):
        read(tiff(np.full((3, 4), np.nan, np.float32)), "nan.tif")


def test_a_constant_picture_is_black():
    assert only(tiff(np.full((3, 4), 7.5))).pixels.max() == 0


def test_the_range_of_doubles_does_not_overflow():
    values = np.array([[-1.7e308, 0, 1.7e308]])
    assert only(tiff(values)).pixels[0, :, 0].tolist() == [0, 128, 255]


def test_a_given_window_replaces_the_range():
    values = np.array([[0, 100, 200, 300, 400]], np.uint16)
    picture = only(tiff(values), window=(200, 200))
    assert picture.pixels[0, :, 0].tolist() == [0, 0, 128, 255, 255]
    assert picture.notes == ("window 200/200 (width/centre)",)


def test_a_window_without_width_is_refused():
    with pytest.raises(ImageError, match="greater than 0"):
        read(photo("PNG"), "a.png", Reading(window=(0, 10)))


def test_16_bit_colour_png_keeps_its_upper_bits():
    picture = only((SKIMAGE / "chessboard_RGB.png").read_bytes())
    assert picture.notes == ("the upper 8 of 16 bits kept",)


# Frames


def test_the_first_frame_is_read_unless_another_is_chosen():
    pages = [Image.new("L", (4, 3), shade) for shade in (10, 20, 30)]
    for format in ("TIFF", "GIF"):
        data = save(pages[0], format, save_all=True, append_images=pages[1:])
        shades = [int(only(data, frame=frame).pixels[0, 0, 0]) for frame in (1, 1, 2, 3)]
        assert shades == [10, 10, 20, 30]
        assert only(data, frame=2).notes == ("frame 2 of 3",)
        assert only(data).frames == 3


@pytest.mark.parametrize("frame", [-1, 0, 4])
def test_a_frame_that_is_not_there_is_named(frame):
    for data in (tiff(np.zeros((3, 8, 8), np.uint16), photometric="minisblack"), dicom(np.zeros((3, 8, 8), np.uint16))):
        with pytest.raises(ImageError, match=f"no frame {frame}; choose one from 1 to 3"):
            read(data, "stack", Reading(frame=frame))


# DICOM


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
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4, 0, 16], np.array([0, 65535, 0, 32768], np.uint16).tobytes()
    values = np.array([[0, 1, 2, 3, 9]], np.uint16)
    picture = only(dicom(values, VOILUTSequence=[table]))
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
            told = repr(only(data, "scan.dcm"))
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


# Archives


def test_folders_of_an_archive_give_labels():
    data = archive(
        {"set/dogs/rex.png": photo("PNG"), "set/cats/10.jpg": photo("JPEG"), "set/cats/9.dcm": dicom(PHOTO[..., 0])}
    )
    pictures = read(data, "set.zip")
    assert [(picture.name, picture.label) for picture in pictures] == [
        ("set/cats/9.dcm", "cats"),
        ("set/cats/10.jpg", "cats"),
        ("set/dogs/rex.png", "dogs"),
    ]


def test_pictures_at_the_top_of_an_archive_have_no_label():
    assert [picture.label for picture in read(archive({"a.png": photo("PNG"), "b/c.png": photo("PNG")}), "a.zip")] == [
        None,
        "b",
    ]


def test_what_is_no_picture_in_an_archive_is_counted():
    files = {
        "a.png": photo("PNG"),
        "__MACOSX/._a.png": b"x",
        "notes.txt": b"x",
        "cut.jpg": photo("JPEG")[:200],
        "b.zip": archive({}),
    }
    (picture,) = read(archive(files), "a.zip")
    assert picture.notes == ("4 of the 5 files in a.zip left out as no readable picture",)


def test_names_that_climb_out_are_only_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["../../up.png", "/etc/abs.png", "C:\\win\\x.png", "line\nbreak.png"]
    pictures = read(archive({name: photo("PNG") for name in names}), "../../evil.zip")
    assert {picture.name for picture in pictures} == {"up.png", "etc/abs.png", "C:/win/x.png", "linebreak.png"}
    assert list(tmp_path.iterdir()) == []


def test_a_zip_bomb_is_refused_unopened():
    with pytest.raises(ImageError, match="bytes when unpacked"):
        read(archive({"zeros.bmp": bytes(20_000_000)}, compression=zipfile.ZIP_DEFLATED), "bomb.zip")


def test_too_many_entries_or_pixels_are_refused(bounds):
    data = archive({f"{number}.png": photo("PNG") for number in range(5)})
    bounds(archive_pixels=3 * 1200)
    with pytest.raises(ImageError, match="4,800 pixels; 3,600 are allowed"):
        read(data, "many.zip")
    bounds(archive_entries=4)
    with pytest.raises(ImageError, match="5 entries; 4 are allowed"):
        read(data, "many.zip")


def test_an_archive_without_pictures_says_what_it_should_hold():
    with pytest.raises(ImageError, match=r"None of the 1 files in a.zip is a picture; put PNG"):
        read(archive({"readme.txt": b"hello"}), "a.zip")


def test_a_locked_archive_asks_for_an_open_one():
    data = bytearray(archive({"a.png": photo("PNG")}))
    data[data.find(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(ImageError, match="password"):
        read(bytes(data), "locked.zip")


# Refusals


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "x is empty"),
        (b"%PDF-1.7 ...", "x is a PDF document; Lightbox reads PNG"),
        (b"\0\0\0\x18ftypheic" + bytes(200), "HEIC"),
        (bytes(500), "no known picture format"),
        (photo("PNG")[:300], "x begins like a PNG file but cannot be decoded"),
        (photo("JPEG")[:300], "x begins like a JPEG file but cannot be decoded"),
        (dicom_file("MR_truncated.dcm"), "x begins like a DICOM file but cannot be decoded"),
        (b"PK\x03\x04" + bytes(100), "x begins like a zip archive but cannot be decoded"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_what_to_do(data, words):
    with pytest.raises(ImageError, match=words) as error:
        read(data, "x")
    assert str(error.value).endswith(".")


@pytest.mark.parametrize("side", [8_001, 9_500, 14_000, 60_000])
@pytest.mark.parametrize("format", ["PNG", "BMP", "GIF", "JPEG"])
def test_too_many_pixels_are_refused_before_they_are_decoded(format, side):
    with pytest.raises(ImageError, match="64 million"):
        read(enlarge(format, side), "big")


# Pictures


def test_a_picture_cannot_be_changed():
    picture = only(photo("PNG"))
    with pytest.raises(ValueError, match="read-only"):
        picture.pixels[0, 0] = 0


def test_the_digest_names_shape_and_pixels_and_nothing_else():
    picture = only(photo("PNG"))
    turned = only(save(Image.fromarray(PHOTO.reshape(40, 30, 3)), "PNG"))
    assert picture.digest == only(photo("BMP"), "other name", private=False).digest
    assert picture.digest != turned.digest
    assert len(picture.digest) == 64


def test_uploads_are_private_unless_said_otherwise():
    assert only(photo("PNG")).private
    assert not only(photo("PNG"), private=False).private


def test_a_thumbnail_keeps_the_shape_in_a_square():
    for pixels, size in ((PHOTO.repeat(10, 0).repeat(10, 1), (96, 72)), (np.zeros((1, 5000, 3), np.uint8), (96, 1))):
        image = Image.open(io.BytesIO(thumbnail(pixels)))
        assert image.size == size
    assert thumbnail(only(photo("PNG"))) == thumbnail(PHOTO)


# Folders


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "root"
    for name in (
        "10.png",
        "9.png",
        "cats/siamese/1.PNG",
        "cats/2.png",
        "IM0001",
        ".hidden.png",
        "notes.txt",
        "cut.png",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(photo("PNG"))
    (root / "cut.png").write_bytes(photo("PNG")[:300])
    (tmp_path / "outside.png").write_bytes(photo("PNG"))
    (root / "link.png").symlink_to(tmp_path / "outside.png")
    (root / "inner.png").symlink_to(root / "9.png")
    (root / "loop").symlink_to(root)
    return root


def test_a_folder_lists_its_pictures_in_natural_order_without_links_that_lead_out(folder):
    names = [sample.name for sample in find(folder)]
    assert names == ["9.png", "10.png", "cats/2.png", "cats/siamese/1.PNG", "cut.png", "IM0001", "inner.png"]


def test_the_first_folder_is_the_label_of_a_sample_and_of_its_picture(folder):
    samples = find(folder)
    assert [sample.label for sample in samples] == [None, None, "cats", "cats", None, None, None]
    assert samples.named("cats/siamese/1.PNG").read().label == "cats"


def test_a_sample_is_read_when_asked_and_is_not_private(folder):
    picture = find(folder)[0].read()
    assert (picture.pixels == PHOTO).all()
    assert not picture.private
    with pytest.raises(ImageError, match=r"cut.png begins like a PNG file"):
        find(folder).named("cut.png").read()


def test_a_sample_that_is_gone_says_so(folder):
    sample = find(folder)[0]
    sample.path.unlink()
    with pytest.raises(ImageError, match="cannot be read from the server"):
        sample.read()


def test_an_unknown_sample_names_those_there_are(folder):
    with pytest.raises(SelectionError, match=r"no picture '8.png'. Choose one of 9.png, 10.png"):
        find(folder).named("8.png")


def test_a_folder_without_pictures_is_an_error(tmp_path):
    with pytest.raises(ImageError, match="no folder on the server"):
        find(tmp_path / "missing")
    with pytest.raises(ImageError, match="no pictures in any of its 0 files"):
        find(tmp_path)


# Damage


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=[pytest.mark.exhaustive] if seed in SIBLINGS else []) for seed in SEEDS]
)
def test_damage_ends_in_a_picture_or_a_sentence(seed, data):
    damaged = bytearray(SEEDS[seed])
    reach = st.integers(0, len(damaged) - 1)
    changes = st.tuples(st.one_of(reach, st.integers(0, min(len(damaged), 700) - 1)), st.integers(0, 255))
    for place, value in data.draw(st.lists(changes, min_size=1, max_size=8)):
        damaged[place] = value
    try:
        pictures = read(bytes(damaged[: data.draw(st.one_of(st.just(len(damaged)), reach))]), seed)
    except ImageError:
        return
    assert all(picture.pixels.dtype == np.uint8 and picture.pixels.shape[2] == 3 for picture in pictures)
