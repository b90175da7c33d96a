"""From scores to colours: how an attribution becomes a heatmap, and what it says in words."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8
from PIL import Image
from plotly.colors import get_colorscale, sample_colorscale, unlabel_rgb

#: Colour maps that people with any colour vision can read: for signed scores symmetric around a light middle.
DIVERGING = {"Blue–red": "RdBu_r", "Purple–orange": "PuOr_r", "Green–purple": "PRGn_r"}
SEQUENTIAL = {"Viridis": "Viridis", "Cividis": "Cividis", "Inferno": "Inferno"}

#: What the ninths of a picture are called, row by row.
NINTHS = (
    *("upper left", "upper middle", "upper right"),
    *("middle left", "middle", "middle right"),
    *("lower left", "lower middle", "lower right"),
)


@dataclass(frozen=True)
class View:
    """How scores are shown; changing it computes nothing.

    ``side`` is the length of a picture's side on the page in pixels. ``percentile`` is the share of scores (in percent
    of the pixels, by size) that the colours tell apart: larger ones get the strongest colour. ``fade`` lets the
    picture through where scores are small.
    """

    side: int = 400
    opacity: float = 0.75
    diverging: str = "Blue–red"
    sequential: str = "Viridis"
    percentile: float = 99.5
    positive_only: bool = False
    fade: bool = True


def limits(values: Float32[np.ndarray, "h w"], signed: bool, view: View) -> tuple[float, float]:
    """The scores that the two ends of the colour map stand for: symmetric around zero for signed scores."""
    shown = np.maximum(values, 0) if view.positive_only else values
    largest = float(np.percentile(np.abs(shown), view.percentile)) or float(np.abs(shown).max()) or 1.0
    return (-largest if signed and not view.positive_only else 0.0), largest


@lru_cache(maxsize=64)
def colour_table(signed: bool, view: View) -> UInt8[np.ndarray, "257 4"]:
    """257 colours with their opacity, from the lower to the upper limit; the one in the middle stands for zero."""
    diverging = signed and not view.positive_only
    name = DIVERGING[view.diverging] if diverging else SEQUENTIAL[view.sequential]
    steps = np.linspace(0, 1, 257)
    colours = np.array([unlabel_rgb(colour) for colour in sample_colorscale(get_colorscale(name), steps)])
    strength = np.abs(2 * steps - 1) if diverging else steps
    alpha = view.opacity * (np.minimum(1, 2 * strength) if view.fade else np.ones(257))
    table = np.column_stack([colours, 255 * alpha]).round().astype(np.uint8)
    table.setflags(write=False)
    return table


@lru_cache(maxsize=64)
def colour_scale(signed: bool, view: View) -> tuple[tuple[float, str], ...]:
    """The colour table as Plotly wants it, in 32 steps."""
    table = colour_table(signed, view)
    places = range(0, 257, 8)
    return tuple(
        (place / 256, "rgba({},{},{},{:.3f})".format(*table[place, :3], table[place, 3] / 255)) for place in places
    )


def blend(
    crop: UInt8[np.ndarray, "h w 3"],
    values: Float32[np.ndarray, "h w"],
    signed: bool,
    view: View,
    largest: float | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """Lay the heatmap over the picture, with colours up to its own limits or to a score that several share."""
    low, high = limits(values, signed, view)
    if largest is not None:
        low, high = -largest if low < 0 else 0.0, largest
    places = np.clip((values - low) / (high - low) * 256, 0, 256).round().astype(int)
    colours = colour_table(signed, view)[places].astype(np.float32)
    alpha = colours[..., 3:] / 255
    return np.asarray((crop * (1 - alpha) + colours[..., :3] * alpha).round(), np.uint8)


def encode_png(pixels: UInt8[np.ndarray, "h w 3"], scale: int = 1) -> bytes:
    """Write pixels as a PNG file, each as a square of ``scale`` pixels."""
    image = Image.fromarray(pixels)
    enlarged = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    file = io.BytesIO()
    enlarged.save(file, "PNG", compress_level=1)  # quick to write; the page does so for every view
    return file.getvalue()


def share_inside(values: Float[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]) -> tuple[float, float | None]:
    """The share of all positive, and of all negative scores that lies inside; None where there are no negative ones."""
    positive, negative = np.maximum(values, 0), np.minimum(values, 0)
    return _share(positive, mask) or 0.0, _share(negative, mask)


def _share(values: Float[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]) -> float | None:
    total = float(values.sum(dtype=np.float64))
    return float(values[mask].sum(dtype=np.float64)) / total if total else None


def describe(values: Float32[np.ndarray, "h w"]) -> str:
    """Say in words where the scores for and against the class lie, for those who cannot see the heatmap."""
    positive, negative = np.maximum(values, 0), np.maximum(-values, 0)
    against = f"; against it: {locate(negative)[0]}." if negative.any() else "."
    if not positive.any():
        return f"Nothing speaks for the class{against}"
    place, share = locate(positive)
    part = spread(positive)
    size = f"{part:.0%}" if part >= 0.01 else "less than 1%"
    return f"{share:.0%} of what speaks for the class lies in the {place}, most of it in {size} of the picture{against}"


def locate(amounts: Float[np.ndarray, "h w"]) -> tuple[str, float]:
    """Name the ninth of a picture that holds most of the amounts, and say which share of them it holds."""
    rows, columns = ([part[0] for part in np.array_split(np.arange(length), 3)] for length in amounts.shape)
    strips = np.add.reduceat(amounts, rows, axis=0, dtype=np.float64)
    sums = np.add.reduceat(strips, columns, axis=1).ravel()
    return NINTHS[int(sums.argmax())], float(sums.max() / (sums.sum() or 1))


def spread(amounts: Float[np.ndarray, "h w"]) -> float:
    """The smallest share of a picture's pixels that holds most, that is at least half, of the amounts."""
    summed = np.cumsum(np.sort(amounts, axis=None)[::-1], dtype=np.float64)
    return float(np.searchsorted(summed, summed[-1] / 2) + 1) / amounts.size
