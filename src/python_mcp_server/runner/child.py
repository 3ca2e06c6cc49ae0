"""The child process of a call: output to files, its limits, the end of its tree, its exact usage.

    run_child ── _spawn ── _apply_limits ── await_end ──▶ _ask_to_end if late ──▶ end_leftovers ──▶ ChildExit

Runs in the main thread of a worker. The wait for the child's end is in the kernel, so that a signal handler
that raises in the main thread ends the wait at once; now and then it is left for a look at the child's limits
and orphans.

At its time limit, and when an exception such as a cancel passes through, the child is asked to end, and then
its tree is killed. The whole group hears SIGINT, as after Ctrl-C on a terminal; later in the grace what goes
on hears SIGTERM. A program that may be no Python hears SIGTERM at once. On Windows that is CTRL_BREAK,
because CTRL_C reaches no new group, and then the kill.
`orphans` has what the child leaves behind.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

from python_mcp_server import processes
from python_mcp_server.errors import InvalidInput, ToolchainError
from python_mcp_server.limits import Breach, Limits
from python_mcp_server.model import ProcessIdentity
from python_mcp_server.processes.identity import SHORTAGES
from python_mcp_server.regular import own_file
from python_mcp_server.runner.disk import DiskMeter
from python_mcp_server.runner.enforce import (
    LimitChecker,
    bound_thread,
    check_here,
    confine_child,
    met_by_kernel,
)
from python_mcp_server.runner.orphans import Orphans, end_leftovers, own_children, reaped_cpu_s
from python_mcp_server.runner.output import open_stream
from python_mcp_server.settings import DEFAULT_GRACE_S

_log: Final = logging.getLogger(__name__)
_UNKNOWN_EXIT: Final = 255
"""Exit code of a child that other code has reaped, or this module in the instant of a cancel."""
_POLL_MAX_S: Final = 86_400.0
_LONGEST_S: Final = 1e9
_TERM_AT: Final = 0.75
"""The part of the grace before SIGTERM. Late, because it cuts off what a Python script does after SIGINT."""
_KILL_AT: Final = 0.9
"""The part of the grace before the kill: at the end of it the worker is killed, which has things to write."""
_PASSES_ON: Final = frozenset({"uv", "uvx"})
"""Programs that send signals on to their child although it is in their group: it would hear them twice."""
_ENDED_LATE: Final = 124
"""Exit code of a child that ended with 0 after its time limit, as that of `timeout`: it was cut off."""

_INTERRUPT: Final[int] = getattr(signal, "CTRL_BREAK_EVENT", signal.SIGINT)
_STOP: Final[int] = getattr(signal, "SIGSTOP", 0)
"""Stops a group at a breach, because finding the rest of its tree takes longer than filling the memory."""

Watch = Callable[[int], AbstractContextManager[object]]


@dataclass(frozen=True, slots=True)
class Command:
    """A command to start. Its variables hold secrets, so its repr leaves them out.

    Attributes:
        argv: The program and its arguments.
        cwd: The working directory.
        env: All its variables.
        stdin: The file that it reads as its stdin; None for an empty one.
        shell_text: Whether the last argument is a text for the shell that comes first, to be passed as it is.
        terminate: Whether it hears SIGTERM at once when it is to end, as other programs than Python expect.
    """

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str] = field(repr=False)
    stdin: Path | None = None
    shell_text: bool = False
    terminate: bool = False

    @property
    def line(self) -> tuple[str, ...] | str:
        """What `Popen` takes: on Windows a text for the shell, which reads no quotes of a list."""
        if self.shell_text and sys.platform == "win32":
            return f'{" ".join(self.argv[:-1])} "{self.argv[-1]}"'
        return self.argv


@dataclass(frozen=True, slots=True)
class Session:
    """State shared by the phases of one script-tool call.

    Attributes:
        folder: A private directory for its files.
        home: The home of the product, for what calls share.
        job_id: The id that its processes carry in their environment.
        given: The variables that the caller set; they hold secrets.
        deadline: When its processes are asked to end, on the monotonic clock; None for never.
        limits: The limits of the script, and of all that is done before it.
        grace_s: How long its processes may clean up when they are to end.
    """

    folder: Path
    home: Path
    job_id: str
    given: Mapping[str, str] = field(repr=False)
    deadline: float | None = None
    limits: Limits | None = None
    grace_s: float = DEFAULT_GRACE_S

    def run(self, command: Command, stdout: Path, stderr: Path, **other: Any) -> ChildExit:
        """Run a command as `run_child` does, with what all phases of the call share."""
        shared: dict[str, Any] = {"limits": self.limits, "grace_s": self.grace_s} | other
        return run_child(
            command, stdout=stdout, stderr=stderr, job_id=self.job_id, deadline=self.deadline, **shared
        )


def deadline_after(timeout_seconds: float) -> float | None:
    """Return the deadline of a call that starts now; None for 0, which means no limit.

    Raises:
        InvalidInput: The limit is negative or not a number.
    """
    given: Any = timeout_seconds  # a direct caller may give anything
    number = isinstance(given, (int, float)) and not isinstance(given, bool)
    if not number or math.isnan(timeout_seconds) or timeout_seconds < 0:
        raise InvalidInput(f"timeout_seconds is {given!r}; it must be a number of seconds, or 0 for no limit")
    if timeout_seconds == 0 or timeout_seconds > _LONGEST_S:
        return None
    return time.monotonic() + timeout_seconds


@dataclass(frozen=True, slots=True)
class Reaped:
    """The kernel's account of a child that has ended; see `ChildExit`."""

    exit_code: int
    cpu_s: float = 0.0


