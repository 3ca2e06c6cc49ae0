"""Draws the plot of a benchmark: a program, so that a worker does not keep the memory of matplotlib.

It reads JSON from stdin and writes the picture to stdout, as PNG. It takes 0.9 s of CPU time and 75 MB,
nearly all of it for the import of matplotlib.

title     the headline
series    for each script:
    name           what the legend calls it
    at_s           the ends of equal steps of one run
    rss_mb         the memory of all its processes in each step
    cpu_percent    the CPU time in each step, as a share of one core
    wall_s         the wall time of each run
    quartiles_s    the quartiles of these
"""

from __future__ import annotations

import json
import sys
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

_COLOURS = ("tab:blue", "tab:orange")
_MANY_RUNS = 120


def main() -> int:
    """Draw one picture."""
    facts: dict[str, Any] = json.load(sys.stdin)
    mpl.rcdefaults()  # a file of the user may ask for fonts, or for LaTeX, that are not there
    figure: Any = Figure(figsize=(9.6, 7.6), layout="constrained")
    figure.suptitle(facts["title"])
    memory, cpu, runs = figure.subplots(3)
    series: list[dict[str, Any]] = facts["series"]
    unit, scale = _unit(max(each["at_s"][-1] for each in series))
    for each, colour in zip(series, _COLOURS, strict=False):
        at = [0.0, *(scale * at_s for at_s in each["at_s"])]
        for axes, name in ((memory, "rss_mb"), (cpu, "cpu_percent")):
            axes.plot(at, [each[name][0], *each[name]], color=colour, label=each["name"])
            if len(series) == 1:
                axes.fill_between(at, [each[name][0], *each[name]], color=colour, alpha=0.2)
    memory.set_title("memory of all processes, MB (the run nearest to the median)")
    cpu.set_title(f"CPU, % of one core; time in {unit}")
    for axes in (memory, cpu):
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    _draw_runs(runs, series)
    if len(series) > 1:
        memory.legend()
    figure.savefig(sys.stdout.buffer, format="png")
    return 0


def _draw_runs(axes: Any, series: list[dict[str, Any]]) -> None:
    unit, scale = _unit(max(max(each["wall_s"]) for each in series))
    axes.set_title(f"wall time of each run, {unit}; line: median, band: middle half")
    axes.grid(alpha=0.3)
    for each, colour in zip(series, _COLOURS, strict=False):
        walls = [scale * wall_s for wall_s in each["wall_s"]]
        low, middle, high = (scale * quartile_s for quartile_s in each["quartiles_s"])
        axes.axhspan(low, high, color=colour, alpha=0.2)
        axes.axhline(middle, color=colour)
        axes.plot(range(1, len(walls) + 1), walls, "o" if len(walls) <= _MANY_RUNS else ".", color=colour)


def _unit(longest_s: float) -> tuple[str, float]:
    return ("s", 1.0) if longest_s >= 1 else ("ms", 1e3)


if __name__ == "__main__":
    sys.exit(main())
