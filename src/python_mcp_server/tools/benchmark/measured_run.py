"""One measured run of a command: the kernel's figures from a launcher, usage over time from a sampler.

worker ── run_child ──> launcher ──> script and whatever it starts
   └────── stdin, stdout ──> sampler ── samples ───┘

The launcher waits for the script itself, so that the figures are those of the script alone; the sampler is a
process of its own, so that neither the script nor the worker pays for sampling.
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
from python_mcp_server.regular import read_regular
from python_mcp_server.runner.child import ChildExit, Command, Session
from python_mcp_server.runner.enforce import met_by_kernel

_ISOLATED: Final = ("-I", "-S")
_LAUNCHER: Final = """\
import sys
sys.path.append(sys.argv.pop(1))
import launcher
sys.exit(launcher.main(sys.argv[1], sys.argv[2:]))
"""
"""Imports the launcher, because that uses its compiled form: compiling it for each run would make it larger
than a small script."""

_SAMPLER: Final = Path(__file__).with_name("sampler.py")
_FIGURES: Final = "figures"
_MOST_FIGURES_BYTES: Final = 1 << 16
_RSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024
_NS: Final = 1e9


@dataclass(frozen=True, slots=True)
class UsageSample:
    """Usage of the process tree at one moment.

    Attributes:
        at_s: Seconds since the start of the run.
        rss_bytes: Resident memory of all processes.
        cpu_s: CPU time of all processes so far.
        processes: The number of processes.
    """

    at_s: float
    rss_bytes: int
    cpu_s: float
    processes: int


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a command.

    Attributes:
        ending: How the run ended; `elapsed_s` is the time from start to end, without the launcher.
        user_s: CPU time in user mode, of the command and of the children it waited for.
        system_s: CPU time in the kernel, of the same.
        process_peak_bytes: The kernel's memory peak of the largest process; 0 where unknown.
        samples: Usage over time.
        figures: Other figures of the kernel, by the launcher's names.
        accounted: Whether the times are the kernel's; they are the sampler's where the command was killed
            together with its launcher, and on Windows.
    """

    ending: ChildExit
    user_s: float
    system_s: float
    process_peak_bytes: int
    samples: tuple[UsageSample, ...]
    figures: Mapping[str, float]
    accounted: bool

    @property
    def wall_s(self) -> float:
        """Seconds from start to end."""
        return self.ending.elapsed_s

    @property
    def cpu_s(self) -> float:
        """User and system time, with that of the children that the command left behind."""
        return self.user_s + self.system_s + self.ending.orphans_cpu_s

    @property
    def peak_bytes(self) -> int:
        """The largest memory of all processes together; the kernel's peak where there is one process."""
        # A process alone may be seen above the kernel's peak of it, which counts pages in batches.
        alone = 1 if self.process_peak_bytes else 0
        seen = [sample.rss_bytes for sample in self.samples if sample.processes > alone]
        return max([self.process_peak_bytes, *seen])

    @property
    def failed(self) -> bool:
        """Whether the run ended with anything but success."""
        return self.ending.timed_out or self.ending.breach is not None or self.ending.exit_code != 0


