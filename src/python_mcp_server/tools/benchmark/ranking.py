"""Which contender is the fastest, how much longer the others take, and how certain that is, in words too."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from python_mcp_server.tools.benchmark.statistics import (
    Interval,
    interval_of_median,
    interval_of_ratio,
    ratio_of_pairs,
)


@dataclass(frozen=True, slots=True)
class Standing:
    """One contender among all.

    Attributes:
        name: What it is called.
        median_s: The median of its wall times.
        interval: Where the median lies; None for a single run.
        ratio: How much longer it takes than the fastest, round by round; 1 for the fastest itself.
        ratio_interval: Where this ratio lies; None for the fastest, and where there is a single round.
    """

    name: str
    median_s: float
    interval: Interval | None
    ratio: float
    ratio_interval: Interval | None

    @property
    def ratio_words(self) -> str:
        """The ratio with its interval, in few characters."""
        if self.ratio_interval is None:
            return "1" if self.ratio == 1 else factor(self.ratio)
        low, high = factor(self.ratio_interval.low), factor(self.ratio_interval.high)
        return f"{factor(self.ratio)} [{low}, {high}]"


def standings(walls: Mapping[str, Sequence[float]]) -> list[Standing]:
    """Return how contenders stand, in their order.

    Args:
        walls: The name of each contender: its wall times, round by round; at least one.
    """
    quickest = walls[min(walls, key=lambda name: median(walls[name]))]
    fastest = min(walls, key=lambda name: _ratio(walls[name], quickest))  # the rounds decide
    return [_standing(name, times, walls[fastest], best=name == fastest) for name, times in walls.items()]


def _standing(name: str, times: Sequence[float], fastest: Sequence[float], *, best: bool) -> Standing:
    ratio = 1.0 if best else _ratio(times, fastest)
    interval = None if best else interval_of_ratio(times, fastest)
    return Standing(name, median(times), interval_of_median(times), ratio, interval)


def _ratio(times: Sequence[float], fastest: Sequence[float]) -> float:
    return 1.0 if times is fastest else ratio_of_pairs(times, fastest)


def headline(found: Sequence[Standing]) -> str:
    """Return what was found in a sentence: the ratio and its interval, or the median of a lone contender."""
    fastest, *others = sorted(
        found, key=lambda each: (each.ratio_interval is not None, each.ratio, each.median_s)
    )
    if not others:
        return f"{fastest.name}: {seconds(fastest.median_s)}{_between(fastest.interval, seconds)}"
    second = others[0]
    sure = _between(second.ratio_interval, factor)
    if second.ratio_interval is not None and second.ratio_interval.low <= 1:
        longer = f"{second.name} takes {factor(second.ratio)} times as long{sure}"
        return f"No difference was found between {fastest.name} and {second.name}: {longer}"
    if len(others) == 1:
        return f"{fastest.name} is {factor(second.ratio)} times as fast as {second.name}{sure}"
    times = f"{factor(second.ratio)} times as fast as the next one, {second.name}{sure}"
    return f"{fastest.name} is the fastest of {len(found)}: {times}"


def _between(interval: Interval | None, words: Callable[[float], str]) -> str:
    if interval is None:
        return " (a single run says nothing of chance)"
    return f" ({100 * interval.confidence:.0f} % interval {words(interval.low)} to {words(interval.high)})"


def factor(ratio: float) -> str:
    """Return a ratio in words, with three digits or so; 1.01 has one more."""
    if ratio >= 10:  # noqa: PLR2004
        return f"{ratio:.3g}" if ratio < 1000 else f"{ratio:.0f}"  # noqa: PLR2004
    return f"{ratio:.2f}" if ratio >= 1.1 else f"{ratio:.3f}"  # noqa: PLR2004


def seconds(value: float) -> str:
    """Return a duration in words, with three digits or so."""
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if value * scale >= 1:
            return f"{value * scale:.{max(0, 2 - math.floor(math.log10(value * scale)))}f} {unit}"
    return f"{value * 1e9:.3g} ns"