End = Reaped | Breach | None
"""What a wait for a child's end returns: None where the time was up first."""

Wait = Callable[[float | None], End]


@dataclass(frozen=True, slots=True)
class ChildExit:
    """How a child ended.

    Attributes:
        exit_code: A negative one is the number of the signal that ended it.
        elapsed_s: From before its start until it was reaped, by the monotonic clock.
        cpu_s: User and system time of the child and of everything below it that was waited for.
        timed_out: Whether the time limit ended it.
        breach: The limit of memory, CPU time or disk space that ended it, if one did.
        orphans_cpu_s: The part of `cpu_s` that belongs to processes which no parent in the tree waited for.
    """

    exit_code: int
    elapsed_s: float
    cpu_s: float = 0.0
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
    folder: Path | None = None,
    grace_s: float = DEFAULT_GRACE_S,
) -> ChildExit:
    """Run a command to its end and return how it ended; its whole tree is gone then.

    Args:
        command: What to run.
        stdout: File that its output is appended to.
        stderr: The same for its errors. With the same file as `stdout` the order of both is kept.
        job_id: The id that its tree carries in its environment.
        deadline: When it is asked to end, on the monotonic clock; None for never.
        watch: Called with the child's pid; the context that it returns is open while the child runs.
        limits: The limits of its tree; its time limit is the deadline.
        folder: A directory whose files count for the disk limit, as the two files do.
        grace_s: How long it may clean up at its deadline or at an exception, before its tree is killed. At
            another limit it is killed at once.

    Raises:
        InvalidInput: The command cannot be started with these arguments or limits.
        ToolchainError: The interpreter cannot be started at all.
    """
    check_here(limits)
    started = time.monotonic()
    before = own_children()
    with bound_thread(limits):
        process = _spawn(command, stdout, stderr, job_id)
    child = processes.identify(process.pid) or process.pid
    try:
        disk = DiskMeter(map(str, filter(None, (stdout, stderr, folder))))
        checker = _apply_limits(process.pid, limits, before, disk)
        with nullcontext() if watch is None else watch(process.pid):
            orphans = Orphans(before | {process.pid})
            wait = partial(await_end, process, checker=checker, orphans=orphans)
            alone = Path(command.argv[0]).stem in _PASSES_ON
            how = partial(_terminate, orphans) if command.terminate else _ask_to_end
            ask = partial(how, process, wait, grace_s, alone=alone)
            ended, late = _await_or_end(process, wait, deadline, ask)
        reaped = ended if isinstance(ended, Reaped) else _kill(process, job_id)
        orphans_cpu_s = orphans.cpu_s + end_leftovers(child, job_id, before)
    except BaseException:
        _end_tree(process, child, job_id, before)
        raise
    elapsed_s = time.monotonic() - started
    cpu_s = reaped.cpu_s + orphans_cpu_s
    breach = None if late else _breach(ended, cpu_s, stderr, limits)
    code = _ENDED_LATE if late and reaped.exit_code == 0 else reaped.exit_code
    return ChildExit(code, elapsed_s, cpu_s, late, breach, orphans_cpu_s)


