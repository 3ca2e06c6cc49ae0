"""The letters of `canvas`: printable ASCII, five pixels wide and nine high, drawn for this project.

A picture of few colours, drawn pixel by pixel and written as PNG.

Three plots in a picture need lines, areas, dots and small text. That is less code than a drawing
library is to import, and a worker must start fast.


One run over time: what the sampler saw, in equal steps, ended by what the kernel says.

The picture of a benchmark: memory and CPU over time, and the wall times of all runs."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

from python_mcp_server.model import MB
from python_mcp_server.tools.benchmark.process import Run
from python_mcp_server.tools.benchmark.statistics import median, spread

WIDTH: Final = 5
HEIGHT: Final = 9
_FIRST: Final = " "
_DIGITS: Final = 12
"""Hexadecimal digits of one letter: 45 bits, row by row from the top left."""
_LETTERS: Final = (
    "0000000000000421084010000a52800000000a57d5f52800047d1c5f100019c88889cc000c9511593400042100000000"
    "02221082080008208422200000255d52000000213e42000000000006308800003e000000000000063000010888884000"
    "0e8ceb98b8000461084238000e8844447c000e884c18b8000232a5f108001f878218b80006443d18b8001f0888421000"
    "0e8c5d18b8000e8c5e1130000003180630000003180630880222208208000007c1f000000820822220000e8844401000"
    "0e8deb7838000e8c7f18c4001e8c7d18f8000e8c2108b8001e8c6318f8001f843d087c001f843d0840000e8c2f18b800"
    "118c7f18c4000e2108423800071084293000119531494400108421087c0011dd6b18c40011cd6718c4000e8c6318b800"
    "1e8c7d0840000e8c635934001e8c7d4944000f841c10f8001f2108421000118c6318b800118c63151000118c6b5dc400"
    "118a88a8c400118a884210001f0888887c000e42108438001082082084000e10842138000454400000000000000003e0"
    "082000000000000382f8bc001087a318f8000003a108b800010be318bc000003a3f838000647908420000003e318bc2e"
    "1087a318c400040308423800020184210a4c1084a98a48000c21084238000006ab5ad4000007a318c4000003a318b800"
    "0007a318fa100003e318bc210005b30840000003e0e0f80008479084980000046319b40000046315100000046b5aa800"
    "00045445440000046318bc2e0007c4447c00032110420c0004210842100018210442600000022a200000"
)


def rows_of(letter: str) -> list[int]:
    """Return a letter's rows from the top, each a number of five bits; those of "?" for one not here."""
    place = _DIGITS * (ord(letter) - ord(_FIRST))
    if not 0 <= place < len(_LETTERS):
        return rows_of("?")
    bits = int(_LETTERS[place : place + _DIGITS], 16)
    return [bits >> (WIDTH * row) & 0b11111 for row in reversed(range(HEIGHT))]


Anchor = Literal["left", "middle", "right"]
Point = tuple[float, float]
Colour = tuple[int, int, int]

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_PALETTE_IMAGE: Final = 3
_ADVANCE: Final = WIDTH + 1
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
            for row, bits in enumerate(rows_of(letter)):
                for column in range(WIDTH):
                    if bits >> (WIDTH - 1 - column) & 1:
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


@dataclass(frozen=True, slots=True)
class Moment:
    """The end of one step.

    Attributes:
        at_s: Seconds since the start of the run.
        rss_bytes: The most memory that was seen within the step.
        cpu_percent: CPU time used within the step, as a share of it on one core.
    """

    at_s: float
    rss_bytes: int
    cpu_percent: float


def typical(runs: Sequence[Run]) -> Run:
    """Return the run whose wall time is nearest to the median."""
    middle = median([run.wall_s for run in runs])
    return min(runs, key=lambda run: abs(run.wall_s - middle))


def timeline(run: Run, most: int) -> list[Moment]:
    """Return a run in equal steps: at most so many, and no more than there were looks."""
    looks = [look for look in run.looks if look.at_s < run.wall_s]
    steps = max(1, min(most, len(looks)))
    ends = [run.wall_s * step / steps for step in range(steps + 1)]
    used = [(0.0, 0.0), *((look.at_s, min(look.cpu_s, run.cpu_s)) for look in looks), (run.wall_s, run.cpu_s)]
    moments: list[Moment] = []
    rss = looks[0].rss_bytes if looks else run.peak_bytes
    for begin, end in pairwise(ends):
        within = [look.rss_bytes for look in looks if begin <= look.at_s < end]
        rss = max(within, default=rss)  # nobody looked in this step: it is as it was
        cpu_s = _at(used, end) - _at(used, begin)
        moments.append(Moment(end, rss, 100 * max(0.0, cpu_s) / (end - begin) if end > begin else 0.0))
    return moments


def _at(points: Sequence[tuple[float, float]], at: float) -> float:
    """Return the value of a line through these points."""
    for (left, low), (right, high) in pairwise(points):
        if left <= at <= right:
            return low + (high - low) * (at - left) / (right - left) if right > left else high
    return points[-1][1]


_WHITE, _BLACK, _GREY, _GRID, _BLUE, _PALE_BLUE, _ORANGE, _PALE_ORANGE = range(8)
_PALETTE: Final = (
    (255, 255, 255),
    (34, 34, 34),
    (110, 110, 110),
    (226, 226, 226),
    (31, 119, 180),
    (210, 228, 241),
    (230, 107, 10),
    (252, 226, 205),
)
_COLOURS: Final = ((_BLUE, _PALE_BLUE), (_ORANGE, _PALE_ORANGE))
"""Of a line and of the area below it, for the first series and the second."""
_WIDTH: Final = 960
_LEFT: Final = 90
_RIGHT: Final = 930
_TOP: Final = 46
_PANEL: Final = 170
_GAP: Final = 68
_STEPS: Final = 200
_TICKS: Final = 5
_MANY_RUNS: Final = 120


