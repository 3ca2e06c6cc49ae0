"""The body of `py_benchmark_script`, and its result: the figures, the summary, the comparison, the files.

The files lie in the folder of the job: every run as JSON, and the plot, which a process of its own draws
after the runs. A model reads the docstring of the body when it chooses a tool.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Final

from python_mcp_server.atomic import write_file
from python_mcp_server.context import current_job
from python_mcp_server.errors import ToolchainError
from python_mcp_server.model import MB
from python_mcp_server.settings import Settings, positive
from python_mcp_server.tools import parameters
from python_mcp_server.tools.benchmark.drawing import draw
from python_mcp_server.tools.benchmark.measured_run import Run
from python_mcp_server.tools.benchmark.plan import (
    Benchmark,
    ComparisonTarget,
    Measured,
    RunPlan,
    lone,
)
from python_mcp_server.tools.benchmark.ranking import factor, seconds
from python_mcp_server.tools.benchmark.statistics import (
    Interval,
    interval_of_ratio,
    outliers,
    ratio_of_pairs,
    spread,
    timeline,
    typical,
)
from python_mcp_server.tools.results import (
    BenchmarkResult,
    Comparison,
    Course,
    DependencyResult,
    ShownPicture,
)
from python_mcp_server.tools.scripts import run_with_packages

_MOST_OUTLIERS: Final = 10
_STEPS: Final = 40
_FEW: Final = 6
"""Fewer runs give no 95 % interval."""
KERNEL: Final = {
    "user_s": ("user_seconds", 1.0),
    "system_s": ("system_seconds", 1.0),
    "minor_faults": ("minor_faults", 1.0),
    "major_faults": ("major_faults", 1.0),
    "voluntary_switches": ("voluntary_switches", 1.0),
    "involuntary_switches": ("involuntary_switches", 1.0),
    "rchar": ("io_read_mb", 1e-6),
    "wchar": ("io_written_mb", 1e-6),
    "read_bytes": ("disk_read_mb", 1e-6),
    "write_bytes": ("disk_written_mb", 1e-6),
    "waited_ns": ("waited_seconds", 1e-9),
}
"""The launcher's name of a figure: its name in the result, and the factor to its unit there."""


def benchmark_script(  # noqa: PLR0917 - the parameters of a tool
    script_content: parameters.LoneContent = None,
    script_path: parameters.LonePath = None,
    python_version: parameters.PythonVersion = None,
    dependencies: parameters.Dependencies = None,
    args: parameters.Args = None,
    timeout_seconds: parameters.TimeoutSeconds = 300,
    env_vars: parameters.EnvVars = None,
    env_file: parameters.LoneEnvFile = None,
    sample_interval: Annotated[float, "Seconds between two looks at its memory."] = 0.05,
    warmup: Annotated[int | None, "Runs before those that count. Default: one."] = None,
    min_runs: Annotated[int, "Runs before it may stop."] = 10,
    max_runs: Annotated[int, "At most so many; 1: a single one, without warm-up."] = 100,
    max_seconds: Annotated[float, "After this long no other run begins."] = 10,
    compare_with: Annotated[
        str | None,
        "Another script to measure in turns with it: a file's path, or Python code. It gets the same "
        "arguments, variables and `dependencies`.",
    ] = None,
    memory_limit_mb: parameters.MemoryLimit = None,
    cpu_time_limit_seconds: parameters.CpuTimeLimit = None,
    disk_limit_mb: parameters.DiskLimit = None,
    nice: parameters.Nice = None,
    cpus: parameters.Cpus = None,
    output_chars: parameters.OutputChars = None,
) -> BenchmarkResult:
    """Measure a Python script: run it again and again for its wall time, CPU time and peak memory.

    Use this to see what a script costs, or with `compare_with` which of two is faster, how much and how
    certain that is: read `summary`. It runs until the median is known within 1 %, or `max_runs` or
    `max_seconds` is reached; set max_runs=1 where its effects must not be repeated. Figures are medians of
    all runs, output is that of the first. A run that fails ends it. Limits hold for each run,
    `timeout_seconds` for all. A plot comes as an image.
    """
    limits = parameters.limits(memory_limit_mb, cpu_time_limit_seconds, nice, cpus, disk_limit_mb)
    target = None if compare_with is None else ComparisonTarget.of(compare_with, python_version, dependencies)
    plan = RunPlan(warmup, min_runs, max_runs, max_seconds)
    benchmark = Benchmark(plan, positive(sample_interval, "sample_interval"), lone(target))
    result, finished = run_with_packages(
        script_content=script_content,
        script_path=script_path,
        python_version=python_version,
        dependencies=dependencies,
        args=args,
        timeout_seconds=timeout_seconds,
        env_vars=env_vars,
        env_file=env_file,
        limits=limits,
        output_chars=output_chars,
        start=benchmark.start,
    )
    if not benchmark.measured.script.runs:
        benchmark.never_started(finished.ending)
    return report(result, benchmark)