def _await_or_end(
    process: subprocess.Popen[bytes], wait: Wait, deadline: float | None, ask: Callable[[], End]
) -> tuple[End, bool]:
    """Wait for the end of a child, and ask it to end at the deadline or at an exception. Return what came,
    and whether the deadline came first.
    """
    asked = False
    try:
        if (ended := wait(deadline)) is not None:
            return ended, False
        asked = True
        return ask(), True
    except BaseException:  # a cancel, or a second one while the child may still clean up
        if not asked and process.returncode is None:
            ask()
        raise


def _terminate(
    orphans: Orphans, process: subprocess.Popen[bytes], wait: Wait, grace_s: float, *, alone: bool
) -> End:
    """Do as `_ask_to_end` does for a program that may be no Python, and for what a shell has started: the
    shell ends at once.
    """
    if sys.platform == "win32":  # SIGTERM would end the child at once
        return _ask_to_end(process, wait, grace_s, alone=alone)
    kill_at = time.monotonic() + _KILL_AT * grace_s
    _signal(process, signal.SIGTERM, alone=alone)
    if isinstance(ended := wait(kill_at), Reaped):
        orphans.await_group(process.pid, kill_at)
    return ended


def _ask_to_end(process: subprocess.Popen[bytes], wait: Wait, grace_s: float, *, alone: bool) -> End:
    """Let a child clean up; return None where it goes on after that."""
    began = time.monotonic()
    _signal(process, _INTERRUPT, alone=alone)
    if (ended := wait(began + _TERM_AT * grace_s)) is not None:
        return ended
    _signal(process, signal.SIGTERM)
    return wait(began + _KILL_AT * grace_s)


def _breach(ended: End, cpu_s: float, stderr: Path, limits: Limits | None) -> Breach | None:
    if isinstance(ended, Reaped):
        return limits and met_by_kernel(ended.exit_code, cpu_s, stderr, limits)
    return ended


def _apply_limits(
    pid: int, limits: Limits | None, before: frozenset[int], disk: DiskMeter
) -> LimitChecker | None:
    """Apply its limits to a child, and return their checker, where one is needed."""
    processes.hand_on_priority(pid, limits and limits.nice)
    if limits is None:
        return None
    confine_child(pid, limits)
    if not limits.needs_monitoring:
        return None
    base_s = reaped_cpu_s()
    return LimitChecker(
        limits,
        lambda: {pid, *(own_children() - before)},
        cpu_base_s=lambda: reaped_cpu_s() - base_s,
        disk=disk,
    )


def _kill(process: subprocess.Popen[bytes], job_id: str) -> Reaped:
    processes.kill_tree(process.pid, job_id=job_id)
    return reap(process) or Reaped(-signal.SIGTERM)


