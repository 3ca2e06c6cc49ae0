"""Two scripts that ran in turns: which one is faster, how much, and how certain that is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from python_mcp_server.model import MB
from python_mcp_server.runner.benchmark import Run
from python_mcp_server.tools.benchmark_results import Comparison, SpreadOfRuns
from python_mcp_server.tools.benchmark_statistics import (
    Interval,
    interval_of_ratio,
    median,
    ratio_of_pairs,
)
from python_mcp_server.tools.benchmark_turns import Measured


def comparison(
    measured: Measured, rival_said: str, told: Callable[[Sequence[float]], SpreadOfRuns]
) -> Comparison:
    """Return what the turns say of the script and the other."""
    if measured.other_failed is not None:
        failed = Comparison(sentence=_of_failure(measured.other_failed), runs=len(measured.other))
        if rival_said:
            failed["stderr"] = rival_said
        return failed
    others, runs = measured.other, measured.script
    walls = _walls(others), _walls(runs)
    ratio, interval = ratio_of_pairs(*walls), interval_of_ratio(*walls)
    result = Comparison(
        sentence=sentence(ratio, interval),
        ratio=round(ratio, 4),
        runs=len(others),
        wall=told(walls[0]),
        cpu=told([run.cpu_s for run in others]),
        peak_mb=told([run.peak_bytes / MB for run in others]),
        peak_ratio=round(_peak(others) / max(1.0, _peak(runs)), 4),
    )
    if interval is not None:
        result["low"], result["high"] = round(interval.low, 4), round(interval.high, 4)
        result["confidence"] = round(interval.confidence, 3)
    _add_cpu(result, others, runs)
    return result


def sentence(ratio: float, interval: Interval | None) -> str:
    """Say which one is faster; the ratio is the other's time divided by the script's."""
    if interval is None:
        return f"{_faster(ratio)} in a single turn, which says nothing of chance"
    if interval.low <= 1 <= interval.high:
        limits = f"{_percent(interval)} interval {interval.low:.3g} to {interval.high:.3g}"
        return f"no difference was found: the other takes {ratio:.3g} times as long, {limits}"
    low, high = interval.low, interval.high
    if ratio < 1:
        low, high = 1 / high, 1 / low
    return f"{_faster(ratio)}, {_percent(interval)} interval {_times(low)} to {_times(high)}"


def _percent(interval: Interval) -> str:
    return f"{100 * interval.confidence:.0f} %"


def _faster(ratio: float) -> str:
    if ratio >= 1:
        return f"{_times(ratio)}x faster than compare_with"
    return f"{_times(1 / ratio)}x slower than compare_with"


def _times(ratio: float) -> str:
    if ratio >= 10:  # noqa: PLR2004  three digits say enough
        return f"{ratio:.3g}" if ratio < 1000 else f"{ratio:.0f}"  # noqa: PLR2004
    return f"{ratio:.2f}" if ratio >= 1.1 else f"{ratio:.3f}"  # noqa: PLR2004  1.01 needs a digit more


def _add_cpu(result: Comparison, others: Sequence[Run], runs: Sequence[Run]) -> None:
    pairs = [(a.cpu_s, b.cpu_s) for a, b in zip(others, runs, strict=False) if a.cpu_s > 0 and b.cpu_s > 0]
    if not pairs:
        return
    above, below = [a for a, _ in pairs], [b for _, b in pairs]
    result["cpu_ratio"] = round(ratio_of_pairs(above, below), 4)
    interval = interval_of_ratio(above, below)
    if interval is not None:
        result["cpu_low"], result["cpu_high"] = round(interval.low, 4), round(interval.high, 4)


def _of_failure(run: Run) -> str:
    if run.ending.timed_out:
        return "nothing was compared: the time limit of the call came while compare_with ran"
    if run.ending.breach is not None:
        return f"nothing was compared: compare_with failed: {run.ending.breach.sentence}"
    return f"nothing was compared: compare_with ended with exit code {run.ending.exit_code}"


def _walls(runs: Sequence[Run]) -> list[float]:
    return [run.wall_s for run in runs]


def _peak(runs: Sequence[Run]) -> float:
    return median([run.peak_bytes for run in runs])
