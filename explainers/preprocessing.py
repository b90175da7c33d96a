"""From the pixels of a picture to the numbers that a model expects."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from explainers.errors import ImageError

if TYPE_CHECKING:
    from explainers.images import Picture

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes a model's input: resize, centre crop, scale to 0..1, subtract mean, divide by std.

    ``size`` is the input's (height, width) in pixels. ``resize`` is the length in pixels that the picture's shorter
    side gets before the centre crop; 0 uses the whole picture without a crop: squeezed into ``size``, or with
    ``borders`` of the mean colour where its aspect is another. ``mean`` and ``std`` have one number per input channel,
    one for greyscale or three for RGB. Of more channels, three are ``shown`` as red, green and blue.
    """

    size: tuple[int, int] = (224, 224)
    resize: int = 256
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bicubic"
    borders: bool = False
    shown: tuple[int, ...] = ()

    @property
    def channels(self) -> int:
        """The number of input channels."""
        return len(self.mean)

    def prepare(self, picture: Picture) -> Float32[np.ndarray, "channel height width"]:
        """Make a picture the model's input.

        Raises ImageError if the model takes neither one channel nor three, and the picture's file had not as many.
        """
        if self.channels in (1, 3):
            return self.normalise(self.crop(picture.pixels))
        bands = picture.bands
        if bands is None or bands.shape[-1] != self.channels:
            has = "three colours" if bands is None else f"{bands.shape[-1]} channels"
            raise ImageError(
                f"The model takes {self.channels} channels, {picture.name} has {has}. Add an uncompressed TIFF with "
                f"{self.channels} channels; nothing is put in place of channels that are not there."
            )
        fitted = [
            self.fit(Image.fromarray(band), mean)
            for band, mean in zip(np.moveaxis(bands, -1, 0), self.mean, strict=True)
        ]
        values = np.stack([np.asarray(band) for band in fitted])
        return np.asarray((values - column(self.mean)) / column(self.std), np.float32)

    def view(self, picture: Picture) -> UInt8[np.ndarray, "height width 3"]:
        """Cut out what the model sees of a picture, in colours for display: of many channels the three ``shown``."""
        if picture.bands is None or not self.shown or max(self.shown) >= picture.bands.shape[-1]:
            return self.crop(picture.pixels)
        chosen = picture.bands[..., list(self.shown)]
        low, high = chosen.min((0, 1)), chosen.max((0, 1))
        return self.crop(((chosen - low) / np.maximum(high - low, 1e-12) * 255).round().astype(np.uint8))

    def crop(self, pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "height width 3"]:
        """Cut out what the model sees of colours, for display."""
        return np.asarray(self.fit(Image.fromarray(pixels), self.border))

    @property
    def border(self) -> tuple[int, ...]:
        """The colour of borders: the mean, which is zero for the model."""
        means = self.mean if self.channels == 3 else (sum(self.mean) / self.channels,) * 3
        return tuple(round(255 * min(1.0, max(0.0, mean))) for mean in means)

    def fit(self, image: Image.Image, border: float | tuple[int, ...]) -> Image.Image:
        """Scale an image of any mode, and cut it or put borders around it, so that it has the model's size."""
        height, width = self.size
        resample = INTERPOLATIONS[self.interpolation]
        if not self.resize:
            whole = image.resize(self.fit_inside(image.width, image.height), resample)
            if whole.size == (width, height):
                return whole
            canvas = Image.new(image.mode, (width, height), border)
            canvas.paste(whole, ((width - whole.width) // 2, (height - whole.height) // 2))
            return canvas
        # Of a very long picture only the middle is seen; resized as a whole it would fill the memory.
        limit = 16 * min(image.size)
        image = cut_centre(image, min(image.width, limit), min(image.height, limit))
        # Fractions, because sizes are rounded down as torchvision does and 299.99 is not 300.
        scale = self.scale(image.width, image.height)
        image = image.resize((int(image.width * scale), int(image.height * scale)), resample)
        return cut_centre(image, width, height)

    def scale(self, width: int, height: int) -> Fraction:
        """How much a picture of that size is scaled before the centre crop."""
        return max(
            Fraction(self.resize, min(width, height)), Fraction(self.size[1], width), Fraction(self.size[0], height)
        )

    def fit_inside(self, width: int, height: int) -> tuple[int, int]:
        """The width and height that a whole picture of a width and height gets."""
        rows, columns = self.size
        if not self.borders:
            return columns, rows
        scale = min(Fraction(columns, width), Fraction(rows, height))
        return max(1, int(width * scale)), max(1, int(height * scale))

    def seen(self, width: int, height: int) -> tuple[float, float]:
        """Which shares of a picture's width and height the model sees; the rest is cut off on both sides alike."""
        if not self.resize:
            return 1.0, 1.0
        limit = 16 * min(width, height)
        scale = self.scale(min(width, limit), min(height, limit))
        rows, columns = self.size
        return min(1.0, float(columns / (width * scale))), min(1.0, float(rows / (height * scale)))

    def normalise(self, cropped: UInt8[np.ndarray, "height width 3"]) -> Float32[np.ndarray, "channel height width"]:
        """Scale a crop to 0..1, average the colours if the model is greyscale, subtract the mean, divide by std."""
        values = cropped.astype(np.float32) / 255
        if self.channels == 1:
            values = values.mean(axis=-1, keepdims=True)
        return np.ascontiguousarray((values.transpose(2, 0, 1) - column(self.mean)) / column(self.std))


def column(numbers: tuple[float, ...]) -> Float32[np.ndarray, "channel 1 1"]:
    """One number for each channel."""
    return np.array(numbers, np.float32)[:, None, None]


def cut_centre(image: Image.Image, width: int, height: int) -> Image.Image:
    """Cut a part of this size in pixels out of the middle."""
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
