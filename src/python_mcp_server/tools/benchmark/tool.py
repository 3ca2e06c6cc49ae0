"""The body of `py_benchmark_script`. A model reads its docstring when it chooses a tool."""

from __future__ import annotations

from typing import Annotated

from python_mcp_server.settings import positive
from python_mcp_server.tools import parameters
from python_mcp_server.tools.benchmark.plan import Benchmark, ComparisonTarget, RunPlan
from python_mcp_server.tools.benchmark.report import report
from python_mcp_server.tools.results import BenchmarkResult
from python_mcp_server.tools.scripts import run_with_packages


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
    limits = parameters.limits(memory_limit_mb, cpu_time_limit_seconds, nice, cpus)
    target = None if compare_with is None else ComparisonTarget.of(compare_with, python_version, dependencies)
    plan = RunPlan(warmup, min_runs, max_runs, max_seconds)
    benchmark = Benchmark(plan, positive(sample_interval, "sample_interval"), target)
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
    if not benchmark.measured.script:
        benchmark.never_started(finished.ending)
    return report(result, benchmark)
