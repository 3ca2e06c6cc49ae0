"""The picture of a benchmark: memory and CPU over time, and the wall times of all runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from python_mcp_server.model import MB
from python_mcp_server.runner.benchmark import Run
from python_mcp_server.tools.benchmark_course import course, typical
from python_mcp_server.tools.benchmark_statistics import spread
from python_mcp_server.tools.canvas import Canvas, Point

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
    courses = [course(typical(each.runs), _STEPS) for each in series]
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
