"""From the runs of a benchmark to what is told of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from python_mcp_server.model import MB
from python_mcp_server.runner.benchmark import Run
from python_mcp_server.tools.benchmark_comparison import comparison
from python_mcp_server.tools.benchmark_course import course, typical
from python_mcp_server.tools.benchmark_files import KERNEL, add_files
from python_mcp_server.tools.benchmark_measure import Benchmark
from python_mcp_server.tools.benchmark_results import BenchmarkResult, Course, OutlyingRun, SpreadOfRuns
from python_mcp_server.tools.benchmark_statistics import interval_of_median, median, outliers, spread
from python_mcp_server.tools.benchmark_words import summary
from python_mcp_server.tools.results import DependencyResult

_STEPS: Final = 40
_MOST_OUTLIERS: Final = 10


def report(ended: DependencyResult, benchmark: Benchmark) -> BenchmarkResult:
    """Return the result of the tool; where there is a job, with files in its folder."""
    measured = benchmark.measured
    runs = measured.script
    kernel_peak = all(run.peak_bytes == run.process_peak_bytes for run in runs)
    result = BenchmarkResult(
        **ended,
        summary="",
        wall_time_seconds=_rounded(median([run.wall_s for run in runs])),
        cpu_time_seconds=_rounded(median([run.cpu_s for run in runs])),
        peak_rss_mb=_mb(median([run.peak_bytes for run in runs])),
        peak_rss_source="kernel" if kernel_peak else "sampled",
        runs=len(runs),
        warmup_runs=measured.warmups,
        stopped=measured.stopped,
        wall=spread_of([run.wall_s for run in runs]),
        cpu=spread_of([run.cpu_s for run in runs]),
        peak_mb=spread_of([run.peak_bytes / MB for run in runs]),
        outliers=_outliers(runs),
        kernel=_kernel(runs),
        course=_course(runs),
        noise=benchmark.noise,
    )
    _add_what_there_is(result, benchmark)
    result["summary"] = summary(result, measured)
    add_files(result, benchmark)
    return result


def spread_of(values: Sequence[float]) -> SpreadOfRuns:
    """Return how values are spread, as the result tells it."""
    found, interval = spread(values), interval_of_median(values)
    told = SpreadOfRuns(
        min=_rounded(found.minimum),
        q1=_rounded(found.lower_quartile),
        median=_rounded(found.median),
        q3=_rounded(found.upper_quartile),
        max=_rounded(found.maximum),
        mean=_rounded(found.mean),
        stddev=_rounded(found.stddev),
    )
    if interval is not None:
        told["median_low"], told["median_high"] = _rounded(interval.low), _rounded(interval.high)
        told["confidence"] = round(interval.confidence, 3)
    return told


def _add_what_there_is(result: BenchmarkResult, benchmark: Benchmark) -> None:
    measured = benchmark.measured
    if benchmark.install_s:
        result["install_seconds"] = _rounded(result.get("install_seconds", 0.0) + benchmark.install_s)
    if left_out := len(outliers([run.wall_s for run in measured.script])) - _MOST_OUTLIERS > 0:
        result["outliers_left_out"] = left_out
    peaks = [run.process_peak_bytes for run in measured.script if run.process_peak_bytes]
    if peaks:
        result["process_peak_rss_mb"] = _mb(median(peaks))
    if measured.start:
        start_s = median([run.wall_s for run in measured.start])
        result["startup_seconds"] = _rounded(start_s)
        result["own_seconds"] = _rounded(max(0.0, result["wall_time_seconds"] - start_s))
    if measured.other or measured.other_failed is not None:
        result["comparison"] = comparison(measured, benchmark.rival_said, spread_of)


def _outliers(runs: Sequence[Run]) -> list[OutlyingRun]:
    walls = [run.wall_s for run in runs]
    middle = median(walls)
    return [
        OutlyingRun(
            run=each.place + 1,
            seconds=_rounded(each.value),
            kind="slow" if each.value > middle else "fast",
            far=each.far,
        )
        for each in outliers(walls)[:_MOST_OUTLIERS]
    ]


def _kernel(runs: Sequence[Run]) -> dict[str, float]:
    told: dict[str, float] = {}
    for name, (shown, factor) in KERNEL.items():
        values = [run.figures[name] for run in runs if name in run.figures]
        if values:
            told[shown] = _rounded(median(values) * factor)
    return told


def _course(runs: Sequence[Run]) -> Course:
    moments = course(typical(runs), _STEPS)
    return Course(
        seconds=[_rounded(moment.at_s) for moment in moments],
        rss_mb=[round(moment.rss_bytes / MB, 2) for moment in moments],
        cpu_percent=[round(moment.cpu_percent, 1) for moment in moments],
    )


def _mb(size: float) -> float:
    return round(size / MB, 3)


def _rounded(value: float) -> float:
    return round(value, 6)
