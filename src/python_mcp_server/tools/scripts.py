"""The bodies of `py_run_script_in_dir` and `py_run_script_with_dependencies`. Their docstrings are
what a model reads when it chooses a tool."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from python_mcp_server.limits import Limits
from python_mcp_server.runner.command import Interpreter, interpreter_in_directory, interpreter_with
from python_mcp_server.runner.environ import given_variables
from python_mcp_server.runner.metadata import Header, merge, parse_header
from python_mcp_server.runner.pythons import own_version
from python_mcp_server.runner.uv import Uv
from python_mcp_server.tools.results import DependencyResult, ScriptResult
from python_mcp_server.tools.running import Finished, ScriptCall, Start, place, script_call
from python_mcp_server.tools.sources import existing_directory, existing_script, one_of, source_of


def run_script_in_dir(  # noqa: PLR0917 - the parameters of a tool
    directory: str,
    script_path: str | None = None,
    script_content: str | None = None,
    args: list[str] | None = None,
    use_uv: bool = True,
    python_version: str | None = None,
    timeout_seconds: float = 300,
    env_vars: dict[str, str] | None = None,
    env_file: str | None = None,
    memory_limit_mb: float | None = None,
    cpu_time_limit_seconds: float | None = None,
    nice: int | None = None,
    cpus: int | list[int] | None = None,
    output_chars: int | None = None,
) -> ScriptResult:
    """Run a Python script in a directory and return its output and exit code.

    Use this for code that belongs to a directory: a script of a project, or a few lines that read
    or write its files or import its modules. The directory is the working directory, and its own
    environment is used: a `pyproject.toml` project, a `.venv`, a `requirements.txt`, or the script's
    PEP 723 header. Use py_run_script_with_dependencies for stand-alone code that needs packages,
    py_run_saved_script for one saved before, py_benchmark_script to measure. Give exactly one of
    `script_path` and `script_content`. A script that exits with an error is a normal result: read
    `exit_code` and `stderr`. The script reads an empty stdin. Figures that it shows with matplotlib
    (no screen is needed) and images that it saves in the directory come back as images.

    Args:
        directory: The working directory; it must exist.
        script_path: A script file, absolute or relative to `directory`.
        script_content: Python code to run as if it were a script in `directory`, without a file
            being left there. Neighbouring modules can be imported; refer to files by paths relative
            to the directory, not by `__file__`.
        args: Command line arguments of the script.
        use_uv: Whether the directory's and the script's own environment is used, prepared by uv
            where needed. With false an installed interpreter runs the script as it is.
        python_version: Such as "3.12". Unset: what `requires-python` asks for, else the server's
            own version.
        timeout_seconds: After this long the script and everything it started are killed; the output
            so far is kept, and stderr ends with `[TIMEOUT]`. Covers installing too. 0 means no
            limit.
        env_vars: Environment variables of the script, on top of all others. They are not stored.
        env_file: A file of variables (`NAME=value` lines), absolute or relative to `directory`.
        memory_limit_mb: Memory of the script and all it starts together, in MB. Beyond it they are
            killed, and the call fails with the peak and the last of the output. Unset: no limit.
        cpu_time_limit_seconds: The same for the CPU time of all of them together.
        nice: Priority from 0 (the server's own, mostly) to 19 (only when the machine is idle).
        cpus: Cores that it may use: how many, or a list of their numbers. Numerical libraries start
            that many threads.
        output_chars: How much of stdout, and of stderr, the result shows, head and tail together. Unset:
            the server's setting, 20000. All of it can be read with py_job_output.
    """
    limits = Limits.given(
        memory_limit_mb=memory_limit_mb, cpu_time_limit_seconds=cpu_time_limit_seconds, nice=nice, cpus=cpus
    )
    folder = existing_directory(directory)
    one_of(script_path, script_content)
    script = None if script_path is None else existing_script(script_path, folder)
    header = parse_header(source_of(script, script_content)) if use_uv else None
    given = given_variables(env_vars, env_file, folder)

    def choose(uv: Uv) -> Interpreter:
        return interpreter_in_directory(uv, folder, header, use_uv=use_uv, python_version=python_version)

    with script_call(timeout_seconds, given, limits, output_chars, with_pictures=True) as call:
        return call.run(place(call, script, script_content, folder), folder, args, choose).result


def run_script_with_dependencies(  # noqa: PLR0917 - as above
    script_content: str | None = None,
    script_path: str | None = None,
    python_version: str | None = None,
    dependencies: list[str] | None = None,
    args: list[str] | None = None,
    timeout_seconds: float = 300,
    env_vars: dict[str, str] | None = None,
    env_file: str | None = None,
    memory_limit_mb: float | None = None,
    cpu_time_limit_seconds: float | None = None,
    nice: int | None = None,
    cpus: int | list[int] | None = None,
    output_chars: int | None = None,
) -> DependencyResult:
    """Run a Python script with packages from the package index, in an environment of its own.

    Use this for stand-alone code that needs packages: they are installed once into a cached
    environment that holds nothing else, so that the next run with the same packages starts at once.
    Use py_run_script_in_dir for code that belongs to a directory or project. Give exactly one of
    `script_content` and `script_path`. A script that exits with an error is a normal result: read
    `exit_code` and `stderr`. Figures that it shows with matplotlib (no screen is needed) and images
    that it saves come back as images.

    Args:
        script_content: Python code. It runs in an empty directory of its own; where it leaves files
            there, the result's `working_directory` says where they are.
        script_path: A script file, absolute. It runs in its own directory.
        python_version: Such as "3.12". Unset: what the script's header asks for, else the server's
            own version.
        dependencies: Packages, each such as "numpy", "pandas>=2" or "name @ URL"; they are added to
            those of the script's PEP 723 header.
        args: Command line arguments of the script.
        timeout_seconds: After this long the script and everything it started are killed; the output
            so far is kept, and stderr ends with `[TIMEOUT]`. Covers installing too. 0 means no
            limit.
        env_vars: Environment variables of the script, on top of all others. They are not stored.
        env_file: A file of variables (`NAME=value` lines), absolute or relative to the script.
        memory_limit_mb: Memory of the script and all it starts together, in MB. Beyond it they are
            killed, and the call fails with the peak and the last of the output. Unset: no limit.
        cpu_time_limit_seconds: The same for the CPU time of all of them together.
        nice: Priority from 0 (the server's own, mostly) to 19 (only when the machine is idle).
        cpus: Cores that it may use: how many, or a list of their numbers. Numerical libraries start
            that many threads.
        output_chars: How much of stdout, and of stderr, the result shows, head and tail together. Unset:
            the server's setting, 20000. All of it can be read with py_job_output.
    """
    limits = Limits.given(
        memory_limit_mb=memory_limit_mb, cpu_time_limit_seconds=cpu_time_limit_seconds, nice=nice, cpus=cpus
    )
    return run_with_packages(
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
    )[0]


def run_with_packages(
    *,
    script_content: str | None,
    script_path: str | None,
    python_version: str | None,
    dependencies: list[str] | None,
    args: list[str] | None,
    timeout_seconds: float,
    env_vars: dict[str, str] | None,
    env_file: str | None,
    limits: Limits | None = None,
    output_chars: int | None = None,
    start: Start | None = None,
) -> tuple[DependencyResult, Finished]:
    """Run a script in an environment of its own; return the result and what it was made of."""
    one_of(script_path, script_content)
    script = None if script_path is None else existing_script(script_path, Path.cwd())
    header = parse_header(source_of(script, script_content)) or Header()
    header = replace(header, dependencies=merge(header.dependencies, dependencies or ()))
    given = given_variables(env_vars, env_file, Path.cwd() if script is None else script.parent)
    with script_call(timeout_seconds, given, limits, output_chars, with_pictures=True) as call:
        cwd = _working_directory(call) if script is None else script.parent
        finished = call.run(
            place(call, script, script_content, cwd),
            cwd,
            args,
            lambda uv: interpreter_with(uv, header, python_version),
            start,
        )
        result = DependencyResult(
            **finished.result,
            resolved_dependencies=list(finished.interpreter.resolved),
            python_version_used=finished.interpreter.version or python_version or own_version(),
        )
        if script is None and call.job is not None and any(cwd.iterdir()):
            call.job.keep_record()
            result["working_directory"] = str(cwd)
        return result, finished


def _working_directory(call: ScriptCall) -> Path:
    path = call.session.folder / "work"
    path.mkdir(mode=0o700, exist_ok=True)
    return path
