"""What the head of a JPEG XL codestream declares (ISO/IEC 18181-1), to be known before anything is decoded."""

from __future__ import annotations

from dataclasses import dataclass, replace

#: How a file begins: as a bare codestream, or as boxes that hold one.
CODESTREAM, CONTAINER = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"

#: Width by height, for the ratios that a header can name.
RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}

#: Kinds of further channels.
ALPHA, SPOT, BLACK, COLOUR_FILTER = 0, 2, 4, 5

#: A choice of four, each a number and how many bits are added to it.
Choice = tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int]]
ENUM: Choice = ((0, 0), (1, 0), (2, 4), (18, 6))
PREVIEW: Choice = ((1, 6), (65, 8), (321, 10), (1345, 12))
PREVIEW_EIGHTHS: Choice = ((16, 0), (32, 0), (1, 5), (33, 9))
COORDINATE: Choice = ((0, 19), (524288, 19), (1048576, 20), (2097152, 21))


@dataclass(frozen=True)
class Header:
    """Size as stored, bits per sample, kinds of further channels, whether it is a film, and what its colours mean.

    ``icc``: by a profile in the file. ``perceptual``: they are stored in the eye's own space (XYB). ``primaries`` and
    ``transfer`` are code points of ITU-T H.273, 0 for any other.
    """

    width: int
    height: int
    bits: int = 8
    floats: bool = False
    extra: tuple[int, ...] = ()
    animated: bool = False
    icc: bool = False
    perceptual: bool = True
    primaries: int = 1
    transfer: int = 13

    @property
    def samples(self) -> int:
        """At most how many samples a pixel has."""
        return 3 + len(self.extra)


class Bits:
    """Reads numbers from bytes, their lowest bit first."""

    def __init__(self, data: bytes) -> None:
        self.value, self.left = int.from_bytes(data, "little"), len(data) * 8

    def read(self, count: int) -> int:
        """Read a number of so many bits; raises ValueError past the end."""
        self.left -= count
        if self.left < 0:
            raise ValueError
        found = self.value & ((1 << count) - 1)
        self.value >>= count
        return found

    def flag(self) -> bool:
        """Read one bit."""
        return bool(self.read(1))

    def choose(self, *choice: tuple[int, int]) -> int:
        """Read which of four, and what is added to it."""
        start, count = choice[self.read(2)]
        return start + self.read(count)


def read_header(data: bytes) -> Header:
    """Read what a file or codestream declares; raises ValueError if it is cut short."""
    stream = codestream(data)[:4096]
    if not stream.startswith(CODESTREAM):
        raise ValueError
    bits = Bits(stream[2:])
    width, height = read_size(bits)
    if bits.flag():
        return Header(width, height)
    animated = bits.flag() and read_extra_fields(bits)
    depth, floats = read_depth(bits)
    bits.flag()
    extra = tuple(read_channel(bits) for _ in range(bits.choose((0, 0), (1, 0), (2, 4), (1, 12))))
    perceptual = bits.flag()
    header = Header(width, height, depth, floats, extra, animated, perceptual=perceptual)
    return read_colours(bits, header)


def codestream(data: bytes) -> bytes:
    """The beginning of the codestream in a file of boxes; the data themselves if they are no such file."""
    if not data.startswith(CONTAINER):
        return data
    found, place = b"", 0
    while place + 8 <= len(data) and len(found) < 4096:
        size, kind, start = int.from_bytes(data[place : place + 4]), data[place + 4 : place + 8], place + 8
        if size == 1:
            size, start = int.from_bytes(data[start : start + 8]), start + 8
        end = place + size if size else len(data)
        if end < start:
            break
        if kind in (b"jxlc", b"jxlp"):
            found += data[start + 4 * (kind == b"jxlp") : end][:4096]
        place = end
    return found


def read_size(bits: Bits) -> tuple[int, int]:
    """Read width and height."""
    small = bits.flag()

    def side() -> int:
        return (bits.read(5) + 1) * 8 if small else bits.choose((1, 9), (1, 13), (1, 18), (1, 30))

    height, ratio = side(), bits.read(3)
    return (height * RATIOS[ratio][0] // RATIOS[ratio][1] if ratio else side()), height


def read_extra_fields(bits: Bits) -> bool:
    """Read past orientation, intended size and preview; tell whether the file is a film."""
    bits.read(3)
    if bits.flag():
        read_size(bits)
    if bits.flag():
        sides = PREVIEW_EIGHTHS if bits.flag() else PREVIEW
        bits.choose(*sides)
        if not bits.read(3):
            bits.choose(*sides)
    if not bits.flag():
        return False
    bits.choose((100, 0), (1000, 0), (1, 10), (1, 30))
    bits.choose((1, 0), (1001, 0), (1, 8), (1, 10))
    bits.choose((0, 0), (0, 3), (0, 16), (0, 32))
    bits.flag()
    return True


def read_depth(bits: Bits) -> tuple[int, bool]:
    """Read how many bits a sample has, and whether they are a float."""
    if not bits.flag():
        return bits.choose((8, 0), (10, 0), (12, 0), (1, 6)), False
    depth = bits.choose((32, 0), (16, 0), (24, 0), (1, 6))
    bits.read(4)
    return depth, True


def read_channel(bits: Bits) -> int:
    """Read the kind of a further channel."""
    if bits.flag():
        return ALPHA
    kind = bits.choose(*ENUM)
    read_depth(bits)
    bits.choose((0, 0), (3, 0), (4, 0), (1, 3))
    bits.read(8 * bits.choose((0, 0), (0, 4), (16, 5), (48, 10)))
    if kind == ALPHA:
        bits.flag()
    elif kind == SPOT:
        bits.read(64)
    elif kind == COLOUR_FILTER:
        bits.choose((1, 0), (0, 2), (3, 4), (19, 8))
    return kind


def read_colours(bits: Bits, header: Header) -> Header:
    """Read whether there is an ICC profile, and without one the code points of primaries and curve."""
    if bits.flag():
        return header
    icc, space = bits.flag(), bits.choose(*ENUM)
    if icc or space > 1:
        return replace(header, icc=icc, primaries=0, transfer=0)
    white = bits.choose(*ENUM)
    if white == 2:
        skip_points(bits, 1)
    primaries = bits.choose(*ENUM) if space == 0 else 1
    if primaries == 2:
        skip_points(bits, 3)
    transfer = 0 if bits.flag() and bits.read(24) else bits.choose(*ENUM)
    # JPEG XL's own number for the primaries of Display P3 is the one that H.273 gives those of cinema.
    code = {1: 1, 9: 9, 11: 12}.get(primaries, 0)
    return replace(header, primaries=code if white == 1 else 0, transfer=transfer)


def skip_points(bits: Bits, count: int) -> None:
    """Read past so many points of x and y."""
    for _ in range(2 * count):
        bits.choose(*COORDINATE)
