"""Measured runs of a command: the kernel's figures from a launcher of its own, the course from a sampler.

worker ── run_child ──> launcher ──> script and whatever it starts
   └────── stdin, stdout ──> sampler ── looks at ──┘

The launcher waits itself, so that the figures are those of the script alone; the sampler is a process
of its own, so that neither the script nor the worker pays for looking.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self, cast

from python_mcp_server.errors import InvalidInput, ToolchainError
from python_mcp_server.limits import Limits
from python_mcp_server.processes import JOB_VARIABLE
from python_mcp_server.runner.child import ChildExit, Command, run_child
from python_mcp_server.runner.limits import met_by_kernel
from python_mcp_server.runner.session import Session

_ISOLATED: Final = ("-I", "-S")
_LAUNCHER: Final = """\
import sys
sys.path.append(sys.argv.pop(1))
import launcher
sys.exit(launcher.main(sys.argv[1], sys.argv[2:]))
"""
"""Imports it, for its compiled form is there then: to compile it each time would make it larger than
a small script."""

_SAMPLER: Final = Path(__file__).with_name("sampler.py")
_FIGURES: Final = "figures"
_RSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024
_NS: Final = 1e9


@dataclass(frozen=True, slots=True)
class Look:
    """What the sampler saw at one moment.

    Attributes:
        at_s: Seconds since the start of the run.
        rss_bytes: Resident memory of all processes.
        cpu_s: CPU time of all processes so far.
        processes: How many there were.
    """

    at_s: float
    rss_bytes: int
    cpu_s: float
    processes: int


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a command.

    Attributes:
        ending: How it ended; `elapsed_s` is the time from its start to its end, without the launcher.
        user_s: CPU time in its own code, of it and of what it waited for.
        system_s: The same in the kernel.
        process_peak_bytes: The kernel's peak of its largest process; 0 where it does not tell.
        looks: Its course.
        figures: What else the kernel counts, by the launcher's names.
        accounted: Whether its times are the kernel's; they are the sampler's where it was killed
            together with its launcher, and on Windows.
    """

    ending: ChildExit
    user_s: float
    system_s: float
    process_peak_bytes: int
    looks: tuple[Look, ...]
    figures: Mapping[str, float]
    accounted: bool

    @property
    def wall_s(self) -> float:
        """From its start to its end."""
        return self.ending.elapsed_s

    @property
    def cpu_s(self) -> float:
        """User and system time, with that of children that it left behind."""
        return self.user_s + self.system_s + self.ending.orphans_cpu_s

    @property
    def peak_bytes(self) -> int:
        """The largest memory of all its processes together; the kernel's peak where that is one process."""
        # A process alone may be seen above the kernel's peak of it, which counts pages in batches.
        alone = 1 if self.process_peak_bytes else 0
        seen = [look.rss_bytes for look in self.looks if look.processes > alone]
        return max([self.process_peak_bytes, *seen])

    @property
    def failed(self) -> bool:
        """Whether it ended otherwise than by success."""
        return self.ending.timed_out or self.ending.breach is not None or self.ending.exit_code != 0