def report(ended: DependencyResult, benchmark: Benchmark) -> BenchmarkResult:
    """Return the result of the tool; in a job, with files in its folder."""
    measured = benchmark.measured
    runs = measured.script.runs
    kernel_peak = all(run.peak_bytes == run.process_peak_bytes for run in runs)
    result = BenchmarkResult(
        **ended,
        summary="",
        wall_time_seconds=_rounded(median(_walls(runs))),
        cpu_time_seconds=_rounded(median([run.cpu_s for run in runs])),
        peak_rss_mb=_mb(median([run.peak_bytes for run in runs])),
        peak_rss_source="kernel" if kernel_peak else "sampled",
        runs=len(runs),
        warmup_runs=measured.warmups,
        stopped=measured.stopped,
        wall=spread(_walls(runs)),
        cpu=spread([run.cpu_s for run in runs]),
        peak_mb=spread([run.peak_bytes / MB for run in runs]),
        outliers=[],
        kernel=_kernel(runs),
        course=_course(runs),
        noise=benchmark.noise,
    )
    _add_optional_fields(result, benchmark)
    result["summary"] = summary(result, measured)
    add_files(result, benchmark)
    return result


def _add_optional_fields(result: BenchmarkResult, benchmark: Benchmark) -> None:
    measured = benchmark.measured
    far = outliers(measured.script.walls)
    result["outliers"] = far[:_MOST_OUTLIERS]
    if benchmark.install_s:
        result["install_seconds"] = _rounded(result.get("install_seconds", 0.0) + benchmark.install_s)
    if (left_out := len(far) - _MOST_OUTLIERS) > 0:
        result["outliers_left_out"] = left_out
    peaks = [run.process_peak_bytes for run in measured.script.runs if run.process_peak_bytes]
    if peaks:
        result["process_peak_rss_mb"] = _mb(median(peaks))
    if measured.start:
        start_s = median(_walls(measured.start))
        result["startup_seconds"] = _rounded(start_s)
        result["own_seconds"] = _rounded(max(0.0, result["wall_time_seconds"] - start_s))
    if measured.other.runs or measured.other.failed is not None:
        result["comparison"] = comparison(measured, benchmark.failed_stderr)


def _kernel(runs: Sequence[Run]) -> dict[str, float]:
    told: dict[str, float] = {}
    for name, (shown, scale) in KERNEL.items():
        values = [run.figures[name] for run in runs if name in run.figures]
        if values:
            told[shown] = _rounded(median(values) * scale)
    return told


def _course(runs: Sequence[Run]) -> Course:
    steps = timeline(typical(runs), _STEPS)
    return Course(
        seconds=[_rounded(step.at_s) for step in steps],
        rss_mb=[round(step.rss_bytes / MB, 2) for step in steps],
        cpu_percent=[round(step.cpu_percent, 1) for step in steps],
    )


def _mb(size: float) -> float:
    return round(size / MB, 3)


def _rounded(value: float) -> float:
    return round(value, 6)


def summary(result: BenchmarkResult, measured: Measured) -> str:
    """Return the main figures, the comparison, and the reasons not to trust them, as sentences."""
    sentences = [_figures(result), *_ending(result, measured)]
    if "comparison" in result:
        sentences.append(f"Beside compare_with: {result['comparison']['sentence']}.")
    if result["noise"]["noisy"]:
        quickest = f"the quickest run took {seconds(result['wall']['min'])}"
        sentences.append(f"Noisy machine: {'; '.join([*result['noise']['reasons'], quickest])}.")
    return " ".join(sentences)


def _figures(result: BenchmarkResult) -> str:
    wall, runs = result["wall"], result["runs"]
    text = (
        f"{seconds(wall['median'])} over {runs} runs" if runs > 1 else f"{seconds(wall['median'])} in one run"
    )
    if "confidence" in wall:
        low, high = seconds(wall.get("median_low", 0.0)), seconds(wall.get("median_high", 0.0))
        text += f" (median; {100 * wall['confidence']:.0f} % interval {low} to {high})"
    if "startup_seconds" in result:
        text += f", {seconds(result['startup_seconds'])} of it the interpreter's own start"
    cpu = seconds(result["cpu_time_seconds"])
    return f"{text}; CPU {cpu}, peak memory {result['peak_rss_mb']:.4g} MB."


