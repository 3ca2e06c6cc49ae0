"""The body of the tool that runs a command line, and of a `CommandJob`.

The docstring of the tool is the text that a model reads when it chooses one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from python_mcp_server.errors import InvalidInput
from python_mcp_server.job_result import ERROR_KIND, JobResult
from python_mcp_server.limits import TIME, Limits, number_words
from python_mcp_server.runner.child import Command
from python_mcp_server.runner.command import check_arguments
from python_mcp_server.runner.python.environ import child_environment, given_variables
from python_mcp_server.tools import parameters
from python_mcp_server.tools.call import script_call
from python_mcp_server.tools.results import CommandResult
from python_mcp_server.tools.scripts import existing_directory


def run_command(  # noqa: PLR0917 - the parameters of a tool
    command: parameters.CommandLine,
    directory: parameters.Directory,
    timeout_seconds: parameters.TimeoutSeconds = 300,
    env_vars: parameters.EnvVars = None,
    memory_limit_mb: parameters.MemoryLimit = None,
    cpu_time_limit_seconds: parameters.CpuTimeLimit = None,
    disk_limit_mb: parameters.DiskLimit = None,
    nice: parameters.Nice = None,
    cpus: parameters.Cpus = None,
    output_chars: parameters.OutputChars = None,
) -> CommandResult:
    """Run a command line in a directory and return its output and exit code.

    Use this for programs such as make, git or a compiler. A command that exits with an error is a normal
    result: read `exit_code` and `stderr`. stdin is empty. When it is cancelled or its time is over, it gets
    SIGTERM, and 5 s later all that it has started is killed.
    """
    limits = parameters.limits(memory_limit_mb, cpu_time_limit_seconds, nice, cpus, disk_limit_mb)
    return _run(command, directory, timeout_seconds, env_vars, limits, output_chars=output_chars)


def run_command_job(
    argv: list[str] | str,
    cwd: str,
    timeout_seconds: float = 0,
    env_vars: dict[str, str] | None = None,
    limits: dict[str, Any] | None = None,
) -> JobResult:
    """Run a program to its end. The data of the result is a `CommandResult`; it is a success where the exit
    code is 0.

    Args:
        argv: The program and its arguments, without a shell; or a text for the shell.
        cwd: The working directory; it must exist.
        timeout_seconds: The time limit of the program and everything it starts; 0 for none.
        env_vars: Environment variables on top of the present ones. They are not stored.
        limits: Other limits, by the names of the fields of `Limits`.

    Raises:
        InvalidInput: `argv` is empty, or the directory does not exist.
        ToolchainError: The program cannot be started.
    """
    result = _run(argv, cwd, timeout_seconds, env_vars, Limits.given(**(limits or {})))
    return _as_job_result(result, timeout_seconds)


def checked_command(command: Any, cwd: Any, env_vars: Any) -> tuple[str | list[str], str, dict[str, str]]:
    """Return a program, its working directory and its variables, as `run_command_job` takes them.

    Raises:
        InvalidInput: One of them cannot be that; the text names it.
    """
    if not isinstance(command, str):
        if not isinstance(command, Sequence) or isinstance(command, (bytes, bytearray, memoryview)):
            raise InvalidInput(
                f"command is {command!r:.160}; it must be a text for the shell, or a list of a program and "
                "its arguments"
            )
        command = list(cast("Sequence[Any]", command))
    if not isinstance(cwd, (str, os.PathLike)):
        raise InvalidInput(f"cwd is {cwd!r:.160}; it must be the path of a directory")
    if env_vars is not None and not isinstance(env_vars, Mapping):
        raise InvalidInput(f"env is of type {type(env_vars).__name__}; it must be values by name")
    words = _command_line(command)
    given = given_variables(cast("Mapping[str, str] | None", env_vars), None, Path())
    for word in (*words, os.fspath(cast("os.PathLike[str]", cwd)), *given.keys(), *given.values()):
        _check_encoding(word)
    return command, os.path.abspath(cast("str", cwd)), given


def _check_encoding(word: str) -> None:
    try:
        os.fsencode(word)
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"the command has the character {word[error.start]!r}, which no program can be given"
        ) from None


def _run(
    argv: list[str] | str,
    cwd: str,
    timeout_seconds: float,
    env_vars: dict[str, str] | None,
    limits: Limits | None,
    *,
    output_chars: int | None = None,
) -> CommandResult:
    command = _command_line(argv)
    folder = existing_directory(cwd)
    given = partial(given_variables, env_vars, None, folder)
    with script_call(timeout_seconds, given, limits, output_chars) as call:
        env = child_environment(call.session.given, call.session.job_id, own=False, limits=limits)
        shell = isinstance(argv, str)
        return call.run_command(Command(command, folder, env, shell_text=shell, terminate=True))


def _command_line(argv: list[str] | str) -> tuple[str, ...]:
    if not argv or (isinstance(argv, str) and not argv.strip()):
        raise InvalidInput("the command is empty; give a program and its arguments, or a text for the shell")
    if not isinstance(argv, str):
        check_arguments(argv)
        return tuple(argv)
    check_arguments([argv])
    if sys.platform == "win32":
        return (os.environ.get("COMSPEC", "cmd.exe"), "/d", "/s", "/c", argv)
    return ("/bin/sh", "-c", argv)


def _as_job_result(result: CommandResult, timeout_seconds: float) -> JobResult:
    data, code = dict(result), result["exit_code"]
    if result.get("timed_out"):
        error = f"the command was ended at its time limit of {number_words(timeout_seconds)} s"
        return JobResult(success=False, data=data, error=error, metadata={ERROR_KIND: TIME})
    if code == 0:
        return JobResult(success=True, data=data)
    how = f"exited with code {code}" if code > 0 else f"was ended by {result.get('ended_by_signal')}"
    return JobResult(success=False, data=data, error=f"the command {how}")
