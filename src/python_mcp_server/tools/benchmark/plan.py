"""What a benchmark runs, in which order, and when the figures are certain enough.

    warm-up ──> round: each candidate once, in turns ──> enough? ──> Measured
                 ^                                         | no
                 └─────────────────────────────────────────┘

Rounds let a slow minute of the machine hit all candidates alike. `Rounds` knows no process: a candidate is a
function that returns a `Run`. `Benchmark` makes the candidates of a call, and runs them.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal

from python_mcp_server.atomic import make_directory, remove_tree
from python_mcp_server.context import report_progress
from python_mcp_server.errors import InvalidInput
from python_mcp_server.regular import own_file
from python_mcp_server.runner.child import ChildExit, Command
from python_mcp_server.runner.command import Script, interpreter_with
from python_mcp_server.runner.inline import write_script
from python_mcp_server.runner.output import append_line, end_of, open_stream, size_of
from python_mcp_server.runner.python.pep723 import Header
from python_mcp_server.runner.python.uv import Uv
from python_mcp_server.settings import positive
from python_mcp_server.tools.benchmark.measured_run import Run, RunSampler, measured_run
from python_mcp_server.tools.benchmark.statistics import (
    Interval,
    Machine,
    assess_noise,
    interval_of_median,
    interval_of_ratio,
)
from python_mcp_server.tools.call import Prepared
from python_mcp_server.tools.results import Noise
from python_mcp_server.tools.scripts import header_of

Stop = Literal["certain", "max_runs", "max_seconds", "failed", "timed_out"]

CERTAIN: Final = 0.01
"""The runs are enough when the ends of the interval are this share of its middle away from it, or less."""
MOST_RUNS: Final = 1000
_GROWTH: Final = 1.2
"""The factor between two checks, in runs: a check after each run would stop by luck."""
_LONG_SHARE: Final = 0.25
"""A first run that takes this share of `max_seconds` counts, unless the caller asked for warm-ups."""
STARTS: Final = 10
"""The start of the interpreter is measured at most this often, because it varies little."""


@dataclass(frozen=True, slots=True)
class RunPlan:
    """How often to run.

    Attributes:
        warmup: Runs before those that count; None for one, which counts where it is long.
        min_runs: Runs before the first check of the interval.
        max_runs: The largest number of runs.
        max_seconds: No round begins after this time.

    Raises:
        InvalidInput: A value is out of bounds.
    """

    warmup: int | None = None
    min_runs: int = 10
    max_runs: int = 100
    max_seconds: float = 10.0

    def __post_init__(self) -> None:
        for name, value, least in (
            ("warmup", 0 if self.warmup is None else self.warmup, 0),
            ("min_runs", self.min_runs, 1),
            ("max_runs", self.max_runs, 1),
        ):
            _check_count(name, value, least)
        positive(self.max_seconds, "max_seconds")


@dataclass(frozen=True, slots=True)
class Candidates:
    """What runs once per round: the script, another script, and the interpreter with an empty script."""

    script: Callable[[], Run]
    other: Callable[[], Run] | None = None
    start: Callable[[], Run] | None = None


@dataclass(slots=True)
class Measured:
    """The runs that count, and why there are no more.

    Attributes:
        script: The runs of the script, in order; at least one.
        other: The runs of the other script, round by round.
        start: The runs of the interpreter alone.
        warmups: The number of warm-up runs of the script.
        stopped: Why there are no more runs.
        failed: The run of the script that did not succeed.
        other_failed: The same of the other script, which is not run again then.
        elapsed_s: The time of all rounds.
    """

    script: list[Run] = field(default_factory=list[Run])
    other: list[Run] = field(default_factory=list[Run])
    start: list[Run] = field(default_factory=list[Run])
    warmups: int = 0
    stopped: Stop = "max_runs"
    failed: Run | None = None
    other_failed: Run | None = None
    elapsed_s: float = 0.0


class Rounds:
    """One benchmark, while it is measured."""

    def __init__(
        self,
        plan: RunPlan,
        candidates: Candidates,
        report: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare the rounds.

        Args:
            plan: How often to run.
            candidates: What to run.
            report: Called before each round with the phase and the number of the run, in words.
            clock: Returns seconds.
        """
        self._plan = plan
        self._candidates = candidates
        self._report = report
        self._clock = clock
        self._measured = Measured()

    def run(self) -> Measured:
        """Run the rounds."""
        began = self._clock()
        if self._warm_up():
            self._count(began)
        self._measured.elapsed_s = self._clock() - began
        return self._measured

    def _warm_up(self) -> bool:
        """Return whether the benchmark goes on."""
        plan = self._plan
        wanted = plan.warmup if plan.warmup is not None else min(1, plan.max_runs - 1)
        for number in range(1, wanted + 1):
            self._report(f"warm-up {number} of {wanted}")
            round_ = self._run_round(number - 1, with_start=True)
            if _is_last(round_):
                self._end(round_)
                return False
            longest_s = max(run.wall_s for name, run in round_.items() if name != "start")
            if plan.warmup is None and longest_s > _LONG_SHARE * plan.max_seconds:
                self._keep(round_)
            else:
                self._measured.warmups += 1
        return True

    def _count(self, began: float) -> None:
        plan, measured = self._plan, self._measured
        next_check = min(plan.min_runs, plan.max_runs)
        while len(measured.script) < plan.max_runs:
            if measured.script and self._clock() - began >= plan.max_seconds:
                measured.stopped = "max_seconds"
                return
            if len(measured.script) >= next_check:
                if self._certain():
                    measured.stopped = "certain"
                    return
                next_check = math.ceil(_GROWTH * next_check)
            self._report(self._words())
            round_ = self._run_round(len(measured.script), with_start=len(measured.start) < STARTS)
            if _is_last(round_):
                self._end(round_)
                return
            self._keep(round_)

    def _run_round(self, number: int, *, with_start: bool) -> dict[str, Run]:
        """Run each candidate once, in an order that rotates; none runs after the script has failed."""
        wanted = {"script": True, "other": self._measured.other_failed is None, "start": with_start}
        first = number % len(wanted)
        round_: dict[str, Run] = {}
        for name in (*wanted, *wanted)[first : first + len(wanted)]:
            candidate: Callable[[], Run] | None = getattr(self._candidates, name)
            if candidate is None or not wanted[name]:
                continue
            run = round_[name] = candidate()
            if name == "other" and run.failed:
                self._measured.other_failed = run
            if _is_last(round_):
                break
        return round_

    def _keep(self, round_: dict[str, Run]) -> None:
        for name, run in round_.items():
            if not run.failed:
                getattr(self._measured, name).append(run)

    def _end(self, last: dict[str, Run]) -> None:
        """Note the end; the last run of the script counts where it is the only one."""
        measured = self._measured
        if (script := last.get("script")) is not None:
            measured.failed = script if script.failed else None
            measured.script = measured.script or [script]
        timed_out = any(run.ending.timed_out for run in last.values())
        measured.stopped = "timed_out" if timed_out else "failed"

    def _certain(self) -> bool:
        walls = [run.wall_s for run in self._measured.script]
        others = [run.wall_s for run in self._measured.other]
        interval = interval_of_ratio(others, walls) if others else interval_of_median(walls)
        return interval is not None and _half_width(interval) <= CERTAIN

    def _words(self) -> str:
        walls = [run.wall_s for run in self._measured.script]
        words = f"run {len(walls) + 1} of at most {self._plan.max_runs}"
        interval = interval_of_median(walls)
        if interval is None:
            return words
        return f"{words}: {seconds(median(walls))} +- {100 * _half_width(interval):.1f} %"