def _ending(result: BenchmarkResult, measured: Measured) -> list[str]:
    if measured.stopped == "timed_out":
        return ["The time limit of the call ended it."]
    if (failed := measured.script.failed) is not None:
        return [f"It was stopped by a run that ended with exit code {failed.ending.exit_code}."]
    if measured.stopped == "max_seconds" and result["runs"] < _FEW:
        return ["max_seconds allowed so few runs."]
    return []


def comparison(measured: Measured, target_stderr: str) -> Comparison:
    """Return what the rounds say of the script and the other one."""
    others, runs = measured.other.runs, measured.script.runs
    if (failure := measured.other.failed) is not None:
        failed = Comparison(sentence=_of_failure(failure), runs=len(others))
        if target_stderr:
            failed["stderr"] = target_stderr
        return failed
    walls = _walls(others), _walls(runs)
    ratio, interval = ratio_of_pairs(*walls), interval_of_ratio(*walls)
    result = Comparison(
        sentence=sentence(ratio, interval),
        ratio=round(ratio, 4),
        runs=len(others),
        wall=spread(walls[0]),
        cpu=spread([run.cpu_s for run in others]),
        peak_mb=spread([run.peak_bytes / MB for run in others]),
        peak_ratio=round(_peak(others) / max(1.0, _peak(runs)), 4),
    )
    if interval is not None:
        result["low"], result["high"] = round(interval.low, 4), round(interval.high, 4)
        result["confidence"] = round(interval.confidence, 3)
    _add_cpu(result, others, runs)
    return result


def sentence(ratio: float, interval: Interval | None) -> str:
    """Return which one is faster; the ratio is the other's time divided by the script's."""
    if interval is None:
        return f"{_faster(ratio)} in a single turn, which says nothing of chance"
    if interval.low <= 1 <= interval.high:
        limits = f"{_percent(interval)} interval {interval.low:.3g} to {interval.high:.3g}"
        return f"no difference was found: the other takes {ratio:.3g} times as long, {limits}"
    low, high = interval.low, interval.high
    if ratio < 1:
        low, high = 1 / high, 1 / low
    return f"{_faster(ratio)}, {_percent(interval)} interval {factor(low)} to {factor(high)}"


def _percent(interval: Interval) -> str:
    return f"{100 * interval.confidence:.0f} %"


def _faster(ratio: float) -> str:
    if ratio >= 1:
        return f"{factor(ratio)}x faster than compare_with"
    return f"{factor(1 / ratio)}x slower than compare_with"


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


def add_files(result: BenchmarkResult, benchmark: Benchmark) -> None:
    """Write the plot and every run into the job's folder, and add both to the result."""
    job = current_job()
    if job is None:  # the folder of the call is gone by now
        return
    job.keep_record()
    measured = benchmark.measured
    data = job.folder / "benchmark.json"
    everything = {
        "script": [_plain(run) for run in measured.script.runs],
        "compare_with": [_plain(run) for run in measured.other.runs],
        "startup": [_plain(run) for run in measured.start],
        "noise": benchmark.noise,
    }
    write_file(str(data), json.dumps(everything, indent=1).encode())
    result["data_path"] = str(data)
    benchmark.report_phase("drawing the plot")
    try:
        picture = draw(_names(measured), job.folder, noise=benchmark.noise)
    except ToolchainError as error:
        result["summary"] += f" There is no plot: {error}."
        return
    plot = job.folder / "benchmark.png"
    write_file(str(plot), picture)
    _show_first(result, plot)


def _names(measured: Measured) -> dict[str, Sequence[Run]]:
    named = {"script": measured.script.runs, "compare_with": measured.other.runs}
    return {name: runs for name, runs in named.items() if runs}


def _show_first(result: BenchmarkResult, plot: Path) -> None:
    """Put the plot before the pictures of the script; the last one is not sent where there are too many."""
    settings = Settings.from_environ()
    size = plot.stat().st_size
    attached = settings.max_pictures > 0 and size <= settings.max_picture_bytes
    first = ShownPicture(path=str(plot), mime_type="image/png", size_bytes=size, attached=attached)
    result["pictures"] = [first, *result.get("pictures", ())]
    sent = [each for each in result["pictures"] if each["attached"]]
    for each in sent[settings.max_pictures :]:
        each["attached"] = False


def _plain(run: Run) -> dict[str, Any]:
    return {
        "wall_seconds": run.wall_s,
        "cpu_seconds": run.cpu_s,
        "peak_rss_mb": run.peak_bytes / MB,
        "process_peak_rss_mb": run.process_peak_bytes / MB,
        **{
            shown: run.figures[name] * scale for name, (shown, scale) in KERNEL.items() if name in run.figures
        },
        "course": [
            [sample.at_s, sample.rss_bytes / MB, sample.cpu_s, sample.processes] for sample in run.samples
        ],
    }