class RunSampler:
    """The sampler process for the runs of one benchmark; it lives as long as the context."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._process: subprocess.Popen[bytes] | None = None
        self._samples: list[tuple[int, int, int, int]] = []

    def __enter__(self) -> Self:
        # Without the job's id, or the sampler would be killed with the tree of a script that timed out.
        environment = {name: value for name, value in os.environ.items() if name != JOB_VARIABLE}
        flags = _ISOLATED if sys.platform == "linux" else _ISOLATED[:1]  # elsewhere it needs psutil
        self._process = subprocess.Popen(
            (sys.executable, *flags, str(_SAMPLER)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        try:
            self._answer()  # the sampler is ready; otherwise it would miss a short run
        except BaseException:  # a cancel: `__exit__` is not called
            self._end()
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._end()

    @contextmanager
    def watch(self, pid: int) -> Generator[None]:
        """Sample the processes below `pid` until the context ends."""
        self._samples = []
        self._send(f"start {pid} {self._interval_s}")
        yield
        self._send("stop")
        self._samples = self._answer()

    def samples_since(self, started_ns: float) -> tuple[UsageSample, ...]:
        """Return the samples of the last run from its start on."""
        return tuple(
            UsageSample((at - started_ns) / _NS, rss, cpu / _NS, count)
            for at, rss, cpu, count in self._samples
            if at >= started_ns
        )

    def _end(self) -> None:
        process = self._running
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with suppress(BrokenPipeError):  # a command that was written after its death
                cast("IO[bytes]", pipe).close()

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the sampler is used outside of its context")
        return self._process

    def _send(self, command: str) -> None:
        pipe = cast("IO[bytes]", self._running.stdin)
        with suppress(BrokenPipeError):  # the sampler was killed, and its answer is empty
            pipe.write(command.encode() + b"\n")
            pipe.flush()

    def _answer(self) -> list[tuple[int, int, int, int]]:
        line = cast("IO[bytes]", self._running.stdout).readline()
        return json.loads(line or "[]")


def measured_run(command: Command, session: Session, stdout: Path, stderr: Path, sampler: RunSampler) -> Run:
    """Run a command once and return its figures.

    Raises:
        InvalidInput: The command cannot be started with these arguments.
        ToolchainError: Its interpreter cannot be started at all.
    """
    target = session.folder / _FIGURES
    target.unlink(missing_ok=True)
    ours = ("-c", _LAUNCHER, str(Path(__file__).parent), str(target))
    starter = (command.argv[0], *_ISOLATED, *ours, *command.argv)
    limits = _with_server_priority(session.limits)
    starting = replace(command, argv=starter)
    ending = session.run(starting, stdout, stderr, watch=sampler.watch, limits=limits, folder=session.folder)
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


def _with_server_priority(limits: Limits | None) -> Limits | None:
    """Give the measured script the server's own priority; workers run with a lower one."""
    if (limits is not None and limits.nice is not None) or not hasattr(os, "getpriority"):
        return limits
    return replace(limits or Limits(), nice=os.getpriority(os.PRIO_PROCESS, 0))


def _run(ending: ChildExit, figures: dict[str, float], sampler: RunSampler) -> Run:
    samples = sampler.samples_since(figures.get("started", 0.0))
    if not figures:  # the launcher was killed with the script
        first_s = samples[0].at_s if samples else 0.0
        samples = tuple(replace(sample, at_s=sample.at_s - first_s) for sample in samples)
    seen_s = samples[-1].cpu_s if samples else 0.0  # the samples may include orphans
    elsewhere_s = max(0.0, seen_s - ending.orphans_cpu_s)
    wall_s = (figures["ended"] - figures["started"]) / _NS if figures else ending.elapsed_s
    return Run(
        replace(ending, exit_code=int(figures.get("exit_code") or ending.exit_code), elapsed_s=wall_s),
        figures.get("user_s", elsewhere_s),
        figures.get("system_s", 0.0),
        int(figures.get("max_rss", 0)) * _RSS_UNIT,
        samples,
        figures,
        "user_s" in figures,
    )


def _read(target: Path) -> dict[str, float]:
    try:
        lines = read_regular(str(target), _MOST_FIGURES_BYTES, follow=False).decode("ascii").splitlines()
    except FileNotFoundError:
        return {}
    target.unlink()
    return {name: float(value) for name, value in map(str.split, lines)}


def _start_error(command: Command, number: int) -> Exception:
    if number == errno.E2BIG:
        return InvalidInput("args and the environment are too long; pass large input in a file")
    return ToolchainError(f"{command.argv[0]} cannot be started: {os.strerror(number)}")
