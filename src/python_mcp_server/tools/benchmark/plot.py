"""Draws the plot of a benchmark: a program, so that a worker does not keep the memory of matplotlib.

It reads JSON from stdin and writes the picture to stdout. Most of its time is the import of matplotlib.

format    png, svg or pdf
headline  what was found, in a sentence
note      what limits the trust in it; may be empty
what      what a duration is of, such as "one run"
series    for each contender:
    name           what it is called
    wall_s         the duration of each run
    median_s       their median
    interval_s     where the median lies: two ends
    ratio          how much longer it takes than the fastest, in words
    at_s           the ends of equal steps of one run; empty for no course
    rss_mb         the memory of all its processes in each step
    cpu_percent    the CPU time in each step, as a share of one core
"""

from __future__ import annotations

import json
import math
import random
import sys
import textwrap
from statistics import quantiles, stdev
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Of Okabe and Ito: told apart with any colour vision. Lines differ in their dashes, too."""
_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
_INK, _FAINT = "#222222", "#777777"
_FEW_RUNS = 30
"""Up to so many runs each one is a point; beyond, a shape and a box tell more."""
_WIDE_RATIO = 12
"""Beyond this ratio of the medians a linear axis would hide the spread of the faster one."""
_FENCE = 6
"""Runs further from the middle half, in quartile distances, are shown at the edge, by a triangle."""
_WIDTH_IN, _ROW_IN, _BELOW_IN = 8.0, 0.42, 2.25
_LONGEST_NAME = 28
_LINE_CHARS = 92
_NAMES_A_LINE = 4
_STYLE: dict[Any, Any] = {
    "font.size": 8.5,
    "font.family": "DejaVu Sans",
    "text.parse_math": False,  # a name may have a dollar
    "text.color": _INK,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "xtick.color": _FAINT,
    "xtick.labelcolor": _INK,
    "ytick.color": _FAINT,
    "ytick.labelcolor": _INK,
    "lines.linewidth": 1.3,
    "pdf.fonttype": 42,  # journals take no other
    "svg.hashsalt": "benchmark",
    "savefig.dpi": 160,
}


def main() -> int:
    """Draw one picture."""
    facts: dict[str, Any] = json.load(sys.stdin)
    mpl.rcdefaults()  # a file of the user may ask for fonts, or for LaTeX, that are not there
    mpl.rcParams.update(_STYLE)
    figure = _figure(facts)
    metadata = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[facts["format"]]
    figure.savefig(sys.stdout.buffer, format=facts["format"], metadata=metadata)
    return 0


def _figure(facts: dict[str, Any]) -> Any:
    series: list[dict[str, Any]] = facts["series"]
    for place, each in enumerate(series):
        each["colour"], each["dashes"] = _COLOURS[place % 6], _DASHES[place % 6]
        name = each["name"]
        each["name"] = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
    headline = textwrap.wrap(facts["headline"].replace(" %", "\N{NO-BREAK SPACE}%"), _LINE_CHARS)
    note = textwrap.wrap(facts["note"], int(1.5 * _LINE_CHARS))
    rows_in = 0.65 + _ROW_IN * max(2, len(series))
    below_in = _BELOW_IN + 0.23 * _legend_lines(series)
    height_in = rows_in + below_in + 0.19 * (len(headline) + len(note)) + 0.2
    figure: Any = Figure(figsize=(_WIDTH_IN, height_in), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.07, hspace=0.04, wspace=0.05)
    figure.suptitle("\n".join(headline), x=0.012, ha="left", fontsize=10.5, fontweight="bold")
    if note:
        figure.supxlabel("\n".join(note), x=0.012, ha="left", fontsize=7.5, color=_FAINT)
    above, below = figure.subfigures(2, height_ratios=(rows_in, below_in))
    _draw_spread(above.subplots(), series, facts["what"])
    _draw_below(below, series)
    return figure


def _legend_lines(series: list[dict[str, Any]]) -> int:
    return math.ceil(len(series) / _NAMES_A_LINE) if len(series) > 1 else 0


def _draw_spread(axes: Any, series: list[dict[str, Any]], what: str) -> None:
    """Draw a row for each contender: its runs, their median with its interval, and the ratio in words."""
    unit, scale = _unit(min(each["median_s"] for each in series))
    low, high = _limits(series)
    if _is_wide(series):
        axes.set_xscale("log")
    axes.set_xlim(scale * low, scale * high)
    for row, each in enumerate(series):
        walls = [scale * wall_s for wall_s in each["wall_s"]]
        shown = [wall for wall in walls if wall <= scale * high]
        (_draw_points if len(walls) <= _FEW_RUNS else _draw_shape)(axes, row, shown, each["colour"])
        _draw_median(axes, row, each, scale)
        _draw_words(axes, row, each, (scale * high, len(walls) - len(shown)))
    if len(series) > 1:
        axes.annotate("times the fastest", (1, 1), (10, 6), "axes fraction", "offset points", fontsize=8,
                      color=_FAINT)  # fmt: skip
    axes.set_yticks(range(len(series)), [each["name"] for each in series], fontsize=9)
    for label, each in zip(axes.get_yticklabels(), series, strict=True):
        label.set_color(each["colour"] if len(series) > 1 else _INK)
    axes.tick_params(axis="y", length=0)
    margin = 1.0 if len(series) == 1 else 0.5
    axes.set_ylim(len(series) - 1 + margin, -margin)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(f"time of {what} ({unit})")
    _write_plainly(axes.xaxis, scale * low, scale * high)
    count = min(len(each["wall_s"]) for each in series)
    marks = "points: runs" if count <= _FEW_RUNS else "shape and box: all runs"
    words = (
        f"{count} run{'s' * (count != 1)}{' each' * (len(series) > 1)} · {marks} · bar: median, its interval"
    )
    axes.set_title(words, fontsize=8, fontweight="normal", color=_FAINT)


def _draw_words(axes: Any, row: int, each: dict[str, Any], beyond: tuple[float, int]) -> None:
    """Write the ratio beside a row, and how many runs are beyond the end of the axis."""
    end, count = beyond
    place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
    axes.annotate(each["ratio"], (1, row), (10, 5 * (count > 0)), fontsize=9, **place)
    if count:
        axes.plot([end], [row], ">", color=each["colour"], clip_on=False, markersize=5)
        words = f"{count} run{'s' * (count > 1)} up to {_duration(max(each['wall_s']))}"
        axes.annotate(words, (1, row), (10, -6 if each["ratio"] else 0), fontsize=7, color=_FAINT, **place)


def _write_plainly(axis: Any, low: float, high: float) -> None:
    """Write the numbers of a logarithmic axis as numbers, also between the powers of ten."""
    if axis.get_scale() == "log":
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
        axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axis.set_minor_formatter(NullFormatter())


def _is_wide(series: list[dict[str, Any]]) -> bool:
    medians = [each["median_s"] for each in series]
    return max(medians) > _WIDE_RATIO * min(medians)


def _limits(series: list[dict[str, Any]]) -> tuple[float, float]:
    """Return the ends of the axis of durations, in seconds, without runs that would squeeze all others."""
    lows: list[float] = []
    highs: list[float] = []
    for each in series:
        walls = each["wall_s"]
        lower, _, upper = quantiles(walls if len(walls) > 1 else walls * 2, method="inclusive")
        fence = upper + max(_FENCE * (upper - lower), 0.05 * upper)
        lows.append(min(walls))
        highs.append(max(wall for wall in [*walls, each["median_s"]] if wall <= fence))
    low, high = min(lows), max(highs)
    if _is_wide(series):
        return low / 1.15, high * 1.15
    margin = 0.06 * (high - low) or 0.05 * high or 1e-9
    return max(0.0, low - margin), high + margin


def _draw_points(axes: Any, row: int, walls: list[float], colour: str) -> None:
    heights = random.Random(1)  # noqa: S311  the same picture for the same runs
    at = [row + heights.uniform(0.08, 0.32) for _ in walls]
    axes.plot(walls, at, "o", color=colour, markersize=4, alpha=0.55, markeredgewidth=0)


def _draw_shape(axes: Any, row: int, walls: list[float], colour: str) -> None:
    shape = axes.violinplot([walls], [row], orientation="horizontal", widths=0.72, showextrema=False,
                            side="low", points=200, bw_method=_bandwidth(walls))  # fmt: skip
    for body in shape["bodies"]:
        body.set(facecolor=colour, alpha=0.3, edgecolor=colour, linewidth=0.8)
    axes.boxplot([walls], positions=[row + 0.16], orientation="horizontal", widths=0.16, manage_ticks=False,
                 patch_artist=True, boxprops={"facecolor": "white", "edgecolor": colour, "linewidth": 0.9},
                 whiskerprops={"color": colour, "linewidth": 0.9}, showcaps=False,
                 medianprops={"color": colour, "linewidth": 1.2},
                 flierprops={"marker": ".", "markersize": 3, "markerfacecolor": colour, "markeredgewidth": 0,
                             "alpha": 0.6})  # fmt: skip


def _bandwidth(walls: list[float]) -> float:
    """Return Silverman's bandwidth as a share of the deviation, so that outliers do not blur the rest."""
    lower, _, upper = quantiles(walls, method="inclusive")
    deviation = stdev(walls)
    robust = min(deviation, (upper - lower) / 1.34) or deviation
    return 0.9 * len(walls) ** -0.2 * (robust / deviation if deviation else 1.0)