def _is_last(round_: Mapping[str, Run]) -> bool:
    """Whether no round may follow: the script failed, or the call's time limit was reached."""
    return any(run.ending.timed_out or (name == "script" and run.failed) for name, run in round_.items())


def seconds(value: float) -> str:
    """Return a duration in words, with three digits or so."""
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if value * factor >= 1:
            return f"{value * factor:.{max(0, 2 - math.floor(math.log10(value * factor)))}f} {unit}"
    return f"{value * 1e6:.0f} us"


def _half_width(interval: Interval) -> float:
    """Return how far the ends are from the middle, as a share of it."""
    return (interval.high - interval.low) / (interval.high + interval.low)


def _check_count(name: str, value: Any, least: int) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not least <= value <= MOST_RUNS:
        raise InvalidInput(f"{name} is {value!r}; it must be a whole number from {least} to {MOST_RUNS}")


_STREAMS: Final = ("stdout", "stderr")
_STDERR_BYTES: Final = 2000


@dataclass(frozen=True, slots=True)
class ComparisonTarget:
    """The script to compare with: a file, or code that runs in the directory of the first script."""

    path: Path | None
    content: str | None
    python_version: str | None
    dependencies: tuple[str, ...]

    @classmethod
    def of(cls, text: str, python_version: str | None, dependencies: list[str] | None) -> ComparisonTarget:
        """Return the file that the text names, or else its code.

        Raises:
            InvalidInput: The text names a script that does not exist.
        """
        words = (python_version, tuple(dependencies or ()))
        if "\n" in text:
            return cls(None, text, *words)
        path = Path.cwd() / os.path.expanduser(text.strip())
        if os.path.isfile(path):
            return cls(path, None, *words)
        if text.strip().endswith(".py") or os.path.isdir(path):
            raise InvalidInput(
                f"compare_with {text!r} is no file (looked at {path}); give a script's path, or Python code"
            )
        return cls(None, text, *words)

    def prepared(self, first: Prepared, folder: Path) -> Prepared:
        """Return the target ready to run, with the arguments of the first script."""
        header = header_of(self.path, self.content, self.dependencies) or Header()
        interpreter = interpreter_with(Uv(first.session), header, self.python_version)
        if self.path is not None:
            return replace(first, interpreter=interpreter, script=Script(self.path), cwd=self.path.parent)
        script = Script(write_script(_made(folder), self.content or ""), first.cwd)
        return replace(first, interpreter=interpreter, script=script)


