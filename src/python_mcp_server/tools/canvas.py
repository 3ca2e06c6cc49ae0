"""A picture of few colours, drawn pixel by pixel and written as PNG.

Three plots in a picture need lines, areas, dots and small text. That is less code than a drawing
library is to import, and a worker must start fast.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, Literal

from python_mcp_server.tools import glyphs

Anchor = Literal["left", "middle", "right"]
Point = tuple[float, float]
Colour = tuple[int, int, int]

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_PALETTE_IMAGE: Final = 3
_ADVANCE: Final = glyphs.WIDTH + 1
_SHARES: Final = {"left": 0.0, "middle": 0.5, "right": 1.0}


class Canvas:
    """A picture; (0, 0) is its top left corner, and what lies outside of it is not drawn.

    Colours are numbers: places in the palette.
    """

    def __init__(self, width: int, height: int, palette: Sequence[Colour]) -> None:
        self.width = width
        self.height = height
        self._palette = palette
        self._pixels = bytearray(width * height)

    def area(self, left: float, top: float, right: float, bottom: float, colour: int) -> None:
        """Fill a rectangle, its edges included; it is at least one pixel wide and high."""
        first, last = max(0, round(left)), min(self.width - 1, round(right))
        if first > last:
            return
        stripe = bytes([colour]) * (last - first + 1)
        for row in range(max(0, round(top)), min(self.height - 1, round(bottom)) + 1):
            start = row * self.width + first
            self._pixels[start : start + len(stripe)] = stripe

    def line(self, points: Sequence[Point], colour: int, thickness: int = 2) -> None:
        """Connect points by straight lines."""
        for (left, top), (right, bottom) in pairwise(points):
            steps = max(1, round(abs(right - left)), round(abs(bottom - top)))
            for step in range(steps + 1):
                x = left + (right - left) * step / steps
                y = top + (bottom - top) * step / steps
                self._square(x, y, colour, thickness)

    def dot(self, x: float, y: float, colour: int, radius: int = 3) -> None:
        """Draw a filled circle."""
        for row in range(-radius, radius + 1):
            half = int((radius * radius - row * row + radius) ** 0.5)
            self.area(x - half, y + row, x + half, y + row, colour)

    def text(
        self, x: float, y: float, text: str, colour: int, *, anchor: Anchor = "left", size: int = 1
    ) -> None:
        """Write one line of ASCII; `y` is its top, and `x` its left end, its middle or its right end."""
        left, y = round(x - _SHARES[anchor] * self.text_width(text, size)), round(y)
        for place, letter in enumerate(text):
            for row, bits in enumerate(glyphs.rows_of(letter)):
                for column in range(glyphs.WIDTH):
                    if bits >> (glyphs.WIDTH - 1 - column) & 1:
                        corner = left + (place * _ADVANCE + column) * size, y + row * size
                        self.area(*corner, corner[0] + size - 1, corner[1] + size - 1, colour)

    @staticmethod
    def text_width(text: str, size: int = 1) -> int:
        """Return how many pixels wide a text is."""
        return max(0, len(text) * _ADVANCE - 1) * size

    def colour_at(self, x: int, y: int) -> int:
        """Return the colour of a pixel."""
        return self._pixels[y * self.width + x]

    def png(self) -> bytes:
        """Return the picture as a PNG file."""
        header = struct.pack(">IIBBBBB", self.width, self.height, 8, _PALETTE_IMAGE, 0, 0, 0)
        colours = b"".join(bytes(colour) for colour in self._palette)
        rows = b"".join(
            b"\0" + self._pixels[start : start + self.width]
            for start in range(0, len(self._pixels), self.width)
        )
        chunks = ((b"IHDR", header), (b"PLTE", colours), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
        return _SIGNATURE + b"".join(_chunk(kind, data) for kind, data in chunks)

    def _square(self, x: float, y: float, colour: int, side: int) -> None:
        left, top = round(x - (side - 1) / 2), round(y - (side - 1) / 2)
        self.area(left, top, left + side - 1, top + side - 1, colour)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
