"""From stored values to 8 bits: the grey-scale pipeline of DICOM (PS3.3 C.11) and its colours."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Real, UInt8

from explainers.images.depth import Shown, limits
from explainers.images.dicom_header import Header
from explainers.images.dicom_pixels import Layout
from explainers.images.dicom_tables import read_palette, read_table
from explainers.images.picture import Window, to_bytes

PALETTE, COLOURED = "PALETTE COLOR", ("COLOR", "MIXED")
FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


@dataclass(frozen=True)
class Values:
    """Values after the modality transform, the least and the largest there could be, and whether all are whole."""

    values: Real[np.ndarray, "h w"]
    ends: tuple[float, float]
    whole: bool


def show_colours(stored: Real[np.ndarray, "h w 3"], layout: Layout) -> Shown:
    """Bring RGB to 8 bits."""
    notes = (f"the upper 8 of {layout.stored} bits kept",) if layout.stored > 8 else ()
    return Shown(to_bytes(stored, 0, 2**layout.stored - 1), notes)


def show_palette(stored: Real[np.ndarray, "h w"], header: Header, layout: Layout) -> Shown | None:
    """Look up each value's colour; None with a note where the tables cannot be read."""
    tables = read_palette(header, negative=layout.signed)
    if not tables:
        return None
    notes = ("the upper 8 of 16 bits kept",) if tables[0].bits > 8 else ()
    colours = np.stack([to_bytes(table.look_up(stored), 0, table.largest) for table in tables], axis=-1)
    return Shown(colours, notes)


def show_grey(
    name: str, stored: Real[np.ndarray, "h w"], padding: Bool[np.ndarray, "h w"], header: Header, layout: Layout,
    window: Window,
) -> Shown:  # fmt: skip
    """Bring greys to 8 bits, turn MONOCHROME1 round, and show what pads the picture out as black."""
    values = apply_modality(stored, header, layout)
    shown = apply_table(values, header) if window is None else None
    shown = shown or apply_stated_window(values, header, window) or apply_range(name, values, padding, layout)
    pixels, notes = shown.pixels, shown.notes
    if layout.interpretation == "MONOCHROME1":
        pixels, notes = 255 - pixels, (*notes, "turned round, for the file stores white as 0 (MONOCHROME1)")
    if padding.any():
        pixels, notes = np.where(padding, np.uint8(0), pixels), (*notes, "padding around the picture shown black")
    if "RedPaletteColorLookupTableDescriptor" in header.dataset or header.text("PixelPresentation") in COLOURED:
        notes = (*notes, "the file's supplemental colours left out") if layout.interpretation != PALETTE else notes
    return Shown(pixels, notes, shown.window)


def apply_modality(stored: Real[np.ndarray, "h w"], header: Header, layout: Layout) -> Values:
    """Apply the modality transform: a look-up table, or a slope and an intercept (PS3.3 C.11.1)."""
    table = read_table(header.items("ModalityLUTSequence"), "ModalityLUTSequence", negative=layout.signed)
    if table:
        return Values(table.look_up(stored), (0, table.largest), True)
    stated = [keyword for keyword in ("RescaleSlope", "RescaleIntercept") if keyword in header.dataset]
    whole = stored.dtype.kind in "iu"
    if not stated:
        return Values(stored, layout.ends, whole)
    slope, intercept = header.decimal("RescaleSlope", 1.0, zero=False), header.decimal("RescaleIntercept", 0.0)
    ends = sorted(end * slope + intercept for end in layout.ends)
    if not all(math.isfinite(end) for end in ends):
        header.note("RescaleSlope", "is too large to compute with; left out")
        return Values(stored, layout.ends, whole)
    whole = whole and slope.is_integer() and intercept.is_integer()
    return Values(stored * np.float64(slope) + np.float64(intercept), (ends[0], ends[1]), whole)


def apply_table(values: Values, header: Header) -> Shown | None:
    """Look greys up in the table of the file that says how to show them (PS3.3 C.11.2.1.1); None without one."""
    table = read_table(header.items("VOILUTSequence"), "VOILUTSequence", negative=values.ends[0] < 0)
    if not table:
        return None
    width = float(len(table.entries))
    pixels = to_bytes(table.look_up(values.values), 0, table.largest)
    return Shown(pixels, ("look-up table of the file",), (width, table.first + width / 2))


def apply_stated_window(values: Values, header: Header, window: Window) -> Shown | None:
    """Show values through a window that a person or the file states; None without one."""
    own = read_window(header)
    chosen = window or own
    if not chosen:
        return None
    function = read_function(header) if values.whole or own else "LINEAR_EXACT"
    pixels, note = apply_window(values, chosen, function)
    return Shown(pixels, (f"window {chosen[0]:g}/{chosen[1]:g} (width/centre)", *note), chosen)


def read_window(header: Header) -> Window:
    """The first window of a file whose numbers can be read, None with a note where there is none."""
    if not ("WindowWidth" in header.dataset and "WindowCenter" in header.dataset):
        return None
    widths, centres = header.decimals("WindowWidth"), header.decimals("WindowCenter")
    for width, centre in zip(widths, centres, strict=False):
        if width is not None and centre is not None and width > 0:
            return width, centre
    wrong = "WindowCenter" if centres[:1] in ([], [None]) else "WindowWidth"
    header.note(wrong, "cannot be read as a window; left out")
    return None


def read_function(header: Header) -> str:
    """The function by which a window is applied, LINEAR unless the file says otherwise."""
    function = header.text("VOILUTFunction") or "LINEAR"
    if function in FUNCTIONS:
        return function
    header.note("VOILUTFunction", "is not known; LINEAR used instead")
    return "LINEAR"


def apply_window(
    values: Values, window: tuple[float, float], function: str
) -> tuple[UInt8[np.ndarray, "h w"], tuple[str, ...]]:
    """Map a window to 0..255 by the function that the file names: LINEAR, LINEAR_EXACT or SIGMOID (PS3.3 C.11.2.1).

    LINEAR has no meaning for a width below 1, nor, for values that are not whole, of 1: LINEAR_EXACT is used there.
    """
    width, centre = window
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            return to_bytes(1 / (1 + np.exp(-4 * (values.values - centre) / width)), 0, 1), ()
    narrow = function == "LINEAR" and (width < 1 or (width == 1 and not values.whole))
    if function == "LINEAR" and not narrow:
        width, centre = width - 1, centre - 0.5
    pixels = to_bytes(values.values, centre - width / 2, centre + width / 2)
    return pixels, ("window function LINEAR_EXACT, for LINEAR needs a width above 1",) if narrow else ()


def apply_range(name: str, values: Values, padding: Bool[np.ndarray, "h w"], layout: Layout) -> Shown:
    """Show 8-bit values as they are, and others from the smallest to the largest that is no padding."""
    if layout.allocated <= 8:
        return Shown(to_bytes(values.values, *values.ends))
    inside = values.values
    if padding.any() and not padding.all():
        kept = inside[~padding & np.isfinite(inside)]
        inside = np.where(padding, kept.min(), inside) if kept.size else inside
    low, high = limits(name, inside)
    kind = f"{inside.dtype.itemsize * 8}-bit values" if inside.dtype.kind in "iu" else "values"
    extra = 1 if values.whole else 0  # by LINEAR, a window of whole values is one wider than from end to end
    width, centre = high - low + extra, (low + high + extra) / 2
    note = f"{kind} {low:g}..{high:g} scaled to 8 bit"
    return Shown(to_bytes(inside, low, high), (note,), (width, centre) if width > 0 else None)