class Sampler:
    """The process that looks, for the runs of one benchmark. A context manager: it ends with it."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._process: subprocess.Popen[bytes] | None = None
        self._looks: list[tuple[int, int, int, int]] = []

    def __enter__(self) -> Self:
        # Without the job's id, or it would be ended with the tree of a script that is out of time.
        environment = {name: value for name, value in os.environ.items() if name != JOB_VARIABLE}
        flags = _ISOLATED if sys.platform == "linux" else _ISOLATED[:1]  # elsewhere it needs psutil
        self._process = subprocess.Popen(
            (sys.executable, *flags, str(_SAMPLER)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        try:
            self._answer()  # that it is there, or it would miss a short run
        except BaseException:  # a cancel: nobody would call `__exit__`
            self._end()
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._end()

    @contextmanager
    def watch(self, pid: int) -> Generator[None]:
        """Look at what is below `pid` until the context ends."""
        self._looks = []
        self._say(f"start {pid} {self._interval_s}")
        yield
        self._say("stop")
        self._looks = self._answer()

    def looks_since(self, started_ns: float) -> tuple[Look, ...]:
        """Return what was seen in the last run, from its start on."""
        return tuple(
            Look((at - started_ns) / _NS, rss, cpu / _NS, count)
            for at, rss, cpu, count in self._looks
            if at >= started_ns
        )

    def _end(self) -> None:
        process = self._running
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with suppress(BrokenPipeError):  # what it was told when it was gone already
                cast("IO[bytes]", pipe).close()

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the sampler is used outside of its context")
        return self._process

    def _say(self, words: str) -> None:
        pipe = cast("IO[bytes]", self._running.stdin)
        with suppress(BrokenPipeError):  # it was killed, and its answer is empty
            pipe.write(words.encode() + b"\n")
            pipe.flush()

    def _answer(self) -> list[tuple[int, int, int, int]]:
        line = cast("IO[bytes]", self._running.stdout).readline()
        return json.loads(line or "[]")


def measured_run(command: Command, session: Session, stdout: Path, stderr: Path, sampler: Sampler) -> Run:
    """Run a command once and return what it used.

    Raises:
        InvalidInput: The command cannot be started with these arguments.
        ToolchainError: Its interpreter cannot be started at all.
    """
    target = session.folder / _FIGURES
    target.unlink(missing_ok=True)
    ours = ("-c", _LAUNCHER, str(Path(__file__).parent), str(target))
    starter = (command.argv[0], *_ISOLATED, *ours, *command.argv)
    ending = run_child(
        replace(command, argv=starter),
        stdout=stdout,
        stderr=stderr,
        job_id=session.job_id,
        deadline=session.deadline,
        watch=sampler.watch,
        limits=_unhampered(session.limits),
    )
    figures = _read(target)
    if "errno" in figures:
        raise _start_error(command, int(figures["errno"]))
    if not figures and ending.exit_code >= 0:
        raise ToolchainError(f"{command.argv[0]} ended with {ending.exit_code} before it ran the script")
    run = _run(ending, figures, sampler)
    if session.limits is None or ending.breach is not None:
        return run
    breach = met_by_kernel(run.ending.exit_code, run.cpu_s, stderr, session.limits)
    return replace(run, ending=replace(run.ending, breach=breach))


def _unhampered(limits: Limits | None) -> Limits | None:
    """Let what is measured weigh as much as the server, which a worker and what it starts do not."""
    if (limits is not None and limits.nice is not None) or not hasattr(os, "getpriority"):
        return limits
    return replace(limits or Limits(), nice=os.getpriority(os.PRIO_PROCESS, 0))


def _run(ending: ChildExit, figures: dict[str, float], sampler: Sampler) -> Run:
    looks = sampler.looks_since(figures.get("started", 0.0))
    if not figures:  # the launcher was killed with the script
        first_s = looks[0].at_s if looks else 0.0
        looks = tuple(replace(look, at_s=look.at_s - first_s) for look in looks)
    seen_s = looks[-1].cpu_s if looks else 0.0  # orphans may be among those that were seen
    elsewhere_s = max(0.0, seen_s - ending.orphans_cpu_s)
    wall_s = (figures["ended"] - figures["started"]) / _NS if figures else ending.elapsed_s
    return Run(
        replace(ending, exit_code=int(figures.get("exit_code", ending.exit_code)), elapsed_s=wall_s),
        figures.get("user_s", elsewhere_s),
        figures.get("system_s", 0.0),
        int(figures.get("max_rss", 0)) * _RSS_UNIT,
        looks,
        figures,
        "user_s" in figures,
    )


def _read(target: Path) -> dict[str, float]:
    try:
        lines = target.read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return {}
    target.unlink()
    return {name: float(value) for name, value in map(str.split, lines)}


def _start_error(command: Command, number: int) -> Exception:
    if number == errno.E2BIG:
        return InvalidInput("args and the environment are too long; pass large input in a file")
    return ToolchainError(f"{command.argv[0]} cannot be started: {os.strerror(number)}")
