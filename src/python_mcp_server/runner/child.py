"""The child process of a call: output to files, its time limit, the end of its tree, its exact usage.

Runs in the main thread of a worker. Whatever exception passes through, such as a cancel, the child's tree
goes first.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from python_mcp_server import processes
from python_mcp_server.errors import InvalidInput, ToolchainError
from python_mcp_server.limits import Breach, Limits
from python_mcp_server.model import ProcessIdentity
from python_mcp_server.runner import leftovers
from python_mcp_server.runner.guard import Guard
from python_mcp_server.runner.limits import check_here, confine_child, met_by_kernel
from python_mcp_server.runner.output import open_stream
from python_mcp_server.runner.waiting import Reaped, await_end, reap

TERM_GRACE_S: Final = 0.5
"""How long a child of a cancelled call may react to SIGTERM; guessed, a quarter of a body's grace."""

Watch = Callable[[int], AbstractContextManager[object]]


@dataclass(frozen=True, slots=True)
class Command:
    """What to start. Its variables hold secrets, so they do not show in its text."""

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a child ended.

    Attributes:
        exit_code: Negative for the number of the signal that ended it.
        elapsed_s: From before its start until it was reaped, by the monotonic clock.
        cpu_s: User and system time of the child and of everything below it that was waited for.
        max_rss_bytes: The kernel's peak of the largest process. It is too high where this process
            is larger than the child: the peak from before `exec` is counted too. 0 where unknown.
        timed_out: Whether the time limit ended it.
        breach: The limit of memory or CPU time that ended it, if one did.
        orphans_cpu_s: The part of `cpu_s` of those that nobody of the tree waited for.
    """

    exit_code: int
    elapsed_s: float
    cpu_s: float = 0.0
    max_rss_bytes: int = 0
    timed_out: bool = False
    breach: Breach | None = None
    orphans_cpu_s: float = 0.0


def run_child(
    command: Command,
    *,
    stdout: Path,
    stderr: Path,
    job_id: str,
    deadline: float | None = None,
    watch: Watch | None = None,
    limits: Limits | None = None,
) -> Ending:
    """Run a command to its end and return how it ended; nothing of its tree is left then.

    Args:
        command: What to run.
        stdout: File that its output is appended to.
        stderr: The same for its errors.
        job_id: What its tree carries in its environment.
        deadline: When it is killed, on the monotonic clock; None for never.
        watch: Called with the child's pid; the context that it returns is open while the child runs.
        limits: What its tree may use; its time limit is the deadline.

    Raises:
        InvalidInput: The command cannot be started with these arguments or limits.
        ToolchainError: The interpreter cannot be started at all.
    """
    check_here(limits)
    started = time.monotonic()
    before = leftovers.own_children()
    process = _spawn(command, stdout, stderr, job_id)
    child = processes.identify(process.pid) or process.pid
    try:
        guard = _guard(process.pid, limits, before)
        with nullcontext() if watch is None else watch(process.pid):
            orphans = leftovers.Orphans()
            ended = await_end(process, deadline, guard, orphans)
        reaped = ended if isinstance(ended, Reaped) else _killed(process, job_id)
        orphans_cpu_s = orphans.cpu_s + leftovers.end_leftovers(child, job_id, before)
    except BaseException:
        _end_tree(process, child, job_id, before)
        raise
    elapsed_s = time.monotonic() - started
    cpu_s, timed_out = reaped.cpu_s + orphans_cpu_s, ended is None
    breach = _breach(ended, cpu_s, stderr, limits)
    return Ending(reaped.exit_code, elapsed_s, cpu_s, reaped.max_rss_bytes, timed_out, breach, orphans_cpu_s)


def _breach(
    ended: Reaped | Breach | None, cpu_s: float, stderr: Path, limits: Limits | None
) -> Breach | None:
    if isinstance(ended, Reaped):
        return limits and met_by_kernel(ended.exit_code, cpu_s, stderr, limits)
    return ended


def _guard(pid: int, limits: Limits | None, before: frozenset[int]) -> Guard | None:
    """Bind a child to its limits, and return who looks after them, if somebody must."""
    processes.hand_on_priority(pid, limits and limits.nice)
    if limits is None:
        return None
    confine_child(pid, limits)
    if not limits.watched:
        return None
    base_s = leftovers.reaped_cpu_s()
    return Guard(
        limits,
        lambda: {pid, *(leftovers.own_children() - before)},
        cpu_base_s=lambda: leftovers.reaped_cpu_s() - base_s,
    )


def _killed(process: subprocess.Popen[bytes], job_id: str) -> Reaped:
    processes.kill_tree(process.pid, job_id=job_id)
    return reap(process) or Reaped(-signal.SIGTERM)


def _spawn(command: Command, stdout: Path, stderr: Path, job_id: str) -> subprocess.Popen[bytes]:
    with open_stream(stdout) as out, open_stream(stderr) as err:
        try:
            return subprocess.Popen(
                command.argv,
                cwd=command.cwd,
                env=command.env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        except OSError as error:
            raise _start_error(command, error) from error
        except BaseException:
            # A cancel between fork and return: only the variable in its environment finds the child.
            processes.kill_tree(-1, job_id=job_id, with_root=False)
            raise


def _start_error(command: Command, error: OSError) -> Exception:
    if error.errno == errno.E2BIG:
        size = sum(len(os.fsencode(part)) + 1 for part in command.argv)
        variables = {name: len(os.fsencode(name + value)) + 2 for name, value in command.env.items()}
        if sum(variables.values()) > size:
            name = max(variables, key=lambda name: variables[name])
            return InvalidInput(
                f"the environment is too large: {name} has {variables[name]:,} bytes; "
                "pass large input in a file"
            )
        return InvalidInput(f"args are too long: {size:,} bytes with the command; pass large input in a file")
    if not command.cwd.is_dir():
        return InvalidInput(f"directory {str(command.cwd)!r} is no directory that can be entered")
    return ToolchainError(f"{command.argv[0]} cannot be started: {error.strerror or error}")


def _end_tree(
    process: subprocess.Popen[bytes], child: ProcessIdentity | int, job_id: str, before: frozenset[int]
) -> None:
    """End everything of a call that is given up: politely, then for good."""
    if process.returncode is None:
        _terminate(process)
        reaped = await_end(process, time.monotonic() + TERM_GRACE_S)
        processes.kill_tree(child, job_id=job_id, with_root=reaped is None)
        if reaped is None:
            reap(process)
    leftovers.end_leftovers(child, job_id, before)


def _terminate(process: subprocess.Popen[bytes]) -> None:
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):  # it ended this instant
            os.killpg(process.pid, signal.SIGTERM)  # not reaped yet, so the group is still this child's
    else:
        process.terminate()
