"""Values of more than 8 bits, made visible."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Real, UInt8

from explainers.errors import ImageError
from explainers.images.picture import Window, to_bytes


@dataclass(frozen=True)
class Shown:
    """Values as 8 bits, with notes on how, and the window that they are shown through (None: they had 8 bits)."""

    pixels: UInt8[np.ndarray, "h w *channel"]
    notes: tuple[str, ...] = ()
    window: Window = None


def show_values(
    name: str, values: Real[np.ndarray, "h w *channel"], bits: int, window: Window, colours: bool = False
) -> Shown:
    """Bring greys or colours of ``bits`` bits to 8; raises ImageError if none is finite.

    Up to 8 unsigned bits stay as they are. Others are shown through ``window``; without one, greys from their smallest
    value to their largest, and colours so unless their values need all bits (or are floats from 0 to 1): then white is
    the largest value that fits, as it is where 8 bits are made of 16.
    """
    if values.dtype.kind in "bu" and bits <= 8:
        return Shown(values if bits == 8 else to_bytes(values, 0, 2**bits - 1))
    if window:
        width, centre = window
        pixels = to_bytes(values, centre - width / 2, centre + width / 2)
        return Shown(pixels, (f"window {width:g}/{centre:g} (width/centre)",), window)
    low, high = limits(name, values)
    largest = type_limit(values, bits)
    if colours and low >= 0 and largest / 2 < high <= largest:
        note = f"the upper 8 of {bits} bits kept" if values.dtype.kind == "u" else "values 0..1 scaled to 8 bit"
        return Shown(to_bytes(values, 0, largest), (note,), (largest, largest / 2))
    kind = f"{bits}-bit values" if values.dtype.kind in "iu" else "values"
    return Shown(to_bytes(values, low, high), (f"{kind} {low:g}..{high:g} scaled to 8 bit",), spanning(low, high))


def type_limit(values: Real[np.ndarray, "h w *channel"], bits: int) -> float:
    """The value that means white: of unsigned numbers the largest, of floats 1; of signed ones there is none."""
    return {"u": float(2**bits - 1), "f": 1.0}.get(values.dtype.kind, -1.0)


def limits(name: str, values: Real[np.ndarray, "h w *channel"]) -> tuple[float, float]:
    """The smallest and the largest finite value; raises ImageError if there is none."""
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not finite.size:
        raise ImageError(f"{name} holds no finite value. Export it again with numbers in it.")
    return float(finite.min()), float(finite.max())


def spanning(low: float, high: float) -> tuple[float, float]:
    """The window (width, centre) from one value to another; one of width 1 above the only value of a flat picture."""
    if low == high:
        return 1.0, low + 0.5
    return min(high / 2 - low / 2, np.finfo(np.float64).max / 2) * 2, low / 2 + high / 2


def divide_by_alpha(
    values: Real[np.ndarray, "h w channel"], alpha: UInt8[np.ndarray, "h w"]
) -> Real[np.ndarray, "h w channel"]:
    """Undo the multiplication of colours with their opacity, in the type that they have."""
    wide = np.float32 if values.dtype.itemsize <= 2 else np.float64
    straight: np.ndarray = values * (wide(255) / np.maximum(alpha, 1).astype(wide))[..., None]
    if values.dtype.kind != "f":
        np.rint(straight.clip(0, np.iinfo(values.dtype).max, out=straight), out=straight)
    return straight.astype(values.dtype)
