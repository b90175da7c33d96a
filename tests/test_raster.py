"""TIFF, PNG, HEIC, AVIF and JPEG XL of all kinds, and colour profiles, against decoders that are no part of ours."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pillow_heif
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps

from explainers.errors import ImageError
from explainers.images import Reading, find
from explainers.images.jpegxl import read_header
from explainers.images.reading import read
from tests.picture_files import CASES, DISPLAY_P3, GREY, archive, photo, save, tiff

Y, X = np.mgrid[:64, :80]
#: Smooth, so that lossy formats stay near, and without symmetry, so that every turn shows.
COLOURS = np.stack([X * 3, Y * 4, X + Y], axis=-1).astype(np.uint8)
SHADES = COLOURS[..., 0]
OPACITY = (X * 2 + Y).astype(np.uint8)
WHITE = COLOURS * (OPACITY[..., None] / 255) + 255 - OPACITY[..., None].astype(float)
FIVE = np.stack([SHADES, 255 - SHADES, SHADES // 2, COLOURS[..., 1], COLOURS[..., 2]], axis=-1)


def only(data, **options):
    (picture,) = read(data, "picture", Reading(**options))
    return picture


def case(name, **options):
    return only((CASES / name).read_bytes(), **options)


def scaled(values):
    values = values.astype(float)
    return np.floor((values - values.min()) / (values.max() - values.min()) * 255 + 0.5)


def off(picture, expected):
    """How far a picture is from another, from greys or from colours, at most."""
    expected = np.asarray(expected, float)
    return abs(picture.pixels - (expected if expected.ndim == 3 else expected[..., None])).max()


def convert(values, profile):
    """Bring colours to sRGB with Pillow's ImageCms as it comes."""
    image = Image.fromarray(values)
    return ImageCms.profileToProfile(image, io.BytesIO(profile), ImageCms.createProfile("sRGB"), outputMode="RGB")


