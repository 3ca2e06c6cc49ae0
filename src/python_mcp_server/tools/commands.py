"""The body of a `CommandJob`: any program as a job, without an interpreter of ours."""

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
        argv: The program and its arguments; no shell is involved.
        cwd: Its working directory; it must exist.
        timeout_seconds: After this long it and everything it started are killed. 0 means no limit.
        env_vars: Environment variables on top of the present ones. They are not stored.
        limits: The fields of `Limits` by name: what it may use besides.

    Raises:
        InvalidInput: There is no program, or no such directory.
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
