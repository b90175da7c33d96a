"""From the pixels of a picture to the numbers that a model expects."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from explainers.errors import ImageError

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
    one for greyscale or three for RGB.
    """

    size: tuple[int, int] = (224, 224)
    resize: int = 256
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bicubic"
    borders: bool = False

    @property
    def channels(self) -> int:
        """The number of input channels."""
        return len(self.mean)

    def crop(self, pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "height width 3"]:
        """Cut out what the model sees, still in colours for display."""
        height, width = self.size
        image = Image.fromarray(pixels)
        resample = INTERPOLATIONS[self.interpolation]
        if not self.resize:
            inside = self.fit_inside(image.width, image.height)
            whole = image.resize(inside, resample)
            return np.asarray(whole if inside == (width, height) else self.frame(whole))
        # Of a very long picture only the middle is seen; resized as a whole it would fill the memory.
        limit = 16 * min(image.size)
        image = cut_centre(image, min(image.width, limit), min(image.height, limit))
        # Fractions, because sizes are rounded down as torchvision does and 299.99 is not 300.
        scale = self.scale(image.width, image.height)
        image = image.resize((int(image.width * scale), int(image.height * scale)), resample)
        return np.asarray(cut_centre(image, width, height))

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

    def frame(self, image: Image.Image) -> Image.Image:
        """Put borders of the mean colour around a picture, which are zeros for the model."""
        colour = tuple(round(255 * min(1.0, max(0.0, mean))) for mean in (self.mean * 3)[:3])
        canvas = Image.new("RGB", (self.size[1], self.size[0]), colour)
        canvas.paste(image, ((canvas.width - image.width) // 2, (canvas.height - image.height) // 2))
        return canvas

    def seen(self, width: int, height: int) -> tuple[float, float]:
        """Which shares of a picture's width and height the model sees; the rest is cut off on both sides alike."""
        if not self.resize:
            return 1.0, 1.0
        limit = 16 * min(width, height)
        scale = self.scale(min(width, limit), min(height, limit))
        rows, columns = self.size
        return min(1.0, float(columns / (width * scale))), min(1.0, float(rows / (height * scale)))

    def normalise(self, cropped: UInt8[np.ndarray, "height width 3"]) -> Float32[np.ndarray, "channel height width"]:
        """Scale a crop to 0..1, average the colours if the model is greyscale, subtract the mean, divide by std.

        Raises ImageError if the model takes neither one channel nor three, which is all that a picture gives.
        """
        if self.channels not in (1, 3):
            raise ImageError(
                f"The model takes {self.channels} channels, and pictures are read in three colours. Nothing was put in "
                "place of the others, as that would be another input than the model knows."
            )
        values = cropped.astype(np.float32) / 255
        if self.channels == 1:
            values = values.mean(axis=-1, keepdims=True)
        normal = (values - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(normal.transpose(2, 0, 1))


def cut_centre(image: Image.Image, width: int, height: int) -> Image.Image:
    """Cut a part of this size in pixels out of the middle."""
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
