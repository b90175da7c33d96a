"""An encoder of lossless JPEG, written out from ITU-T T.81 annex H: every precision, predictor and restart interval."""

from __future__ import annotations

import struct

import numpy as np

#: One code of five bits for each of the 17 categories of differences.
TABLE = bytes(4) + bytes([17]) + bytes(11) + bytes(range(17))


def encode(values: np.ndarray, bits: int, predictor: int = 1, restart_rows: int = 0, apart: bool = False) -> bytes:
    """Encode ``values`` of ``bits`` bits, with restarts after so many rows; ``apart`` gives each channel a scan."""
    planes = values.reshape(*values.shape[:2], -1).astype(int)
    height, width, channels = planes.shape
    parts = b"".join(bytes([channel + 1, 0x11, 0]) for channel in range(channels))
    frame = b"\xff\xd8" + segment(0xC3, struct.pack(">BHHB", bits, height, width, channels) + parts)
    frame += segment(0xC4, bytes(1) + TABLE) + segment(0xDD, struct.pack(">H", restart_rows * width))
    for scan in [[channel] for channel in range(channels)] if apart else [range(channels)]:
        chosen = bytes([len(scan)]) + b"".join(bytes([channel + 1, 0]) for channel in scan)
        frame += segment(0xDA, chosen + bytes([predictor, 0, 0]))
        frame += scan_data(planes[..., list(scan)], bits, predictor, restart_rows)
    return frame + b"\xff\xd9"


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def scan_data(planes: np.ndarray, bits: int, predictor: int, restart_rows: int) -> bytes:
    """The differences of a scan, in intervals with restart markers between them."""
    rows = restart_rows or len(planes)
    intervals = [interval(planes[row : row + rows], bits, predictor) for row in range(0, len(planes), rows)]
    markers = [bytes([0xFF, 0xD0 + number % 8]) for number in range(len(intervals) - 1)] + [b""]
    return b"".join(data + marker for data, marker in zip(intervals, markers, strict=True))


def interval(planes: np.ndarray, bits: int, predictor: int) -> bytes:
    found = (planes - predict(planes, bits, predictor)).ravel() & 0xFFFF
    text = "".join(code(difference - 0x10000 * (difference > 0x8000)) for difference in found.tolist())
    text += "1" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8).replace(b"\xff", b"\xff\0")


def code(difference: int) -> str:
    category = abs(difference).bit_length()
    if category in (0, 16):
        return f"{category:05b}"
    return f"{category:05b}{difference if difference > 0 else difference + (1 << category) - 1:0{category}b}"


def predict(planes: np.ndarray, bits: int, predictor: int) -> np.ndarray:
    """What stands for each value: along the first row from the left, along the first column from above (H.1.2.1)."""
    left, above, corner = (np.roll(planes, shift, (0, 1)) for shift in ((0, 1), (1, 0), (1, 1)))
    ways = [left, above, corner, left + above - corner, left + ((above - corner) >> 1), above + ((left - corner) >> 1),
            (left + above) >> 1]  # fmt: skip
    found = ways[predictor - 1].copy()
    found[0], found[:, 0] = left[0], above[:, 0]
    found[0, 0] = 1 << (bits - 1)
    return found
