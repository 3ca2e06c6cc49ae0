"""The body of a `CommandJob`, which runs any program as a job."""

from __future__ import annotations

from typing import Any

from python_mcp_server.errors import InvalidInput
from python_mcp_server.limits import Limits
from python_mcp_server.runner.child import Command
from python_mcp_server.runner.python.environ import child_environment, given_variables
from python_mcp_server.tools.call import script_call
from python_mcp_server.tools.results import CommandResult
from python_mcp_server.tools.scripts import existing_directory


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
