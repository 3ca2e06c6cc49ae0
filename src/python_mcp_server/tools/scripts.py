"""The bodies of `py_run_script_in_dir`, `py_run_script_with_dependencies` and a `CommandJob`.

The docstrings of the first two are the texts that a model reads when it chooses a tool.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from python_mcp_server.errors import InvalidInput
from python_mcp_server.limits import Limits
from python_mcp_server.runner.child import Command
from python_mcp_server.runner.command import Interpreter, interpreter_in_directory, interpreter_with
from python_mcp_server.runner.python.environ import child_environment, given_variables
from python_mcp_server.runner.python.interpreter import own_version
from python_mcp_server.runner.python.pep723 import Header, merge, parse_header
from python_mcp_server.runner.python.uv import Uv
from python_mcp_server.runner.textfile import MOST_SCRIPT_BYTES, read_bytes
from python_mcp_server.tools import parameters
from python_mcp_server.tools.call import Finished, ScriptCall, Start, script_call, script_of
from python_mcp_server.tools.hints import BY_PARAMETER, BY_TOOL, IN_PROJECT, IN_SCRIPT
from python_mcp_server.tools.results import CommandResult, DependencyResult, ScriptResult


def one_of(script_path: str | None, script_content: str | None) -> None:
    """Raise `InvalidInput` unless exactly one of path and content is given."""
    if (script_path is None) == (script_content is None):
        given = (
            "neither was given" if script_path is None else f"both were given (script_path {script_path!r})"
        )
        raise InvalidInput(f"exactly one of script_path and script_content is needed; {given}")


def existing_script(script_path: str, base: Path) -> Path:
    """Return the file of a script; a relative path starts at `base`."""
    path = base / os.path.expanduser(script_path)
    if not os.path.isfile(path):  # unlike a Path, this returns False for a name that is too long
        raise InvalidInput(f"script_path {script_path!r} is no file (looked at {path})")
    return path


def existing_directory(directory: str) -> Path:
    """Return a directory as an absolute path."""
    if not directory:
        raise InvalidInput("directory is ''; give the path of one that exists, such as '.'")
    path = Path(os.path.expanduser(directory)).absolute()
    if not os.path.isdir(path):
        raise InvalidInput(f"directory {directory!r} is no directory; give the path of one that exists")
    return path


def header_of(script: Path | None, content: str | None, dependencies: Sequence[str] = ()) -> Header | None:
    """Return the header of a script, with more packages; None where it has none and no packages are added."""
    if script is None:
        source = content or ""
    else:
        data = read_bytes(script, f"script {str(script)!r}", MOST_SCRIPT_BYTES)
        source = data.decode("utf-8", errors="replace")
    header = parse_header(source.removeprefix("\ufeff"))
    if not dependencies:
        return header
    header = header or Header()
    return replace(header, dependencies=merge(header.dependencies, dependencies))


def run_script_in_dir(  # noqa: PLR0917 - the parameters of a tool
    directory: parameters.Directory,
    script_path: parameters.ScriptPath = None,
    script_content: parameters.ScriptContent = None,
    args: parameters.Args = None,
    use_uv: parameters.UseUv = True,
    python_version: parameters.PythonVersion = None,
    timeout_seconds: parameters.TimeoutSeconds = 300,
    env_vars: parameters.EnvVars = None,
    env_file: parameters.EnvFile = None,
    memory_limit_mb: parameters.MemoryLimit = None,
    cpu_time_limit_seconds: parameters.CpuTimeLimit = None,
    nice: parameters.Nice = None,
    cpus: parameters.Cpus = None,
    output_chars: parameters.OutputChars = None,
) -> ScriptResult:
    """Run a Python script in a directory and return its output and exit code.

    Use this for code that belongs to a directory: a script of a project, or a few lines that read or
    write its files or import its modules. The directory's own environment is used (`pyproject.toml`
    project, `.venv`, `requirements.txt`); a PEP 723 header brings packages here too. For stand-alone code
    that needs packages use py_run_script_with_dependencies. A script that exits with an error is a normal
    result: read `exit_code` and `stderr`. stdin is empty. Figures shown with matplotlib (no screen is
    needed) and images saved in the directory come back as images; `pictures` has their paths.
    """
    return _run_in_directory(
        directory,
        script_path,
        script_content,
        args,
        use_uv=use_uv,
        python_version=python_version,
        timeout_seconds=timeout_seconds,
        env_vars=env_vars,
        env_file=env_file,
        limits=parameters.limits(memory_limit_mb, cpu_time_limit_seconds, nice, cpus),
        output_chars=output_chars,
    )


def _run_in_directory(
    directory: str,
    script_path: str | None,
    script_content: str | None,
    args: list[str] | None,
    *,
    use_uv: bool,
    python_version: str | None,
    timeout_seconds: float,
    env_vars: dict[str, str] | None,
    env_file: str | None,
    limits: Limits | None = None,
    output_chars: int | None = None,
    merged: bool = False,
) -> ScriptResult:
    folder = existing_directory(directory)
    one_of(script_path, script_content)
    script = None if script_path is None else existing_script(script_path, folder)
    header = header_of(script, script_content) if use_uv else None
    given = given_variables(env_vars, env_file, folder)

    def choose(uv: Uv) -> Interpreter:
        return interpreter_in_directory(uv, folder, header, use_uv=use_uv, python_version=python_version)

    with script_call(timeout_seconds, given, limits, output_chars, with_pictures=True, merged=merged) as call:
        return call.run(
            script_of(call, script, script_content, folder),
            folder,
            args,
            choose,
            packages=lambda used: _way_to_packages(used, header, use_uv=use_uv),
        ).result


def run_script_with_dependencies(  # noqa: PLR0917 - as above
    script_content: parameters.LoneContent = None,
    script_path: parameters.LonePath = None,
    python_version: parameters.PythonVersion = None,
    dependencies: parameters.Dependencies = None,
    args: parameters.Args = None,
    timeout_seconds: parameters.TimeoutSeconds = 300,
    env_vars: parameters.EnvVars = None,
    env_file: parameters.LoneEnvFile = None,
    memory_limit_mb: parameters.MemoryLimit = None,
    cpu_time_limit_seconds: parameters.CpuTimeLimit = None,
    nice: parameters.Nice = None,
    cpus: parameters.Cpus = None,
    output_chars: parameters.OutputChars = None,
) -> DependencyResult:
    """Run a Python script with packages from the package index, in an environment of its own.

    Use this for stand-alone code that needs packages: they are installed once, and the next run with the
    same packages starts at once. For code that belongs to a directory or project use
    py_run_script_in_dir. A script that exits with an error is a normal result: read `exit_code` and
    `stderr`. stdin is empty. Figures shown with matplotlib (no screen is needed) and saved images come back
    as images; `pictures` has their paths.
    """
    limits = parameters.limits(memory_limit_mb, cpu_time_limit_seconds, nice, cpus)
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
    merged: bool = False,
) -> tuple[DependencyResult, Finished]:
    """Run a script in an environment of its own; return the result, and how the call ended."""
    one_of(script_path, script_content)
    script = None if script_path is None else existing_script(script_path, Path.cwd())
    header = header_of(script, script_content, dependencies or ()) or Header()
    given = given_variables(env_vars, env_file, Path.cwd() if script is None else script.parent)
    with script_call(timeout_seconds, given, limits, output_chars, with_pictures=True, merged=merged) as call:
        cwd = _working_directory(call) if script is None else script.parent
        finished = call.run(
            script_of(call, script, script_content, cwd),
            cwd,
            args,
            lambda uv: interpreter_with(uv, header, python_version),
            start,
            packages=lambda _used: BY_PARAMETER,
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


def run_merged(
    script_path: str,
    args: list[str],
    *,
    python_version: str | None,
    timeout_seconds: float,
    env_vars: dict[str, str] | None,
    env_file: str | None,
    directory: str | None = None,
    use_uv: bool = True,
    dependencies: list[str] | None = None,
) -> ScriptResult:
    """Run a script in a directory, or with packages where there is none, as the tools do. Its stderr is a
    part of its stdout, in the order in which both were written.
    """
    given: dict[str, Any] = {
        "python_version": python_version,
        "timeout_seconds": timeout_seconds,
        "env_vars": env_vars,
        "env_file": env_file,
        "merged": True,
    }
    if directory is not None:
        return _run_in_directory(directory, script_path, None, args, use_uv=use_uv, **given)
    return run_with_packages(
        script_content=None, script_path=script_path, dependencies=dependencies, args=args, **given
    )[0]


def run_command(
    argv: list[str],
    cwd: str,
    timeout_seconds: float = 0,
    env_vars: dict[str, str] | None = None,
    limits: dict[str, Any] | None = None,
) -> CommandResult:
    """Run a program to its end and return its output and exit code.

    Args:
        argv: The program and its arguments, without a shell.
        cwd: The working directory; it must exist.
        timeout_seconds: The time limit of the program and everything it starts; 0 for none.
        env_vars: Environment variables on top of the present ones. They are not stored.
        limits: Other limits, by the names of the fields of `Limits`.

    Raises:
        InvalidInput: `argv` is empty, or the directory does not exist.
        ToolchainError: The program cannot be started.
    """
    if not argv:
        raise InvalidInput("argv is empty; give a program and its arguments")
    folder = existing_directory(cwd)
    given = given_variables(env_vars, None, folder)
    bounds = Limits.given(**(limits or {}))
    with script_call(timeout_seconds, given, bounds) as call:
        env = child_environment(given, call.session.job_id, own=False, limits=bounds)
        return call.run_command(Command(tuple(argv), folder, env))


def _way_to_packages(used: Interpreter, header: Header | None, *, use_uv: bool) -> str:
    if not use_uv:
        return BY_TOOL
    return IN_SCRIPT if header is not None or used.venv is None else IN_PROJECT


def _working_directory(call: ScriptCall) -> Path:
    path = call.session.folder / "work"
    path.mkdir(mode=0o700, exist_ok=True)
    return path
