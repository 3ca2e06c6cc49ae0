"""The body of `py_benchmark_script`. A model reads its docstring when it chooses a tool."""

from __future__ import annotations

from python_mcp_server.limits import Limits
from python_mcp_server.settings import positive
from python_mcp_server.tools.benchmark_measure import Benchmark, Rival
from python_mcp_server.tools.benchmark_report import report
from python_mcp_server.tools.benchmark_results import BenchmarkResult
from python_mcp_server.tools.benchmark_turns import Plan
from python_mcp_server.tools.scripts import run_with_packages


def benchmark_script(  # noqa: PLR0917 - the parameters of a tool
    script_content: str | None = None,
    script_path: str | None = None,
    python_version: str | None = None,
    dependencies: list[str] | None = None,
    args: list[str] | None = None,
    timeout_seconds: float = 300,
    env_vars: dict[str, str] | None = None,
    env_file: str | None = None,
    sample_interval: float = 0.05,
    warmup: int | None = None,
    min_runs: int = 10,
    max_runs: int = 100,
    max_seconds: float = 10,
    compare_with: str | None = None,
    memory_limit_mb: float | None = None,
    cpu_time_limit_seconds: float | None = None,
    nice: int | None = None,
    cpus: int | list[int] | None = None,
    output_chars: int | None = None,
) -> BenchmarkResult:
    """Run a Python script again and again, and measure its wall time, CPU time and peak memory.

    Use this to see what a script costs, or with `compare_with` which of two is faster, how much and
    how certain that is: read `summary`. It runs until the median is known within 1 %, or `max_runs`
    or `max_seconds` is reached. Times are the kernel's, of the script's own processes without
    installing; figures are medians of all runs, output is that of the first. So the script must bear
    being run often: for one whose effects must not be repeated, set max_runs=1. A run that fails
    ends it. For code that only has to run, use py_run_script_in_dir or
    py_run_script_with_dependencies. Give exactly one of `script_content` and `script_path`.

    Args:
        script_content: Python code. It runs in an empty directory of its own; where it leaves files
            there, the result's `working_directory` says where they are.
        script_path: A script file, absolute. It runs in its own directory.
        python_version: Such as "3.12". Unset: what the script's header asks for, else the server's
            own version.
        dependencies: Packages, each such as "numpy" or "pandas>=2"; they are added to those of the
            script's PEP 723 header.
        args: Command line arguments of the script.
        timeout_seconds: After this long the script and everything it started are killed; what was
            measured so far is returned. Covers installing and all runs. 0 means no limit.
        env_vars: Environment variables of the script, on top of all others. They are not stored.
        env_file: A file of variables (`NAME=value` lines), absolute or relative to the script.
        sample_interval: Seconds between two looks at its memory.
        warmup: Runs before those that count. Unset: one, which counts where it takes long.
        min_runs: So many runs before it is looked whether they are enough.
        max_runs: No more than these; 1 for a single run without a warm-up.
        max_seconds: After this time no other run begins. A run is never cut off by it.
        compare_with: Another script: the path of a file, or Python code. Both run in turns, with the
            same arguments, variables and `dependencies`.
        memory_limit_mb: Memory of one run with all it starts, in MB. Beyond it they are killed, and
            the call fails with the peak and the last of the output. Unset: no limit.
        cpu_time_limit_seconds: The same for the CPU time of one run.
        nice: Priority from 0 (the server's own, mostly) to 19 (only when the machine is idle).
        cpus: Cores that it may use: how many, or a list of their numbers. Numerical libraries start
            that many threads.
        output_chars: How much of stdout, and of stderr, the result shows, head and tail together. Unset:
            the server's setting, 20000. All of it can be read with py_job_output.
    """
    limits = Limits.given(
        memory_limit_mb=memory_limit_mb, cpu_time_limit_seconds=cpu_time_limit_seconds, nice=nice, cpus=cpus
    )
    rival = None if compare_with is None else Rival.of(compare_with, python_version, dependencies)
    plan = Plan(warmup, min_runs, max_runs, max_seconds)
    benchmark = Benchmark(plan, positive(sample_interval, "sample_interval"), rival)
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