class Benchmark:
    """Measures a prepared script by a plan.

    Attributes:
        measured: The runs; empty before `start` has returned.
        noise: What disturbed the runs.
        install_s: The time to prepare the environment of the comparison target.
        target_stderr: The end of what the target wrote to stderr, where it failed.
    """

    def __init__(self, plan: RunPlan, sample_interval_s: float, target: ComparisonTarget | None) -> None:
        self.measured = Measured()
        self.noise = Noise(noisy=False, reasons=[], other_cpu_percent=0.0, cores=0)
        self.install_s = 0.0
        self.target_stderr = ""
        self._plan = plan
        self._interval_s = sample_interval_s
        self._target = target
        self._steps = 1

    def start(self, prepared: Prepared) -> ChildExit:
        """Run the rounds, and return how the script ended: its medians, or the run that failed."""
        folder = prepared.session.folder / "benchmark"
        prepared = replace(prepared, figures=None)  # the time to save figures is not the script's
        target = None if self._target is None else self._target.prepared(prepared, folder / "compare_with")
        self.install_s = 0.0 if target is None else target.interpreter.install_s or 0.0
        before = Machine.now()
        with RunSampler(self._interval_s) as sampler:
            output = _Output(prepared, sampler, _made(folder))
            idle = replace(prepared, script=_idle(prepared, folder), args=())
            candidates = Candidates(
                lambda: output.run(prepared.command),
                None if target is None else lambda: self._run_target(output, target.command),
                lambda: output.run_apart(idle.command),
            )
            self.measured = Rounds(self._plan, candidates, self.report_phase).run()
        remove_tree(str(folder))
        self.noise = assess_noise(before, Machine.now(), self.measured.script)
        return _ending(self.measured)

    def never_started(self, ending: ChildExit) -> None:
        """Fill in the result of a call that timed out before its first run."""
        run = Run(ending, 0.0, 0.0, 0, (), {}, accounted=False)
        self.measured = Measured(script=[run], stopped="timed_out", failed=run)

    def _run_target(self, output: _Output, command: Command) -> Run:
        run = output.run_apart(command)
        if run.failed:
            self.target_stderr = output.stderr_tail()
        return run

    def report_phase(self, words: str) -> None:
        """Report the next step of the call as its progress."""
        report_progress(self._steps, None, words)
        self._steps += 1


class _Output:
    """Where the runs write: the first one into the streams of the call, each other one into files that the
    next one replaces, so that many runs need the space of two."""

    def __init__(self, prepared: Prepared, sampler: RunSampler, folder: Path) -> None:
        self._session = prepared.session
        self._sampler = sampler
        self._apart = {name: folder / name for name in _STREAMS}
        self._runs = 0

    def run(self, command: Command) -> Run:
        """Run the script; the output of a later run is kept, after that of the first, only if it fails."""
        self._runs += 1
        streams = {name: self._session.folder / name for name in _STREAMS}
        if self._runs == 1:
            return measured_run(command, self._session, **streams, sampler=self._sampler)
        run = self.run_apart(command)
        if run.failed:
            for name, path in streams.items():
                if size_of(self._apart[name]):
                    append_line(path, f"[run {self._runs} wrote:]\n".encode())
                    with (
                        open_stream(path) as descriptor,
                        open(descriptor, "wb", closefd=False) as target,
                        open(self._apart[name], "rb", opener=own_file) as more,
                    ):
                        shutil.copyfileobj(more, target)
        return run

    def run_apart(self, command: Command) -> Run:
        """Run a command whose output the next run replaces."""
        for path in self._apart.values():
            path.unlink(missing_ok=True)
        return measured_run(command, self._session, **self._apart, sampler=self._sampler)

    def stderr_tail(self) -> str:
        """Return the end of what the last of these commands wrote to stderr."""
        return end_of(self._apart["stderr"], _STDERR_BYTES).decode("utf-8", errors="replace").strip()


def _ending(measured: Measured) -> ChildExit:
    if measured.failed is not None:
        return measured.failed.ending
    runs = measured.script
    return replace(runs[0].ending, elapsed_s=median([run.wall_s for run in runs]))


def _idle(prepared: Prepared, folder: Path) -> Script:
    """Return an empty script that starts as the measured one does."""
    return Script(write_script(_made(folder / "nothing"), ""), prepared.script.home)


def _made(folder: Path) -> Path:
    make_directory(str(folder))
    return folder