def png(values, kind, depth=16, **chunks):
    """Write a PNG file chunk by chunk; ``kind`` is the standard's number for its colours."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2" if depth == 16 else "u1").tobytes() for row in values)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    more = b"".join(chunk(name.encode(), content) for name, content in chunks.items())
    return b"\x89PNG\r\n\x1a\n" + head + more + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def ink_profile():
    """The smallest ICC profile for CMYK (ICC.1, lut8Type): the corners of the cube of inks, in CIELab."""
    inks = np.stack(np.meshgrid(*[[0, 1]] * 4, indexing="ij"), axis=-1).reshape(16, 4)
    light = (1 - inks[:, :3] * 0.5) * (1 - inks[:, 3:] * 0.9)
    lab = np.stack([light.mean(-1) * 255, 128 + light @ [60, -60, 0], 128 + light @ [30, 30, -60]], axis=-1)
    identity = struct.pack(">9i", *(np.eye(3, dtype=int).ravel() * 65536))
    ramp = bytes(range(256))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + ramp * 4 + lab.astype(np.uint8).tobytes() + ramp * 3
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    tags, content, place = b"", b"", 128 + 4 + 2 * 12
    for name, data in ((b"A2B0", table), (b"wtpt", white)):
        tags += name + struct.pack(">II", place + len(content), len(data))
        content += data + bytes(-len(data) % 4)
    head = struct.pack(">I4sI4s4s4s12x4s28x3i48x", place + len(content), b"test", 0x02400000, b"prtr", b"CMYK", b"Lab ",
                       b"acsp", 63190, 65536, 54061)  # fmt: skip
    return head.ljust(128, b"\0")[:128] + struct.pack(">I", 2) + tags + content


def heic(values, **options):
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(values)).save(buffer, quality=100, chroma=444, **options)
    return buffer.getvalue()


# Values of more than 8 bits


def test_12_bit_colours_in_16_bits_look_the_same_in_every_container():
    names = ("r4_rgb16_of_12bit.png", "t_rgb16_12bit_None.tif", "t_rgb16_12bit_zlib.tif")
    expected = scaled(tifffile.imread(CASES / "t_rgb16_12bit_None.tif"))
    for picture in map(case, names):
        assert off(picture, expected) == 0
        assert picture.notes == ("16-bit values 0..4080 scaled to 8 bit",)
        assert picture.window == (4080, 2040)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_colours_that_fill_fewer_bits_are_scaled_by_their_range(bits):
    values = COLOURS.astype(np.uint16) << (bits - 8)
    files = [
        imagecodecs.png_encode(values),
        tiff(values, photometric="rgb", compression="lzw", predictor=True),
        tiff(values.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"),
    ]
    for picture in map(only, files):
        assert off(picture, scaled(values)) == 0


def test_colours_that_fill_all_bits_look_like_their_upper_eight():
    values = COLOURS.astype(np.uint16) * 257
    values[0, 0] = 65535
    for data in (imagecodecs.png_encode(values), tiff(values, photometric="rgb", compression="zstd")):
        picture = only(data)
        assert (picture.pixels[1:] == COLOURS[1:]).all()
        assert picture.notes == ("the upper 8 of 16 bits kept",)
        assert picture.window == (65535, 32767.5)


def test_floats_from_0_to_1_are_colours_as_they_are():
    values = (COLOURS / np.float32(255)).astype(np.float32)
    assert off(only(tiff(values, photometric="rgb")), COLOURS) == 0


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_bits_that_are_packed_are_unpacked(bits):
    values = (SHADES.astype(np.uint16) << (bits - 8)) + 3
    picture = only(tiff(values, bitspersample=bits))
    assert off(picture, scaled(values)) == 0
    assert picture.notes[0].startswith(f"{bits}-bit values 3..")


def test_packed_12_bit_greys_are_read():
    assert off(case("t_grey12bit.tif"), scaled(tifffile.imread(CASES / "t_grey12bit.tif"))) == 0


@pytest.mark.parametrize("name", ["t_f2_zlib.tif", "t_f8_lzw.tif"])
def test_compressed_floats_are_read_as_uncompressed(name):
    values = tifffile.imread(CASES / name)
    assert off(case(name), only(tiff(values)).pixels) == 0
    assert off(case(name), scaled(values)) <= 0


@pytest.mark.parametrize("dtype", ["i1", "i2", "u2", "u4", "i4", "f2", "f4", "f8", "u8"])
@pytest.mark.parametrize("compression", ["lzw", "zlib", "zstd", "lzma", "packbits"])
def test_compression_changes_no_value(dtype, compression):
    values = (SHADES.astype(float) / 2 - (0 if dtype[0] == "u" else 50)).astype(dtype)
    for predictor in {False, compression in ("lzw", "zlib", "zstd") and dtype != "u8"}:
        for byteorder in "<>":
            data = tiff(values, compression=compression, predictor=predictor, byteorder=byteorder, tile=(32, 32))
            assert off(only(data), scaled(values)) == 0


@pytest.mark.parametrize("window", [(0.01, 0.5), (1e-6, 0.5), (0.5, 0.25), (3, -2)])
@pytest.mark.parametrize("kind", ["float TIFF", "16-bit TIFF", "16-bit PNG", "16-bit colours"])
def test_a_window_of_any_positive_width_is_followed_and_told(kind, window):
    unit = 1 if kind == "float TIFF" else 60_000
    values = SHADES.astype(np.float32) / 255 if unit == 1 else SHADES.astype(np.uint16) * 235
    width, centre = window[0] * unit, window[1] * unit
    data = {
        "float TIFF": lambda: tiff(values, compression="zlib"),
        "16-bit TIFF": lambda: tiff(values),
        "16-bit PNG": lambda: imagecodecs.png_encode(values),
        "16-bit colours": lambda: imagecodecs.png_encode(np.stack([values] * 3, axis=-1)),
    }[kind]()
    picture = only(data, window=(width, centre))
    expected = np.floor(((values.astype(float) - centre) / width + 0.5).clip(0, 1) * 255 + 0.5)
    assert off(picture, expected) <= 1
    assert picture.window == (width, centre)


def test_without_a_window_the_one_shown_is_the_range():
    assert only(tiff((SHADES / np.float32(237)).astype(np.float32))).window == (1, 0.5)
    assert only(tiff(SHADES.astype(np.int16) - 100)).window == (237, 18.5)
    assert only(tiff(np.full((8, 8), 7, np.uint16))).window == (1, 7.5)
    assert only(tiff(SHADES)).window is None
    assert case("r2_phone.heic").window is None


def test_the_window_shown_gives_the_same_picture_when_it_is_chosen():
    for data in (tiff(SHADES.astype(np.float32) / 255), imagecodecs.png_encode(COLOURS.astype(np.uint16) * 11)):
        picture = only(data)
        assert off(only(data, window=picture.window), picture.pixels) == 0


# Opacity


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("multiplied", [False, True])
def test_colours_with_opacity_are_laid_over_white(dtype, multiplied):
    colours = np.minimum(COLOURS, OPACITY[..., None]) if multiplied else COLOURS
    values = np.dstack([colours, OPACITY]).astype(dtype) * np.dtype(dtype).type(
        {"u1": 1, "u2": 257, "f4": 1 / 255}[dtype]
    )
    kind = "assocalpha" if multiplied else "unassalpha"
    picture = only(tiff(values, photometric="rgb", extrasamples=[kind], compression="zlib"))
    expected = colours + 255.0 - OPACITY[..., None] if multiplied else WHITE
    assert off(picture, expected) <= 1.5
    assert "transparent parts laid over white" in picture.notes


def test_16_bit_png_with_opacity_is_laid_over_white():
    values = np.dstack([COLOURS, OPACITY]).astype(np.uint16) * 257
    values[0, 0, :3] = 65535
    assert abs(only(imagecodecs.png_encode(values)).pixels[1:] - WHITE[1:]).max() <= 1.5


def test_the_transparent_colour_of_a_png_has_all_its_bits():
    values = np.array([[[1000, 2000, 3000], [1000, 2000, 3001], [65535, 0, 0]]], np.uint16)
    picture = only(png(values, 2, tRNS=struct.pack(">3H", 1000, 2000, 3000)))
    assert picture.pixels.tolist() == [[[255, 255, 255], [4, 8, 12], [255, 0, 0]]]


@pytest.mark.parametrize(
    ("depth", "packed", "key", "expected"), [(2, 0b00011011, 1, [0, 255, 170, 255]), (4, 0x1C, 12, [17, 255])]
)
def test_the_transparent_grey_of_a_png_of_few_bits_shows_white(depth, packed, key, expected):
    data = bytearray(png(np.array([[packed]]), 0, 8, tRNS=struct.pack(">H", key)))
    struct.pack_into(">IIB", data, 16, 8 // depth, 1, depth)
    struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
    assert only(bytes(data)).pixels[0, :, 0].tolist() == expected


# What else there is among TIFF


@pytest.mark.parametrize("compression", ["jpeg2000", "jpegxl", "webp", "png", "lerc"])
@pytest.mark.parametrize("tile", [None, (32, 48)])
def test_pages_of_pictures_are_read(compression, tile):
    data = tiff(COLOURS, photometric="rgb", compression=compression, tile=tile)
    assert off(only(data), tifffile.imread(io.BytesIO(data))) == 0


@pytest.mark.parametrize("compression", ["jpeg2000", "jpegxl", "png", "lerc", "jpeg"])
def test_pages_of_deep_pictures_are_read(compression):
    data = tiff(SHADES.astype(np.uint16) * 16, compression=compression)
    assert off(only(data), scaled(tifffile.imread(io.BytesIO(data)))) == 0


def test_jpeg_2000_tiles_are_read():
    assert off(case("t_j2k_tiles.tif"), tifffile.imread(CASES / "t_j2k_tiles.tif")) == 0


def test_five_planes_are_channels_of_which_the_first_is_shown():
    planes, picture = tifffile.imread(CASES / "t_grey5band8_sep.tif"), case("t_grey5band8_sep.tif")
    assert off(picture, planes[0]) == 0
    assert picture.bands is not None
    assert np.allclose(picture.bands * 255, planes.transpose(1, 2, 0))
    assert picture.notes == ("1 of 5 channels shown", "5 channels read")


@pytest.mark.parametrize("count", [2, 4, 5, 13])
@pytest.mark.parametrize("compression", [None, "lzw", "zstd", "jpeg2000"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_all_channels_are_read_in_every_compression(count, compression, planar):
    values = np.concatenate([FIVE] * 3, axis=-1)[..., :count]
    stored = values if planar == "contig" else values.transpose(2, 0, 1)
    if compression == "jpeg2000" and count == 13:
        pytest.skip("its encoder writes fewer")
    picture = only(tiff(stored, planarconfig=planar, compression=compression, **GREY))
    assert off(picture, SHADES) == 0
    assert np.allclose(picture.bands * 255, values)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_palettes_are_looked_up(bits, compression):
    palette = np.random.default_rng(1).integers(0, 65536, (3, 2**bits)).astype(np.uint16)
    indices = SHADES.astype(np.uint8 if bits == 8 else np.uint16) * (1 if bits == 8 else 200)
    picture = only(tiff(indices, photometric="palette", colormap=palette, compression=compression))
    assert off(picture, (palette[:, indices] >> 8).transpose(1, 2, 0)) == 0


@pytest.mark.parametrize("colours", [2, 4, 16])
def test_palettes_of_few_colours_are_looked_up(colours):
    image = Image.fromarray(COLOURS).quantize(colours)
    assert off(only(save(image, "TIFF")), np.asarray(image.convert("RGB"))) == 0


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_reach_from_black_to_white(bits):
    values = (SHADES.astype(int) >> (8 - bits)).astype(bool if bits == 1 else np.uint8)
    expected = np.floor(values / (2**bits - 1) * 255 + 0.5)
    assert off(only(tiff(values, bitspersample=bits, **GREY)), expected) == 0
    if bits == 1:
        assert off(only(tiff(values, compression="zlib", photometric="miniswhite")), 255 - expected) == 0


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_compressed_white_as_zero_is_turned_round(dtype):
    values = SHADES.astype(dtype)
    expected = 255 - (SHADES if dtype == "u1" else scaled(values))
    assert off(only(tiff(values, photometric="miniswhite", compression="lzw")), expected) == 0


def test_16_bit_cmyk_is_read_as_8_bit_cmyk():
    ink = np.dstack([COLOURS, OPACITY])
    ink[0, 0] = 255
    expected = np.asarray(Image.frombytes("CMYK", (80, 64), ink.tobytes()).convert("RGB"))
    assert off(only(tiff(ink, photometric="separated", compression="zlib")), expected) == 0
    assert off(only(tiff(ink.astype(np.uint16) * 257, photometric="separated")), expected) == 0


def test_cielab_is_converted():
    lab = np.dstack([SHADES // 2 + 60, np.full_like(SHADES, 10), np.full_like(SHADES, 256 - 20)])
    picture = only(tiff(lab, photometric="cielab", compression="zlib"))
    # 60, 10, -20 in CIELab, relative to white: CIE 15, and IEC 61966-2-1 by way of Bradford's matrix
    place = np.argwhere(lab[..., 0] == 153)[0]
    assert abs(picture.pixels[tuple(place)] - np.array([149, 139, 180])).max() <= 1
    assert picture.notes == ("colours converted from CIELab to sRGB",)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_pages_and_their_channels_are_turned(orientation):
    values = FIVE.astype(np.uint16)
    picture = only(tiff(values, planarconfig="contig", extratags=[(274, "H", 1, orientation, True)], **GREY))
    image = Image.fromarray(SHADES)
    image.getexif()[0x0112] = orientation
    turned = np.asarray(ImageOps.exif_transpose(image))
    assert off(picture, scaled(turned)) == 0
    assert picture.bands.shape[:2] == turned.shape


def test_each_page_of_a_large_tiff_is_read():
    pages = np.stack([SHADES.astype(np.uint16) * factor for factor in (1, 2, 3)])
    data = tiff(pages, bigtiff=True, compression="zstd", **GREY)
    assert [only(data, frame=frame).window[0] for frame in (1, 2, 3)] == [237, 474, 711]
    assert only(data, frame=2).notes[0] == "frame 2 of 3"


def test_parts_that_a_file_leaves_out_are_zero_with_a_note():
    data = bytearray(tiff(SHADES, tile=(64, 64), compression="zlib"))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        place = file.pages[0].tags["TileByteCounts"].offset + 8
    struct.pack_into("<H", data, place, 0)
    picture = only(bytes(data))
    assert off(picture, np.where(X < 64, 0, SHADES)) == 0
    assert picture.notes == ("parts that the file leaves out shown as 0",)


@pytest.mark.parametrize(("bits", "values"), [(1, SHADES > 100), (8, SHADES), (12, SHADES.astype(np.uint16) * 17)])
def test_bits_in_the_other_order_are_turned(bits, values):
    data = bytearray(tiff(values, bitspersample=bits, extratags=[(269, "H", 1, 2, True)], **GREY))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        start, count = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
        place = file.pages[0].tags[269].offset
    turned = [int(f"{byte:08b}"[::-1], 2) for byte in data[start : start + count]]
    data[start : start + count] = bytes(turned)
    struct.pack_into("<H", data, place, 266)
    assert off(only(bytes(data)), SHADES if bits == 8 else scaled(values)) == 0


def retagged(code, value, **options):
    """A TIFF file in which one tag has another value."""
    data = bytearray(tiff(SHADES, compression="zlib", **options))
    struct.pack_into("<H", data, data.find(struct.pack("<HHI", code, 3, 1)) + 8, value)
    return bytes(data)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: tiff(SHADES.astype(np.complex64)), "of complex numbers"),
        (lambda: tiff(np.zeros((16,) * 3, np.uint8), volumetric=True, tile=(16, 16, 16), **GREY), "of a volume of 16"),
        (lambda: tiff(COLOURS.astype(np.uint16), photometric="cielab"), "with colours as CIELab"),
        (lambda: tiff(COLOURS, photometric="rgb", compression="jpegxr"), "compressed as JPEGXR"),
        (lambda: tiff(np.zeros((8, 8, 70), np.uint8), planarconfig="contig", **GREY), "of 70 channels, more than 64"),
        *((lambda value=value: retagged(262, value), f"with colours as {words}") for value, words in
          ((9, "ICC Lab"), (32803, "colour filter array"), (32844, "LogL"), (32845, "LogLuv"), (34892, "LinearRaw"))),
        *((lambda value=value: retagged(259, value), f"compressed as {words}") for value, words in
          ((32766, "NEXT"), (32809, "THUNDERSCAN"), (34661, "JBIG"), (34676, "SGILOG"), (4711, "number 4711"))),
    ],
)  # fmt: skip
def test_what_is_not_read_is_named(make, words):
    with pytest.raises(ImageError, match=words) as error:
        only(make())
    assert "damaged" not in str(error.value)


# Bounds


@pytest.mark.parametrize("compression", ["zlib", "lzw", "jpeg2000", "lerc", "png"])
def test_a_page_that_is_cut_or_misses_half_a_tile_is_damaged(compression):
    data = tiff(np.random.default_rng(0).integers(0, 4096, (64, 64)).astype(np.uint16), compression=compression)
    with pytest.raises(ImageError, match="damaged"):
        only(data[: -len(data) // 3])


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000", "webp", "png", "lerc", "jpegxl"])
def test_a_segment_larger_than_its_place_is_refused_before_it_is_decoded(compression, monkeypatch):
    # The first tile of a page of large tiles, put into one of small tiles
    large = tiff(np.zeros((512, 512, 3), np.uint8), photometric="rgb", compression=compression, tile=(512, 512))
    small = bytearray(tiff(np.zeros((16, 16, 3), np.uint8), photometric="rgb", compression=compression, tile=(16, 16)))
    with tifffile.TiffFile(io.BytesIO(large)) as one, tifffile.TiffFile(io.BytesIO(bytes(small))) as other:
        offset, count = one.pages[0].dataoffsets[0], one.pages[0].databytecounts[0]
        offsets, counts = (other.pages[0].tags[code] for code in (324, 325))
    struct.pack_into("<I", small, offsets.offset + 8, len(small))
    struct.pack_into("<HHI", small, counts.offset + 2, 4, 1, 0)
    struct.pack_into("<I", small, counts.offset + 8, count)
    monkeypatch.setattr(tifffile.TiffPage, "asarray", None)
    with pytest.raises(ImageError, match="damaged"):
        only(bytes(small) + large[offset : offset + count])


def test_what_a_page_unpacks_to_is_bounded(bounds):
    bounds(picture_pixels=2_000_000)
    data = tiff(np.zeros((1000, 1000, 40), np.uint8), planarconfig="contig", compression="zlib", **GREY)
    with pytest.raises(ImageError, match="unpacks to more than"):
        only(data)
    bounds(picture_pixels=10_000_000)
    assert only(data).bands is None
    assert "too large for all channels to be kept" in only(data).notes


@pytest.mark.parametrize("name", ["r2_phone.heic", "r2_phone.avif", "r2_phone.jxl"])
def test_phones_pictures_are_bounded_and_may_be_damaged(name, bounds):
    data = (CASES / name).read_bytes()
    with pytest.raises(ImageError, match="damaged"):
        only(data[: len(data) // 2])
    bounds(picture_pixels=10_000)
    with pytest.raises(ImageError, match="measures 160 × 120 pixels"):
        only(data)


# Phones


def test_a_phones_pictures_are_read():
    pixels = [case(f"r2_phone.{ending}").pixels.astype(int) for ending in ("heic", "avif", "jxl")]
    oracles = [
        np.asarray(pillow_heif.open_heif(io.BytesIO((CASES / "r2_phone.heic").read_bytes()))),
        imagecodecs.avif_decode((CASES / "r2_phone.avif").read_bytes()),
        imagecodecs.jpegxl_decode((CASES / "r2_phone.jxl").read_bytes()),
    ]
    for found, expected in zip(pixels, oracles, strict=True):
        assert abs(found - expected[..., :3]).max() <= 2
    assert max(abs(one - pixels[0]).mean() for one in pixels) < 4


def test_a_zip_of_a_phones_pictures_has_their_labels():
    pictures = read((CASES / "r2_only_heic.zip").read_bytes(), "r2_only_heic.zip")
    assert [picture.label for picture in pictures] == ["a", "a", "b"]
    assert {picture.pixels.shape for picture in pictures} == {(120, 160, 3)}


def test_a_folder_of_a_phones_pictures_is_listed(tmp_path):
    for name in ("a.heic", "b.HEIF", "c.avif", "d.jxl"):
        (tmp_path / name).write_bytes(b"")
    assert [sample.name for sample in find(tmp_path)] == ["a.heic", "b.HEIF", "c.avif", "d.jxl"]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["HEIF", "AVIF"])
def test_a_phones_picture_is_turned_once(format, orientation):
    pillow_heif.register_heif_opener()
    image = Image.fromarray(COLOURS)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = save(image, format, exif=exif.tobytes(), quality=100, **({"chroma": 444} if format == "HEIF" else {}))
    image.getexif()[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(image), int)
    pixels = only(data).pixels
    assert pixels.shape == upright.shape
    assert abs(pixels - upright).mean() < 4


def test_bits_beyond_eight_are_brought_to_8_with_a_note():
    values = COLOURS.astype(np.uint16)
    for bits in (10, 12):
        picture = only(data := imagecodecs.avif_encode(values << (bits - 8), bitspersample=bits, level=90))
        assert abs(picture.pixels - (imagecodecs.avif_decode(data) / 2 ** (bits - 8))).max() <= 4
        assert picture.notes == (f"{bits}-bit colours brought to 8 bit",)


def test_the_main_picture_of_a_heic_file_and_each_frame_of_an_avif_film_are_read():
    file = pillow_heif.HeifFile()
    for values in (COLOURS, 255 - COLOURS):
        file.add_from_pillow(Image.fromarray(values))
    buffer = io.BytesIO()
    file.save(buffer, quality=100, chroma=444)
    picture = only(buffer.getvalue())
    assert off(picture, COLOURS) <= 6
    assert picture.notes == ("the main one of 2 pictures",)
    film = save(Image.fromarray(COLOURS), "AVIF", save_all=True, append_images=[Image.fromarray(255 - COLOURS)])
    assert abs(only(film, frame=2).pixels.astype(int) - (255 - COLOURS.astype(int))).mean() < 5
    assert only(film).frames == 2


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (COLOURS, {}),
        (SHADES, {}),
        (np.dstack([COLOURS, OPACITY]), {}),
        (SHADES.astype(np.uint16) * 16, {}),
        (SHADES.astype(np.float32) / 255, {}),
        (np.stack([COLOURS, 255 - COLOURS]), {}),
        (COLOURS[:, :64], {"usecontainer": True}),
    ],
)
def test_jpeg_xl_of_every_kind_is_read(values, options):
    data = imagecodecs.jpegxl_encode(values, lossless=True, **options)
    first = values[0] if values.ndim == 4 else values
    expected = WHITE if first.shape[-1] == 4 else first if first.dtype == np.uint8 else scaled(first)
    picture = only(data)
    assert off(picture, expected) <= 1
    assert ("the first frame of a film" in picture.notes) == (values.ndim == 4)
    header = read_header(data)
    assert (header.height, header.width, header.animated) == (*first.shape[:2], values.ndim == 4)


@pytest.mark.parametrize(
    ("brand", "words"),
    [(b"isom", "a video"), (b"qt  ", "a video"), (b"mp42", "a video"), (b"crx ", "raw"), (b"M4A ", "sound")],
)
def test_films_and_raw_files_are_named(brand, words):
    with pytest.raises(ImageError, match=words):
        only(b"\0\0\0\x18ftyp" + brand + bytes(200))


# Colour profiles


def test_a_patch_in_display_p3_comes_out_as_it_looks():
    data = save(Image.new("RGB", (8, 8), (220, 40, 40)), "PNG", icc_profile=DISPLAY_P3)
    picture = only(data)
    assert picture.pixels[0, 0].tolist() == [240, 0, 21]
    assert picture.notes == ("colours converted from Display P3 to sRGB",)
    assert picture.profile == "Display P3"


@pytest.mark.parametrize("name", ["r1_adobe_rgb.png", "r1_display_p3.jpeg"])
def test_profiles_are_followed_as_image_cms_does(name):
    image = Image.open(io.BytesIO((CASES / name).read_bytes()))
    assert off(case(name), np.asarray(convert(np.asarray(image), image.info["icc_profile"]))) == 0
    left = case(name, profile=False)
    assert off(left, np.asarray(image)) == 0
    assert left.notes == (f"colours left as stored, not converted from {left.profile} to sRGB",)


@pytest.mark.parametrize(
    "make",
    [
        lambda: save(Image.fromarray(COLOURS), "PNG", icc_profile=DISPLAY_P3),
        lambda: save(Image.fromarray(COLOURS).convert("RGBA"), "PNG", icc_profile=DISPLAY_P3),
        lambda: save(Image.fromarray(COLOURS), "WEBP", lossless=True, icc_profile=DISPLAY_P3),
        lambda: save(Image.fromarray(COLOURS), "TIFF", icc_profile=DISPLAY_P3),
        lambda: tiff(COLOURS, photometric="rgb", compression="zstd", iccprofile=DISPLAY_P3),
        lambda: tiff(COLOURS / np.float32(255), photometric="rgb", iccprofile=DISPLAY_P3),
        lambda: tiff(COLOURS.transpose(2, 0, 1), photometric="rgb", planarconfig="separate", iccprofile=DISPLAY_P3),
        lambda: png(COLOURS, 2, 8, cICP=bytes([12, 13, 0, 1])),
        lambda: png(COLOURS, 2, 8, gAMA=struct.pack(">I", 45455),
                    cHRM=struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)),
    ],
)  # fmt: skip
def test_profiles_are_followed_in_every_container(make):
    assert off(only(make()), np.asarray(convert(COLOURS, DISPLAY_P3))) <= 1


def test_heic_and_avif_say_their_colours_by_profile_or_code():
    p3 = np.asarray(convert(COLOURS, DISPLAY_P3), int)
    files = [
        heic(COLOURS, icc_profile=DISPLAY_P3),
        heic(COLOURS, color_primaries=12, transfer_characteristics=13),
        save(Image.fromarray(COLOURS), "AVIF", quality=100, subsampling="4:4:4", icc_profile=DISPLAY_P3),
    ]
    for picture in map(only, files):
        assert picture.profile == "Display P3"
        assert abs(picture.pixels - p3).mean() < 1.5
    assert only(heic(COLOURS)).profile == ""


def test_jpeg_xl_says_its_colours_by_code():
    picture = case("r1_display_p3.jxl")
    stored = imagecodecs.jpegxl_decode((CASES / "r1_display_p3.jxl").read_bytes())
    assert picture.profile == "Display P3"
    assert off(picture, np.asarray(convert(stored, DISPLAY_P3))) <= 1


def test_high_dynamic_range_is_named():
    for data in (
        png(COLOURS, 2, 8, cICP=bytes([9, 16, 0, 1])),
        heic(COLOURS, color_primaries=9, transfer_characteristics=16),
    ):
        assert only(data).notes == ("colours of high dynamic range (PQ) left as stored",)


@pytest.mark.parametrize(
    "chunks",
    [
        {"sRGB": b"\0", "gAMA": struct.pack(">I", 99_999)},
        {"gAMA": struct.pack(">I", 45455)},
        {"cICP": bytes([1, 13, 0, 1])},
        {"iCCP": b"x\0\0" + zlib.compress(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())},
    ],
)
def test_srgb_needs_nothing(chunks):
    picture = only(png(COLOURS, 2, 8, **chunks))
    assert off(picture, COLOURS) == 0
    assert (picture.notes, picture.profile) == ((), "")


def test_the_gamma_of_a_png_is_followed():
    light = COLOURS / 255
    expected = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055) * 255
    picture = only(png(COLOURS, 2, 8, gAMA=struct.pack(">I", 100_000)))
    assert off(picture, expected) <= 1
    assert picture.notes == ("colours converted from gamma 1 to sRGB",)


@pytest.mark.parametrize(
    "profile", [b"no profile", DISPLAY_P3[:200], bytes(600), DISPLAY_P3[:128] + b"\xff" * 300], ids=range(4)
)
def test_a_broken_profile_is_left_out_with_a_note(profile):
    picture = only(photo("PNG", icc_profile=profile))
    assert off(picture, only(photo("PNG")).pixels) == 0
    assert picture.notes == ("its colour profile is damaged and was left out",)


def test_a_profile_for_other_colours_is_left_out_with_a_note():
    for mode in ("RGB", "CMYK"):
        profile = DISPLAY_P3 if mode == "CMYK" else imagecodecs.cms_profile("gray", gamma=1.8)
        picture = only(save(Image.fromarray(COLOURS).convert(mode), "TIFF", icc_profile=profile))
        assert picture.notes[0].endswith("is not for such colours and was left out")


@pytest.mark.parametrize("format", ["TIFF", "JPEG"])
def test_inks_are_converted_by_their_profile(format):
    profile = ink_profile()
    image = Image.frombytes("CMYK", (80, 64), np.dstack([COLOURS, OPACITY]).tobytes())
    data = save(image, format, icc_profile=profile)
    stored = Image.open(io.BytesIO(data))
    expected = ImageCms.profileToProfile(
        stored,
        io.BytesIO(profile),
        ImageCms.createProfile("sRGB"),
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        "RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    picture = only(data)
    assert off(picture, np.asarray(expected)) == 0
    assert picture.notes == ("colours converted from an unnamed profile to sRGB", *picture.notes[1:])
    assert off(picture, only(data, profile=False).pixels) > 20


def test_greys_are_converted_by_their_profile_unless_they_are_measured():
    profile = imagecodecs.cms_profile("gray", gamma=1.8)
    picture = only(save(Image.fromarray(SHADES), "PNG", icc_profile=profile))
    assert off(picture, np.asarray(convert(SHADES, profile))) <= 1
    deep = only(tiff(SHADES.astype(np.uint16), iccprofile=profile))
    assert off(deep, scaled(SHADES)) == 0
    assert deep.notes[1].endswith("is not for values shown through a window and was left out")


def test_a_profiles_name_is_short_and_printable():
    place = DISPLAY_P3.find("Display P3".encode("utf-16-be"))
    assert place > 0
    hostile = bytearray(DISPLAY_P3)
    hostile[place : place + 20] = "![x](\n\x07\u202eP3".ljust(10).encode("utf-16-be")[:20]
    picture = only(photo("PNG", icc_profile=bytes(hostile)))
    assert picture.profile.isprintable()
    assert 0 < len(picture.profile) <= 60


def test_a_zip_of_profiles_follows_the_switch():
    data = archive({"a.png": photo("PNG", icc_profile=DISPLAY_P3), "b.png": photo("PNG", icc_profile=DISPLAY_P3)})
    followed, left = read(data, "a.zip"), read(data, "a.zip", Reading(profile=False))
    assert all((one.pixels != other.pixels).any() for one, other in zip(followed, left, strict=True))
