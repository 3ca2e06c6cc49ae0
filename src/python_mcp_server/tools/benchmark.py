"""The body of `py_benchmark_script`: one run of a script, with what it used."""

from __future__ import annotations

from typing import Literal, cast

from python_mcp_server.model import MB
from python_mcp_server.runner.peak import PeakSampler
from python_mcp_server.settings import positive
from python_mcp_server.tools.results import BenchmarkResult
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
) -> BenchmarkResult:
    """Run a Python script once and measure its wall time, CPU time and peak memory.

    Use this to see what a script costs: the time is that of the script's own process from start to
    end, without installing, and CPU and memory include the processes that it starts. For code that
    only has to run, use py_run_script_in_dir or py_run_script_with_dependencies. Give exactly one
    of `script_content` and `script_path`.

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
            measured so far is returned. Covers installing too. 0 means no limit.
        env_vars: Environment variables of the script, on top of all others. They are not stored.
        env_file: A file of variables (`NAME=value` lines), absolute or relative to the script.
        sample_interval: Seconds between two looks at its memory.
    """
    sampler = PeakSampler(positive(sample_interval, "sample_interval"))
    result, finished = run_with_packages(
        script_content=script_content,
        script_path=script_path,
        python_version=python_version,
        dependencies=dependencies,
        args=args,
        timeout_seconds=timeout_seconds,
        env_vars=env_vars,
        env_file=env_file,
        watch=sampler.watch,
    )
    peak_bytes, source = sampler.peak(finished.ending)
    return BenchmarkResult(
        **result,
        wall_time_seconds=result["elapsed_seconds"],
        cpu_time_seconds=round(finished.ending.cpu_s, 6),
        peak_rss_mb=round(peak_bytes / MB, 3),
        peak_rss_source=cast("Literal['sampled', 'kernel']", source),
    )
