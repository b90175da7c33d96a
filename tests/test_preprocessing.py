import io

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torchvision import transforms

from explainers.errors import ImageError
from explainers.images import Picture, read
from explainers.preprocessing import INTERPOLATIONS, Preprocessing
from sample_models.gallery import PICTURES

PHOTO = PICTURES[0].read().pixels


def test_a_picture_of_the_right_size_is_not_touched():
    pixels = PHOTO[:224, :224]
    for resize in (224, 0):
        assert (Preprocessing((224, 224), resize).crop(pixels) == pixels).all()


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("size", [(400, 600), (600, 400), (300, 451), (257, 259), (100, 77), (259, 256)])
def test_crop_and_normalise_agree_with_torchvision(interpolation, size):
    pixels = np.asarray(Image.fromarray(PHOTO).resize(size[::-1]))
    preprocessing = Preprocessing(interpolation=interpolation)
    pipeline = transforms.Compose(
        [
            transforms.Resize(256, transforms.InterpolationMode(interpolation)),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(preprocessing.mean, preprocessing.std),
        ]
    )
    ours = torch.from_numpy(preprocessing.normalise(preprocessing.crop(pixels)))
    torch.testing.assert_close(ours, pipeline(Image.fromarray(pixels)), atol=1e-6, rtol=0)


def test_without_a_crop_the_whole_picture_is_squeezed():
    squeezed = Preprocessing((50, 80), resize=0).crop(PHOTO)
    assert (squeezed == np.asarray(Image.fromarray(PHOTO).resize((80, 50), Image.Resampling.BICUBIC))).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 60_000), (60_000, 1), (37, 53)])
@pytest.mark.parametrize("resize", [0, 10, 256])
def test_every_picture_gets_the_size_of_the_input(size, resize):
    assert Preprocessing((48, 64), resize).crop(np.zeros((*size, 3), np.uint8)).shape == (48, 64, 3)


def test_a_greyscale_model_sees_the_mean_of_the_colours():
    preprocessing = Preprocessing(mean=(0.5,), std=(0.25,))
    ours = preprocessing.normalise(PHOTO)
    assert ours.shape == (1, *PHOTO.shape[:2])
    np.testing.assert_allclose(ours[0], (PHOTO.mean(-1) / 255 - 0.5) / 0.25, atol=1e-5)


@pytest.mark.parametrize("channels", [2, 4, 13])
def test_a_picture_is_never_passed_off_as_more_channels_than_it_has(channels):
    preprocessing = Preprocessing((50, 80), 0, (0.5,) * channels, (0.5,) * channels)
    with pytest.raises(ImageError, match=f"takes {channels} channels, photo has three colours"):
        preprocessing.prepare(Picture("photo", PHOTO.copy()))


@pytest.mark.parametrize("channels", [2, 4, 13])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_all_channels_of_a_tiff_reach_a_model_that_takes_as_many(channels, kind):
    generator = np.random.default_rng(0)
    shares = generator.random((20, 30, channels)).astype(np.float32)
    largest = 1 if kind == "float32" else np.iinfo(kind).max
    values = shares if kind == "float32" else (shares * largest).round().astype(kind)
    file = io.BytesIO()
    tifffile.imwrite(file, values, planarconfig="contig", photometric="minisblack")
    (picture,) = read(file.getvalue(), "bands.tif")
    means = tuple(generator.random(channels).tolist())
    preprocessing = Preprocessing((20, 30), 0, means, (0.25,) * channels, shown=(1, 0, 1))
    expected = (values.transpose(2, 0, 1) / np.float32(largest) - np.float32(means)[:, None, None]) / 0.25
    assert preprocessing.prepare(picture) == pytest.approx(expected, abs=1e-5)
    seen = preprocessing.view(picture).astype(int)
    assert (seen[..., 0] == seen[..., 2]).all()
    assert np.corrcoef(seen[..., 1].ravel(), values[..., 0].ravel())[0, 1] > 0.999


def test_a_picture_fits_inside_borders_of_the_mean_colour():
    wide = np.zeros((10, 40, 3), np.uint8)
    fitted = Preprocessing((40, 40), 0, (0.5, 0.25, 0.75), (1, 1, 1), borders=True).crop(wide)
    assert (fitted[:15] == (128, 64, 191)).all()
    assert (fitted[15:25] == 0).all()
    assert (fitted[25:] == (128, 64, 191)).all()


def test_what_is_cut_off_is_told_as_shares_of_the_picture():
    preprocessing = Preprocessing((224, 224), 256)
    across, down = preprocessing.seen(512, 256)
    assert (across, down) == (224 / 512, 224 / 256)
    assert Preprocessing((224, 224), 0).seen(512, 256) == (1, 1)