def _spawn(command: Command, stdout: Path, stderr: Path, job_id: str) -> subprocess.Popen[bytes]:
    with open_stream(stdout) as out, open_stream(stderr) as err, _open_stdin(command) as given:
        try:
            return subprocess.Popen(
                command.line,
                cwd=command.cwd,
                env=command.env,
                stdin=given,
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


def _open_stdin(command: Command) -> AbstractContextManager[int | IO[bytes]]:
    if command.stdin is None:
        return nullcontext(subprocess.DEVNULL)
    return open(command.stdin, "rb", opener=own_file)


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
    """Kill the tree of a cancelled call."""
    alive = process.returncode is None
    processes.kill_tree(child, job_id=job_id, with_root=alive)
    if alive:
        reap(process)
    end_leftovers(child, job_id, before)


def _signal(process: subprocess.Popen[bytes], number: int, *, alone: bool = False) -> None:
    """Signal a child that has not been reaped, so that the pid is still its own, with its group or alone."""
    if not number:
        return  # Windows has no SIGSTOP, and would take 0 for CTRL_C_EVENT
    send = os.kill if alone or not hasattr(os, "killpg") else os.killpg
    with suppress(OSError):  # it ended this instant, or has no console
        send(process.pid, number)


def await_end(
    process: subprocess.Popen[bytes],
    deadline: float | None,
    checker: LimitChecker | None = None,
    orphans: Orphans | None = None,
) -> End:
    """Wait for the end of a child.

    Args:
        process: The child.
        deadline: How long to wait, on the monotonic clock; None for as long as it takes.
        checker: Checks its limits.
        orphans: Reaps what this process inherits from it meanwhile.

    Returns:
        The account of its end; None where the deadline came first, the breach where it exceeded a limit.
    """
    if not hasattr(os, "pidfd_open"):
        return _await_by_polling(process, deadline, checker, orphans)
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return reap(process)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        while not poll.poll(1000 * min(_left(deadline), _pause_s(checker, orphans))):
            if _left(deadline) <= 0:
                return None
            if (breach := _check_meanwhile(checker, orphans)) is not None:
                _signal(process, _STOP)
                return breach
    finally:
        os.close(pidfd)
    return reap(process)


def _await_by_polling(
    process: subprocess.Popen[bytes],
    deadline: float | None,
    checker: LimitChecker | None,
    orphans: Orphans | None,
) -> End:
    pause_s = 0.001
    look_at = time.monotonic()
    while (reaped := reap(process, getattr(os, "WNOHANG", 1))) is None and _left(deadline) > 0:
        if time.monotonic() >= look_at:
            if (breach := _check_meanwhile(checker, orphans)) is not None:
                _signal(process, _STOP)
                return breach
            look_at = time.monotonic() + _pause_s(checker, orphans)
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 0.02)
    return reaped


def _check_meanwhile(checker: LimitChecker | None, orphans: Orphans | None) -> Breach | None:
    """Reap orphans and check the limits of a running child; return the limit that it has exceeded."""
    try:
        if orphans is not None:
            orphans.reap()
        return None if checker is None else checker.look()
    except OSError as error:
        if error.errno not in SHORTAGES:
            raise
        _log.debug("a child could not be looked at now: %s", error)
        return None  # not the child's fault, and it may pass


def _pause_s(checker: LimitChecker | None, orphans: Orphans | None) -> float:
    if checker is not None:
        return checker.pause_s
    return _POLL_MAX_S if orphans is None else orphans.pause_s


def _left(deadline: float | None) -> float:
    return _POLL_MAX_S if deadline is None else max(0.0, deadline - time.monotonic())


def reap(process: subprocess.Popen[bytes], options: int = 0) -> Reaped | None:
    """Reap a child and return the kernel's account of it; None where it still runs."""
    if not hasattr(os, "wait4"):
        code = process.poll() if options else process.wait()
        return None if code is None else Reaped(code)
    try:
        pid, status, usage = os.wait4(process.pid, options)
    except ChildProcessError:
        return Reaped(_UNKNOWN_EXIT)
    if pid == 0:
        return None
    process.returncode = os.waitstatus_to_exitcode(status)  # so that Popen never waits for a reused pid
    return Reaped(process.returncode, usage.ru_utime + usage.ru_stime)