@dataclass(frozen=True, slots=True)
class Series:
    """The runs of one script, and what it is called in the picture."""

    name: str
    runs: Sequence[Run]


@dataclass(frozen=True, slots=True)
class _Axis:
    """Values from 0 or `low` to `high`, between two pixels."""

    low: float
    high: float
    first: float
    last: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.first + share * (self.last - self.first)

    def ticks(self) -> list[float]:
        """Return some round values within."""
        step = _round_step((self.high - self.low) / _TICKS)
        start = math.ceil(self.low / step)
        return [number * step for number in range(start, math.floor(self.high / step + 1e-9) + 1)]


def picture(series: Sequence[Series], title: str) -> bytes:
    """Return the picture of one script, or of two, as PNG."""
    canvas = Canvas(_WIDTH, _TOP + 3 * (_PANEL + _GAP), _PALETTE)
    canvas.text(_LEFT, 8, title, _BLACK, size=2)
    courses = [timeline(typical(each.runs), _STEPS) for each in series]
    longest_s = max(moments[-1].at_s for moments in courses)
    unit, scale = ("s", 1.0) if longest_s >= 1 else ("ms", 1e3)
    across = _Axis(0.0, longest_s * scale or 1.0, _LEFT, _RIGHT)
    memory = [[(m.at_s * scale, m.rss_bytes / MB) for m in moments] for moments in courses]
    cpu = [[(m.at_s * scale, m.cpu_percent) for m in moments] for moments in courses]
    _curves(canvas, 0, "memory of all processes, MB (the run nearest to the median)", across, memory)
    _curves(canvas, 1, f"CPU, % of one core; time in {unit}", across, cpu)
    _runs(canvas, 2, series)
    if len(series) > 1:
        _legend(canvas, series)
    return canvas.png()


def _curves(canvas: Canvas, row: int, title: str, across: _Axis, curves: Sequence[Sequence[Point]]) -> None:
    highest = max(value for curve in curves for _, value in curve)
    up = _axis_up(row, 0.0, highest)
    _frame(canvas, title, across, up)
    for curve, (colour, pale) in zip(curves, _COLOURS, strict=False):
        points = [(across(0.0), up(curve[0][1])), *((across(x), up(y)) for x, y in curve)]
        if len(curves) == 1:
            _fill(canvas, points, up(0.0), pale)
        canvas.line(points, colour)


def _fill(canvas: Canvas, points: Sequence[Point], bottom: float, colour: int) -> None:
    for (left, top), (right, next_top) in pairwise(points):
        for column in range(math.ceil(left), math.floor(right) + 1):
            share = (column - left) / (right - left) if right > left else 0.0
            canvas.area(column, top + (next_top - top) * share, column, bottom - 1, colour)


def _runs(canvas: Canvas, row: int, series: Sequence[Series]) -> None:
    walls = [[run.wall_s for run in each.runs] for each in series]
    highest = max(max(values) for values in walls)
    unit, scale = ("s", 1.0) if highest >= 1 else ("ms", 1e3)
    lowest = min(min(values) for values in walls) * scale
    low = lowest - 0.15 * (highest * scale - lowest)
    up = _axis_up(row, max(0.0, low if highest * scale > 1.001 * lowest else 0.0), highest * scale)
    most = max(len(values) for values in walls)
    across = _Axis(0.5, most + 0.5, _LEFT, _RIGHT)
    _frame(canvas, f"wall time of each run, {unit}; line: median, band: middle half", across, up)
    for values, (colour, pale) in zip(walls, _COLOURS, strict=False):
        found = spread(values)
        canvas.area(
            _LEFT + 1, up(found.upper_quartile * scale), _RIGHT, up(found.lower_quartile * scale), pale
        )
        canvas.line([(_LEFT, up(found.median * scale)), (_RIGHT, up(found.median * scale))], colour)
    for values, (colour, _) in zip(walls, _COLOURS, strict=False):
        for number, value in enumerate(values, 1):
            canvas.dot(across(number), up(value * scale), colour, 3 if most <= _MANY_RUNS else 1)


def _frame(canvas: Canvas, title: str, across: _Axis, up: _Axis) -> None:
    canvas.text(_LEFT, up.last - 22, title, _GREY, size=2)
    for value in up.ticks():
        canvas.area(_LEFT, up(value), _RIGHT, up(value), _GRID)
        canvas.text(_LEFT - 8, up(value) - 7, f"{value:.6g}", _BLACK, anchor="right", size=2)
    for value in across.ticks():
        canvas.area(across(value), up.first, across(value), up.first + 4, _GREY)
        canvas.text(across(value), up.first + 9, f"{value:.6g}", _BLACK, anchor="middle", size=2)
    canvas.area(_LEFT, up.last, _LEFT, up.first, _GREY)
    canvas.area(_LEFT, up.first, _RIGHT, up.first, _GREY)


def _legend(canvas: Canvas, series: Sequence[Series]) -> None:
    right = _RIGHT
    for each, (colour, _) in reversed(list(zip(series, _COLOURS, strict=False))):
        canvas.text(right, 8, each.name, colour, anchor="right", size=2)
        right -= canvas.text_width(each.name, 2) + 24


def _axis_up(row: int, low: float, highest: float) -> _Axis:
    top = _TOP + 24 + row * (_PANEL + _GAP)
    return _Axis(low, low + 1.08 * (highest - low) if highest > low else low + 1.0, top + _PANEL, top)


def _round_step(least: float) -> float:
    """Return the next of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))
