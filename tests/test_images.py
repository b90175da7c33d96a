import io
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from explainers.errors import ImageError
from explainers.images import Reading, thumbnail
from explainers.images.reading import read
from tests.picture_files import PHOTO, RANDOM, SEEDS, SIBLINGS, dicom, dicom_file, enlarge, photo, ramp, save, tiff

SKIMAGE = Path(str(distribution("scikit-image").locate_file("skimage/data")))


def only(data, name="picture", private=True, **options):
    (picture,) = read(data, name, Reading(**options), private=private)
    return picture


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
