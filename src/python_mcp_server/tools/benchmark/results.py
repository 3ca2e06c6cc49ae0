"""The shapes of what `py_benchmark_script` returns; see `results` for why their annotations are evaluated."""

import sys
from typing import Literal, NotRequired

from python_mcp_server.tools.results import DependencyResult

if sys.version_info >= (3, 12):
    from typing import TypedDict
else:
    from typing_extensions import TypedDict


class SpreadOfRuns(TypedDict):
    """How one figure is spread over the runs.

    Attributes:
        min, q1, median, q3, max: The least, the quartiles with the median, the most.
        mean: The arithmetic mean.
        stddev: The standard deviation of a sample; 0 for one run.
        median_low: Where the median lies at least, by the ranks of the runs; not for one run.
        median_high: Where it lies at most.
        confidence: Of these two: 0.95, or less where there are fewer than 6 runs.
    """

    min: float
    q1: float
    median: float
    q3: float
    max: float
    mean: float
    stddev: float
    median_low: NotRequired[float]
    median_high: NotRequired[float]
    confidence: NotRequired[float]


class OutlyingRun(TypedDict):
    """A run whose wall time is outside Tukey's fences.

    Attributes:
        run: Its number, from 1.
        seconds: Its wall time.
        kind: "slow" or "fast".
        far: Whether it is more than 3 quartile distances away, not only 1.5.
    """

    run: int
    seconds: float
    kind: Literal["slow", "fast"]
    far: bool


class Course(TypedDict):
    """One run over time: the one whose wall time is nearest to the median. The lists are equally long.

    Attributes:
        seconds: Since its start.
        rss_mb: Memory of all processes.
        cpu_percent: Of one core, since the moment before.
    """

    seconds: list[float]
    rss_mb: list[float]
    cpu_percent: list[float]


class Noise(TypedDict):
    """What disturbed the runs.

    Attributes:
        noisy: Whether anything did so much that the figures should not be trusted.
        reasons: What, in sentences.
        other_cpu_percent: CPU time of other processes while it was measured, as a share of all cores.
        load_average: Of the last minute before, where the system tells.
        cores: How many there are.
    """

    noisy: bool
    reasons: list[str]
    other_cpu_percent: float
    load_average: NotRequired[float]
    cores: int


class Comparison(TypedDict):
    """The script beside another. A ratio is the other's figure divided by the script's.

    Attributes:
        sentence: Which one is faster, how much, and how certain that is.
        ratio: Of the wall times; over 1 where the script is faster.
        low, high: Where this ratio lies, with `confidence`.
        cpu_ratio, cpu_low, cpu_high: The same of the CPU times.
        peak_ratio: Of the medians of the peaks of memory.
        runs: How many turns both have run in.
        wall, cpu, peak_mb: The other script's own figures.
        stderr: The last it wrote, where it failed.
    """

    sentence: str
    ratio: NotRequired[float]
    low: NotRequired[float]
    high: NotRequired[float]
    confidence: NotRequired[float]
    cpu_ratio: NotRequired[float]
    cpu_low: NotRequired[float]
    cpu_high: NotRequired[float]
    peak_ratio: NotRequired[float]
    runs: int
    wall: NotRequired[SpreadOfRuns]
    cpu: NotRequired[SpreadOfRuns]
    peak_mb: NotRequired[SpreadOfRuns]
    stderr: NotRequired[str]


class BenchmarkResult(DependencyResult):
    """How a script ended, and what it used. Output is that of the first run; figures are medians.

    Attributes:
        summary: What was found, in a sentence or two.
        wall_time_seconds: From its start to its end, as `elapsed_seconds`.
        cpu_time_seconds: User and system time of the script and of everything it started and
            waited for, from the kernel's accounting.
        peak_rss_mb: The largest memory of all its processes together, in MB of 10^6 bytes.
        peak_rss_source: "kernel" where that is the kernel's peak of a single process, so exact;
            "sampled" where several processes held more together.
        process_peak_rss_mb: The kernel's peak of its largest process alone.
        startup_seconds: How long the interpreter takes to do nothing, measured in turns with it.
        own_seconds: The wall time without that.
        runs: How many runs the figures stand on.
        warmup_runs: How many went before.
        stopped: Why there were no more: "certain" (the interval is within 1 % of its middle),
            "max_runs", "max_seconds", "failed" or "timed_out".
        wall, cpu, peak_mb: The same figures over the runs.
        outliers: The first runs that are far from the others.
        outliers_left_out: How many more there are.
        kernel: What else it counts, medians of the runs: user and system time, page faults, context
            switches, bytes (`io_` through system calls, `disk_` to and from the disk).
        course: Memory and CPU over time.
        noise: What disturbed the runs.
        comparison: The script beside `compare_with`.
        pictures: A plot of memory, CPU and the runs; then what the script saved.
        data_path: A file with every run, as JSON.
    """

    summary: str
    wall_time_seconds: float
    cpu_time_seconds: float
    peak_rss_mb: float
    peak_rss_source: Literal["sampled", "kernel"]
    process_peak_rss_mb: NotRequired[float]
    startup_seconds: NotRequired[float]
    own_seconds: NotRequired[float]
    runs: int
    warmup_runs: int
    stopped: Literal["certain", "max_runs", "max_seconds", "failed", "timed_out"]
    wall: SpreadOfRuns
    cpu: SpreadOfRuns
    peak_mb: SpreadOfRuns
    outliers: list[OutlyingRun]
    outliers_left_out: NotRequired[int]
    kernel: dict[str, float]
    course: Course
    noise: Noise
    comparison: NotRequired[Comparison]
    data_path: NotRequired[str]
