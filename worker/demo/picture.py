"""A small real picture, made in code: a chessboard of 4 by 4 squares, as a grey JPEG.

A baseline JPEG (ITU-T T.81) of one component. Each square is one block of 8 by 8 pixels of one
brightness, so that a block is told by one number: how much brighter it is than the one before.
"""

from __future__ import annotations

import struct
from typing import Final

_SQUARES: Final = 4
#: Brightness of a square against mid-grey, in the units that the quantisation leaves.
_CONTRAST: Final = 50
#: Every coefficient is divided by this.
_QUANTUM: Final = 16
#: Sizes, in bits, of the differences that occur (T.81, table F.1), each with its Huffman code.
_DC_CODES: Final = {0: "00", 6: "01", 7: "10"}
#: "No more coefficients in this block", the only AC symbol used.
_AC_CODE: Final = "0"


def chessboard() -> bytes:
    """Return the picture's bytes, always the same."""
    side = _SQUARES * 8
    return b"".join((
        b"\xff\xd8",
        _segment(0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"),
        _segment(0xDB, b"\0" + bytes([_QUANTUM] * 64)),
        _segment(0xC0, struct.pack(">BHHB", 8, side, side, 1) + b"\x01\x11\0"),
        _segment(0xC4, b"\0" + bytes([0, 3, *[0] * 14]) + bytes(_DC_CODES)),
        _segment(0xC4, b"\x10" + bytes([1, *[0] * 15]) + b"\0"),
        _segment(0xDA, b"\x01\x01\0\0\x3f\0"),
        _scan(),
        b"\xff\xd9",
    ))  # fmt: skip


def _segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def _scan() -> bytes:
    """Write the squares, row by row, as differences; the last byte is filled with ones."""
    bits, before = "", 0
    for place in range(_SQUARES * _SQUARES):
        bright = (place // _SQUARES + place) % 2
        value = _CONTRAST if bright else -_CONTRAST
        bits += _difference(value - before) + _AC_CODE
        before = value
    bits += "1" * (-len(bits) % 8)
    data = bytes(int(bits[start : start + 8], 2) for start in range(0, len(bits), 8))
    return data.replace(b"\xff", b"\xff\0")


def _difference(value: int) -> str:
    """Write a number: the code of its size, then its bits; a negative one's bits are one less."""
    size = abs(value).bit_length()
    if not size:
        return _DC_CODES[0]
    low = value if value > 0 else value + (1 << size) - 1
    return _DC_CODES[size] + format(low, f"0{size}b")