def _draw_median(axes: Any, row: int, each: dict[str, Any], scale: float) -> None:
    """Draw the median as a tick and its interval as a bar, above what the runs are drawn with."""
    low, high = (scale * end_s for end_s in each["interval_s"])
    axes.plot([low, high], [row, row], color=_INK, linewidth=2.2, solid_capstyle="butt", zorder=5)
    axes.plot(
        [scale * each["median_s"]], [row], "|", color=_INK, markersize=13, markeredgewidth=1.6, zorder=6
    )


def _draw_below(figure: Any, series: list[dict[str, Any]]) -> None:
    """Draw the runs in their order; where one run is long enough, its memory and CPU over time, too."""
    timed = [each for each in series if each["at_s"]]
    panels = figure.subplots(1, 3 if timed else 1, squeeze=False)[0]
    if len(series) > 1:
        lines = [Line2D([], [], color=each["colour"], linestyle=each["dashes"]) for each in series]
        names = [each["name"] for each in series]
        figure.suptitle("\n".join(" " * _legend_lines(series)), fontsize=12)  # room for the legend
        legend = figure.legend(
            lines, names, loc="upper left", ncols=_NAMES_A_LINE, frameon=False, handlelength=3
        )
        legend.set_in_layout(False)
    _draw_order(panels[0], series)
    if not timed:
        return
    unit, scale = _unit(max(each["at_s"][-1] for each in timed))
    figures = ("rss_mb", "memory (MB)"), ("cpu_percent", "CPU (% of a core)")
    for axes, (name, title) in zip(panels[1:], figures, strict=True):
        for each in timed:
            at = [0.0, *(scale * at_s for at_s in each["at_s"])]
            axes.plot(at, [each[name][0], *each[name]], color=each["colour"], linestyle=each["dashes"])
        axes.set(title=title, xlabel=f"time since its start ({unit})")
        axes.set_xlim(left=0)
        axes.set_ylim(0, 1.08 * max([100 * (name == "cpu_percent"), *(max(each[name]) for each in timed)]))


def _draw_order(axes: Any, series: list[dict[str, Any]]) -> None:
    unit, scale = _unit(min(each["median_s"] for each in series))
    low, high = _limits(series)
    for each in series:
        walls = [scale * min(wall_s, high) for wall_s in each["wall_s"]]
        marker = "o" if len(walls) <= _FEW_RUNS else None
        axes.plot(range(1, len(walls) + 1), walls, color=each["colour"], linestyle=each["dashes"],
                  linewidth=0.9, marker=marker, markersize=2.5)  # fmt: skip
        beyond = [number for number, wall_s in enumerate(each["wall_s"], 1) if wall_s > high]
        if beyond:  # an empty line would still take room
            ends = [scale * high] * len(beyond)
            axes.plot(beyond, ends, "^", color=each["colour"], clip_on=False, markersize=4)
    if _is_wide(series):
        axes.set_yscale("log")
    axes.set_ylim(scale * low, scale * high)
    _write_plainly(axes.yaxis, scale * low, scale * high)
    axes.set_xlim(0.5, max(len(each["wall_s"]) for each in series) + 0.5)
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.set(title=f"runs in order ({unit})", xlabel="number of the run")


def _unit(shortest_s: float) -> tuple[str, float]:
    """Return the unit for durations from this one on, and how many make a second."""
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if shortest_s * scale >= 1:
            return unit, scale
    return "ns", 1e9


def _duration(value_s: float) -> str:
    unit, scale = _unit(value_s)
    return f"{value_s * scale:.3g} {unit}"


if __name__ == "__main__":
    sys.exit(main())
